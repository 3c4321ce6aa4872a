"""Where the data lives that a plan uses and its commit does not hold.

A dataset with ``from`` lives there. Without it, and for whatever else a stage's ``deps`` name: where the run is that of
a working tree and something lies there, it is that; else what a ``.dvc`` file beside it, or beside a folder around it,
points to.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Sequence

from interlock.pipeline.document import Problem
from interlock.pipeline.plan import StagePlan
from interlock.pipeline.rules.graph import is_within, makers_of
from interlock.pipeline.spec import FileSpec

POINTER = ".dvc"
KEEPERS = (".gitignore", ".gitkeep")
"""Files that git needs in an otherwise empty folder."""


def find_sources(spec: FileSpec, there: Collection[str], beside: Iterable[str]) -> dict[str, str]:
    """Where each path lives that is fetched, outer paths first.

    ``there`` are the files of the commit; ``beside`` files and folders of the working tree that are named as data and
    are no part of it.
    """
    found = {dataset.path: dataset.home for dataset in spec.data.values() if dataset.home is not None}
    wanted = named_as_data(spec)
    for path in sorted(beside):
        if any(is_within(path, name) or is_within(name, path) for name in wanted):
            _add(found, path, path)
    for path in sorted(wanted):
        pointed = None if any(is_within(other, path) for other in there) else _pointed(path, there)
        if pointed is not None:
            _add(found, pointed, pointed + POINTER)
    return dict(sorted(found.items()))


def named_as_data(spec: FileSpec) -> list[str]:
    """The datasets and ``deps`` of a file that no stage makes."""
    makers = makers_of(spec.stages)
    named = [dataset.path for dataset in spec.data.values()]
    named += [dep for stage in spec.stages.values() for dep in stage.deps or ()]
    return [path for path in dict.fromkeys(named) if not makers.behind(path)]


def hidden_files(spec: FileSpec, there: Collection[str]) -> Iterator[Problem]:
    """What lives elsewhere is no file of the commit as well."""
    for name, dataset in spec.data.items():
        inside = [path for path in there if is_within(path, dataset.path) and posixpath.basename(path) not in KEEPERS]
        if dataset.home is not None and inside:
            problem = f"{dataset.path} lives at {dataset.home}, and the commit has {min(inside)} too"
            yield Problem(("data", name, "from"), problem, "remove it from git, or remove `from`")


def fetch_stage(sources: dict[str, str], needs: Sequence[str]) -> tuple[StagePlan, ...]:
    """The stage that brings all of them; none where there is nothing to bring."""
    if not sources:
        return ()
    stage = StagePlan(
        name="fetch", kind="data", builtin="fetch", needs=tuple(needs), outs=tuple(sources), sources=sources
    )
    return (stage,)


def _pointed(path: str, there: Collection[str]) -> str | None:
    """The path itself, or the nearest folder around it, that has a ``.dvc`` file."""
    while path:
        if path + POINTER in there:
            return path
        path = posixpath.dirname(path)
    return None


def _add(found: dict[str, str], path: str, place: str) -> None:
    """Adds a source, unless one that is there brings it, or is a part of it."""
    if not any(is_within(path, other) or is_within(other, path) for other in found):
        found[path] = place

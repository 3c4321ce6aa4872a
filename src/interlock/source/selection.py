"""Whether something that happened begins a run of a project, and because of what.

====================  ==================================================================================
it happened           a run is wanted
====================  ==================================================================================
a branch was pushed   the branch is one of ``on.push.branches``, a changed file one of ``on.push.paths``; never one
                      that Interlock pushed itself: its pull request is run, as any other
a tag was pushed      the tag is one of ``on.push.tags``; ``paths`` say nothing about tags
a pull request        the branch it goes into and its changed files are those of ``on.pull_request``
a schedule's slot     there is a schedule
watched data changed  data is watched
somebody asked        always
====================  ==================================================================================

A commit message that holds ``[skip ci]`` stops the first three only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from interlock.source.commit import OccasionKind, branch_of
from interlock.source.patterns import Patterns
from interlock.source.repository import REVERTS
from interlock.source.triggers import Triggers

SKIP_WORDS = ("[skip ci]", "[ci skip]", "[no ci]", "[skip interlock]")
"""Any of these in a commit message, in any capitals: no run for pushing it."""

MOST_WORK = 20_000_000
"""Characters of paths times characters of patterns that are compared at most; a larger change is wanted unseen."""


class Wanted(NamedTuple):
    """The answer, and why."""

    is_wanted: bool
    because: str

    def __bool__(self) -> bool:
        return self.is_wanted


def is_wanted(
    triggers: Triggers,
    kind: OccasionKind,
    ref: str,
    changed_paths: Collection[str] | None,
    *,
    project: str = "",
    message: str = "",
) -> Wanted:
    """Whether a run begins.

    ``ref`` is the full ref that moved, for a pull request the name of the branch it goes into. ``changed_paths`` are
    relative to the repository's root, as is the folder ``project``; None where they are not known (a new branch).
    ``message`` is that of the commit to run.
    """
    if kind in ("push", "tag", "pull_request"):
        word = next((word for word in SKIP_WORDS if word in message.lower()), None)
        if word is not None:
            return Wanted(False, f"the commit message says {word}")
    if kind == "push":
        return _pushed(triggers, ref, changed_paths, project)
    if kind == "tag":
        return _listed(ref.removeprefix("refs/tags/"), triggers.tags, "on.push.tags")
    if kind == "pull_request":
        return _requested(triggers, ref, changed_paths, project)
    if kind == "schedule":
        return Wanted(bool(triggers.schedule), "on.schedule says so" if triggers.schedule else "there is no schedule")
    if kind == "data":
        return Wanted(bool(triggers.data), "on.data says so" if triggers.data else "no data is watched")
    return Wanted(True, "somebody asked for it")


def _pushed(triggers: Triggers, ref: str, changed: Collection[str] | None, project: str) -> Wanted:
    branch = branch_of(ref)
    if branch is None:
        return Wanted(False, f"{ref} is no branch")
    if branch.startswith(REVERTS):
        return Wanted(False, f"{branch} is a proposal of Interlock's own: its pull request is run")
    listed = _listed(branch, triggers.branches, "on.push.branches")
    return _touched(triggers.paths, changed, project, "on.push.paths", listed.because) if listed else listed


def _requested(triggers: Triggers, base: str, changed: Collection[str] | None, project: str) -> Wanted:
    wanted = triggers.pull_request
    if wanted is None:
        return Wanted(False, "the pipeline file has no on.pull_request")
    listed = _listed(base, wanted.branches, "on.pull_request.branches")
    return _touched(wanted.paths, changed, project, "on.pull_request.paths", listed.because) if listed else listed


def _listed(name: str, patterns: Sequence[str], key: str) -> Wanted:
    if not patterns:
        return Wanted(False, f"{key} lists nothing")
    is_listed = Patterns(patterns).include(name)
    return Wanted(is_listed, f"{name} is {'one' if is_listed else 'none'} of {key}")


def _touched(patterns: Sequence[str], changed: Collection[str] | None, project: str, key: str, because: str) -> Wanted:
    if not patterns:
        return Wanted(True, because)
    if changed is None:
        return Wanted(True, "what changed is not known")
    folder = f"{project}/" if project else ""
    inside = [path.removeprefix(folder) for path in changed if path.startswith(folder)]
    if sum(map(len, inside)) * sum(map(len, patterns)) > MOST_WORK:
        return Wanted(True, f"too much changed to compare it with {key}: {len(inside)} files")
    known = Patterns(patterns)
    touched = next((path for path in inside if known.include(path)), None)
    if touched is None:
        return Wanted(False, f"none of {len(changed)} changed files is one of {key}")
    return Wanted(True, f"{touched} changed, which is one of {key}")

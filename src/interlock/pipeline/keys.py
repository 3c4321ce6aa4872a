"""Cache keys, and whether an earlier execution of a stage may be used again.

A key is known before a stage runs: its command, parameters, environment, products it is given. What it reads of the
commit is known only afterwards, so an execution leaves a trace: the files it read and the folders whose names it saw,
each with a fingerprint. It may be used again if the key is the same and every fingerprint is the same in the commit of
today.

A trace's fingerprints can be computed again from four things: the paths, the tree, the contents, and whether the
stage's command is a Python program. Ask for exactly the paths of the trace: whether comments of a Python file matter is
decided for the whole set.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property

from blake3 import blake3

from interlock.pipeline.entries import module_files, words_of
from interlock.pipeline.inputs.differences import NOTHING, Known, differences
from interlock.pipeline.inputs.sources import Source
from interlock.pipeline.plan import Plan
from interlock.pipeline.trace import ABSENT, RULES, KeyInputs, Lookup, Prints, Trace
from interlock.source.commit import FileEntry, Tree
from interlock.vocabulary import canonical

_REGULAR = "100644"
_DIFFERENCES_SHOWN = 3


def key_of(inputs: KeyInputs) -> str:
    """The key of a stage: a digest of everything its result depends on that is known before it runs."""
    return f"blake3:{blake3(canonical(inputs.model_dump(mode='json'))).hexdigest()}"


def is_python_command(command: str, paths: Collection[str] = ()) -> bool:
    """Whether a command is one Python program of the project and nothing else: ``python src/train.py --fast``.

    ``paths`` are the project's files; they tell whether ``python -m package.train`` is its own. Everything that might
    read sources as text is no such command: a shell line, pytest (its plugins and settings may), ``python -c``, an
    argument that names a source.
    """
    if any(mark in command for mark in "|&;<>()$`*?[{~\n"):
        return False
    words = words_of(command)
    if not words:
        return False
    program = posixpath.basename(words[0])
    if not program.startswith("python") or program.removeprefix("python").strip("0123456789."):
        return False
    rest = words[2:] if words[1:2] == ["-u"] else words[1:]
    if rest[:1] == ["-m"]:
        is_own = len(rest) > 1 and bool(module_files(rest[1], paths))
        rest = rest[1:]
    else:
        is_own = bool(rest) and rest[0].endswith(".py") and not rest[0].startswith("-")
    return is_own and not any(".py" in word for word in rest[1:])


def fingerprint_reads(
    reads: Sequence[str],
    tree: Tree,
    sources: Callable[[Sequence[str]], Mapping[str, Source]],
    python_command: bool,
) -> dict[str, str]:
    """The fingerprint of each file that was read, by path.

    ``git:`` and git's object id (and the mode, where it is not that of a plain file); ``absent`` where the tree has no
    such file. Where the command is a Python program that cannot see the text of its sources, its Python files are told
    by what they do, ``py:``. One file that might look at sources, or of which ``sources`` knows nothing, turns all of
    them to ``git:``. Paths are relative to the project, those of ``tree`` too.
    """
    prints = {path: mark_of(tree.get(path)) for path in reads}
    files = sorted(path for path in reads if path.endswith(".py") and is_file(tree.get(path)))
    known = sources(files) if python_command and files else {}
    if not files or any(path not in known or known[path].sees_text for path in files):
        return prints
    return prints | {path: known[path].fingerprint + _mode_of(tree[path]) for path in files}


def mark_of(entry: FileEntry | None) -> str:
    """A file by its content and mode as git has them; ``absent`` where there is none."""
    return ABSENT if entry is None else f"git:{entry.blob}{_mode_of(entry)}"


def marks_of(prints: Mapping[str, str], tree: Tree) -> dict[str, str]:
    """The content, as git has it, of each file that is fingerprinted by what it does: ``Trace.sources``."""
    return {path: mark_of(tree.get(path)) for path, told in prints.items() if told.startswith("py:")}


def look_up(
    inputs: KeyInputs,
    traces: Sequence[Trace],
    history: Sequence[Trace],
    current: Callable[[Trace], Prints],
    known: Known = NOTHING,
) -> Lookup:
    """Whether the stage must run, and why.

    ``traces`` are executions of the same key, newest first, ``history`` others of the same stage; ``current`` gives the
    fingerprints of a trace's reads and listings in the commit of today, ``known`` the words for the reason. A miss is
    explained against the execution with the fewest differences.
    """
    key = key_of(inputs)
    nearest: tuple[str, ...] | None = None
    for trace in (*traces, *history):
        now = current(trace)
        if key_of(trace.inputs) == key and is_unchanged(trace, now):
            return Lookup(key=key, hit=trace, because=f"reused from run {trace.run}")
        found = tuple(differences(inputs, trace, now, known))
        if nearest is None or len(found) < len(nearest):
            nearest = found or ("its inputs changed",)
    if nearest is None:
        return Lookup(key=key, hit=None, because="never ran before")
    return Lookup(key=key, hit=None, because=in_short(nearest), differences=nearest)


def is_unchanged(trace: Trace, current: Prints) -> bool:
    """Whether all that the execution read and saw of names is the same today, as far as today's rules ask."""
    return trace.rules == RULES and trace.reads == current.reads and trace.listings == current.listings


def in_short(differences: Sequence[str]) -> str:
    """The first few differences in one line, and how many more there are."""
    more = len(differences) - _DIFFERENCES_SHOWN
    return "; ".join(differences[:_DIFFERENCES_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def makers_in(plan: Plan) -> Mapping[str, str]:
    """The stage that makes each product of a plan. The plan is gone through only if somebody asks: hits do not."""
    return _Makers(plan)


class _Makers(Mapping[str, str]):
    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __getitem__(self, product: str) -> str:
        return self._all[product]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @cached_property
    def _all(self) -> dict[str, str]:
        return {product: stage.name for stage in self._plan.stages for product in stage.products}


def is_file(entry: FileEntry | None) -> bool:
    """Whether it is a file with content of its own, and no link."""
    return entry is not None and entry.mode in {_REGULAR, "100755"}


def _mode_of(entry: FileEntry) -> str:
    return "" if entry.mode == _REGULAR else f":{entry.mode}"

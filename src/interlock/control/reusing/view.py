"""A project's files as one stage sees them, and how their fingerprints stand today."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from interlock.pipeline.inputs.names import Folders, listed_in
from interlock.pipeline.inputs.sources import Source
from interlock.pipeline.keys import fingerprint_reads, mark_of
from interlock.pipeline.trace import Prints, Trace
from interlock.source.commit import Tree


@dataclass(frozen=True)
class View:
    """``read`` parses Python files of the tree by path. ``is_python``: the command is one Python program and no more;
    ``is_own``: the stage is one of ours, which looks for nothing that it does not list.
    """

    tree: Tree
    folders: Folders
    read: Callable[[Iterable[str]], dict[str, Source]]
    is_python: bool
    is_own: bool

    def fingerprint(self, reads: Sequence[str], listed: Sequence[str]) -> Prints:
        """The fingerprints of files that were read, and of the names that were or might have been looked at."""
        return Prints(fingerprint_reads(reads, self.tree, self.read, self.is_python), self._names(reads, listed))

    def current(self, trace: Trace) -> Prints:
        """The fingerprints of what the trace read, as the tree has it now. Unchanged contents are not read again."""
        marks = {path: mark_of(self.tree.get(path)) for path in trace.reads}
        sources = {path: told for path, told in trace.reads.items() if path.endswith(".py")}
        listed = listed_in(trace.listings)
        if any(marks[path] != trace.sources.get(path, told) for path, told in sources.items()):
            return self.fingerprint(sorted(trace.reads), listed)
        return Prints(marks | {path: trace.reads[path] for path in trace.sources}, self._names(marks, listed))

    def _names(self, reads: Iterable[str], listed: Sequence[str]) -> dict[str, str]:
        return self.folders.listings(listed) | ({} if self.is_own else self.folders.lookups(listed, reads))

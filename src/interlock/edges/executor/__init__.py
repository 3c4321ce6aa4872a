"""Running attempts: each in a workspace of its own, isolated, watched, and gone afterwards."""

from interlock.edges.executor.fake import FakeExecutor
from interlock.edges.executor.lines import LogFiles
from interlock.edges.executor.local import LocalExecutor

__all__ = ["FakeExecutor", "LocalExecutor", "LogFiles"]

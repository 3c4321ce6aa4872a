"""A plan in a pull request: how far it goes, and whose gates judge it."""

from interlock.pipeline.pull_requests.bounds import trim
from interlock.pipeline.pull_requests.judges import AS_BASE, judged_by

__all__ = ["AS_BASE", "judged_by", "trim"]

"""A plan in a pull request: how far it goes, and whose gates judge it."""

from interlock.pipeline.pull_requests.bounds import trim
from interlock.pipeline.pull_requests.judges import judged_by

__all__ = ["judged_by", "trim"]

"""What was predicted offline, beside what the model answers as it is served, on the same rows of the holdout."""

from .rows import compare_offline

__all__ = ["compare_offline"]

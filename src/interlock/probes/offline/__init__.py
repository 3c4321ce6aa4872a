"""What was predicted offline, beside what the model answers as it is served, on the same rows of the holdout; and how
those rows lie, for what is asked in production to be compared with.
"""

from .reference import make_reference
from .rows import compare_offline, read_holdout

__all__ = ["compare_offline", "make_reference", "read_holdout"]

"""What gates need to know of a table: a compact, deterministic summary, so that the rows are not needed again."""

from .table import summarise

__all__ = ["summarise"]

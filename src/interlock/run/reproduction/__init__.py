"""Executing a run again to see whether it makes the same bytes, and why it does not."""

"""Hook calls of forges: whether they are genuine, and what they say. It is a hint, and never a place to go to."""

from interlock.source.hooks.call import read_call
from interlock.source.hooks.signature import verify

__all__ = ["read_call", "verify"]

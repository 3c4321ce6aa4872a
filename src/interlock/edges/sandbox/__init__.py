"""Isolation of stages and model servers."""

from interlock.edges.sandbox.bubblewrap import BubblewrapSandbox
from interlock.edges.sandbox.none import NoSandbox

__all__ = ["BubblewrapSandbox", "NoSandbox"]

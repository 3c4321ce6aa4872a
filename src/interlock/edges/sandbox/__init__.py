"""Isolation of stages and model servers."""

from collections.abc import Mapping

from interlock.edges.sandbox.bubblewrap import BubblewrapSandbox
from interlock.edges.sandbox.none import NoSandbox

SANDBOXES: Mapping[str, type[BubblewrapSandbox] | type[NoSandbox]] = {"namespace": BubblewrapSandbox, "none": NoSandbox}
"""By the first word of their level."""

__all__ = ["SANDBOXES", "BubblewrapSandbox", "NoSandbox"]

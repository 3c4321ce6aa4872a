"""What stands before the replicas. ``envoy`` is the real one, configured by files alone; ``fake`` its stand-in."""

from .envoy import EnvoyProxy
from .fake import FakeProxy

__all__ = ["EnvoyProxy", "FakeProxy"]

"""The processes that serve revisions. ``local`` keeps them on this machine, ``fake`` is its stand-in."""

from .fake import FakeReplicas
from .local import LocalReplicas
from .supervising import ensure_supervise, stop_supervise

__all__ = ["FakeReplicas", "LocalReplicas", "ensure_supervise", "stop_supervise"]

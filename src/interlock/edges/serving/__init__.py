"""The processes that serve revisions. ``local`` keeps them on this machine, ``fake`` is its stand-in."""

from .admitted import Installed
from .alone import Alone, serve_alone
from .fake import FakeReplicas
from .local import LocalReplicas
from .supervising import ensure_supervise, stop_supervise

__all__ = ["Alone", "FakeReplicas", "Installed", "LocalReplicas", "ensure_supervise", "serve_alone", "stop_supervise"]

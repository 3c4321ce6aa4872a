"""Who may ask at the front, over what, and how much: what a listener of the proxy is told of it, as documents."""

from .listener import REFUSED, Front
from .log import front_log
from .quotas import Quota
from .tls import Certificate

__all__ = ["REFUSED", "Certificate", "Front", "Quota", "front_log"]

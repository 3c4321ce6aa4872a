"""What the front refused, as the proxy counts it."""

from __future__ import annotations

import re
from pathlib import Path

from interlock.edges.front import REFUSED
from interlock.edges.proxy.admin import Admin
from interlock.edges.proxy.configuration import ADMIN, FOLDER
from interlock.errors import ProxyFault

LABELS = r"environment\.(?P<environment>[^.]*)\.model\.(?P<model>[^.]*)\.status\.(?P<status>\d+)"
COUNTED = re.compile(rf"{re.escape(REFUSED)}\.requests\.{LABELS}")


def refused(data: Path) -> dict[tuple[str, str, str], int]:
    """Requests by environment name, model (empty where no model's own path was asked for) and status, since the proxy
    began; none while it cannot be read.
    """
    try:
        stats = Admin(data / FOLDER, ADMIN).stats(f"{REFUSED}.")
    except ProxyFault:
        return {}
    found = [(named, int(count)) for name, count in stats.items() if (named := COUNTED.fullmatch(name))]
    return {(named["environment"], named["model"], named["status"]): count for named, count in found}

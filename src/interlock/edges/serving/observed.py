"""What a replica counts of what it is asked and answers, read from the replica itself."""

from __future__ import annotations

import json
from pathlib import Path

from interlock.delivery.revision import ObservedSeen
from interlock.system.sockets import http_over

SECONDS = 0.3
"""How long a replica may take to tell; a hung one holds nobody up."""
SIDES = ("input", "output")


def read_observed(folder: Path) -> ObservedSeen | None:
    """The counts of the replica whose socket is in ``folder``; None where it has none, or does not tell now."""
    try:
        answer = http_over(folder, "http", "GET", "/interlock/observed", timeout=SECONDS)
        if answer.status != 200:
            return None
        told = json.loads(answer.body)
        columns = {f"{side}.{name}": counts for side in SIDES for name, counts in told[side].items()}
        return ObservedSeen(epoch=told["epoch"], rows=told["rows"], columns=columns)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # it is the model's process: it may say anything
        return None

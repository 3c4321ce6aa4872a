"""The log that the front keeps of requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from interlock.vocabulary import Json

LOG = "logs/access.log"


def front_log(folder: Path) -> Iterator[dict[str, Json]]:
    """The lines of the log in a data-plane folder, those of its older part first; one that is torn is left out."""
    for name in (f"{LOG}.1", LOG):
        try:
            lines = (folder / name).read_bytes().splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if isinstance(told, dict):
                yield told

"""The bell: wakes the server, so that it looks now and not at its next turn. Nothing depends on its being heard."""

from __future__ import annotations

from pathlib import Path

from .hook import ask


def ring(state: Path, message: dict[str, object], patience: float = 2.0) -> dict[str, object] | None:
    """Sends a message to the server of a state folder and answers its answer; None where nobody is there."""
    return ask(str(state), message, patience)


def ring_for(state: Path, key: str) -> bool:
    """Rings for one row (``release/3``): the bell carries its key alone. Whether anybody heard."""
    return ring(state, {"kind": "bell", "key": key}) is not None

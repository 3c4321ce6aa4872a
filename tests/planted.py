"""Rules with planted mistakes: modules loaded anew from their own text, of which one place is other than it was."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from tests.plant import Rules

ROOMS = (
    "delivery.holding",
    "registry.admission",
    "delivery.external.limits",
    "delivery.analysis.streams",
    "delivery.analysis.engine",
    "delivery.looks.pairs",
    "delivery.looks.evidence",
    "delivery.external.answers",
    "delivery.replacing",
    "delivery.rollout",
    "delivery.looks.mirroring",
    "delivery.stages.probation",
    "delivery.advance",
    "delivery.steering",
    "delivery.looks.replaying",
    "delivery.environment",
    "delivery.release",
    "control.delivering.quarantine",
    "control.delivering.going_back",
    "control.delivering.scaling",
    "control.delivering.dataplane",
    "control.delivering.deliveries",
    "control.delivering.requests",
    "control.loop",
)
"""What decides of deliveries, in the order in which one needs the other; each is loaded anew for every mistake."""


class Mistake(NamedTuple):
    """One edit: ``right`` is in the module's text once, and becomes ``wrong``."""

    room: str
    right: str
    wrong: str


@contextmanager
def _apart(names: tuple[str, ...]) -> Iterator[None]:
    """Modules of these names that are loaded within are forgotten afterwards."""
    kept = {name: importlib.import_module(name) for name in names}
    try:
        yield
    finally:
        for name, module in kept.items():
            _put(name, module)


def _put(name: str, module: ModuleType) -> None:
    parent, _, last = name.rpartition(".")
    sys.modules[name] = module
    setattr(sys.modules[parent], last, module)


def modules_with(rooms: tuple[str, ...], mistake: Mistake | None) -> dict[str, ModuleType]:
    """These modules by room, with this mistake in them, beside the right ones, which stay as they are."""
    names = tuple(f"interlock.{room}" for room in rooms)
    with _apart(names):
        for room, name in zip(rooms, names, strict=True):
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            text = Path(spec.origin).read_text()
            if mistake is not None and mistake.room == room:
                assert text.count(mistake.right) == 1, f"{room} has {mistake.right!r} {text.count(mistake.right)} times"
                text = text.replace(mistake.right, mistake.wrong)
            module = importlib.util.module_from_spec(spec)
            _put(name, module)
            exec(compile(text, spec.origin, "exec"), module.__dict__)
        return {room: sys.modules[name] for room, name in zip(rooms, names, strict=True)}


def rules_with(mistake: Mistake | None) -> Rules:
    """The modules that deliver, with this mistake in them."""
    modules = modules_with(ROOMS, mistake)
    return Rules(
        loop=modules["control.loop"],
        deliveries=modules["control.delivering.deliveries"],
        dataplane=modules["control.delivering.dataplane"],
        requests=modules["control.delivering.requests"],
    )

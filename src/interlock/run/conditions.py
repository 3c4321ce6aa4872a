"""Under what a stage was executed: what its result may depend on that no key holds, or holds only as a digest."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.pipeline.locks.packages import changes_between
from interlock.vocabulary import Stored


class Conditions(Stored):
    """Noted of every execution of a user's stage.

    ``system`` names the system, machine and C library, ``flags`` what the processor can do, ``cores`` how many the
    stage could use, ``threads`` how many it was told to use, and ``packages`` what was really installed, by version.
    """

    system: str
    processor: str = ""
    flags: tuple[str, ...] = ()
    cores: int
    threads: int
    python: str
    packages: dict[str, str] = {}


def changed_conditions(before: Conditions, after: Conditions) -> Iterator[str]:
    """What is another one, in words, the likeliest cause of another result first; nothing where all is the same."""
    yield from (f"package {change}" for change in changes_between(before.packages, after.packages))
    for name in ("python", "processor", "system", "threads", "cores"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            yield f"{name} {old} -> {new}"
    lost, gained = sorted({*before.flags} - {*after.flags}), sorted({*after.flags} - {*before.flags})
    if lost or gained:
        told = [f"without {' '.join(lost)}"] * bool(lost) + [f"with {' '.join(gained)}"] * bool(gained)
        yield f"processor flags: now {' and '.join(told)}"

"""Why a stage made something else than it made before: found out by executing it again, not by guessing.

``next_execution`` in one table; the first row that fits decides:

======================================================  =======================================================
seen                                                    then
======================================================  =======================================================
the reproduction's own execution alone                  once more, under the same settings
two of them differ, no two on one core yet              on one core with one thread, until there are two
two of them differ                                      enough: ``threads`` where those on one core made the same,
                                                        else ``chance``
all the same, something recorded has changed            enough: ``conditions``
all the same, it may use the network                    enough: ``network``
all the same, fewer than four                           once more, under the same settings
all the same                                            enough: ``unknown``, and what was tried
======================================================  =======================================================

Other inputs are no cause that could be found: commit, parameters, data and products of earlier stages are the same by
their digests, or an earlier stage would be the one that differs.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias

from interlock.run.conditions import Conditions, changed_conditions
from interlock.run.reproduction.suspects import Suspect
from interlock.vocabulary import Stored

Setting: TypeAlias = Literal["same", "single"]
"""How a stage is executed again: as it was, or on one core and told to use one thread."""
MOST = 4
"""Executions under the same settings, after which one that still made the same is taken to be deterministic here."""


class Cause(StrEnum):
    """Why a stage differs. ``failure``: it did not succeed this time."""

    THREADS = "threads"
    CHANCE = "chance"
    CONDITIONS = "conditions"
    NETWORK = "network"
    FAILURE = "failure"
    UNKNOWN = "unknown"


class Execution(Stored):
    """What one execution made, by file (``essence_of``); ``problem`` is empty where it succeeded."""

    made: dict[str, str] = {}
    problem: str = ""


class StageSeen(Stored):
    """What is known of the first stage that differs.

    ``same`` are the executions under the settings it has, the reproduction's own first; ``single`` those on one core.
    ``before`` and ``after`` are the conditions of the first run and of the reproduction, None where not recorded.
    """

    uses_network: bool = False
    same: tuple[Execution, ...]
    single: tuple[Execution, ...] = ()
    before: Conditions | None = None
    after: Conditions | None = None
    suspects: tuple[Suspect, ...] = ()


class Diagnosis(Stored):
    """The cause, and how it was found out, in one sentence."""

    cause: Cause
    because: str


def next_execution(seen: StageSeen) -> Setting | None:
    """How to execute the stage next (the table above); None where enough is known."""
    if len(seen.same) < 2:
        return "same"
    if not _all_alike(seen.same):
        return "single" if len(seen.single) < 2 and not _problem(seen.single) else None
    if seen.uses_network or _changed(seen) or len(seen.same) >= MOST:
        return None
    return "same"


def diagnose(seen: StageSeen) -> Diagnosis:
    """The cause, once ``next_execution`` asks for nothing more."""
    times = len(seen.same)
    if not _all_alike(seen.same):
        return _not_deterministic(seen)
    changed = _changed(seen)
    alike = f"executed {times} times, it makes the same each time, and something else than before"
    if changed:
        return Diagnosis(cause=Cause.CONDITIONS, because=f"{alike}; what has changed since: {'; '.join(changed)}")
    if seen.uses_network:
        because = f"{alike}; it may use the network, and what it reads there may have changed"
        return Diagnosis(cause=Cause.NETWORK, because=because)
    known = "nothing that is recorded has changed since" if seen.before else "the first conditions were not recorded"
    return Diagnosis(cause=Cause.UNKNOWN, because=f"{alike}; {known}{_named(seen)}")


def _not_deterministic(seen: StageSeen) -> Diagnosis:
    differs = f"executed {len(seen.same)} times under the same settings, it made different products"
    problem = _problem(seen.single)
    if problem:
        because = f"{differs}; on one core with one thread it did not succeed: {problem}{_named(seen)}"
        return Diagnosis(cause=Cause.UNKNOWN, because=because)
    if _all_alike(seen.single):
        because = f"threads: {differs}, and on one core with one thread the same one twice"
        return Diagnosis(cause=Cause.THREADS, because=because)
    what = "unseeded randomness" if _kinds(seen) == {"chance"} else "unseeded randomness or the time of day"
    because = f"{what}: {differs}, and on one core with one thread too{_named(seen)}"
    return Diagnosis(cause=Cause.CHANCE, because=because)


def _all_alike(executions: tuple[Execution, ...]) -> bool:
    return all(one == executions[0] for one in executions)


def _problem(executions: tuple[Execution, ...]) -> str:
    return next((one.problem for one in executions if one.problem), "")


def _changed(seen: StageSeen) -> tuple[str, ...]:
    return tuple(changed_conditions(seen.before, seen.after)) if seen.before and seen.after else ()


def _kinds(seen: StageSeen) -> set[str]:
    return {suspect.kind for suspect in seen.suspects}


def _named(seen: StageSeen) -> str:
    return f"; suspects: {', '.join(map(str, seen.suspects))}" if seen.suspects else ""

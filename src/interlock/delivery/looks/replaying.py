"""A rollout decided again from what was seen: the stored observations have to lead to the same decisions."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.delivery.advance import advance
from interlock.delivery.analysis.engine import begin_again
from interlock.delivery.replacing import begin
from interlock.delivery.revision import DataPlaneSeen, EndpointSeen
from interlock.delivery.rollout import CheckRun, Order, Rollout, RolloutPhase, RolloutSeen
from interlock.delivery.steering import ORDER, obey
from interlock.vocabulary import Event, Json, Stored

LOOK = "look"
"""Where an event keeps what was seen, and when."""


class Look(Stored):
    """What was seen at ``now`` (wall seconds)."""

    now: float
    seen: RolloutSeen


class Replay(Stored):
    """How many decisions were made again, and of those that came out otherwise what was said then and what now.

    ``unknown`` counts decisions of which no observation was kept: what follows them is not made again.
    """

    decisions: int = 0
    unknown: int = 0
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        """For people."""
        if self.differences:
            return f"{len(self.differences)} of {self.decisions} decisions come out otherwise: {self.differences[0]}"
        left = f"; {self.unknown} more have no stored observations" if self.unknown else ""
        return f"{self.decisions} decisions follow from the stored observations{left}"


def of_interest(rollout: Rollout, seen: RolloutSeen) -> RolloutSeen:
    """What a decision may depend on, and nothing else: so much is kept of a look, to decide the same from it again."""
    keys = {rollout.candidate.key} | ({rollout.stable.key} if rollout.stable else set())
    is_timed = rollout.analysis is not None and any(rule.kind == "latency" for rule in rollout.analysis.rules)
    plane = DataPlaneSeen(
        replicas={name: one for name, one in seen.plane.replicas.items() if name.rpartition(".")[0] in keys},
        endpoints={
            key: {
                name: EndpointSeen(is_healthy=one.is_healthy, is_draining=one.is_draining) for name, one in of.items()
            }
            for key, of in seen.plane.endpoints.items()
            if key == rollout.candidate.key
        },
        weights=seen.plane.weights,
        counters={key: counter for key, counter in seen.plane.counters.items() if key in keys},
        latencies={key: one for key, one in seen.plane.latencies.items() if is_timed and key in keys},
        labelled={key: one for key, one in seen.plane.labelled.items() if key in keys},
        mirrors=seen.plane.mirrors,
        paired={key: one for key, one in seen.plane.paired.items() if key == rollout.candidate.key},
        problem=seen.plane.problem,
    )
    return seen.model_copy(update={"plane": plane})


def observation(seen: RolloutSeen, now: float) -> dict[str, Json]:
    """What is stored of one look, beside the decision that followed from it."""
    return {LOOK: Look(now=now, seen=seen).model_dump(mode="json", exclude_defaults=True)}


def origin(rollout: Rollout) -> Rollout:
    """The rollout as it began: everything that was frozen, and nothing of what came later."""
    return Rollout(
        number=rollout.number,
        environment=rollout.environment,
        release=rollout.release,
        stable=rollout.stable,
        candidate=rollout.candidate,
        steps=rollout.steps,
        deadline=rollout.deadline,
        checks=rollout.checks,
        started=rollout.started,
        since=rollout.started,
        analysis=begin_again(rollout.analysis) if rollout.analysis is not None else None,
        check_runs={check.name: CheckRun() for check in rollout.checks},
        replicas=rollout.replicas,
        windows=rollout.windows,
        tolerance=rollout.tolerance,
        probation=rollout.probation,
        holdback=rollout.holdback,
        external=rollout.external,
        replacement=begin(rollout.candidate, rollout.replacement.replicas) if rollout.replacement is not None else None,
        phase=RolloutPhase.PROGRESSING,
    )


def replay(rollout: Rollout, events: Sequence[Event]) -> Replay:
    """Every decision of a rollout made again. ``events`` are all of its own, oldest first; the first began it."""
    state, made = origin(rollout), 0
    differences: list[str] = []
    for index, event in enumerate(events[1:], start=1):
        look, order = event.observed.get(LOOK), event.observed.get(ORDER)
        if order is not None:
            state = obey(state, Order.model_validate(order)).state
            continue
        if look is None and rollout.wish is not None and state.wish is None:
            state = state.model_copy(update={"wish": rollout.wish})  # kept by an earlier release
            continue
        if look is None:
            return Replay(decisions=made, unknown=len(events) - index, differences=tuple(differences))
        looked = Look.model_validate(look)
        decision = advance(state, looked.seen, looked.now)
        state, made = decision.state, made + 1
        then = (event.because, event.phase, event.observed.get("weight"))
        if (decision.because, state.phase, state.weight) != then:
            differences.append(f"{event.because!r} ({event.phase}) then, {decision.because!r} ({state.phase}) now")
    return Replay(decisions=made, differences=tuple(differences))

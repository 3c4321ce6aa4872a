"""Looks at rollouts, stored as the loop stores them."""

from __future__ import annotations

import json

from interlock.delivery.advance import advance
from interlock.delivery.looks.replaying import observation, of_interest
from interlock.delivery.rollout import Rollout, RolloutSeen, summary
from interlock.vocabulary import Event, Json, Kind


def event(rollout: Rollout, because: str, observed: dict[str, Json]) -> Event:
    """Of rollout 4, whatever its number among others."""
    return Event(
        number=1, kind=Kind.ROLLOUT, key="4", version=1, phase=rollout.phase, at=0.0, because=because, observed=observed
    )


def decide(rollout: Rollout, seen: RolloutSeen, now: float, events: list[Event]) -> Rollout:
    """The rollout after one look; ``events`` gets what is stored of it, where it changed something."""
    seen = of_interest(rollout, seen)
    decision = advance(rollout, seen, now)
    if decision.state != rollout:
        looked = json.loads(json.dumps(observation(seen, now)))
        told = looked | {"weight": decision.state.weight, **summary(decision.state)}
        events.append(event(decision.state, decision.because, told))
    return decision.state

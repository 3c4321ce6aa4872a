"""Probation: a candidate that has passed all steps and checks goes on being compared with stable, which keeps a share
of the traffic and all of its replicas, so that it can still be rolled back at once.

``judge_probation`` in one table; the first row that fits decides. Proof is that of every metric, the late ones among
them; what ended the rollout before (a person, harm, crashes, a quarantine) and what holds it stands in ``advance``.

==========================================================  ==================================================
seen                                                        then
==========================================================  ==================================================
the proxy cannot be read, the weight is not in force, the   wait
candidate is not healthy
a person promotes it                                        promoted, without further proof
harmlessness is not proven                                  wait
its time is over                                            promoted
a newer release waits for this environment                  promoted; that one is compared with it
otherwise                                                   wait
==========================================================  ==================================================

Where it waits beyond its time for as long as the rollout's deadline, it is rolled back: what never came is no evidence.
"""

from __future__ import annotations

from typing import NamedTuple

from interlock.delivery.analysis.engine import conclude
from interlock.delivery.holding import moment
from interlock.delivery.rollout import Rollout, RolloutPhase
from interlock.vocabulary import Verdict


class Outcome(NamedTuple):
    """The phase that follows, and why."""

    phase: RolloutPhase
    because: str


def begin_probation(rollout: Rollout, now: float) -> Rollout:
    """The rollout on probation: what is late is judged from now on, and stable gets the holdback again."""
    assert rollout.analysis is not None
    analysis = rollout.analysis.model_copy(update={"judges_late": True})
    state = rollout.model_copy(
        update={"is_on_probation": True, "since": now, "weight": 100 - rollout.holdback, "analysis": analysis}
    )
    because = f"{place_of(state)}, {rollout.holdback} % stay with stable; {conclude(analysis).because}"
    return state.model_copy(update={"because": because})


def judge_probation(rollout: Rollout, superseded_by: int | None, waits_for: str | None, now: float) -> Outcome:
    """What becomes of a rollout on probation (the table above); ``waits_for``: what the data plane is not yet like."""
    assert rollout.analysis is not None
    title = f"{rollout.candidate.title} has all traffic"
    result = conclude(rollout.analysis)
    if waits_for is None and rollout.promotion is not None:
        return Outcome(RolloutPhase.PROMOTED, f"{title}, {rollout.promotion.because}: {result.because}")
    if waits_for is None and result.verdict is not Verdict.PASS:
        waits_for = f"not promoted without proof: {result.because}"
    end = rollout.since + rollout.probation
    if waits_for is not None and now > end + rollout.deadline:
        because = f"{rollout.deadline:g} s after its probation it is still waiting: {waits_for}"
        return Outcome(RolloutPhase.ROLLED_BACK, because)
    if waits_for is not None:
        held = "" if now < end else f", held until {moment(end + rollout.deadline)}"
        return Outcome(RolloutPhase.PROGRESSING, f"{place_of(rollout)}{held}: {waits_for}")
    if now >= end:
        return Outcome(
            RolloutPhase.PROMOTED, f"{title}, its probation of {rollout.probation:g} s is over: {result.because}"
        )
    if superseded_by is not None:
        because = f"{title}, its probation is cut short for release {superseded_by}: {result.because}"
        return Outcome(RolloutPhase.PROMOTED, because)
    return Outcome(RolloutPhase.PROGRESSING, f"{place_of(rollout)}; {result.because}")


def place_of(rollout: Rollout) -> str:
    """Where a rollout on probation is, for people."""
    return f"on probation at {rollout.weight} % until {moment(rollout.since + rollout.probation)}"

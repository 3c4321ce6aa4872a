"""Steps in which requests are copied to the candidate, and its answers are seen by nobody."""

from __future__ import annotations

import math

from interlock.delivery.analysis.engine import SAFETY_ALPHA
from interlock.delivery.revision import PairsSeen
from interlock.delivery.rollout import Rollout
from interlock.pipeline.canaries.plan import MirrorPlan


def mirror_waits_for(rollout: Rollout, mirror: MirrorPlan, evidence: str, now: float) -> str | None:
    """What the present step, a mirror that is in force, still waits for; None when it is over.

    ======================================  ===================================================
    its time is not over                    that, with the ``evidence`` so far
    no request and its copy were answered   that: no pairs are no evidence
    agreement is judged and not yet proven  that: further steps bring no evidence of it
    it is a shadow, not all of it proven    that: there are no further steps
    else                                    over
    ======================================  ===================================================
    """
    told = f"{evidence}{not_judged(rollout.paired)}"
    left = mirror.seconds - (now - rollout.since)
    if left > 0.0:
        return f"mirror of {mirror.percent} %, {left:.0f} s left{told}"
    if rollout.pairs == 0:
        return f"no request has been answered by both, of {mirror.percent} % that are copied{told}"
    unproven = _unproven(rollout)
    return f"not yet proven by copies: {unproven}{told}" if unproven else None


def _unproven(rollout: Rollout) -> str:
    """The metrics that no later step tells of, and that are not proven to be within their margin."""
    analysis = rollout.analysis
    judged = zip(analysis.rules, analysis.streams, strict=True) if analysis is not None else ()
    return ", ".join(
        rule.metric
        for rule, stream in judged
        if (rule.kind == "agreement" or rollout.is_shadow)
        and not rule.is_dry_run
        and stream.log_safety < -math.log(SAFETY_ALPHA)
    )


def not_judged(paired: PairsSeen | None) -> str:
    """What was found in the logs and is no evidence, for people; empty where there is none."""
    if paired is None:
        return ""
    counts = (
        (paired.unmatched, "copies without their request"),
        (paired.duplicated, "second answers"),
        (paired.late, "late answers"),
    )
    parts = [f"{count} {what}" for count, what in counts if count]
    return f"; not judged: {', '.join(parts)}" if parts else ""

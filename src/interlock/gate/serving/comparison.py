"""Gates on the served model against production: the ratio of what was measured of both.

With the ratio, candidate to production, and its one-sided bounds at alpha:

==========================  =========
``max_ratio``               verdict
==========================  =========
upper bound <= max_ratio    pass
lower bound > max_ratio     fail
else (too noisy to tell)    undecided
==========================  =========

``min_ratio``, of throughput, is the same the other way round. The size of a model is one number, whenever it is
measured: its plain ratio decides.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from interlock.gate.comparison import answer
from interlock.gate.judgement import GateResult
from interlock.gate.measurements import LATENCY_SHARES, Measurements, Reading, ServedSide
from interlock.gate.serving.ratios import Ratio, ratio_of_lives, smallest_lives
from interlock.pipeline.gates.served import SIZE, THROUGHPUT
from interlock.pipeline.plan import GatePlan
from interlock.vocabulary import Json, Verdict


def compare_served(gate: GatePlan, measurements: Measurements, production: str) -> GateResult:
    """The verdict of a gate on the served model against the production model of this name."""
    key = "min_ratio" if gate.metric == THROUGHPUT else "max_ratio"
    if [*gate.ratios] != [key]:
        said = ", ".join(gate.ratios) or "margin"
        return answer(gate, Verdict.UNDECIDED, f"{gate.metric} is compared by {key}, not by {said}")
    candidate, baseline = measurements.served, measurements.served_baseline
    if candidate is None:
        return answer(gate, Verdict.UNDECIDED, measurements.served_because)
    if candidate.disqualified:
        return answer(gate, Verdict.FAIL, candidate.disqualified)
    if baseline is None:
        return answer(gate, Verdict.UNDECIDED, measurements.served_baseline_because)
    if baseline.name != production:
        because = f"measured beside {baseline.name}, but production is {production}"
        return answer(gate, Verdict.UNDECIDED, because)
    if baseline.disqualified:
        return answer(gate, Verdict.UNDECIDED, f"nothing to compare with: {baseline.disqualified}")
    return _compare(gate, candidate, baseline, key, gate.ratios[key])


def _compare(gate: GatePlan, candidate: ServedSide, baseline: ServedSide, key: str, limit: float) -> GateResult:
    ours, theirs = candidate.values(gate.metric), baseline.values(gate.metric)
    if isinstance(ours, Reading):
        return answer(gate, Verdict.UNDECIDED, f"{gate.metric} of {candidate.name} {ours.because}")
    if isinstance(theirs, Reading):
        return answer(gate, Verdict.UNDECIDED, f"{gate.metric} of {baseline.name} {theirs.because}")
    evidence: dict[str, Json] = {
        "candidate": statistics.median(ours),
        "production": statistics.median(theirs),
        "production_name": baseline.name,
        key: limit,
    }
    if gate.metric == SIZE:
        plain = ours[0] / theirs[0]
        because = f"{ours[0]:.4g} against {theirs[0]:.4g} MB: ratio {plain:.3f}, at most {limit:g} is asked"
        evidence |= {"method": "plain ratio", "estimate": plain}
        return answer(gate, Verdict.PASS if plain <= limit else Verdict.FAIL, because, evidence)
    ratio = ratio_of_lives(ours, theirs, gate.alpha) if len(ours) == len(theirs) else None
    if ratio is None:
        needed = smallest_lives(gate.alpha)
        because = f"{len(ours)} and {len(theirs)} lives of the servers are too few: needs {needed} of both"
        return answer(gate, Verdict.UNDECIDED, because, evidence)
    evidence |= _told(gate, ratio, ours, theirs)
    if gate.metric in LATENCY_SHARES:
        evidence["requests_a_life"] = min(len(life.latency_ms) for side in (candidate, baseline) for life in side.lives)
    verdict, because = _decide(ratio, key, limit)
    said = f"ratio {ratio.estimate:.3f} (between {ratio.lower:.3f} and {ratio.upper:.3f}, {len(ours)} lives)"
    return answer(gate, verdict, f"{said}{because}", evidence)


def _told(gate: GatePlan, ratio: Ratio, ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Json]:
    """Every number of the interval: who has the lives' own can compute it again."""
    return {
        "method": ratio.method,
        "estimate": ratio.estimate,
        "interval": [ratio.lower, ratio.upper],
        "lives": len(ours),
        "candidate_of_lives": [*ours],
        "production_of_lives": [*theirs],
        "smallest_detectable_ratio": ratio.detectable,
        "alpha": gate.alpha,
    }


def _decide(ratio: Ratio, key: str, limit: float) -> tuple[Verdict, str]:
    if key == "max_ratio":
        is_proven, is_refuted, side, beyond = ratio.upper <= limit, ratio.lower > limit, "at most", "above"
    else:
        is_proven, is_refuted, side, beyond = ratio.lower >= limit, ratio.upper < limit, "at least", "below"
    if is_proven:
        return Verdict.PASS, f", {side} {limit:g} is asked"
    if is_refuted:
        return Verdict.FAIL, f", proven {beyond} {limit:g}"
    return Verdict.UNDECIDED, f": too noisy to tell whether it is {beyond} {limit:g}"

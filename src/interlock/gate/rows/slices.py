"""Slices: parts of the rows in which the candidate may be worse although it is not worse on all of them.

A slice never has to be proven good, only a proven harm blocks: "no slice drops by 2 points" blocks an identical model
in four of five runs. Over all slices and metrics of all gates of a judgement, the probabilities adjusted by Holm:

=======================================================  =================
adjusted probability <= alpha and worse than the margin   fail
a column is not there, or no slice has enough rows        undecided
else                                                      the gate's own verdict
=======================================================  =================

What Benjamini and Hochberg would list is shown as worth a look; it blocks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from interlock.gate.judgement import GateResult
from interlock.gate.row_metrics import SMALLEST_CLASS
from interlock.gate.rows.arrays import Column
from interlock.gate.rows.cutting import cut
from interlock.gate.rows.harm import benjamini_hochberg, holm
from interlock.gate.rows.pairs import SMALLEST_SLICE, Pair, SliceTest
from interlock.pipeline.plan import GatePlan, SlicePlan
from interlock.vocabulary import Json, Verdict

_SHOWN = 10


class Tested(NamedTuple):
    """All slices of one gate, and how many were too small."""

    tests: tuple[SliceTest, ...]
    skipped: int
    problem: str = ""


def examine_slices(gate: GatePlan, pair: Pair, columns: Mapping[str, Column]) -> Tested:
    """Every slice that the gate asks for; ``problem`` says why there is none, or why not all are there."""
    found = [SlicePlan(column=name) for name in sorted(columns)]
    wanted = found if isinstance(gate.slices, str) else list(gate.slices)
    absent = [part.column for part in wanted if part.column not in columns]
    if absent:
        return Tested((), 0, f"neither the holdout nor the predictions have a column {absent[0]} to slice by")
    compared = pair.compare([cut(part.column, columns[part.column], part.quantiles) for part in wanted])
    problem = "" if compared.tests else f"no slice has {SMALLEST_SLICE} rows, and {SMALLEST_CLASS} of either class"
    return Tested(tuple(compared.tests), compared.there - len(compared.tests), problem)


def with_slices(
    gates: Sequence[GatePlan], results: Sequence[GateResult], tested: Sequence[Tested | None]
) -> tuple[GateResult, ...]:
    """The results with what the slices of each gate say, where it has some. Holm goes over all of them."""
    probabilities = [test.probability for slices in tested if slices for test in slices.tests]
    adjusted = iter(zip(holm(probabilities), benjamini_hochberg(probabilities), strict=True))
    judged = []
    for gate, result, slices in zip(gates, results, tested, strict=True):
        found = [(test, *next(adjusted)) for test in slices.tests] if slices else []
        judged.append(_judge(gate, result, slices, found, len(probabilities)) if slices else result)
    return tuple(judged)


def _judge(
    gate: GatePlan, result: GateResult, tested: Tested, found: Sequence[tuple[SliceTest, float, float]], family: int
) -> GateResult:
    if tested.problem:
        verdict = Verdict.FAIL if result.verdict is Verdict.FAIL else Verdict.UNDECIDED
        return result.model_copy(update={"verdict": verdict, "because": f"{tested.problem}; {result.because}"})
    worst_first = sorted(found, key=lambda one: one[0].probability)
    harmed = [one for one in worst_first if one[1] <= gate.alpha and one[0].gain < -gate.margin]
    look_at = [one[0].name for one in worst_first if one[2] <= gate.alpha]
    shown: list[Json] = [_shown(*one, blocks=one in harmed) for one in worst_first[: max(_SHOWN, len(harmed))]]
    evidence: dict[str, Json] = {
        "tested": len(found),
        "skipped": tested.skipped,
        "family": family,
        "look_at": list(look_at),
        "worst": shown,
    }
    because = f"{result.because}; none of {len(found)} slices is proven worse"
    because += f", look at {', '.join(look_at[:3])}" if look_at else ""
    verdict = result.verdict
    if harmed:
        test, probability, _ = harmed[0]
        more = f" and {len(harmed) - 1} more slices are" if len(harmed) > 1 else " is"
        because = f"{test.name}{more} proven worse: {test.candidate:.4f} against {test.production:.4f}"
        because += f" on {test.rows} rows (probability {probability:.2g}, Holm over {family} tests); {result.because}"
        verdict = Verdict.FAIL
    update = {"verdict": verdict, "because": because, "evidence": {**result.evidence, "slices": evidence}}
    return result.model_copy(update=update)


def _shown(test: SliceTest, adjusted: float, false_share: float, *, blocks: bool) -> Json:
    return {
        "slice": test.name,
        "rows": test.rows,
        "candidate": test.candidate,
        "production": test.production,
        "gain": test.gain,
        "probability": test.probability,
        "holm": adjusted,
        "benjamini_hochberg": false_share,
        "blocks": blocks,
    }

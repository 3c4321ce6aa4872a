"""What people are shown of a metric whose test set is counted: a score on a ladder, and no other number that tells it.

Who is shown every score and keeps what rises learns the test set, not the world: after 1,000 commits of a model that
knows nothing, 2,000 rows show 71 % where 50 % is true. On the Ladder (Blum and Hardt 2015) a score is let out only
where it beats the best one let out before by a step, rounded to the step. Its parameter-free form takes the standard
error of the difference of two models for the step; but two models that differ on few rows have a small one, and who
changes a tenth of what was rewarded climbs by it (``benchmarks/gates.py``). So the step is that of the metric itself:
``STEP_ERRORS`` of its standard errors, 0.03 for an accuracy of one half on 2,000 rows.

The Ladder bounds how far somebody climbs, not the luck of the score that begins: the best of 1,000 guesses is by
chance alone 3.2 standard errors too good (the expected largest of so many normal variables), 7 points with 500 rows. So
a score climbs only after it was made worse by ``CAUTION_ERRORS`` standard errors. What is shown is then a bound rather
than an estimate: of one model, asked once, the truth is as good or better in 98 of 100 cases (the one-sided normal
bound); and the best that 1,000 commits show is on average about right.
"""

from __future__ import annotations

from interlock.gate.judgement import GateResult
from interlock.gate.reuse.ledger import climb
from interlock.pipeline.plan import GatePlan, is_row_loss
from interlock.vocabulary import Json, Verdict

STEP_ERRORS = 2.7
"""Standard errors of the metric in one step: the least that who varies what was rewarded climbs no 3 points by."""
CAUTION_ERRORS = 2.0
"""Standard errors by which a score is made worse before it climbs: the least that, over truths anywhere between two
steps, shows no 3 points too much of 500 rows after 1,000 commits (``benchmarks/gates.py``)."""
LOWER_IS_BETTER = ("log_loss", "rmse", "mae")
"""Of the metrics of rows; losses of one's own are, too."""

_KEPT = ("method", "source", "production_name", "rows", "margin", "alpha", "min", "max", "written")
_CAREFUL = f"{CAUTION_ERRORS:g} standard errors worse than measured, and rounded down the ladder"
_WORDS = {Verdict.PASS: "passed", Verdict.FAIL: "failed", Verdict.UNDECIDED: "undecided"}


def ladder_step(error: float) -> float:
    """The step for a metric of this standard error, in two digits, so that it stays the same from commit to commit."""
    return float(f"{STEP_ERRORS * error:.1e}")


def score_to_show(best: float | None, score: float, step: float, *, is_higher_better: bool) -> float | None:
    """The score that may be shown where ``best`` was until now: made worse by the caution, then on the ladder.

    No share of rows is shown below 0.
    """
    caution = step * CAUTION_ERRORS / STEP_ERRORS
    careful = max(score - caution, 0.0) if is_higher_better else score + caution
    return climb(best, careful, step, is_higher_better=is_higher_better)


def on_ladder(gate: GatePlan, result: GateResult, best: float | None, step: float | None) -> GateResult:
    """The result with no number of what was measured but the score that may be shown, if ``best`` was until now.

    Without a step there is none. What stays is what was asked, and which slices are proven worse.
    """
    score, evidence = (
        result.evidence["candidate"],
        {key: result.evidence[key] for key in _KEPT if key in result.evidence},
    )
    shown = best
    if step and isinstance(score, float) and gate.gap_between is None:
        shown = score_to_show(best, score, step, is_higher_better=not is_lower_better(gate.metric))
        evidence |= {"ladder_step": step}
    told = "no score is shown" if shown is None else f"the best score shown is {shown:.6g} ({_CAREFUL})"
    because = f"{_WORDS[result.verdict]} on {result.evidence['rows']} rows; {told}, and a better one from a step on"
    slices = result.evidence.get("slices")
    if isinstance(slices, dict):
        harmed, told_slices = _slices(slices)
        evidence |= {"slices": told_slices}
        because = f"{', '.join(harmed)} proven worse; {because}" if harmed else because
    return result.model_copy(update={"because": because, "evidence": {**evidence, "candidate": shown}})


def is_lower_better(metric: str) -> bool:
    """Whether less of this metric of rows is better."""
    return metric in LOWER_IS_BETTER or is_row_loss(metric)


def _slices(slices: dict[str, Json]) -> tuple[list[str], Json]:
    """The names of those that block, and what may be told of all."""
    worst = slices.get("worst")
    harmed = [
        str(one["slice"])
        for one in (worst if isinstance(worst, list) else [])
        if isinstance(one, dict) and one["blocks"]
    ]
    names: Json = [*harmed]
    return harmed, {key: slices[key] for key in ("tested", "skipped", "family", "look_at")} | {"proven_worse": names}

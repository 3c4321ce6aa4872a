"""What gates say once it is known who has asked the test set before.

A gate has asked it if its evidence holds a number that was measured on the rows of the holdout. Its evidence tells of
the uses then (``test_set``); where the gate states a budget and that is spent, it says nothing else, for every number
it showed would be one more look. A metric whose scores go on a ladder is shown by no gate otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from interlock.gate.judgement import GateResult, Judgement
from interlock.gate.reuse.ledger import Ledger, Use, spend
from interlock.gate.reuse.showing import is_lower_better, ladder_step, on_ladder
from interlock.pipeline.plan import GatePlan
from interlock.vocabulary import Json, Stored, Verdict


class Asked(Stored):
    """The holdout that a commit is judged on, by its digest, and all uses of it before, by metric.

    ``is_counted``: this look is a use of its own. It is none where nobody who may deliver looks, or an old commit is
    made again.
    """

    holdout: str
    commit: str
    uses: dict[str, tuple[Use, ...]] = {}
    is_counted: bool = True


def with_uses(
    gates: Sequence[GatePlan], judgement: Judgement, asked: Asked | None, beside: Sequence[GatePlan] = ()
) -> Judgement:
    """The judgement with the uses of the test set in the evidence, and undecided where it is spent.

    No gate shows more of a metric than the strictest does: ``beside`` are others that judge the same run.
    """
    if asked is None:
        return judgement
    plans, verdicts = {gate.title: gate for gate in gates}, _verdicts(gates, judgement)
    ladders = {gate.metric for gate in (*gates, *beside) if gate.reuse is not None and gate.reuse.scores == "ladder"}
    steps = _steps(plans, judgement)
    results: list[GateResult] = []
    for result in judgement.results:
        gate = plans.get(result.gate) if _has_asked(result) else None
        if gate is None:
            results.append(result)
            continue
        counted = _counted(gate, result, asked, verdicts[gate.metric])
        if gate.metric in ladders and "candidate" in counted.evidence:
            told = counted.evidence["test_set"]
            shown = on_ladder(gate, result, _best(gate, asked), steps.get(gate.metric))
            counted = shown.model_copy(update={"evidence": {**shown.evidence, "test_set": told}})
        results.append(counted)
    return Judgement(results=tuple(results))


def new_uses(gates: Sequence[GatePlan], judgement: Judgement, asked: Asked) -> dict[str, Use]:
    """By metric the uses that this judgement, as ``with_uses`` answered it, adds."""
    if not asked.is_counted:
        return {}
    known = {metric for metric, uses in asked.uses.items() if any(use.commit == asked.commit for use in uses)}
    verdicts = _verdicts(gates, judgement)
    shown = _shown({gate.title: gate for gate in gates}, judgement)
    return {
        metric: Use(commit=asked.commit, verdict=verdicts[metric], shown=shown.get(metric))
        for metric in verdicts
        if metric not in known
    }


def _steps(plans: Mapping[str, GatePlan], judgement: Judgement) -> dict[str, float]:
    """By metric the step of its ladder, where its standard error is known."""
    found = {}
    for result in judgement.results:
        error = result.evidence.get("standard_error")
        if result.gate in plans and isinstance(error, float):
            found[plans[result.gate].metric] = ladder_step(error)
    return found


def _shown(plans: Mapping[str, GatePlan], judgement: Judgement) -> dict[str, float]:
    """By metric the score that was let out."""
    return {
        plans[result.gate].metric: score
        for result in judgement.results
        if result.gate in plans
        and "ladder_step" in result.evidence
        and isinstance(score := result.evidence.get("candidate"), float)
    }


def _best(gate: GatePlan, asked: Asked) -> float | None:
    """The best score that was let out before this commit was judged."""
    before = asked.uses.get(gate.metric, ())
    place = next((place for place, use in enumerate(before) if use.commit == asked.commit), len(before))
    scores = [use.shown for use in before[:place] if use.shown is not None]
    return (min if is_lower_better(gate.metric) else max)(scores, default=None)


def _verdicts(gates: Sequence[GatePlan], judgement: Judgement) -> dict[str, Verdict]:
    """By metric that asked, the verdict of all its gates together."""
    metrics = {gate.title: gate.metric for gate in gates}
    results: dict[str, list[GateResult]] = {}
    for result in judgement.results:
        if result.gate in metrics and _has_asked(result):
            results.setdefault(metrics[result.gate], []).append(result)
    return {metric: Judgement(results=tuple(found)).verdict for metric, found in results.items()}


def _has_asked(result: GateResult) -> bool:
    return "rows" in result.evidence and not {"candidate", "is_accepted"}.isdisjoint(result.evidence)


def _ledger(gate: GatePlan, result: GateResult, asked: Asked) -> Ledger:
    uses = asked.uses.get(gate.metric, ())
    if gate.condition is not None:
        budget = result.evidence["budget"]
        assert isinstance(budget, int)
        adaptivity = gate.condition.adaptivity
        return Ledger(holdout=asked.holdout, metric=gate.metric, budget=budget, adaptivity=adaptivity, uses=uses)
    if gate.reuse is None:
        return Ledger(holdout=asked.holdout, metric=gate.metric, uses=uses)
    return Ledger(
        holdout=asked.holdout,
        metric=gate.metric,
        budget=gate.reuse.commits,
        adaptivity=gate.reuse.adaptivity,
        uses=uses,
    )


def _counted(gate: GatePlan, result: GateResult, asked: Asked, verdict: Verdict) -> GateResult:
    ledger = _ledger(gate, result, asked)
    if ledger.spent and ledger.of(asked.commit) is None:
        told = _told(ledger, ledger.spent)
        return GateResult(gate=result.gate, verdict=Verdict.UNDECIDED, because=ledger.spent, evidence=told)
    if asked.is_counted or ledger.of(asked.commit) is not None:
        spending = spend(ledger, asked.commit, verdict)
        told = _told(spending.state, spending.because)
    else:
        told = _told(ledger, f"{ledger.told}; this run is none")
    return result.model_copy(update={"evidence": {**result.evidence, **told}})


def _told(ledger: Ledger, because: str) -> dict[str, Json]:
    bounds: dict[str, Json] = {"budget": ledger.budget, "adaptivity": ledger.adaptivity}
    told: dict[str, Json] = {"holdout": ledger.holdout, "commits": len(ledger.uses), "because": because}
    return {"test_set": {**told, **(bounds if ledger.budget is not None else {})}}

"""Gates on a condition of ease.ml/ci: accepted or not, for as many commits as the rows bear, and nothing else is told.

=================================================  ===========
labels of one class                                undecided
rows too few for the steps, or for one             undecided
the condition is accepted (``fn-free``: unknown)   pass
else                                               fail
=================================================  ===========

The rows that the inequalities ask for are enough where somebody who tries again knows one bit of each answer. So no
estimate is in the evidence; whoever may read what was measured computes it again from there.
"""

from __future__ import annotations

import numpy as np

from interlock.gate.comparison import answer, count_missing
from interlock.gate.judgement import GateResult
from interlock.gate.reuse.sizes import sizes_needed, steps_borne
from interlock.gate.row_metrics import ONE_CLASS, Array
from interlock.pipeline.gates.conditions import Variable, read_condition
from interlock.pipeline.plan import ConditionPlan, GatePlan
from interlock.vocabulary import Json, Verdict


def judge_condition(gate: GatePlan, asked: ConditionPlan, labels: Array, new: Array, old: Array | None) -> GateResult:
    """The verdict. ``new`` and ``old`` are the predictions of both models for the labelled rows; ``old`` is None where
    the condition does not ask for it.
    """
    condition, rows = read_condition(asked.holds), int(labels.size)
    for predictions, verdict in ((new, Verdict.FAIL), (old, Verdict.UNDECIDED)):
        missing = count_missing(predictions)
        if missing:
            return answer(gate, verdict, f"the predictions miss {missing} of {rows} rows", {"rows": rows})
    if rows and labels.min() == labels.max():
        return answer(gate, Verdict.UNDECIDED, ONE_CLASS, {"rows": rows})
    needed = sizes_needed(condition, asked.reliability, asked.steps or 1, asked.adaptivity)
    least = max(needed.rows, needed.unlabelled)
    budget = asked.steps or steps_borne(condition, rows, asked.reliability, asked.adaptivity)
    evidence: dict[str, Json] = {
        "method": f"ease.ml/ci, {needed.method}",
        "rows": rows,
        "rows_needed": least,
        "reliability": asked.reliability,
        "mode": asked.mode,
        "budget": budget,
    }
    if rows < least:
        steps = f"{asked.steps} commits" if asked.steps else "one commit"
        because = f"{rows} rows are too few for {steps} at reliability {asked.reliability:g}: needs {least - rows} more"
        return answer(gate, Verdict.UNDECIDED, because, {**evidence, "more_rows_needed": least - rows})
    values: dict[Variable, float] = {"n": float((new == labels).mean())}
    if old is not None:
        values |= {"o": float((old == labels).mean()), "d": float(np.mean(new != old))}
    is_accepted = condition.accepts(values, asked.mode)
    because = f"{'' if is_accepted else 'not '}shown on {rows} rows at reliability {asked.reliability:g}"
    return answer(
        gate, Verdict.PASS if is_accepted else Verdict.FAIL, because, {**evidence, "is_accepted": is_accepted}
    )

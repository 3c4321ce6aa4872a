"""A gate on a condition of ease.ml/ci: from what is written to what is judged, and what may not stand beside it."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.pipeline.gates.conditions import read_condition
from interlock.pipeline.gates.spec import ConditionSpec, GateSpec
from interlock.pipeline.plan import ConditionPlan, GatePlan

METRIC = "accuracy"
"""What conditions are about, and so by which metric they use a test set."""


def gate_on_condition(condition: str | ConditionSpec) -> GatePlan:
    """The gate with nothing left open. It compares with production where the old model's accuracy, or how far the two
    differ, is in the condition.
    """
    spec = ConditionSpec(holds=condition) if isinstance(condition, str) else condition
    return GatePlan(
        metric=METRIC,
        against="production" if read_condition(spec.holds).is_of_production else None,
        condition=ConditionPlan.model_validate(spec.model_dump()),
    )


def condition_problems(gate: GateSpec) -> Iterator[tuple[str, str, str]]:
    """Key, problem and remedy of each thing wrong with a gate that has a condition, or neither that nor a metric."""
    if gate.condition is None:
        yield "metric", "the gate names no metric", "add `metric: accuracy`, or a condition"
        return
    for key in sorted(gate.model_fields_set - {"condition"}):
        yield key, f"a gate with a condition has no {key}", "write a second gate for it"

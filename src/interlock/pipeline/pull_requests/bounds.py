"""A plan that ends with one of its stages, so that a pull request costs no more than was meant."""

from __future__ import annotations

from interlock.pipeline.gates.served import SERVED_METRICS
from interlock.pipeline.plan import GatePlan, Plan

_SERVED = "served"
_MEASUREMENTS = "measurements"


def trim(plan: Plan, until: str) -> Plan:
    """The plan that ends with ``until``, and delivers nothing.

    Kept are all checks and data, the stage with all that it needs, and ``measurements`` where all that it reads is
    still made. The plan's last stage keeps every other. A gate on what is not measured then is left out, and so is a
    model that is not made. The warnings tell. A stage that the plan does not have bounds nothing. Trimming twice is
    trimming once.
    """
    names = [stage.name for stage in plan.stages]
    if until not in names:
        whole = f"there is no stage {until} for a pull request to end with: every stage runs"
        return plan.model_copy(update={"deploy": (), "warnings": tuple(dict.fromkeys((*plan.warnings, whole)))})
    kept = _kept(plan, until)
    stages = tuple(
        stage.model_copy(update={"needs": tuple(need for need in stage.needs if need in kept)})
        for stage in plan.stages
        if stage.name in kept
    )
    left = [name for name in names if name not in kept]
    told = [f"this run ends with {until}, without {', '.join(left)}"] if left else []
    gates = []
    for gate in plan.gates:
        is_left = _measured_by(gate) in left
        told += [f"the gate {gate.title} is not judged: {_measured_by(gate)} is left out"] if is_left else []
        gates += [] if is_left else [gate]
    model = plan.model if plan.model and not _makers(plan, (plan.model.path,)) - kept else None
    return plan.model_copy(
        update={
            "stages": stages,
            "gates": tuple(gates),
            "model": model,
            "deploy": (),
            "warnings": (*plan.warnings, *told),
        }
    )


def _kept(plan: Plan, until: str) -> set[str]:
    if until == plan.stages[-1].name:
        return {stage.name for stage in plan.stages}
    kept = {stage.name for stage in plan.stages if stage.kind in {"check", "data"}}
    open_ends = [until]
    while open_ends:
        name = open_ends.pop()
        if name not in kept:
            kept.add(name)
            open_ends += plan.stage(name).needs
    measurements = [stage for stage in plan.stages if stage.name == _MEASUREMENTS]
    return kept | {stage.name for stage in measurements if not _makers(plan, stage.deps) - kept}


def _makers(plan: Plan, paths: tuple[str, ...]) -> set[str]:
    """The stages that make any of these products."""
    return {stage.name for stage in plan.stages if not set(stage.products).isdisjoint(paths)}


def _measured_by(gate: GatePlan) -> str:
    return _SERVED if gate.metric in SERVED_METRICS else _MEASUREMENTS

"""The rules by which the model in production was judged: they judge the next one too, and what changed of them is told.

A change can loosen the gate that it does not pass. So every gate of the run that made the model in production judges
beside the plan's own; once a model is in production that was judged by the new ones, they alone count.
"""

from __future__ import annotations

from collections.abc import Iterator

from interlock.pipeline.plan import DataPlan, GatePlan, Plan

LIMITS = ("min", "max", "margin", "alpha", "max_ratio", "min_ratio", "slices")


def guards_of(plan: Plan, before: Plan) -> tuple[GatePlan, ...]:
    """The gates of the plan in production that are not in this one as they were."""
    return tuple(gate for gate in before.gates if gate not in plan.gates)


def tell_guards(plan: Plan, before: Plan) -> Iterator[str]:
    """Each gate, and the checks and datasets, that the plan has not as the one in production had them."""
    for gate in guards_of(plan, before):
        changed = _changed(gate, plan, before)
        yield f"the gate {gate.title} is not as production's run had it{changed}: it is judged all the same"
    known = {dataset.name: dataset for dataset in plan.data}
    for was in before.data:
        now = known.get(was.name)
        if now is None:
            yield f"the dataset {was.name} of production's run is gone"
        else:
            yield from _differences(was, now)
    if plan.model and before.model and plan.model.checks != before.model.checks:
        yield "the checks of the model are not as production's run had them"
    if plan.model and before.model and plan.model.rate != before.model.rate:
        yield f"the rate of the model is not as production's run had it: {before.model.rate} -> {plan.model.rate}"


def _changed(gate: GatePlan, plan: Plan, before: Plan) -> str:
    """What differs in the one gate that stands in its place, if there is one."""
    same = [
        other
        for other in plan.gates
        if (other.metric, other.against, other.gap_between) == (gate.metric, gate.against, gate.gap_between)
        and other not in before.gates
    ]
    if len(same) != 1:
        return ""
    was, now = gate.model_dump(mode="json"), same[0].model_dump(mode="json")
    return "".join(f", {name} {was[name]} -> {now[name]}" for name in LIMITS if was[name] != now[name])


def _differences(was: DataPlan, now: DataPlan) -> Iterator[str]:
    if was.checks != now.checks:
        yield f"the checks of the dataset {was.name} are not as production's run had them"
    if was.model_copy(update={"checks": ()}) != now.model_copy(update={"checks": ()}):
        moved = f": {was.path} -> {now.path}" if was.path != now.path else ""
        yield f"the dataset {was.name} is not declared as production's run had it{moved}"

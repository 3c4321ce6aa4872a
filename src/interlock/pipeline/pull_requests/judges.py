"""The branch that a change goes into judges it: a change can soften neither its judges nor what they look at."""

from __future__ import annotations

from typing import TypeVar

from interlock.pipeline.gates.guards import tell_commands, tell_declared
from interlock.pipeline.plan import CheckPlan, DataPlan, ModelPlan, Plan
from interlock.pipeline.pull_requests.bounds import trim

AS_BASE = "as the base branch has it"

CheckedT = TypeVar("CheckedT", DataPlan, ModelPlan)


def judged_by(plan: Plan, base: Plan) -> Plan:
    """The plan of a change, as the ``base`` branch's plan would have it judged.

    It has the gates of the base, and those that it adds itself, and so it has the checks of data and model. When it
    runs, how far and in which group is the base's say as well, and it delivers nothing. Both plans are bounded before
    their gates are put together: a gate of the base that the change no longer measures stays, and is undecided. Where
    gates, checks or datasets differ, the warnings tell.
    """
    wanted = base.triggers.pull_request
    if wanted is not None and wanted.until is not None:
        plan, base = trim(plan, wanted.until), trim(base, wanted.until)
    titles = {gate.title for gate in base.gates}
    added = tuple(gate for gate in plan.gates if gate.title not in titles)
    told = [
        f"the gate {gate.title} is not in this change as the base branch has it: it is judged all the same"
        for gate in base.gates
        if gate not in plan.gates
    ]
    told += [f"the gate {gate.title} is new in this change: it is judged too" for gate in added]
    before = {dataset.name: dataset for dataset in base.data}
    data = tuple(_checked_by(dataset, before.get(dataset.name)) for dataset in plan.data)
    model = _checked_by(plan.model, base.model) if plan.model else None
    softened = [f"dataset {now.name}" for now, was in zip(data, plan.data, strict=True) if now.checks != was.checks]
    if model and plan.model:
        softened += ["model"] if model.checks != plan.model.checks else []
        if base.model and model.rate != base.model.rate:
            told.append(f"the rate of the model is not {model.rate} but {base.model.rate}, as the base branch has it")
            model = model.model_copy(update={"rate": base.model.rate})
    told += [f"the checks of the {what} are not as the base branch has them: its own are asked" for what in softened]
    named = {dataset.name: dataset for dataset in plan.data}
    for was in base.data:
        now = named.get(was.name)
        told += tell_declared(was, now, AS_BASE) if now else [f"the dataset {was.name} of the base branch is gone"]
    told += tell_commands(plan, base, AS_BASE)
    return plan.model_copy(
        update={
            "data": data,
            "model": model,
            "gates": (*base.gates, *added),
            "triggers": base.triggers,
            "concurrency": base.concurrency,
            "deploy": (),
            "warnings": (*plan.warnings, *told),
        }
    )


def _checked_by(own: CheckedT, base: CheckedT | None) -> CheckedT:
    """With the checks of the base, and those that only the change has."""
    asked: tuple[CheckPlan, ...] = base.checks if base else ()
    names: set[str] = {check.name for check in asked}
    return own.model_copy(update={"checks": (*asked, *(check for check in own.checks if check.name not in names))})

"""The branch that a change goes into judges it: a change can soften neither its judges nor what they look at."""

from __future__ import annotations

from interlock.pipeline.plan import DataPlan, Plan
from interlock.pipeline.pull_requests.bounds import trim


def judged_by(plan: Plan, base: Plan) -> Plan:
    """The plan of a change, as the ``base`` branch's plan would have it judged.

    It has the gates of the base, and those that it adds itself; so it is with the checks of each dataset. When it runs,
    how far and in which group is the base's say as well, and it delivers nothing. Both plans are bounded before their
    gates are put together: a gate of the base that the change no longer measures stays, and is undecided. Where gates
    or checks differ, the warnings tell.
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
    data = tuple(_checked_by(dataset, before.get(dataset.name, dataset)) for dataset in plan.data)
    told += [
        f"the checks of the dataset {dataset.name} are not those of the base branch: both are asked"
        for dataset in plan.data
        if dataset.checks != before.get(dataset.name, dataset).checks
    ]
    return plan.model_copy(
        update={
            "data": data,
            "gates": (*base.gates, *added),
            "triggers": base.triggers,
            "concurrency": base.concurrency,
            "deploy": (),
            "warnings": (*plan.warnings, *told),
        }
    )


def _checked_by(dataset: DataPlan, base: DataPlan) -> DataPlan:
    """The dataset with the checks of the base, and those that only the change has."""
    names = {check.name for check in base.checks}
    added = tuple(check for check in dataset.checks if check.name not in names)
    return dataset.model_copy(update={"checks": (*base.checks, *added)})

"""The rules by which the model in production was judged: they judge the next one too, and what changed of them is told.

A change can loosen the gate that it does not pass. So every gate of the run that made the model in production judges
beside the plan's own; once a model is in production that was judged by the new ones, they alone count. So do the checks
of its datasets and of its served model.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from interlock.pipeline.plan import CheckPlan, DataPlan, GatePlan, Plan

AS_IN_PRODUCTION = "as production's run had it"

_STAY = ": its own are asked all the same"
LIMITS = ("min", "max", "margin", "alpha", "max_ratio", "min_ratio", "slices")


def guards_of(plan: Plan, before: Plan) -> tuple[GatePlan, ...]:
    """The gates of the plan in production that are not in this one as they were."""
    return tuple(gate for gate in before.gates if gate not in plan.gates)


def data_guards_of(plan: Plan, before: Plan) -> tuple[DataPlan, ...]:
    """The plan's datasets, each with no other checks than those that the plan in production asked of it, and that this
    one does not ask as they were; none where it asks them all. A dataset that was renamed is known by its path.
    """
    guarded = []
    for now in plan.data:
        was = _same_dataset(now, plan, before)
        guarded.append(now.model_copy(update={"checks": _lost(was.checks, now.checks) if was else ()}))
    return tuple(guarded) if any(dataset.checks for dataset in guarded) else ()


def model_guards_of(plan: Plan, before: Plan) -> tuple[CheckPlan, ...]:
    """The checks of the served model that the plan in production asked, and that this one does not ask as they were."""
    return _lost(before.model.checks, plan.model.checks) if plan.model and before.model else ()


def tell_guards(plan: Plan, before: Plan) -> Iterator[str]:
    """Each gate, and the checks and datasets, that the plan has not as the one in production had them."""
    for gate in guards_of(plan, before):
        changed = _changed(gate, plan, before)
        yield f"the gate {gate.title} is not as production's run had it{changed}: it is judged all the same"
    stand_ins = [(now, _same_dataset(now, plan, before)) for now in plan.data]
    for was in before.data:
        now = next((now for now, same in stand_ins if same == was), None)
        if now is None:
            yield f"the dataset {was.name} of production's run is gone"
        else:
            yield from _differences(was, now)
    if plan.model and before.model and plan.model.checks != before.model.checks:
        stay = _STAY if model_guards_of(plan, before) else ""
        yield f"the checks of the model are not as production's run had them{stay}"
    if plan.model and before.model and plan.model.rate != before.model.rate:
        yield f"the rate of the model is not {AS_IN_PRODUCTION}: {before.model.rate} -> {plan.model.rate}"
    yield from tell_commands(plan, before, AS_IN_PRODUCTION)


def tell_commands(plan: Plan, before: Plan, how: str) -> Iterator[str]:
    """Each check before any training that ``before`` has, and the plan not as it was. ``how`` says whose it was."""
    asked = {stage.name: stage for stage in plan.stages if stage.kind == "check"}
    for was in before.stages:
        now = asked.get(was.name)
        if was.kind == "check" and (now is None or now.command != was.command):
            yield f"the check {was.name} is not {how}: {was.command or was.name} -> {now.command if now else 'gone'}"


def tell_files(plan: Plan, changed: Collection[str], how: str) -> Iterator[str]:
    """Each file that judges, by schemas or expected answers, and is among the repository's ``changed`` paths."""
    within = f"{plan.project}/" if plan.project else ""
    files = [(dataset.schema_path, f"schema of the dataset {dataset.name}") for dataset in plan.data]
    files += [(plan.model.golden, "file of golden requests")] if plan.model else []
    for path, what in files:
        if path and within + path in changed:
            yield f"the {what}, {within + path}, is not {how}: it judges as it is now"


def tell_declared(was: DataPlan, now: DataPlan, how: str) -> Iterator[str]:
    """Whether a dataset is declared otherwise, its checks aside."""
    if was.model_copy(update={"checks": ()}) != now.model_copy(update={"checks": ()}):
        moved = [f"{one} -> {other}" for one, other in ((was.name, now.name), (was.path, now.path)) if one != other]
        told = f": {', '.join(moved)}" if moved else ""
        yield f"the dataset {was.name} is not declared {how}{told}"


def _same_dataset(now: DataPlan, plan: Plan, before: Plan) -> DataPlan | None:
    named = {dataset.name: dataset for dataset in before.data}
    if now.name in named:
        return named[now.name]
    kept = {dataset.name for dataset in plan.data}
    return next((was for was in before.data if was.path == now.path and was.name not in kept), None)


def _lost(before: Sequence[CheckPlan], now: Sequence[CheckPlan]) -> tuple[CheckPlan, ...]:
    """The checks of before that none of now's stands in for: with the same limits, and not less sure to be decided."""
    asked = [*now, *(check.model_copy(update={"is_written": False}) for check in now)]
    return tuple(check for check in before if check not in asked)


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
        stay = _STAY if _lost(was.checks, now.checks) else ""
        yield f"the checks of the dataset {was.name} are not as production's run had them{stay}"
    yield from tell_declared(was, now, AS_IN_PRODUCTION)

"""What must hold between the keys of a file that say how a model is made: checks, data, stages, model, gates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from interlock.pipeline.document import Problem
from interlock.pipeline.gates.conditional import condition_problems, gate_on_condition
from interlock.pipeline.gates.served import ASKED_METRICS, SERVED_METRICS, THROUGHPUT
from interlock.pipeline.gates.spec import GateSpec, SliceSpec
from interlock.pipeline.models.formats import LATER_ENDINGS, SHARED_ENDINGS
from interlock.pipeline.plan import FOUND, GatePlan, ReusePlan, SlicePlan, is_row_loss
from interlock.pipeline.rules.graph import Makers, find_cycle, is_within, makers_of, needs_of, products_of
from interlock.pipeline.spec import BUILTIN_STAGES, TABLES, CheckSpec, DataSpec, FileSpec, ModelSpec

ROW_METRICS = ("accuracy", "auc", "f1", "f1_macro", "log_loss", "rmse", "mae")
"""Measurements that can be compared with production, row by row."""
GROUP_METRICS = (
    "accuracy",
    "auc",
    "f1",
    "log_loss",
    "rmse",
    "mae",
    "precision",
    "recall",
    "positive_rate",
    "false_positive_rate",
)
"""Measurements that may differ between groups of rows."""

UNIT_CHECK = CheckSpec(name="unit", cmd="pytest -q tests")
"""Run where a file lists no checks and there are tests."""


def model_of(spec: FileSpec) -> ModelSpec | None:
    """The model, its shorthand written out."""
    return ModelSpec(path=spec.model) if isinstance(spec.model, str) else spec.model


def gate_of(gate: GateSpec) -> GatePlan:
    """The gate with nothing left open."""
    if gate.condition is not None:
        return gate_on_condition(gate.condition)
    return GatePlan(
        metric=gate.metric,
        min=gate.min,
        max=gate.max,
        against="production" if gate.against else None,
        margin=gate.margin or 0.0,
        alpha=0.05 if gate.alpha is None else gate.alpha,
        max_ratio=gate.max_ratio,
        min_ratio=gate.min_ratio,
        slices=FOUND if isinstance(gate.slices, str) else tuple(_slice_of(part) for part in gate.slices or ()),
        gap_between=gate.gap_between,
        reuse=ReusePlan.model_validate(gate.reuse.model_dump()) if gate.reuse else None,
    )


def _slice_of(part: str | SliceSpec) -> SlicePlan:
    return SlicePlan(column=part) if isinstance(part, str) else SlicePlan(column=part.column, quantiles=part.quantiles)


def lack_of_gpus(stage: str, wanted: int, there: int) -> tuple[str, str, str] | None:
    """Problem, place and remedy of a stage that asks for more graphics processors than there are, if it does."""
    if wanted <= there:
        return None
    asked = f"{wanted} GPU{'s' if wanted > 1 else ''}"
    problem = f"{stage} asks for {asked}, and this machine has {there or 'none'}"
    return problem, f"stages.{stage}.resources.gpu", "lower gpu, or run it on a machine that has as many"


def is_table(dataset: DataSpec) -> bool:
    """Whether it is a file that can be validated."""
    return dataset.path.lower().endswith(TABLES)


def check_names(spec: FileSpec) -> Iterator[Problem]:
    """Checks have names of their own."""
    checks = spec.checks or []
    names = [check.name if isinstance(check, CheckSpec) else check for check in checks]
    for index, (check, name) in enumerate(zip(checks, names, strict=True)):
        if isinstance(check, CheckSpec) and name in BUILTIN_STAGES:
            place = ("checks", index, "name")
            yield Problem(place, f"the name {name} is taken by a part of Interlock", "choose another name")
        elif name in names[:index]:
            yield Problem(("checks", index), f"the check {name} is given twice", "remove one, or rename it")


def check_stage_names(spec: FileSpec) -> Iterator[Problem]:
    """Stages have names that no check and no part of Interlock has."""
    checks = [check.name for check in spec.checks or () if isinstance(check, CheckSpec)]
    if spec.checks is None:
        checks = [UNIT_CHECK.name]
    for name in spec.stages:
        if name in (*BUILTIN_STAGES, *checks):
            whose = "that of a check" if name in checks else "taken by a part of Interlock"
            yield Problem(("stages", name), f"the stage name {name} is {whose}", "choose another name", at_key=True)


def check_products(spec: FileSpec) -> Iterator[Problem]:
    """Each product is made once, by one stage, and only one stage makes predictions."""
    made = Makers()
    predicting: str | None = None
    for name, stage in spec.stages.items():
        for product in products_of(stage):
            for other in made.behind(product):
                whose = (
                    f"{made[other]} makes it too" if other == product else f"it overlaps with {other} of {made[other]}"
                )
                yield Problem(
                    _place_of(spec, name, product), f"{product} of {name}: {whose}", "give each stage its own outs"
                )
            made.add(product, name)
        if stage.predictions and predicting:
            problem = f"{predicting} makes predictions already"
            yield Problem(("stages", name, "predictions"), problem, "let one stage make the predictions of the holdout")
        predicting = predicting or (name if stage.predictions else None)


def check_cycle(spec: FileSpec) -> Iterator[Problem]:
    """No stage waits for itself."""
    cycle = find_cycle(needs_of(spec.stages))
    if cycle:
        told = " -> ".join(cycle)
        yield Problem(
            ("stages", cycle[0], "deps"), f"these stages wait for one another: {told}", "remove one of the deps"
        )


def check_data(spec: FileSpec) -> Iterator[Problem]:
    """Datasets compare with one another; only tables are validated, and what is no table lives elsewhere."""
    for name, dataset in spec.data.items():
        if not is_table(dataset):
            yield from _check_untabled(name, dataset)
        other = dataset.disjoint_from
        if other is not None and (other == name or other not in spec.data):
            others = [known for known in spec.data if known != name]
            problem = f"{other} is not another dataset"
            yield Problem(
                ("data", name, "disjoint_from"), problem, f"use one of: {', '.join(others) or '(there is none)'}"
            )


def _check_untabled(name: str, dataset: DataSpec) -> Iterator[Problem]:
    endings = ", ".join(TABLES)
    if dataset.home is None:
        problem = f"{dataset.path} is of a kind that is not supported yet"
        yield Problem(
            ("data", name, "path"), problem, f"use a file that ends in {endings}, or say where it lives: from"
        )
    for key in ("schema", "id", "label", "disjoint_from"):
        if getattr(dataset, "schema_path" if key == "schema" else key) is not None:
            problem = f"{dataset.path} is no table, so it has no {key}"
            yield Problem(("data", name, key), problem, f"remove it, or use a file that ends in {endings}")
    if dataset.checks.model_fields_set:
        problem = f"{dataset.path} is no table, so nothing of it can be checked"
        yield Problem(("data", name, "checks"), problem, f"remove it, or use a file that ends in {endings}")


def check_overlap(spec: FileSpec) -> Iterator[Problem]:
    """What is brought from elsewhere has a place of its own."""
    for name, dataset in spec.data.items():
        for other, one in spec.data.items():
            is_under = is_within(dataset.path, one.path)
            if other != name and is_under and None not in (dataset.home, one.home):
                problem = f"{dataset.path} is a part of {one.path}, which the dataset {other} brings"
                yield Problem(("data", name, "path"), problem, "give each dataset with `from` a path of its own")


def check_made_data(spec: FileSpec) -> Iterator[Problem]:
    """Datasets are there before any stage runs."""
    makers = makers_of(spec.stages)
    for name, dataset in spec.data.items():
        for product in makers.behind(dataset.path):
            problem = f"{dataset.path} is made by the stage {makers[product]}, but data is validated before any stage"
            yield Problem(
                ("data", name, "path"), problem, "name a file of the commit; check products in the stage itself"
            )


def check_model(spec: FileSpec) -> Iterator[Problem]:
    """The model is a product, in a format that can be served."""
    model = model_of(spec)
    if model is None:
        return
    makers = makers_of(spec.stages)
    if model.path not in makers:
        around = next((product for product in makers if is_within(model.path, product)), None)
        remedy = f"write `path: {around}`" if around else f"add {model.path} to the outs of the stage that makes it"
        yield Problem(("model", "path"), f"no stage lists {model.path} in its outs", remedy)
    if model.rate is not None and model.golden is None:
        problem = "golden requests arrive at this rate, but the model has none"
        yield Problem(("model", "rate"), problem, "add `golden: golden.json`, or remove rate")
    if model.format is None and model.path.lower().endswith(LATER_ENDINGS):
        yield Problem(
            ("model", "path"), f"models like {model.path} are not supported yet", "save it as ONNX, skops or joblib"
        )
    shared = next((kind for ending, kind in SHARED_ENDINGS.items() if model.path.lower().endswith(ending)), None)
    if model.format is None and shared is not None:
        yield Problem(("model", "path"), f"{model.path} does not tell what it is", f"add `format: {shared}`")


def check_gates(spec: FileSpec) -> Iterator[Problem]:
    """Each gate is one rule, and no two are the same."""
    titles: set[str] = set()
    for index, gate in enumerate(spec.gates):
        for key, problem, remedy in _gate_problems(gate):
            yield Problem(("gates", index, key), problem, remedy)
        title = gate_of(gate).title
        if title in titles:
            yield Problem(("gates", index), f"the gate {title} is given twice", "remove one")
        titles.add(title)


def check_gate_inputs(spec: FileSpec) -> Iterator[Problem]:
    """What a gate judges is measured, on rows where these are to be counted."""
    model = model_of(spec)
    has_rows = any(stage.predictions for stage in spec.stages.values())
    has_holdout = any(dataset.id and dataset.label for dataset in spec.data.values())
    has_metrics = any(stage.metrics for stage in spec.stages.values())
    for index, gate in enumerate(spec.gates):
        place = ("gates", index, "metric")
        if gate.condition is None and gate.reuse is not None and not (has_rows and has_holdout and _is_of_rows(gate)):
            problem = f"{gate.metric} is not measured on the rows of a holdout"
            remedy = "remove reuse, or add predictions and a dataset with id and label"
            yield Problem(("gates", index, "reuse"), problem, remedy)
        if gate.condition is not None:
            yield from _lacking_rows(place[:2], "the condition is judged", has_rows=has_rows, has_holdout=has_holdout)
        elif gate.metric in SERVED_METRICS:
            if model is None:
                yield Problem(
                    place, f"{gate.metric} is measured on the model, but there is none", "add `model: model/`"
                )
            elif gate.metric in ASKED_METRICS and model.golden is None:
                problem = f"{gate.metric} is measured with golden requests, but the model has none"
                yield Problem(place, problem, "add `golden: golden.json` to the model")
        elif gate.against is not None or gate.gap_between is not None:
            how = "compared between groups" if gate.against is None else "compared with production"
            yield from _lacking_rows(place, f"{gate.metric} is {how}", has_rows=has_rows, has_holdout=has_holdout)
        elif not has_metrics and not (has_rows and has_holdout and gate.metric in ROW_METRICS):
            problem = f"{gate.metric} is never measured: no stage makes metrics"
            yield Problem(place, problem, "add `metrics: [metrics.json]` to the stage that evaluates")


def _lacking_rows(place: tuple[str | int, ...], what: str, *, has_rows: bool, has_holdout: bool) -> Iterator[Problem]:
    if not has_rows:
        problem = f"{what} row by row, but no stage makes predictions"
        yield Problem(place, problem, "add `predictions: predictions.csv` to the stage that evaluates")
    if not has_holdout:
        problem = f"{what} row by row, but no dataset has id and label"
        yield Problem(place, problem, "add the holdout to data, with `id` and `label`")


def _is_of_rows(gate: GateSpec) -> bool:
    """Whether it judges what is computed from predictions and labels."""
    is_compared_loss = is_row_loss(gate.metric) and gate.against is not None
    return gate.metric in ROW_METRICS or gate.gap_between is not None or is_compared_loss


def _gate_problems(gate: GateSpec) -> Iterable[tuple[str, str, str]]:
    """Key, problem and remedy of each thing wrong with one gate alone."""
    if gate.condition is not None or not gate.metric:
        yield from condition_problems(gate)
        return
    if gate.against is None:
        yield from _limit_problems(gate)
        return
    for key in ("min", "max", "gap_between"):
        if getattr(gate, key) is not None:
            yield key, f"a gate against production has no {key}", "write a second gate for the limit"
    if gate.metric in SERVED_METRICS:
        yield from _ratio_problems(gate)
    elif gate.metric not in ROW_METRICS and not is_row_loss(gate.metric):
        known = ", ".join((*ROW_METRICS, "row_loss", *SERVED_METRICS))
        yield "metric", f"{gate.metric} cannot be compared with production", f"comparable are {known}"
    else:
        for key in ("max_ratio", "min_ratio"):
            if getattr(gate, key) is not None:
                yield key, f"{gate.metric} is compared by margin", f"write `margin: 0.005`, and no {key}"


def _ratio_problems(gate: GateSpec) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a gate that compares a measurement of the served model."""
    ratio, other = ("min_ratio", "max_ratio") if gate.metric == THROUGHPUT else ("max_ratio", "min_ratio")
    wrong = next((key for key in ("margin", other) if getattr(gate, key) is not None), None)
    if wrong or getattr(gate, ratio) is None:
        remedy = f"write `{ratio}: {'0.9' if ratio == 'min_ratio' else '1.2'}`, and no {wrong or 'margin'}"
        yield wrong or "against", f"{gate.metric} is compared by {ratio}", remedy
    if gate.slices is not None:
        yield "slices", f"{gate.metric} is not a metric of rows", "remove slices"


def _limit_problems(gate: GateSpec) -> Iterator[tuple[str, str, str]]:
    limits = [key for key in ("min", "max") if getattr(gate, key) is not None]
    keys = ("margin", *(() if gate.gap_between else ("alpha",)), "max_ratio", "min_ratio", "slices")
    compared = [key for key in keys if getattr(gate, key) is not None]
    for key in compared:
        yield key, f"{key} needs something to compare with", "add `against: production`"
    if gate.gap_between is not None:
        if gate.metric not in GROUP_METRICS:
            yield "metric", f"{gate.metric} has no gap between groups", f"those that have: {', '.join(GROUP_METRICS)}"
        if gate.max is None or gate.min is not None:
            yield "gap_between", "a gap between groups is bounded by max", "write `max: 0.05`, and no min"
    elif not limits and not compared:
        yield "metric", f"the gate on {gate.metric} has no rule", "add min, max or `against: production`"
    if gate.min is not None and gate.max is not None and gate.min > gate.max:
        yield "max", f"nothing lies between min {gate.min:g} and max {gate.max:g}", "swap them"


def _place_of(spec: FileSpec, name: str, product: str) -> tuple[str | int, ...]:
    stage = spec.stages[name]
    for key in ("outs", "metrics"):
        paths: list[str] = getattr(stage, key)
        if product in paths:
            return ("stages", name, key, paths.index(product))
    return ("stages", name, "predictions")

"""Plans in pull requests: how far they go, and whose gates judge them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.pipeline.plan import ConcurrencyPlan, GatePlan, Plan, StagePlan
from interlock.pipeline.pull_requests import judged_by, trim
from interlock.pipeline.resolve import read_pipeline, resolve
from interlock.source.triggers import PullRequestPlan, Triggers

FILE = """\
version: 1
checks: [syntax, {name: unit, cmd: pytest -q}]
data: {holdout: {path: holdout.csv, schema: s.yaml, id: id, label: y}}
stages:
  features: {cmd: f, deps: [raw.csv], outs: [features.csv]}
  side: {cmd: s, deps: [raw.csv], outs: [side.csv]}
  train: {cmd: t, deps: [features.csv], outs: [model]}
  evaluate: {cmd: e, deps: [model, holdout.csv], metrics: [metrics.json], predictions: p.csv, outs: [golden.json]}
  report: {cmd: r, deps: [metrics.json, side.csv], outs: [report.html]}
model: {path: model, golden: golden.json}
gates:
  - {metric: accuracy, min: 0.8}
  - {metric: accuracy, against: production, margin: 0.02}
  - {metric: latency_p99_ms, max: 20}
deploy: {staging: {}, production: {requires: [staging]}}
"""
PATHS = ["raw.csv", "holdout.csv", "s.yaml", "uv.lock", "f.py"]
BEFORE = ["syntax", "unit", "data"]


def plan_of(text: str = FILE) -> Plan:
    file = read_pipeline(text.encode())
    return resolve(file, project="", paths=PATHS, params={}, overrides={}, repository="flights")


def names(plan: Plan) -> list[str]:
    return [stage.name for stage in plan.stages]


# where it ends, the stages behind checks and data, the gates that are left, whether a model is made
ENDS = [
    ("syntax", [], [], False),
    ("data", [], [], False),
    ("features", ["features"], [], False),
    ("side", ["side"], [], False),
    ("train", ["features", "train"], [], True),
    ("evaluate", ["features", "train", "evaluate", "measurements"], ["accuracy", "accuracy"], True),
    ("report", ["features", "side", "train", "evaluate", "report", "measurements"], ["accuracy", "accuracy"], True),
    (
        "served",
        ["features", "train", "evaluate", "served", "measurements"],
        ["accuracy", "accuracy", "latency_p99_ms"],
        True,
    ),
    (
        "measurements",
        ["features", "side", "train", "evaluate", "report", "served", "measurements"],
        ["accuracy", "accuracy", "latency_p99_ms"],
        True,
    ),
]


@pytest.mark.parametrize(("until", "stages", "gates", "has_model"), ENDS)
def test_a_plan_ends_where_it_should(until: str, stages: list[str], gates: list[str], has_model: bool) -> None:
    whole = plan_of()
    plan = trim(whole, until)
    assert names(plan) == BEFORE + stages
    assert [gate.metric for gate in plan.gates] == gates
    assert (plan.model is not None) == has_model
    assert plan.deploy == ()
    assert (plan.data, plan.python, plan.triggers) == (whole.data, whole.python, whole.triggers)


def test_what_is_left_out_is_told() -> None:
    plan = trim(plan_of(), "train")
    assert plan.warnings == (
        "this run ends with train, without side, evaluate, report, served, measurements",
        "the gate accuracy min 0.8 is not judged: measurements is left out",
        "the gate accuracy against production, margin 0.02 is not judged: measurements is left out",
        "the gate latency_p99_ms max 20 is not judged: served is left out",
    )
    assert trim(plan_of(), "measurements").warnings == ()


def test_measurements_wait_only_for_what_is_there() -> None:
    assert trim(plan_of(), "evaluate").stage("measurements").needs == ("evaluate",)
    assert trim(plan_of(), "measurements") == plan_of().model_copy(update={"deploy": ()})


def test_measurements_of_several_stages_need_all_of_them() -> None:
    text = FILE.replace("outs: [report.html]", "metrics: [more.json]")
    assert names(trim(plan_of(text), "evaluate")) == [*BEFORE, "features", "train", "evaluate"]
    assert "measurements" in names(trim(plan_of(text), "report"))


def test_the_last_stage_keeps_every_other() -> None:
    plan = plan_of("version: 1\nchecks: []\nstages: {a: {cmd: x}, b: {cmd: y, deps: []}, c: {cmd: z, deps: []}}")
    assert names(trim(plan, "c")) == ["a", "b", "c"]
    assert names(trim(plan, "b")) == ["b"]


def test_a_stage_that_is_not_there_bounds_nothing() -> None:
    whole = plan_of()
    plan = trim(whole, "gone")
    assert (plan.stages, plan.gates, plan.model) == (whole.stages, whole.gates, whole.model)
    assert plan.deploy == ()
    assert plan.warnings == ("there is no stage gone for a pull request to end with: every stage runs",)
    assert trim(plan, "gone") == plan
    assert trim(Plan(), "gone").stages == ()


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    count = draw(st.integers(1, 8))
    stages: list[StagePlan] = []
    for number in range(count):
        needs = draw(st.lists(st.sampled_from([stage.name for stage in stages]), unique=True)) if stages else []
        kind: Any = draw(st.sampled_from(["check", "data", "stage"])) if not needs else "stage"
        outs = (f"out-{number}",) if draw(st.booleans()) else ()
        stages.append(StagePlan(name=f"s{number}", kind=kind, command="x", needs=tuple(needs), outs=outs))
    if draw(st.booleans()):
        deps = draw(st.lists(st.sampled_from([f"out-{number}" for number in range(count)]), unique=True))
        needs = [stage.name for stage in stages]
        stages.append(
            StagePlan(name="measurements", kind="measure", builtin="measurements", needs=tuple(needs), deps=tuple(deps))
        )
    metrics = draw(st.lists(st.sampled_from(["accuracy", "latency_p99_ms"]), max_size=3))
    return Plan(stages=tuple(stages), gates=tuple(GatePlan(metric=metric, min=0.0) for metric in metrics))


@settings(max_examples=300)
@given(plans(), st.data())
def test_what_is_kept_can_run_and_nothing_is_lost_in_silence(whole: Plan, data: st.DataObject) -> None:
    until = data.draw(st.sampled_from(names(whole)))
    plan = trim(whole, until)
    kept = names(plan)
    assert kept == [name for name in names(whole) if name in kept]
    assert {stage.name for stage in whole.stages if stage.kind in ("check", "data")} | {until} <= set(kept)
    for position, stage in enumerate(plan.stages):
        assert set(stage.needs) <= set(kept[:position])
        if stage.kind == "stage":
            assert stage.needs == whole.stage(stage.name).needs
    told = "\n".join(plan.warnings)
    assert all(name in told for name in names(whole) if name not in kept)
    assert len(whole.gates) - len(plan.gates) == told.count("is not judged")
    assert trim(plan, until) == plan


MIN_8, MIN_7, MAX_20 = (
    GatePlan(metric="accuracy", min=0.8),
    GatePlan(metric="accuracy", min=0.7),
    GatePlan(metric="latency_p99_ms", max=20),
)
STRICT = GatePlan(metric="auc", against="production", margin=0.01, alpha=0.05)
LAX = GatePlan(metric="auc", against="production", margin=0.01, alpha=0.4)


@pytest.mark.parametrize(
    ("own", "base", "expected", "warnings"),
    [
        ((MIN_8,), (MIN_8,), (MIN_8,), 0),
        ((), (), (), 0),
        ((), (MIN_8, MAX_20), (MIN_8, MAX_20), 2),  # taken away
        ((MIN_7,), (MIN_8,), (MIN_8, MIN_7), 2),  # softened
        ((MIN_8, MAX_20), (MIN_8,), (MIN_8, MAX_20), 1),  # added
        ((LAX,), (STRICT,), (STRICT,), 1),  # softened under the same title
        ((MAX_20, MIN_8), (MIN_8, MAX_20), (MIN_8, MAX_20), 0),
    ],
)
def test_the_gates_of_the_base_branch_judge_too(
    own: tuple[GatePlan, ...], base: tuple[GatePlan, ...], expected: tuple[GatePlan, ...], warnings: int
) -> None:
    plan = judged_by(Plan(gates=own, warnings=("known",)), Plan(gates=base))
    assert plan.gates == expected
    assert plan.warnings[0] == "known"
    assert len(plan.warnings) == 1 + warnings
    assert len({gate.title for gate in plan.gates}) == len(plan.gates)


def test_which_gates_differ_is_told() -> None:
    assert judged_by(Plan(gates=(MIN_7,)), Plan(gates=(MIN_8,))).warnings == (
        "the gate accuracy min 0.8 is not in this change as the base branch has it: it is judged all the same",
        "the gate accuracy min 0.7 is new in this change: it is judged too",
    )


def test_a_change_says_neither_when_it_is_run_nor_how_far_nor_in_which_group() -> None:
    requests = Triggers(pull_request=PullRequestPlan(until="evaluate"))
    base = plan_of().model_copy(update={"triggers": requests, "concurrency": ConcurrencyPlan(group="reviews")})
    changed = plan_of(
        FILE + "on: {pull_request: {until: features}}\nconcurrency: {group: x, cancel_superseded: true}\n"
    )
    plan = judged_by(changed, base)
    assert (plan.triggers, plan.concurrency) == (base.triggers, base.concurrency)
    assert plan.stages == trim(changed, "evaluate").stages
    assert plan.deploy == ()


def test_a_base_without_a_bound_judges_the_whole_change() -> None:
    changed = plan_of(FILE + "on: {pull_request: {until: features}}\n")
    plan = judged_by(changed, plan_of(FILE + "on: {pull_request: {}}\n"))
    assert (plan.stages, plan.gates, plan.deploy) == (changed.stages, changed.gates, ())


# ways in which a change could be rid of its gates: what it writes in place of what
ESCAPES = [
    ("on: {pull_request: {until: evaluate}}", "on: {pull_request: {until: features}}"),
    ("on: {pull_request: {until: evaluate}}", "on: {push: {}}"),
    ("{metric: accuracy, min: 0.8}", "{metric: accuracy, min: 0.1}"),
    ("outs: [report.html]", "metrics: [more.json]"),  # measured behind the bound
    ("metrics: [metrics.json], predictions: p.csv, outs: [golden.json]", "outs: [golden.json, metrics.json]"),
    ("  evaluate: {cmd: e", "  features2: {cmd: e"),
]


@pytest.mark.parametrize(("written", "changed"), ESCAPES)
def test_a_change_is_never_rid_of_the_gates_of_the_base_branch(written: str, changed: str) -> None:
    text = FILE + "on: {pull_request: {until: evaluate}}\n"
    base = plan_of(text)
    assert written in text
    text = text.replace(written, changed)
    if "  evaluate:" not in text:
        text = text.replace("until: evaluate", "until: features")
    if "metrics: [metrics.json]" not in text:
        text = text[: text.index("gates:")] + text[text.index("deploy:") :]
    plan = judged_by(plan_of(text), base)
    titles = {gate.title for gate in plan.gates}
    assert {"accuracy min 0.8", "accuracy against production, margin 0.02"} <= titles
    # It lies behind the bound of the base too; a change without that stage is run whole.
    assert ("latency_p99_ms max 20" in titles) == ("  evaluate:" not in text)
    assert plan.deploy == ()
    again = trim(plan, "evaluate")
    assert again == plan


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("path: holdout.csv, ", "path: raw.csv, ", "the dataset holdout is not declared {}: holdout.csv -> raw.csv"),
        ("schema: s.yaml, ", "", "the dataset holdout is not declared {}"),
        ("{name: unit, cmd: pytest -q}", "{name: unit, cmd: echo}", "the check unit is not {}: pytest -q -> echo"),
        ("[syntax, ", "[", "the check syntax is not {}: syntax -> gone"),
    ],
)
def test_a_change_of_what_its_judges_look_at_is_told(old: str, new: str, told: str) -> None:
    plan = judged_by(plan_of(FILE.replace(old, new, 1)), plan_of())
    assert plan.warnings[-1] == told.format("as the base branch has it")


def test_a_dataset_that_a_change_drops_is_told() -> None:
    base = plan_of()
    assert (
        "the dataset holdout of the base branch is gone"
        in judged_by(base.model_copy(update={"data": ()}), base).warnings
    )

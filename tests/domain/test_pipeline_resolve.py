"""From a right file and a commit to a plan."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import SeveralRefused
from interlock.pipeline.canaries.external import ExternalMetricPlan
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, MirrorPlan, StepPlan, StrategyPlan
from interlock.pipeline.entries import entry_files, has_tests
from interlock.pipeline.plan import ConcurrencyPlan, DataPlan, GatePlan, Plan, Resources, StagePlan, WindowPlan
from interlock.pipeline.resolve import holdout_of, plan_digest, read_pipeline, resolve
from interlock.pipeline.rules.graph import find_cycle, in_order, needs_of
from interlock.pipeline.spec import FileSpec, StageSpec
from interlock.source.triggers import PullRequestPlan, Triggers

FIVE_LINES = """\
version: 1
stages:
  train: {cmd: python train.py, outs: [model.joblib], metrics: [metrics.json]}
model: model.joblib
gates: [{metric: accuracy, min: 0.9}]
"""

WHOLE = """\
version: 1
on: {push: {branches: [main, next]}}
checks: [dependencies, syntax, {name: unit, cmd: python -m pytest -q tests, timeout: 2m}]
data:
  train: {path: data/train.csv, schema: schemas/flights.yaml, id: id, label: late}
  holdout: {path: data/holdout.csv, schema: schemas/flights.yaml, id: id, label: late, disjoint_from: train}
stages:
  evaluate:
    cmd: python src/evaluate.py
    deps: [model/, data/holdout.csv]
    metrics: [metrics.json]
    predictions: predictions.csv
    outs: [golden.json]
  train: {cmd: python src/train.py, deps: [data/features/train.csv], params: [train, features.window], outs: [model/],
          env: {THREADS: 2, VERSION: 3.10}, resources: {cpu: 2, memory: 1.5GiB, disk: 10GiB}}
  features: {cmd: python -u src/features.py, deps: [./data/train.csv], outs: [data/features/], timeout: 90s,
             network: true}
model: {path: model/, golden: golden.json}
gates: [{metric: auc, against: production}, {metric: auc, min: 0.7}]
deploy:
  staging: {replicas: 1, checks: [{name: contract, cmd: pytest -q integration}]}
  production:
    requires: [staging]
    strategy: {canary: {steps: [{set_weight: 10}, {analysis: {for: 1m}}, {pause: {for: 30s}}], deadline: 10m}}
"""

PATHS = [
    *("data/train.csv", "data/holdout.csv", "schemas/flights.yaml", "params.yaml", "pyproject.toml", "uv.lock"),
    *("src/train.py", "src/features.py", "src/evaluate.py", "src/shared.py", "tests/test_a.py", "tests/sub/test_b.py"),
    *("tests/conftest.py", "integration/test_contract.py", "conftest.py", "README.md"),
]
PARAMS: dict[str, Any] = {"train": {"depth": 3}, "features": {"window": 7, "kind": "mean"}, "seed": 1}


def planned(text: str, paths: Sequence[str] = PATHS, **changes: Any) -> Plan:
    arguments = {"project": "", "params": PARAMS, "overrides": {}, "repository": "flights"} | changes
    return resolve(read_pipeline(text.encode()), paths=paths, **arguments)


def refused(text: str, paths: Sequence[str] = PATHS, **changes: Any) -> list[str]:
    with pytest.raises(SeveralRefused) as caught:
        planned(text, paths, **changes)
    assert all(refusal.remedy for refusal in caught.value.refusals)
    return [f"{refusal.where} {refusal.problem} ({refusal.remedy})" for refusal in caught.value.refusals]


def test_five_lines_are_enough() -> None:
    assert len(FIVE_LINES.splitlines()) == 5
    plan = planned(FIVE_LINES, ["train.py", "requirements.txt", "tests/test_train.py"], repository="team/My_Churn.git")
    assert [stage.name for stage in plan.stages] == [
        *("syntax", "imports", "dependencies", "unit", "train", "served", "measurements"),
    ]
    assert plan.python.lock == "requirements.txt"
    for there, lock in (["requirements.in"], "requirements.txt"), (["pyproject.toml"], "uv.lock"):
        assert planned(FIVE_LINES, ["train.py", *there]).python.lock == lock
    assert plan.triggers == Triggers()
    assert plan.concurrency is None
    assert plan.model is not None
    assert (plan.model.name, plan.model.format) == ("my-churn", "joblib")
    assert plan.stage("unit").command == "pytest -q tests"
    assert plan.stage("syntax").deps == ("tests/test_train.py", "train.py")
    assert plan.stage("train").params is None
    assert plan.gates == (GatePlan(metric="accuracy", min=0.9),)
    assert plan.warnings == ()


def test_without_a_lock_and_tests_there_is_still_a_plan() -> None:
    plan = planned(FIVE_LINES, ["train.py"])
    assert plan.python.lock == "uv.lock"
    assert [stage.name for stage in plan.stages[:4]] == ["syntax", "imports", "dependencies", "train"]
    assert plan.stage("dependencies").deps == ()


def test_the_whole_file() -> None:
    plan = planned(WHOLE)
    names = [stage.name for stage in plan.stages]
    assert names == [
        *("dependencies", "syntax", "unit", "data", "features", "train", "evaluate", "served", "measurements")
    ]
    checks = ("dependencies", "syntax", "unit")
    assert [plan.stage(name).needs for name in checks] == [(), ("dependencies",), ("syntax",)]
    assert plan.stage("unit") == StagePlan(
        name="unit", kind="check", command="python -m pytest -q tests", needs=("syntax",), timeout=120.0
    )
    assert plan.stage("dependencies").deps == ("uv.lock", "pyproject.toml")
    assert plan.stage("data") == StagePlan(
        name="data",
        kind="data",
        builtin="data",
        needs=checks,
        deps=("data/train.csv", "schemas/flights.yaml", "data/holdout.csv"),
    )
    assert plan.stage("features").needs == (*checks, "data")
    assert plan.stage("features").network
    assert plan.stage("features").timeout == 90.0
    assert plan.stage("features").deps == ("data/train.csv",)
    train = plan.stage("train")
    assert train.needs == (*checks, "data", "features")
    # a part of a product is the whole product: that is what is kept and placed
    assert train.deps == ("data/features",)
    assert train.outs == ("model",)
    assert train.params == {"train": {"depth": 3}, "features": {"window": 7}}
    assert train.env == {"THREADS": "2", "VERSION": "3.10"}
    assert train.resources == Resources(cpu=2.0, memory=3 << 29, processes=4096, disk=10 << 30)
    assert plan.stage("features").resources == Resources()
    assert plan.stage("evaluate").products == ("golden.json", "metrics.json", "predictions.csv")
    served = plan.stage("served")
    assert (served.kind, served.builtin, served.needs) == ("measure", "served", ("train", "evaluate"))
    # the holdout is asked of it too, and its answers are compared with the predictions
    assert served.deps == ("model", "golden.json", "predictions.csv", "data/holdout.csv")
    assert served.predictions == "predictions.csv"
    assert served.products == (".interlock/served",)
    measurements = plan.stage("measurements")
    assert measurements.needs == ("evaluate",)  # not what makes no numbers: gates are judged while that still runs
    assert measurements.deps == ("metrics.json", "predictions.csv", "data/holdout.csv")


def test_the_files_that_checks_begin_with() -> None:
    entries = planned(WHOLE).stage("syntax").deps
    assert set(entries) == {path for path in PATHS if path.endswith(".py")} - {"src/shared.py"}


def test_gates_and_delivery_of_the_whole_file() -> None:
    plan = planned(WHOLE)
    assert plan.gates == (GatePlan(metric="auc", against="production"), GatePlan(metric="auc", min=0.7))
    staging, production = plan.deploy
    assert (staging.strategy.kind, staging.replicas, staging.checks[0].command) == (
        "rolling",
        1,
        "pytest -q integration",
    )
    assert production.requires == ("staging",)
    assert production.replicas == 2
    assert production.strategy.deadline == 600.0
    assert production.strategy.steps == (
        StepPlan(set_weight=10),
        StepPlan(analysis=60.0),
        StepPlan(pause=30.0),
        StepPlan(set_weight=100),
    )
    whole = planned(WHOLE.replace("{pause: {for: 30s}}", "{set_weight: 100}")).deploy[1].strategy.steps
    assert whole[-1:] == (StepPlan(set_weight=100),)
    assert len(whole) == 3


def test_what_an_analysis_does_not_say() -> None:
    errors = AnalysisMetricPlan(metric="error_rate", margin=0.01)
    assert planned(WHOLE).deploy[1].strategy.analysis == AnalysisPlan(metrics=(errors,))
    written = "deadline: 10m, analysis: {metrics: [{metric: latency_p99_ms, max_ratio: 1.2, max: 50}]}"
    slow = AnalysisMetricPlan(metric="latency_p99_ms", max_ratio=1.2, margin=0.05, max=50.0)
    found = planned(WHOLE.replace("deadline: 10m", written)).deploy[1].strategy.analysis
    assert found == AnalysisPlan(warm_up=30.0, metrics=(slow,))
    shorter = planned(WHOLE.replace("deadline: 10m", written.replace("analysis: {", "analysis: {warm_up: 5s, ")))
    assert shorter.deploy[1].strategy.analysis.warm_up == 5.0


def test_copies_of_requests_are_planned() -> None:
    mirror = "[{mirror: {percent: 40, for: 2m}}, {set_weight: 10}"
    metric = "deadline: 10m, analysis: {metrics: [{metric: agreement, min: 0.98, tolerance: 0.1}]}"
    found = planned(WHOLE.replace("[{set_weight: 10}", mirror).replace("deadline: 10m", metric)).deploy[1].strategy
    assert found.steps[0] == StepPlan(mirror=MirrorPlan(percent=40, seconds=120.0))
    (agrees,) = found.analysis.metrics
    assert (agrees.metric, agrees.min, agrees.margin, agrees.tolerance) == ("agreement", 0.98, 0.01, 0.1)
    canary = WHOLE[WHOLE.index("{canary: {steps") : WHOLE.index("deadline: 10m}}") + len("deadline: 10m}}")]
    shadow = planned(WHOLE.replace(canary, "{shadow: {for: 30m}}")).deploy[1].strategy
    assert (shadow.kind, shadow.deadline) == ("shadow", 7200.0)
    assert shadow.steps == (StepPlan(mirror=MirrorPlan(percent=100, seconds=1800.0)),)


def test_a_probation_keeps_a_share_back_for_what_is_late() -> None:
    assert planned(WHOLE).deploy[1].strategy.probation == 0.0
    late = "{metric: error_rate}, {metric: accuracy, source: labels, delay: 24h}"
    written = f"deadline: 10m, probation: 1d, analysis: {{metrics: [{late}]}}"
    found = planned(WHOLE.replace("deadline: 10m", written)).deploy[1].strategy
    assert (found.probation, found.holdback) == (86400.0, 5)
    assert [metric.delay for metric in found.analysis.metrics] == [0.0, 86400.0]
    assert planned(WHOLE.replace("deadline: 10m", f"holdback: 20, {written}")).deploy[1].strategy.holdback == 20


def test_slices_are_planned_as_texts_by_column() -> None:
    slices = (
        "[{column: carrier, values: [AA, UA]}, {column: hour, values: [0x11, 7]}, {column: carrier, values: [true]}]"
    )
    metrics = f"{{metric: error_rate}}, {{metric: accuracy, source: labels, slices: {slices}}}"
    found = planned(WHOLE.replace("deadline: 10m", f"deadline: 10m, analysis: {{metrics: [{metrics}]}}"))
    analysis = found.deploy[1].strategy.analysis
    assert analysis.slices == {"carrier": ("AA", "UA", "true"), "hour": ("17", "7")}
    assert analysis.metrics[1].slice_names == ("carrier=AA", "carrier=UA", "carrier=true", "hour=17", "hour=7")
    assert planned(WHOLE).deploy[1].strategy.analysis.slices == {}


def test_metrics_of_other_sources_are_planned_beside_those_measured_here() -> None:
    metrics = (
        "{metric: error_rate}, {metric: queue, source: prometheus, query: 'q{r=\"$candidate\"}', max: 3, for: 2m}, "
        "{metric: bad, source: command, cmd: python bad.py, margin: 0.02, every: 30s, dry_run: true}"
    )
    analysis = planned(WHOLE.replace("deadline: 10m", f"deadline: 10m, analysis: {{metrics: [{metrics}]}}"))
    found = analysis.deploy[1].strategy.analysis
    queue = ExternalMetricPlan(
        metric="queue", source="prometheus", queries={"value": 'q{r="$candidate"}'}, max=3.0, seconds=120.0
    )
    bad = ExternalMetricPlan(
        metric="bad", source="command", command="python bad.py", is_counted=True, margin=0.02, every=30.0, dry_run=True
    )
    assert found == AnalysisPlan(metrics=(AnalysisMetricPlan(metric="error_rate"),), external=(queue, bad))
    assert found.counting == 1


@pytest.mark.parametrize("more", ["", ", analysis: {metrics: [{metric: error_rate, max: 0.1}]}"])
def test_blue_and_green_are_planned_as_steps(more: str) -> None:
    text = f"{FIVE_LINES}deploy: {{production: {{strategy: {{blue_green: {{keep_for: 5m{more}}}}}}}}}\n"
    errors = AnalysisMetricPlan(metric="error_rate", max=0.1 if more else 0.05)
    assert planned(text).deploy[0].strategy == StrategyPlan(
        kind="blue_green",
        steps=(StepPlan(checks=True), StepPlan(set_weight=100), StepPlan(keep=300.0)),
        analysis=AnalysisPlan(metrics=(errors,), is_alone=True),
    )


def test_what_begins_a_run_of_the_whole_file() -> None:
    assert planned(WHOLE).triggers == Triggers(branches=("main", "next"))


PULL_REQUESTS = "pull_request: {branches: [main], paths: [src/**], until: train}"


@pytest.mark.parametrize(
    ("on", "triggers"),
    [
        ("{}", Triggers()),
        ("{push: {}}", Triggers()),
        ("{push: {tags: [v*]}}", Triggers(branches=(), tags=("v*",))),
        ("{push: {tags: [v*], branches: [main]}}", Triggers(tags=("v*",))),
        ('{push: {paths: ["src/**", "!src/x"]}}', Triggers(paths=("src/**", "!src/x"))),
        ("{pull_request: {}}", Triggers(pull_request=PullRequestPlan())),
        (
            f"{{{PULL_REQUESTS}}}",
            Triggers(pull_request=PullRequestPlan(branches=("main",), paths=("src/**",), until="train")),
        ),
        ('{schedule: "0 3 * * 1"}', Triggers(schedule=("0 3 * * 1",))),
        (
            '{schedule: ["0 3 * * 1", "0 4 * * *"], time_zone: Europe/Berlin}',
            Triggers(schedule=("0 3 * * 1", "0 4 * * *"), time_zone="Europe/Berlin"),
        ),
        ("{data: [/srv/data//x/, s3://b-1/x/]}", Triggers(data=("/srv/data/x", "s3://b-1/x/"))),
    ],
)
def test_what_begins_a_run(on: str, triggers: Triggers) -> None:
    assert planned(f"version: 1\non: {on}\nstages: {{train: {{cmd: x}}}}").triggers == triggers


@pytest.mark.parametrize(
    ("text", "concurrency"),
    [
        ("", None),
        ("concurrency: training", ConcurrencyPlan(group="training")),
        ("concurrency: {group: a/b}", ConcurrencyPlan(group="a/b")),
        (
            "concurrency: {group: a, cancel_superseded: true}",
            ConcurrencyPlan(group="a", cancel_superseded=True),
        ),
    ],
)
def test_runs_that_wait_for_one_another(text: str, concurrency: ConcurrencyPlan | None) -> None:
    assert planned(f"version: 1\n{text}").concurrency == concurrency


def test_the_secrets_of_a_stage_are_named() -> None:
    plan = planned("version: 1\nstages: {a: {cmd: x, secrets: [API_KEY, TOKEN]}, b: {cmd: y}}")
    assert [plan.stage(name).secrets for name in ("a", "b", "syntax")] == [("API_KEY", "TOKEN"), (), ()]


def test_a_stage_without_deps_follows_those_above_it() -> None:
    stages = "{a: {cmd: x, outs: [o]}, b: {cmd: y}, c: {cmd: z, metrics: [m.csv]}, d: {cmd: w, deps: []}}"
    plan = planned(f"version: 1\nstages: {stages}")
    checks = ("syntax", "imports", "dependencies", "unit")
    assert plan.stage("a").deps == ()
    assert plan.stage("b").deps == ("o",)
    assert plan.stage("b").needs == (*checks, "a")
    assert plan.stage("c").deps == ("o",)
    assert plan.stage("d").deps == ()
    assert plan.stage("d").needs == checks


def test_a_stage_without_deps_does_not_wait_for_what_waits_for_it() -> None:
    text = "version: 1\nstages: {a: {cmd: x, deps: [oc], outs: [oa]}, b: {cmd: y, outs: [ob]}, c: {cmd: z, outs: [oc]}}"
    plan = planned(text)
    assert plan.stage("b").deps == ("oa",)
    assert plan.stage("c").deps == ()
    assert [stage.name for stage in plan.stages if stage.kind == "stage"] == ["c", "a", "b"]


def test_a_folder_with_products_and_files_is_both() -> None:
    text = "version: 1\nstages: {a: {cmd: x, outs: [data/made]}, b: {cmd: y, deps: [data]}}"
    assert planned(text).stage("b").deps == ("data", "data/made")
    assert planned(text).stage("b").needs[-1] == "a"


def test_a_folder_of_the_commit_may_be_a_dependency() -> None:
    plan = planned("version: 1\nstages: {a: {cmd: x, deps: [src/]}}")
    assert plan.stage("a").deps == ("src",)
    with pytest.raises(KeyError):
        plan.stage("b")


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (
            ("data/holdout.csv]", "data/holdot.csv]"),
            ":10:20 the commit has no data/holdot.csv and no stage makes it (did you mean data/holdout.csv",
        ),
        (("path: data/train.csv", "path: data/none.csv"), ":5:17 the commit has no data/none.csv"),
        (
            ("schema: schemas/flights.yaml", "schema: schemas/x.yaml"),
            ":5:41 the commit has no schemas/x.yaml (commit it)",
        ),
        (("outs: [golden.json]", "outs: [other.json]"), "the commit has no golden.json and no stage makes it"),
        (("features.window]", "features.windw]"), "params.yaml has no features.windw (did you mean features.window?)"),
        (
            ("version: 1\n", "version: 1\npython: {lock: requirements.txt}\n"),
            ":2:16 the commit has no requirements.txt",
        ),
    ],
)
def test_what_the_commit_does_not_hold_is_refused_with_its_place(edit: tuple[str, str], told: str) -> None:
    found = refused(WHOLE.replace(*edit, 1))
    assert any(told in refusal for refusal in found), found


def test_everything_that_is_missing_is_told_at_once() -> None:
    found = refused(WHOLE, ["params.yaml"], params={})
    assert len(found) == 8
    assert sum("params.yaml has no" in refusal for refusal in found) == 2


def test_overridden_parameters_reach_the_stages() -> None:
    plan = planned(WHOLE, overrides={"train.depth": 4})
    assert plan.stage("train").params == {"train": {"depth": 4}, "features": {"window": 7}}
    assert plan.stage("features").params == {**PARAMS, "train": {"depth": 4}}
    assert planned(WHOLE).stage("features").params is None
    assert plan_digest(plan) != plan_digest(planned(WHOLE))


GPUS = "version: 1\nchecks: []\nstages:\n  train: {cmd: x, resources: {gpu: 2}, retries: 0}\n"


def test_what_a_stage_asks_of_the_machine_is_in_the_plan() -> None:
    (train,) = planned(GPUS, gpus=2).stages
    assert (train.resources.gpu, train.retries) == (2, 0)
    assert planned("version: 1\nchecks: []\nstages: {a: {cmd: x}}\n").stage("a").retries == 2


@pytest.mark.parametrize(("there", "told"), [(0, "none"), (1, "1")])
def test_a_machine_with_fewer_graphics_processors_refuses_the_plan(there: int, told: str) -> None:
    (found,) = refused(GPUS, gpus=there)
    assert found.startswith(f"interlock.yaml:4:36 train asks for 2 GPUs, and this machine has {told} (")


def test_a_thousand_stages_in_any_order_are_put_in_order() -> None:
    for names in (range(1000), reversed(range(1000))):
        lines = "".join(
            f"  s{n}: {{cmd: x, outs: [o/{n}], deps: [{f'o/{n - 1}' if n else 'params.yaml'}]}}\n" for n in names
        )
        plan = planned(f"version: 1\nchecks: []\nstages:\n{lines}")
        assert [stage.name for stage in plan.stages] == [f"s{n}" for n in range(1000)]


def test_an_unknown_override_is_refused() -> None:
    assert refused(WHOLE, overrides={"train.dpth": 4}) == [
        "-S train.dpth params.yaml has no train.dpth (did you mean train.depth?)"
    ]


@pytest.mark.parametrize(
    ("repository", "project", "name"),
    [
        ("flights", "", "flights"),
        ("Team/Fancy Model.git", "", "fancy-model"),
        ("mono", "models/churn_v2", "churn-v2"),
        ("...", "", "model"),
        ("x" * 80, "", "x" * 63),
    ],
)
def test_a_model_without_a_name_gets_one(repository: str, project: str, name: str) -> None:
    model = planned(FIVE_LINES, repository=repository, project=project).model
    assert model is not None
    assert model.name == name


@pytest.mark.parametrize(
    ("model", "format_"),
    [("{path: o, format: joblib}", "joblib"), ("o", "skops"), ("{path: o, format: skops, name: n}", "skops")],
)
def test_the_format_of_a_model(model: str, format_: str) -> None:
    found = planned(f"version: 1\nstages: {{a: {{cmd: x, outs: [o]}}}}\nmodel: {model}").model
    assert found is not None
    assert found.format == format_


def test_checks_may_be_none_at_all() -> None:
    plan = planned("version: 1\nchecks: []\ndata: {d: {path: data/train.csv}}")
    assert [(stage.name, stage.needs) for stage in plan.stages] == [("data", ())]


def test_what_is_worth_knowing_is_a_warning() -> None:
    plan = planned(
        "version: 1\ndata: {d: {path: data/train.csv}}\nstages: {a: {cmd: x, outs: [m], predictions: p.csv}}\nmodel: m"
    )
    assert [warning.split(":")[0] for warning in plan.warnings] == [
        "there are no gates",
        "the dataset d has no schema",
        "predictions are not joined with labels",
    ]
    assert plan.stage("measurements").deps == ("p.csv",)
    assert planned(WHOLE).warnings == ()


def data(name: str, disjoint_from: str | None = None, label: str | None = "y") -> DataPlan:
    return DataPlan(name=name, path=f"{name}.csv", id="id", label=label, disjoint_from=disjoint_from)


@pytest.mark.parametrize(
    ("datasets", "name"),
    [
        ([], None),
        ([data("a", label=None)], None),
        ([data("a")], "a"),
        ([data("a"), data("b", "a")], "b"),
        ([data("a"), data("holdout")], "holdout"),
        ([data("a", "b"), data("b", "a")], None),
        ([data("a", "holdout"), data("b", "a"), data("holdout")], "holdout"),
    ],
)
def test_the_holdout_is_told_from_the_other_datasets(datasets: list[DataPlan], name: str | None) -> None:
    found = holdout_of(datasets)
    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("command", "entries"),
    [
        ("python src/train.py --data x.csv", ["src/train.py"]),
        ("python ./src/train.py", ["src/train.py"]),
        ("python -m src.train", ["src/train.py"]),
        ("python -m pkg", ["src/pkg/__main__.py", "src/pkg/__init__.py"]),
        ("python -m missing", []),
        ("pytest -q", ["tests/conftest.py", "tests/sub/test_b.py", "tests/test_a.py"]),
        ("python -m pytest tests/sub/", ["tests/conftest.py", "tests/sub/test_b.py"]),
        ("pytest tests/test_a.py::test_x", ["tests/conftest.py", "tests/test_a.py"]),
        ("pytest integration 'an open quote", ["integration/test_c.py"]),
        ('echo "an open quote src/train.py', ["src/train.py"]),
        ("", []),
    ],
)
def test_the_files_that_a_command_names(command: str, entries: list[str]) -> None:
    paths = ["src/train.py", "src/pkg/__main__.py", "src/pkg/__init__.py", "src/pkg/other.py", "tests/test_a.py"]
    paths += ["tests/sub/test_b.py", "tests/conftest.py", "integration/test_c.py", "tests/data.csv"]
    assert entry_files([command], paths) == tuple(sorted(entries))


def test_tests_are_found_by_their_names() -> None:
    assert has_tests(["tests/deep/test_x.py"])
    assert not has_tests(["tests/conftest.py", "src/test_x.py", "tests/test_x.txt"])


def test_a_plan_is_the_same_each_time_and_its_digest_tells_plans_apart() -> None:
    first, second = planned(WHOLE), planned(WHOLE, list(reversed(PATHS)))
    assert first == second
    assert plan_digest(first) == plan_digest(second)
    assert plan_digest(first).startswith("blake3:")
    assert len(plan_digest(first)) == 71
    assert plan_digest(planned(WHOLE.replace("0.7", "0.71"))) != plan_digest(first)
    assert Plan.model_validate(first.model_dump(mode="json")) == first


@st.composite
def stages(draw: st.DrawFn) -> dict[str, StageSpec]:
    names = [f"s{number}" for number in range(draw(st.integers(1, 7)))]
    found = {}
    for name in names:
        deps = draw(st.none() | st.lists(st.sampled_from([f"out/{other}" for other in names]), max_size=3))
        outs = [f"out/{name}"] if draw(st.booleans()) else []
        found[name] = StageSpec(cmd="x", deps=deps, outs=outs)
    return found


@settings(max_examples=200)
@given(stages())
def test_each_stage_comes_after_all_it_needs_or_there_is_a_cycle(made: dict[str, StageSpec]) -> None:
    needs = needs_of(made)
    cycle = find_cycle(needs)
    if cycle is None:
        order = in_order(needs)
        assert sorted(order) == sorted(made)
        for name, needed in needs.items():
            assert all(order.index(need) < order.index(name) for need in needed)
    else:
        assert cycle[0] == cycle[-1]
        assert all(after in needs[before] for before, after in pairwise(cycle))


@settings(max_examples=200)
@given(stages())
def test_stages_without_deps_close_no_circle(made: dict[str, StageSpec]) -> None:
    written = {
        name: [other for other in made if f"out/{other}" in (stage.deps or []) and made[other].outs]
        for name, stage in made.items()
    }
    assert (find_cycle(written) is None) == (find_cycle(needs_of(made)) is None)


def test_a_file_without_stages_needs_nothing() -> None:
    assert needs_of(FileSpec(version=1).stages) == {}
    assert planned("version: 1\nchecks: []").stages == ()


def test_windows_are_resolved_with_their_zone() -> None:
    window = 'windows: [{opens: "0 8 * * 1-5", for: 8h, time_zone: Europe/Berlin}]'
    made = "stages:\n  train: {cmd: 'true', outs: [model/]}\nmodel: model/"
    (production,) = planned(f"version: 1\nchecks: []\n{made}\ndeploy:\n  production: {{{window}}}").deploy
    assert production.windows == (WindowPlan(opens="0 8 * * 1-5", seconds=28800.0, time_zone="Europe/Berlin"),)

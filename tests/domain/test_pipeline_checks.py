"""The checks of datasets and served models: written, planned, put together with a base branch's, obeyed by a run."""

from __future__ import annotations

from typing import Any

import pytest

from interlock.errors import SeveralRefused
from interlock.gate.judgement import Checked, GateResult
from interlock.pipeline.checks.resolution import UNWRITTEN
from interlock.pipeline.plan import CheckPlan, DataPlan, GatePlan, ModelPlan, Plan, StagePlan
from interlock.pipeline.pull_requests.judges import judged_by
from interlock.pipeline.resolve import read_pipeline, resolve
from interlock.run.advance import advance
from interlock.run.run import Run, RunSeen, begin
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Json, Phase, Verdict

STAGES = "stages: {train: {cmd: python t.py, outs: [model/]}}\n"


def plan_of(data: str = "{path: d.csv}", model: str = "model/") -> Plan:
    text = f"version: 1\nchecks: []\ndata: {{train: {data}}}\n{STAGES}model: {model}\n"
    paths = {"d.csv", "uv.lock"}
    file = read_pipeline(text.encode())
    return resolve(file, project="", paths=paths, params={}, overrides={}, repository="flights")


def named(plan: Plan) -> dict[str, CheckPlan]:
    return {check.name: check for check in plan.data[0].checks}


def test_what_is_asked_without_being_written() -> None:
    checks = named(plan_of())
    assert list(checks) == list(UNWRITTEN)
    assert not any(check.is_written for check in checks.values())
    assert checks["duplicates"].limits == {"max": 0.1}
    assert checks["balance"].limits == {"min": 0.0, "max_shift": 0.25}
    assert checks["leakage"].limits == {}
    model = plan_of().model
    assert model is not None
    assert [(check.name, check.limits) for check in model.checks] == [
        ("target", {}),
        ("row_by_row", {"tolerance": 1e-4}),
        ("row_order", {"tolerance": 1e-4}),
        ("nulls", {"tolerance": 1e-4}),
        ("offline", {"tolerance": 1e-4}),
    ]


def test_what_is_written_counts() -> None:
    written = "{duplicates: off, leakage: {max: 0.9, ignore: [x]}, freshness: {column: at, max_age: 1d}, drift: {}}"
    checks = named(plan_of(f"{{path: d.csv, checks: {written}}}"))
    assert "duplicates" not in checks
    assert checks["leakage"] == CheckPlan(name="leakage", is_written=True, limits={"max": 0.9}, ignore=("x",))
    assert checks["freshness"] == CheckPlan(name="freshness", is_written=True, limits={"max_age": 86400.0}, column="at")
    assert checks["drift"].limits == {"max": 0.1, "alpha": 0.01}
    plan = plan_of(model="{path: model/, checks: {row_order: off, nulls: {tolerance: 0.5}}}")
    assert plan.model is not None
    assert [(check.name, check.is_written) for check in plan.model.checks] == [
        ("target", False),
        ("row_by_row", False),
        ("nulls", True),
        ("offline", False),
    ]


def test_what_is_no_table_has_no_checks() -> None:
    assert plan_of("{path: images/, from: data/images}").data == ()
    with pytest.raises(SeveralRefused) as refused:
        plan_of("{path: images/, from: data/images, checks: {leakage: off}}")
    assert "images is no table, so nothing of it can be checked" in str(refused.value)


@pytest.mark.parametrize(
    ("checks", "problem"),
    [
        ("{leakge: off}", "the key leakge is unknown (did you mean leakage?)"),
        ("{leakage: no}", "no is not known here (write off, or a mapping of limits: {max: 0.2})"),
        ("{leakage: {mx: 1}}", "the key mx is unknown (did you mean max?)"),
        ("{leakage: {max: 2}}", "max must be at most 1, not 2"),
        ("{leakage: [0.9]}", "leakage must be a mapping, not a list"),
        ("{freshness: {}}", "the key column is missing"),
        ("{freshness: {column: at, max_age: 3}}", "3 is no duration"),
        ("{drift: {alpha: 0.9}}", "alpha must be less than 0.5"),
        ("off", "checks must be a mapping"),
    ],
)
def test_mistakes_are_told_with_a_remedy(checks: str, problem: str) -> None:
    with pytest.raises(SeveralRefused) as refused:
        plan_of(f"{{path: d.csv, checks: {checks}}}")
    assert problem in str(refused.value)


def test_a_change_cannot_soften_the_checks_of_the_base_branch() -> None:
    base = plan_of("{path: d.csv, checks: {leakage: {max: 0.8}}}", "{path: model/, checks: {nulls: {tolerance: 0.1}}}")
    change = plan_of(
        "{path: d.csv, checks: {leakage: off, drift: {}}}",
        "{path: model/, checks: {row_by_row: off, nulls: {tolerance: 9}}}",
    )
    judged = judged_by(change, base)
    assert named(judged)["leakage"].limits == {"max": 0.8}
    assert "drift" in named(judged)
    assert judged.model is not None
    assert {check.name: check.limits.get("tolerance") for check in judged.model.checks} == {
        "target": None,
        "row_by_row": 1e-4,
        "row_order": 1e-4,
        "nulls": 0.1,
        "offline": 1e-4,
    }
    assert [told for told in judged.warnings if "checks" in told] == [
        "the checks of the dataset train are not as the base branch has them: its own are asked",
        "the checks of the model are not as the base branch has them: its own are asked",
    ]
    assert (judged_by(base, base).data, judged_by(base, base).warnings) == (base.data, base.warnings)
    assert judged_by(base, base.model_copy(update={"data": (), "model": None})).model == base.model


def test_a_change_is_loaded_at_the_rate_of_the_base_branch() -> None:
    base = plan_of("{path: d.csv}", "{path: model/}")
    assert base.model is not None
    asked, softer = (
        base.model_copy(update={"model": base.model.model_copy(update={"rate": rate})}) for rate in (500.0, 1.0)
    )
    judged = judged_by(softer, asked)
    assert judged.model == asked.model
    assert judged.warnings[-1] == "the rate of the model is not 1.0 but 500.0, as the base branch has it"


DATA = StagePlan(name="data", kind="data", builtin="data")
TRAIN = StagePlan(name="train", kind="stage", command="python t.py", outs=("model/",), needs=("data",))
SERVED = StagePlan(name="served", kind="measure", builtin="served", needs=("train",))
ASKED = CheckPlan(name="volume", is_written=True, limits={"min_ratio": 0.5})


def summary(rows: int) -> Json:
    return {"train": {"summary": {"rows": rows, "label": None, "columns": {}, "repeated": None, "shared": {}}}}


def run_at(phase: Phase, **more: Any) -> Run:
    plan = Plan(
        data=(DataPlan(name="train", path="d.csv", checks=(ASKED,)),),
        stages=(DATA, TRAIN, SERVED),
        model=ModelPlan(
            name="flights",
            path="model/",
            format="skops",
            checks=(CheckPlan(name="nulls", is_written=True, limits={"tolerance": 0.1}),),
        ),
    )
    commit = Commit(repository="flights", git_directory="/g", ref="refs/heads/main", sha="a" * 40, tree="b" * 40)
    run = begin(7, commit, Occasion(kind="push"), plan, Digest("blake3:x"), driver="server", is_trusted=True)
    stages = {
        name: stage.model_copy(update={"phase": Phase.SUCCEEDED if name == "data" else phase, "attempt": 1})
        for name, stage in run.stages.items()
    }
    return run.model_copy(update={"phase": Phase.RUNNING, "stages": stages, **more})


def test_data_that_fails_a_check_ends_the_run_before_anything_is_trained() -> None:
    seen = RunSeen(reports={"data": summary(10)}, accepted=summary(100), production="flights v1")
    after = advance(run_at(Phase.QUEUED), seen, 0.0)
    assert after.state.phase is Phase.FAILED
    assert after.because.startswith("data checks fail: volume of train: 10 rows, and 100 in the accepted data")
    assert after.state.stages["train"].phase is Phase.SKIPPED
    assert after.state.judgement is not None
    assert [result.gate for result in after.state.judgement.results] == ["volume of train"]
    assert Run.model_validate_json(after.state.model_dump_json()) == after.state


def test_data_that_passes_lets_the_run_go_on_and_is_judged_once() -> None:
    seen = RunSeen(reports={"data": summary(90)}, accepted=summary(100), production="flights v1")
    after = advance(run_at(Phase.QUEUED), seen, 0.0)
    assert (after.state.phase, after.state.judgement) == (Phase.RUNNING, None)
    assert after.state.data is not None
    assert after.state.data.verdict is Verdict.PASS
    assert advance(after.state, seen, 0.0).state.data == after.state.data


SOUND: Json = {"candidate": {"consistency": {"nulls": {"asked": 3, "worst": 0.0, "where": ""}}}}
MOODY: Json = {"candidate": {"consistency": {"nulls": {"asked": 3, "worst": 0.5, "where": "row 1: prediction"}}}}


@pytest.mark.parametrize(
    ("accepted", "served", "phase", "because"),
    [
        (summary(100), SOUND, Phase.RUNNING, "no gate was asked for"),
        (None, SOUND, Phase.HELD, "volume of train: it is not known what data was accepted"),
        (summary(100), MOODY, Phase.FAILED, "nulls of flights: one row, two answers: row 1: prediction"),
        (summary(100), None, Phase.HELD, "nulls of flights: no golden rows could be asked"),
    ],
)
def test_at_its_end_a_run_waits_for_what_is_undecided(accepted: Json, served: Json, phase: Phase, because: str) -> None:
    run = run_at(Phase.SUCCEEDED)
    seen = RunSeen(reports={"data": summary(90)}, accepted=accepted, production="flights v1")
    run = advance(run, seen, 0.0).state
    after = advance(run, RunSeen(reports={"served": served}), 0.0).state
    assert after.phase is phase
    assert because in after.because
    assert after.served is not None


def test_objections_come_after_the_gates() -> None:
    objection = GateResult(gate="drift of train", verdict=Verdict.UNDECIDED, because="who knows")
    run = run_at(Phase.SUCCEEDED, data=Checked(results=(objection,)))
    plan = run.plan.model_copy(update={"gates": (GatePlan(metric="latency_p99_ms", max=20.0),), "model": None})
    after = advance(run.model_copy(update={"plan": plan}), RunSeen(), 0.0).state
    assert after.judgement is not None
    assert [result.gate for result in after.judgement.results] == ["latency_p99_ms max 20", "drift of train"]
    assert after.served is None

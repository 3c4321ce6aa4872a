"""Past gates by a person's word: which runs, which gates, and what becomes of the run."""

import json

import pandas as pd
import pytest

from interlock.errors import Conflict, NotFound, Refused
from interlock.gate.judgement import GateResult, Judgement, Override
from interlock.pipeline.gates.guards import data_guards_of
from interlock.pipeline.plan import CheckPlan, DataPlan, GatePlan, ModelPlan, Plan, StagePlan
from interlock.probes.summaries import summarise
from interlock.run.advance import advance
from interlock.run.overriding import override
from interlock.run.requests import run_again
from interlock.run.run import Run, RunSeen, Sealed, StageRun, begin
from interlock.source.commit import Commit, Occasion
from interlock.source.repository import PullRequest
from interlock.vocabulary import Digest, Json, Phase, Verdict

COMMIT = Commit(repository="small", git_directory="/g", ref="refs/heads/main", sha="a" * 40, tree="b" * 40)
STAGES = (
    StagePlan(name="train", kind="stage", command="t", outs=("model/",)),
    StagePlan(name="measurements", kind="measure", builtin="measurements", needs=("train",)),
)
PLAN = Plan(
    stages=STAGES,
    model=ModelPlan(name="small", path="model/", format="skops"),
    gates=(GatePlan(metric="auc", min=0.9), GatePlan(metric="gain", min=0.5)),
)
AUC = GateResult(gate="auc min 0.9", verdict=Verdict.FAIL, because="0.85 < 0.9")
GAIN = GateResult(gate="gain min 0.5", verdict=Verdict.PASS, because="0.6 >= 0.5")
FEW = GateResult(gate="gain min 0.5", verdict=Verdict.UNDECIDED, because="too few rows")
HOLDOUT = DataPlan(name="holdout", path="h.csv", id="id", label="y")
WHY = "the holdout has last year's labels"
SEALED = Sealed(signature=Digest("blake3:s"), provenance=Digest("blake3:p"))
REPORTS = {"measurements": {"metrics": {"auc": 0.85, "gain": 0.6}, "invalid": {}}}


def stopped(*results: GateResult, phase: Phase = Phase.FAILED, plan: Plan = PLAN, **changes: object) -> Run:
    begun = begin(7, COMMIT, Occasion(kind="push"), plan, Digest("d"), driver="server", is_trusted=True)
    stages = dict.fromkeys(begun.stages, StageRun(phase=Phase.SUCCEEDED, attempt=1))
    update = {"phase": phase, "because": "gates fail", "stages": stages, "judgement": Judgement(results=results)}
    return begun.model_copy(update={**update, **changes})


@pytest.mark.parametrize("name", ["auc min 0.9", "auc"])
def test_a_run_that_a_gate_stopped_goes_on_past_it_to_its_seal(name: str) -> None:
    decision = override(stopped(AUC, GAIN), [name, name], WHY, "ada")
    run = decision.state
    assert run.phase is Phase.RUNNING
    assert run.overrides == (Override(gate="auc min 0.9", by="ada", reason=WHY),)
    assert run.because == decision.because == f"auc min 0.9 overridden by ada: {WHY}"
    assert run.judgement is not None
    assert run.judgement.results == (AUC, GAIN)
    assert (run.judgement.verdict, run.judgement.standing) == (Verdict.FAIL, Verdict.PASS)
    assert run.is_judged_good
    assert advance(run, RunSeen(needs_seal=True), 0.0).state == run
    ended = advance(run, RunSeen(needs_seal=True, sealed=SEALED), 0.0).state
    assert ended.phase is Phase.SUCCEEDED
    told = f"1 of 2 gates passed; auc min 0.9 overridden by ada: {WHY} (fail: 0.85 < 0.9)"
    assert ended.because == f"2 of 2 stages ran; {told}"


def test_what_is_undecided_is_overridden_too_and_others_are_named_at_once() -> None:
    held = stopped(GAIN.model_copy(update={"gate": "auc min 0.9"}), FEW, phase=Phase.HELD)
    assert override(held, ["gain min 0.5"], WHY, "ada").state.is_judged_good
    both = override(stopped(AUC, FEW), ["auc", "gain"], WHY, "ada").state
    assert [one.gate for one in both.overrides] == ["auc min 0.9", "gain min 0.5"]
    assert both.judgement is not None
    assert both.judgement.because.startswith("0 of 2 gates passed; auc min 0.9 overridden by ada")


def test_the_same_word_twice_is_one_and_another_one_is_a_conflict_while_the_run_goes_on() -> None:
    run = override(stopped(AUC, GAIN), ["auc"], WHY, "ada").state
    assert override(run, ["auc"], WHY, "ada").state == run
    with pytest.raises(Conflict, match="still running"):
        override(run, ["auc"], "another reason", "ada")


def test_a_run_that_ended_early_executes_what_was_left_out_and_any_other_gate_still_stops_it() -> None:
    left = {"train": StageRun(phase=Phase.SUCCEEDED, attempt=1), "more": StageRun(phase=Phase.SKIPPED, because="told")}
    stages = {**left, "slow": StageRun(phase=Phase.CANCELLED, attempt=2)}
    limits = Judgement(results=(AUC,))
    run = override(stopped(AUC, stages=stages, limits=limits), ["auc"], WHY, "ada").state
    assert {name: stage.phase for name, stage in run.stages.items()} == {
        "train": Phase.SUCCEEDED,
        "more": Phase.QUEUED,
        "slow": Phase.QUEUED,
    }
    assert run.judgement is None
    assert not run.is_judged_good
    done = run.model_copy(update={"stages": stopped().stages})
    worse = {"measurements": {"metrics": {"auc": 0.85, "gain": 0.4}, "invalid": {}}}
    failed = advance(done, RunSeen.model_validate({"reports": worse}), 0.0).state
    assert failed.phase is Phase.FAILED
    assert failed.judgement is not None
    assert [result.gate for result in failed.judgement.objections] == ["gain min 0.5"]
    assert "gain min 0.5" in failed.because
    good = advance(done, RunSeen.model_validate({"reports": REPORTS}), 0.0).state
    assert (good.phase, good.is_judged_good) == (Phase.RUNNING, True)
    again = override(failed, ["gain"], "no longer wanted", "bob").state
    assert again.is_judged_good
    assert [(one.gate, one.by) for one in again.overrides] == [("auc min 0.9", "ada"), ("gain min 0.5", "bob")]


def test_a_guard_judges_beside_the_gates_of_the_plan_and_stops_the_run() -> None:
    guard = GatePlan(metric="auc", min=0.95)
    softer = PLAN.model_copy(update={"gates": (GatePlan(metric="auc", min=0.8),)})
    run = stopped(plan=softer, phase=Phase.RUNNING, judgement=None, guards=(guard,))
    failed = advance(run, RunSeen.model_validate({"reports": REPORTS}), 0.0).state
    assert failed.judgement is not None
    assert [(result.gate, result.verdict) for result in failed.judgement.results] == [
        ("auc min 0.8", Verdict.PASS),
        ("auc min 0.95, as in production", Verdict.FAIL),
    ]
    assert failed.phase is Phase.FAILED
    assert run_again(failed, 8, Occasion(kind="rerun"), None, is_trusted=True).guards == (guard,)


def rows_of(count: int) -> Json:
    """What the data probe reports of so many rows."""
    cells = pd.DataFrame({"distance": [str(number % 97) for number in range(count)]}, dtype=object)
    found: Json = json.loads(json.dumps(summarise([{"name": "train"}], {"train": cells}, None)["train"]))
    return {"train": {"summary": found}}


def test_a_check_of_data_that_was_turned_off_stops_the_run_as_it_would_have_in_production() -> None:
    volume = CheckPlan(name="volume", limits={"min_ratio": 0.5})
    was = PLAN.model_copy(update={"data": (DataPlan(name="train", path="t.csv", checks=(volume,)),)})
    off = PLAN.model_copy(update={"data": (DataPlan(name="train", path="t.csv"),)})
    guards = data_guards_of(off, was)
    run = stopped(plan=off, phase=Phase.RUNNING, judgement=None, data_guards=guards)
    seen = RunSeen(reports={"data": rows_of(400)}, accepted=rows_of(1000), production="small v1")
    failed = advance(run, seen, 0.0).state
    assert failed.phase is Phase.FAILED
    assert failed.judgement is not None
    assert [result.gate for result in failed.judgement.results] == ["volume of train, as in production"]
    assert run_again(failed, 8, Occasion(kind="rerun"), None, is_trusted=True).data_guards == guards
    alone = advance(stopped(plan=off, phase=Phase.RUNNING, judgement=None), seen, 0.0).state
    assert alone.data is not None
    assert alone.data.results == ()
    unknown = advance(run, seen.model_copy(update={"accepted": None}), 0.0).state
    assert unknown.data is not None
    assert list(unknown.data.left_out) == ["volume of train, as in production"]


def test_so_does_a_check_of_the_served_model() -> None:
    strict, soft = (CheckPlan(name="row_by_row", limits={"tolerance": limit}) for limit in (1e-4, 1.0))
    assert PLAN.model is not None
    softer = PLAN.model_copy(update={"gates": (), "model": PLAN.model.model_copy(update={"checks": (soft,)})})
    served = {"candidate": {"consistency": {"row_by_row": {"asked": 9, "worst": 0.2, "where": "row 3"}}}}
    run = stopped(plan=softer, phase=Phase.RUNNING, judgement=None, model_guards=(strict,))
    failed = advance(run, RunSeen.model_validate({"reports": {"served": served}}), 0.0).state
    assert failed.phase is Phase.FAILED
    assert failed.served is not None
    assert [(result.gate, result.verdict) for result in failed.served.results] == [
        ("row_by_row of small", Verdict.PASS),
        ("row_by_row of small, as in production", Verdict.FAIL),
    ]
    assert run_again(failed, 8, Occasion(kind="rerun"), None, is_trusted=True).model_guards == (strict,)


@pytest.mark.parametrize(
    ("dataset", "was", "now", "told"),
    [
        (
            HOLDOUT,
            {"digest": "a"},
            {"digest": "b"},
            ["the dataset holdout does not hold what production's run was judged on"],
        ),
        (HOLDOUT, {"digest": "a"}, {"digest": "a"}, []),
        (HOLDOUT, {}, {"digest": "b"}, []),
        (HOLDOUT, {"digest": "a"}, {"digest": 7}, []),
        (HOLDOUT, None, {"digest": "b"}, []),
        (DataPlan(name="holdout", path="h.csv"), {"digest": "a"}, {"digest": "b"}, []),
    ],
)
def test_rows_to_be_judged_on_that_are_others_than_in_production_are_told(
    dataset: DataPlan, was: Json, now: Json, told: list[str]
) -> None:
    run = stopped(plan=PLAN.model_copy(update={"data": (dataset,)}), phase=Phase.RUNNING, judgement=None)
    accepted = None if was is None else {"holdout": was}
    seen = RunSeen.model_validate({"reports": {"data": {"holdout": now}}, "accepted": accepted})
    problems = advance(run, seen, 0.0).state.problems
    assert [(problem.message, problem.is_warning) for problem in problems] == [(one, True) for one in told]


@pytest.mark.parametrize("reason", ["", " ", "\n\t"])
def test_an_override_without_a_reason_is_refused(reason: str) -> None:
    with pytest.raises(Refused, match="needs a reason"):
        override(stopped(AUC), ["auc"], reason, "ada")


@pytest.mark.parametrize(
    ("run", "gates", "told", "remedy"),
    [
        (stopped(AUC, phase=Phase.RUNNING), ["auc"], "still running", "wait"),
        (stopped(AUC, phase=Phase.QUEUED), ["auc"], "still queued", "wait"),
        (stopped(AUC, plan=Plan(stages=STAGES)), ["auc"], "no model", "nothing"),
        (stopped(AUC, is_trusted=False), ["auc"], "whatever its gates say", "branch that may deliver"),
        (stopped(AUC, pull_request=PullRequest(number=4, base="main")), ["auc"], "whatever", "branch"),
        (stopped(AUC, occasion=Occasion(kind="reproduce")), ["auc"], "whatever", "branch"),
        (stopped(AUC, occasion=Occasion(kind="local")), ["auc"], "whatever", "branch"),
        (
            stopped(judgement=None, because="train failed"),
            ["auc"],
            "no gate stopped it: it is failed, train",
            "nothing",
        ),
        (stopped(GAIN, phase=Phase.SUCCEEDED), ["gain"], "no gate stopped it: it is succeeded", "nothing"),
        (stopped(AUC, phase=Phase.CANCELLED), ["auc"], "no gate stopped it: it is cancelled", "nothing"),
        (stopped(AUC, GAIN), ["auc", "gain"], "the gate gain min 0.5 passed", "leave it out"),
        (stopped(AUC, FEW), ["auc"], "gain min 0.5 did not pass either", "override each"),
        (stopped(AUC), [], "auc min 0.9 did not pass either", "override each"),
    ],
)
def test_what_cannot_be_overridden_is_a_conflict(run: Run, gates: list[str], told: str, remedy: str) -> None:
    with pytest.raises(Conflict, match=told) as conflict:
        override(run, gates, WHY, "ada")
    assert remedy in conflict.value.remedy


@pytest.mark.parametrize(
    ("gate", "remedy"),
    [("auc min 0.8", "did you mean 'auc min 0.9'"), ("latency", "what stopped it: auc min 0.9, auc max 1")],
)
def test_a_gate_that_was_not_judged_is_told_with_the_nearest(gate: str, remedy: str) -> None:
    run = stopped(AUC, AUC.model_copy(update={"gate": "auc max 1"}), GAIN)
    with pytest.raises(NotFound, match=gate) as missing:
        override(run, [gate], WHY, "ada")
    assert remedy in missing.value.remedy
    with pytest.raises(NotFound, match="'auc'"):  # a first word that two have names neither
        override(run, ["auc"], WHY, "ada")


def test_a_run_of_an_earlier_release_has_no_overrides() -> None:
    stored = stopped(AUC).model_dump(mode="json")
    del stored["overrides"], stored["judgement"]["overrides"]
    run = Run.model_validate(stored)
    assert (run.overrides, run.judgement) == ((), Judgement(results=(AUC,)))

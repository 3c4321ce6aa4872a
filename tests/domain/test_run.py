"""A run's decisions, as tables of what is seen and what follows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.gate.judgement import GateResult, Judgement
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, StrategyPlan
from interlock.pipeline.plan import ConcurrencyPlan, EnvironmentPlan, GatePlan, ModelPlan, Plan, StagePlan
from interlock.pipeline.trace import KeyInputs, Lookup, Trace
from interlock.run.advance import advance as advance_at
from interlock.run.attempting import LOSSES
from interlock.run.run import Run, RunSeen, Sealed, begin, desired, ready_stages
from interlock.run.stage import Baseline, Problem, StageOutcome
from interlock.source.commit import Commit, Occasion
from interlock.source.repository import PullRequest
from interlock.vocabulary import Decision, Digest, Phase, Verdict

COMMIT = Commit(repository="flights", git_directory="/g", ref="refs/heads/main", sha="a" * 40, tree="b" * 40)
CHECK = StagePlan(name="unit", kind="check", command="pytest")
TRAIN = StagePlan(name="train", kind="stage", command="python train.py", outs=("model/",), needs=("unit",))
PROFILE = StagePlan(name="profile", kind="stage", command="python profile.py", needs=("unit",))
SERVED = StagePlan(name="served", kind="measure", builtin="served", needs=("train",), deps=("model/",))
PLAN = Plan(
    stages=(CHECK, TRAIN, PROFILE, SERVED),
    model=ModelPlan(name="flights", path="model/", format="skops"),
    gates=(GatePlan(metric="latency_p99_ms", max=20.0),),
)
NOW = 1_700_000_000.0
SEALED = Sealed(signature=Digest("blake3:s"), provenance=Digest("blake3:p"))


def advance(run: Run, seen: RunSeen, now: float = NOW) -> Decision[Run]:
    return advance_at(run, seen, now)


def new_run(plan: Plan = PLAN) -> Run:
    return begin(7, COMMIT, Occasion(kind="push"), plan, Digest("blake3:x"), driver="server", is_trusted=True)


def miss(because: str = "never ran before") -> Lookup:
    return Lookup(key="k", hit=None, because=because, differences=(because,))


def hit(stage: str, **products: str) -> Lookup:
    trace = Trace(
        inputs=KeyInputs(stage=stage, command="c"),
        reads={},
        listings={},
        products={path: Digest(digest) for path, digest in products.items()},
        run="3",
        attempt=f"3/{stage}/1",
        seconds=1.0,
        made=1.0,
    )
    return Lookup(key="k", hit=trace, because="reused from run 3")


def outcome(phase: Phase = Phase.SUCCEEDED, **more: object) -> StageOutcome:
    return StageOutcome.model_validate({"phase": phase, "because": f"it {phase}", **more})


def at(phases: dict[str, Phase], **more: object) -> Run:
    run = new_run()
    stages = {
        name: stage.model_copy(update={"phase": phases.get(name, Phase.SUCCEEDED), "attempt": 1})
        for name, stage in run.stages.items()
    }
    return run.model_copy(update={"phase": Phase.RUNNING, "stages": stages, **more})


def test_only_stages_whose_needs_have_succeeded_are_ready() -> None:
    assert [stage.name for stage in ready_stages(new_run())] == ["unit"]
    after_check = at({"train": Phase.QUEUED, "profile": Phase.QUEUED, "served": Phase.QUEUED})
    assert [stage.name for stage in ready_stages(after_check)] == ["train", "profile"]


def test_a_stage_that_was_never_executed_starts_as_its_first_attempt() -> None:
    after = advance(new_run(), RunSeen(lookups={"unit": miss()})).state
    assert after.stages["unit"].phase is Phase.RUNNING
    assert after.attempt_key("unit") == "7/unit/1"
    assert after.key == "7"
    assert after.phase is Phase.RUNNING
    assert [stage.name for stage in desired(after)] == ["unit"]


def test_a_cache_hit_succeeds_without_an_attempt_and_says_where_it_comes_from() -> None:
    run = at({"train": Phase.QUEUED, "served": Phase.QUEUED})
    run = run.model_copy(
        update={"stages": {**run.stages, "train": run.stages["train"].model_copy(update={"attempt": 0})}}
    )
    decision = advance(run, RunSeen(lookups={"train": hit("train", **{"model/": "blake3:m"})}))
    train = decision.state.stages["train"]
    assert (train.phase, train.attempt, train.reused) == (Phase.SUCCEEDED, 0, "3/train/1")
    assert decision.state.product("model") == "blake3:m"
    assert decision.state.product("elsewhere") is None
    assert "reused" in decision.because


def test_independent_stages_start_together() -> None:
    run = at({"train": Phase.QUEUED, "profile": Phase.QUEUED, "served": Phase.QUEUED})
    after = advance(run, RunSeen(lookups={"train": miss(), "profile": miss()})).state
    assert {name for name, stage in after.stages.items() if stage.phase is Phase.RUNNING} == {"train", "profile"}


def test_a_queued_stage_without_a_look_up_waits() -> None:
    run = new_run()
    assert advance(run, RunSeen()).state == run


RETRIES = TRAIN.retries


@pytest.mark.parametrize(
    ("phase", "faults", "expected"),
    [
        (Phase.SUCCEEDED, 0, Phase.SUCCEEDED),
        (Phase.FAILED, 0, Phase.FAILED),
        (Phase.ERRORED, 0, Phase.QUEUED),
        (Phase.ERRORED, RETRIES - 1, Phase.QUEUED),
        (Phase.ERRORED, RETRIES, Phase.ERRORED),
        (Phase.CANCELLED, 0, Phase.CANCELLED),
    ],
)
def test_an_outcome_is_taken_and_only_faults_are_tried_again(phase: Phase, faults: int, expected: Phase) -> None:
    run = at({"train": Phase.RUNNING, "served": Phase.QUEUED})
    stages = {**run.stages, "train": run.stages["train"].model_copy(update={"faults": faults, "attempt": 9})}
    run = run.model_copy(update={"stages": stages})
    assert advance(run, RunSeen(outcomes={"train": outcome(phase)})).state.stages["train"].phase is expected


def test_what_an_attempt_made_and_found_is_kept() -> None:
    run = at({"train": Phase.RUNNING, "served": Phase.QUEUED})
    told = outcome(products={"model/": "blake3:m"}, report="blake3:r", seconds=2.5, problems=[{"message": "look"}])
    train = advance(run, RunSeen(outcomes={"train": told})).state.stages["train"]
    assert (train.products, train.report, train.seconds) == ({"model/": "blake3:m"}, "blake3:r", 2.5)
    assert train.problems == (Problem(message="look"),)


def test_a_lost_attempt_is_queued_again_and_gets_a_new_number() -> None:
    run = at({"train": Phase.RUNNING, "served": Phase.QUEUED})
    queued = advance(run, RunSeen(lost=("train",))).state
    assert queued.stages["train"].phase is Phase.QUEUED
    again = advance(queued, RunSeen(lookups={"train": miss()})).state
    assert again.attempt_key("train") == "7/train/2"


def test_a_stage_that_always_takes_its_executor_with_it_is_given_up() -> None:
    run = at({"train": Phase.RUNNING, "served": Phase.QUEUED})
    last = run.stages["train"].model_copy(update={"attempt": LOSSES})
    run = run.model_copy(update={"stages": {**run.stages, "train": last}})
    assert advance(run, RunSeen(lost=("train",))).state.stages["train"].phase is Phase.ERRORED


def test_a_failed_stage_ends_the_run_cancels_what_runs_and_skips_what_waits() -> None:
    run = at({"train": Phase.FAILED, "profile": Phase.RUNNING, "served": Phase.QUEUED})
    decision = advance(run, RunSeen())
    assert decision.state.phase is Phase.FAILED
    assert decision.state.stages["profile"].phase is Phase.CANCELLED
    assert decision.state.stages["served"].phase is Phase.SKIPPED
    assert decision.state.stages["unit"].phase is Phase.SUCCEEDED
    assert decision.because.startswith("train failed")


def test_a_model_that_is_already_delivered_is_not_measured_again() -> None:
    run = at({"served": Phase.QUEUED})
    decision = advance(run, RunSeen(twin="flights v3", lookups={"served": miss()}))
    assert decision.state.phase is Phase.SUCCEEDED
    assert decision.state.stages["served"].phase is Phase.SKIPPED
    assert decision.state.version == "flights v3"
    assert "flights v3" in decision.because


def test_nothing_ran_is_said_when_every_stage_was_reused() -> None:
    run = at({"served": Phase.QUEUED})
    reused = {name: stage.model_copy(update={"attempt": 0}) for name, stage in run.stages.items()}
    decision = advance(run.model_copy(update={"stages": reused}), RunSeen(twin="flights v3"))
    assert "no stage ran" in decision.because


def test_a_twin_waits_for_a_measurement_that_is_already_running() -> None:
    run = at({"served": Phase.RUNNING})
    assert advance(run, RunSeen(twin="flights v3")).state == run


def test_what_was_measured_while_a_stage_still_ran_is_not_delivered_again_either() -> None:
    decision = advance(at({}), RunSeen.model_validate({"twin": "flights v3", "reports": served(5.0)}))
    assert (decision.state.phase, decision.state.version) == (Phase.SUCCEEDED, "flights v3")


def test_what_is_in_production_is_frozen_when_measuring_begins() -> None:
    baseline = Baseline(name="flights v2", model=Digest("blake3:m"), lock=Digest("blake3:l"), format="skops")
    run = at({"served": Phase.QUEUED})
    measuring = advance(run, RunSeen(lookups={"served": miss()}, baseline=baseline, production="flights v2")).state
    assert (measuring.baseline, measuring.production) == (baseline, "flights v2")
    later = advance(measuring, RunSeen(outcomes={"served": outcome()}, baseline=None, production="none")).state
    assert (later.baseline, later.production) == (baseline, "flights v2")


def test_production_is_measured_where_a_gate_of_the_plan_or_a_guard_compares_with_it() -> None:
    compared = GatePlan(metric="startup_ms", against="production", max_ratio=1.2)
    run = at({})
    assert not run.measuring.is_compared
    assert run.model_copy(update={"guards": (compared,)}).measuring.is_compared


def served(latency: float) -> dict[str, object]:
    side = {
        "lives": [{"latency_ms": [latency] * 500, "memory_peak_mb": 100.0, "startup_ms": 900.0}],
        "requests": 500,
        "errors": 0,
        "golden": {"checked": 1, "wrong": []},
    }
    return {"served": {"candidate": side, "baseline": None}}


@pytest.mark.parametrize(
    ("latency", "phase", "verdict"),
    [(5.0, Phase.RUNNING, Verdict.PASS), (50.0, Phase.FAILED, Verdict.FAIL)],
)
def test_a_run_whose_stages_are_done_is_judged(latency: float, phase: Phase, verdict: Verdict) -> None:
    decision = advance(at({}), RunSeen.model_validate({"reports": served(latency)}))
    assert decision.state.phase is phase
    assert decision.state.judgement is not None
    assert decision.state.judgement.verdict is verdict


@pytest.mark.parametrize(("column", "phase"), [("carrier", Phase.RUNNING), ("carier", Phase.FAILED)])
def test_a_run_fails_whose_live_slices_no_request_could_be_in(column: str, phase: Phase) -> None:
    metric = AnalysisMetricPlan(metric="accuracy", slices={column: ("AA",)})
    canary = StrategyPlan(kind="canary", analysis=AnalysisPlan(metrics=(metric,)))
    places = (EnvironmentPlan(name="staging"), EnvironmentPlan(name="production", strategy=canary))
    run = at({})
    run = run.model_copy(update={"plan": run.plan.model_copy(update={"deploy": places})})
    reports = served(5.0)
    reports["served"]["candidate"]["inputs"] = ["carrier", "hour"]  # type: ignore[index]
    decision = advance(run, RunSeen.model_validate({"reports": reports}))
    assert decision.state.phase is phase
    assert ("slices of flights: no golden request has an input carier" in decision.because) is (phase is Phase.FAILED)


def test_a_gate_without_a_measurement_holds_the_run() -> None:
    decision = advance(at({}), RunSeen())
    assert decision.state.phase is Phase.HELD


GOOD = Judgement(results=(GateResult(gate="g", verdict=Verdict.PASS, because="fine"),))


@pytest.mark.parametrize(
    ("needs_seal", "sealed", "phase"),
    [(True, None, Phase.RUNNING), (True, SEALED, Phase.SUCCEEDED), (False, None, Phase.SUCCEEDED)],
)
def test_a_good_run_succeeds_once_it_is_sealed(needs_seal: bool, sealed: Sealed | None, phase: Phase) -> None:
    run = at({}, judgement=GOOD)
    assert advance(run, RunSeen(needs_seal=needs_seal, sealed=sealed)).state.phase is phase


def test_a_run_reads_back_as_it_was_stored() -> None:
    run = at({"served": Phase.QUEUED}, judgement=GOOD)
    assert Run.model_validate(run.model_dump(mode="json")) == run


# --- what people and other runs want ---


def test_a_run_that_needs_an_approval_does_nothing_whatever_is_seen() -> None:
    held = begin(
        7,
        COMMIT,
        Occasion(kind="pull_request"),
        PLAN,
        Digest("d"),
        driver="server",
        is_trusted=False,
        needs_approval=True,
    )
    assert held.phase is Phase.HELD
    assert COMMIT.sha in held.because
    wished = held.model_copy(update={"wish": "cancelled by ada"})
    for run in (held, wished):
        assert advance(run, RunSeen(lookups={"unit": hit("unit")}, superseded_by=9)).state == run


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.RUNNING])
def test_a_wish_cancels_what_runs_and_skips_what_waits(phase: Phase) -> None:
    run = at({"train": Phase.RUNNING, "profile": Phase.QUEUED, "served": Phase.QUEUED})
    wished = run.model_copy(update={"wish": "cancelled by ada: no need", "phase": phase})
    after = advance(wished, RunSeen(outcomes={"train": outcome()})).state
    assert (after.phase, after.because) == (Phase.CANCELLED, "cancelled by ada: no need")
    assert after.stages["train"].phase is Phase.CANCELLED
    assert {after.stages[name].phase for name in ("profile", "served")} == {Phase.SKIPPED}
    assert after.stages["profile"].because == "cancelled by ada: no need"
    assert after.stages["unit"].phase is Phase.SUCCEEDED


GROUP = ConcurrencyPlan(group="nightly", cancel_superseded=True)


def test_a_run_waits_for_the_one_of_its_group_that_goes_first_unless_it_has_begun() -> None:
    run = new_run(PLAN.model_copy(update={"concurrency": GROUP}))
    decision = advance(run, RunSeen(ahead=5, lookups={"unit": miss()}))
    assert (decision.because, decision.state.phase) == ("waits for run 5 of group nightly", Phase.QUEUED)
    assert decision.state.because == decision.because
    assert advance(decision.state, RunSeen(ahead=5)).state == decision.state
    assert advance(decision.state, RunSeen(lookups={"unit": miss()})).state.phase is Phase.RUNNING
    begun = at({"train": Phase.QUEUED, "served": Phase.QUEUED})
    assert advance(begun, RunSeen(ahead=5, lookups={"train": miss()})).state.stages["train"].phase is Phase.RUNNING


def test_a_superseded_run_is_cancelled_and_names_the_run_that_takes_its_place() -> None:
    run = at({"train": Phase.RUNNING, "served": Phase.QUEUED})
    run = run.model_copy(update={"plan": run.plan.model_copy(update={"concurrency": GROUP})})
    after = advance(run, RunSeen(superseded_by=9)).state
    assert (after.phase, after.because) == (Phase.CANCELLED, "superseded by run 9 of group nightly")
    assert after.stages["train"].phase is Phase.CANCELLED


def test_a_stage_that_has_to_wait_stays_queued_with_what_it_waits_for() -> None:
    waits = "waits for 2 cores, 1 free: run 3/train uses 2"
    decision = advance(new_run(), RunSeen(lookups={"unit": miss()}, waits={"unit": waits}))
    run = decision.state
    assert (run.phase, run.stages["unit"].phase, run.stages["unit"].because) == (Phase.QUEUED, Phase.QUEUED, waits)
    assert decision.because == f"unit {waits}"
    assert run.stages["unit"].attempt == 0
    assert advance(run, RunSeen(lookups={"unit": miss()}, waits={"unit": waits})).state == run
    assert advance(run, RunSeen(lookups={"unit": miss()})).state.stages["unit"].because == "never ran before"
    assert not run.has_begun
    assert advance(run, RunSeen(lookups={"unit": hit("unit")}, waits={"unit": waits})).state.stages["unit"].reused


def test_a_stage_waits_while_others_of_its_run_start_and_a_measurement_that_waits_freezes_nothing() -> None:
    run = at({"train": Phase.QUEUED, "profile": Phase.QUEUED, "served": Phase.QUEUED})
    seen = RunSeen(lookups={"train": miss(), "profile": miss()}, waits={"profile": "waits for 1 core"})
    after = advance(run, seen).state
    assert (after.phase, after.stages["train"].phase) == (Phase.RUNNING, Phase.RUNNING)
    assert after.stages["profile"].phase is Phase.QUEUED
    measuring = at({"served": Phase.QUEUED})
    waiting = advance(measuring, RunSeen(lookups={"served": miss()}, waits={"served": "w"}, production="v2")).state
    assert waiting.production is None
    assert advance(waiting, RunSeen(lookups={"served": miss()}, production="v3")).state.production == "v3"


def test_what_is_asked_for_anew_is_executed_although_it_is_remembered() -> None:
    run = at({"train": Phase.QUEUED, "profile": Phase.QUEUED, "served": Phase.QUEUED})
    asked = run.model_copy(update={"fresh": ("train",), "occasion": Occasion(kind="rerun", by="ada")})
    after = advance(asked, RunSeen(lookups={"train": hit("train"), "profile": hit("profile")})).state
    assert after.stages["train"].phase is Phase.RUNNING
    assert after.stages["train"].because == "asked for by ada in a rerun from train"
    assert after.stages["profile"].reused
    assert advance(asked, RunSeen()).state == asked


def test_a_frozen_stage_is_not_executed_anew_whoever_asks() -> None:
    run = at({"train": Phase.QUEUED, "profile": Phase.QUEUED, "served": Phase.QUEUED})
    stages = tuple(stage.model_copy(update={"frozen": stage.name == "train"}) for stage in run.plan.stages)
    plan = run.plan.model_copy(update={"stages": stages})
    asked = run.model_copy(update={"fresh": ("train",), "occasion": Occasion(kind="rerun", by="ada"), "plan": plan})
    after = advance(asked, RunSeen(lookups={"train": hit("train"), "profile": hit("profile")})).state
    assert after.stages["train"].reused


def test_an_outcome_that_contradicts_another_is_told_as_flaky() -> None:
    run = at({"train": Phase.RUNNING, "served": Phase.QUEUED})
    seen = RunSeen(outcomes={"train": outcome()}, flaky={"train": "flaky: the same inputs failed in run 3"})
    train = advance(run, seen).state.stages["train"]
    assert train.because == "it succeeded; flaky: the same inputs failed in run 3"


def test_a_run_is_as_old_as_the_first_run_of_its_commit_and_a_pull_request_never_delivers() -> None:
    run = new_run()
    assert run.age == 7
    assert run.model_copy(update={"reruns": (3, 5)}).age == 3
    pull = run.model_copy(update={"pull_request": PullRequest(number=4, base="main")})
    assert run.may_deliver
    assert not pull.may_deliver
    assert not run.model_copy(update={"is_trusted": False}).may_deliver


PHASES = st.sampled_from([Phase.SUCCEEDED, Phase.FAILED, Phase.ERRORED])


@given(st.data())
def test_whatever_happens_a_run_ends_and_no_stage_starts_before_its_needs(data: st.DataObject) -> None:
    """Random outcomes, hits and losses: the run reaches a final phase, and order holds at every step."""
    run, now = new_run(), NOW
    for _ in range(300):
        if run.phase.is_final:
            break
        now += data.draw(st.sampled_from([0.0, 1.0, 90.0, -3600.0]))
        running = [name for name, stage in run.stages.items() if stage.phase is Phase.RUNNING]
        ended = {name: data.draw(PHASES) for name in running}
        lost = tuple(name for name in running if data.draw(st.integers(0, 9)) == 0)
        ready = {stage.name for stage in ready_stages(run)}
        lookups = {name: hit(name) if data.draw(st.booleans()) else miss() for name in ready}
        waits = {name: "waits for 1 core" for name in ready if data.draw(st.integers(0, 3)) == 0}
        if data.draw(st.integers(0, 40)) == 0:
            run = run.model_copy(update={"wish": "cancelled by ada"})
        after = advance(
            run,
            RunSeen(
                outcomes={name: outcome(phase) for name, phase in ended.items() if name not in lost},
                lost=lost,
                lookups=lookups,
                waits=waits,
                twin=data.draw(st.sampled_from([None, "flights v1"])),
                needs_seal=True,
                sealed=SEALED,
                **served_reports(),
            ),
            now,
        ).state
        for stage in run.plan.stages:
            started = run.stages[stage.name].phase is Phase.QUEUED and after.stages[stage.name].phase in (
                Phase.RUNNING,
                Phase.SUCCEEDED,
            )
            if started:
                assert all(run.stages[need].phase is Phase.SUCCEEDED for need in stage.needs)
                assert stage.name not in waits or lookups[stage.name].hit is not None
            assert after.stages[stage.name].attempt >= run.stages[stage.name].attempt
        run = after
    assert run.phase.is_final
    assert run.because
    assert all(stage.phase.is_final for stage in run.stages.values())


def served_reports() -> dict[str, dict[str, object]]:
    return {"reports": served(5.0)}

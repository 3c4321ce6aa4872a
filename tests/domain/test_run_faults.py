"""Faults are tried again after growing pauses; a limit broken for good ends a run; a run knows what it will cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.pipeline.plan import GatePlan, Plan, StagePlan
from interlock.pipeline.trace import KeyInputs, Lookup, Trace
from interlock.run.advance import advance, is_worth_judging_early
from interlock.run.attempting import FIRST_PAUSE, LOSSES, pause_after
from interlock.run.run import LONGEST_PAUSE, Run, RunSeen, StageRun, begin, executed_stages, ready_stages
from interlock.run.scheduling.estimate import Estimate
from interlock.run.stage import StageOutcome
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Phase, Verdict

COMMIT = Commit(repository="flights", git_directory="/g", ref="refs/heads/main", sha="a" * 40, tree="b" * 40)
NOW = 1_700_000_000.0
FAULT = StageOutcome(phase=Phase.ERRORED, because="the disk is full")
MISS = Lookup(key="k", hit=None, because="never ran before")


def run_of(*stages: StagePlan, gates: tuple[GatePlan, ...] = (), **phases: Phase) -> Run:
    """A run whose stages are in these phases, ``running`` where none is named."""
    begun = begin(
        7,
        COMMIT,
        Occasion(kind="push"),
        Plan(stages=stages, gates=gates),
        Digest("d"),
        driver="server",
        is_trusted=True,
    )
    states = {
        stage.name: StageRun(phase=phase, attempt=int(phase is not Phase.QUEUED))
        for stage in stages
        for phase in [phases.get(stage.name, Phase.RUNNING)]
    }
    return begun.model_copy(update={"stages": states, "phase": Phase.RUNNING})


def stage(name: str, *needs: str, retries: int = 2) -> StagePlan:
    return StagePlan(name=name, kind="stage", command="x", needs=needs, retries=retries)


# --- retries ---


def test_a_fault_is_tried_again_after_a_pause_that_the_reason_tells() -> None:
    run = advance(run_of(stage("train")), RunSeen(outcomes={"train": FAULT}), NOW).state
    train = run.stages["train"]
    assert train.phase is Phase.QUEUED
    assert train.because == "attempt 1 errored and is tried again in 1.19 s: the disk is full"
    assert train.not_before is not None
    assert FIRST_PAUSE <= train.not_before - NOW <= 1.25 * FIRST_PAUSE
    seen = RunSeen(lookups={"train": MISS})
    assert ready_stages(run, NOW + 0.9) == ()
    assert advance(run, seen, NOW + 0.9).state == run
    again = advance(run, seen, NOW + 1.3).state
    assert (again.attempt_key("train"), again.stages["train"].not_before) == ("7/train/2", None)


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
def test_a_stage_is_tried_again_as_often_as_it_says(retries: int) -> None:
    run, now = run_of(stage("train", retries=retries)), NOW
    attempts = 0
    while not run.stages["train"].phase.is_final:
        attempts += 1
        run = advance(run, RunSeen(outcomes={"train": FAULT}), now).state
        now += LONGEST_PAUSE + 1
        run = advance(run, RunSeen(lookups={"train": MISS}), now).state if attempts <= retries else run
    assert attempts == retries + 1
    assert run.stages["train"].phase is Phase.ERRORED
    ended = advance(run, RunSeen(), now).state
    assert (ended.phase, ended.because) == (Phase.ERRORED, "train errored: the disk is full")


def test_a_failure_of_the_users_code_is_never_tried_again() -> None:
    failed = StageOutcome(phase=Phase.FAILED, because="exit code 1")
    run = advance(run_of(stage("train", retries=10)), RunSeen(outcomes={"train": failed}), NOW).state
    assert run.stages["train"].phase is Phase.FAILED


def test_attempts_that_were_lost_use_up_no_retries_and_wait_for_nothing() -> None:
    run = run_of(stage("train", retries=1))
    for attempt in range(2, 6):
        run = advance(run, RunSeen(lost=("train",)), NOW).state
        run = advance(run, RunSeen(lookups={"train": MISS}), NOW).state
        assert run.attempt_key("train") == f"7/train/{attempt}"
    run = advance(run, RunSeen(outcomes={"train": FAULT}), NOW).state
    assert run.stages["train"].phase is Phase.QUEUED
    assert LOSSES > 5


def test_a_clock_that_is_set_back_holds_nothing_up() -> None:
    run = advance(run_of(stage("train")), RunSeen(outcomes={"train": FAULT}), NOW).state
    assert advance(run, RunSeen(lookups={"train": MISS}), NOW - 3600).state.attempt_key("train") == "7/train/2"


def test_others_of_the_run_go_on_while_one_pauses() -> None:
    run = run_of(stage("a"), stage("b"), b=Phase.QUEUED)
    run = advance(run, RunSeen(outcomes={"a": FAULT}, lookups={"b": MISS}), NOW).state
    after = advance(run, RunSeen(lookups={"a": MISS, "b": MISS}), NOW + 0.5).state
    assert {name: one.phase for name, one in after.stages.items()} == {"a": Phase.QUEUED, "b": Phase.RUNNING}


@given(st.integers(1, 40), st.text(max_size=20))
def test_pauses_double_up_to_a_minute_and_differ_by_stage(faults: int, attempt: str) -> None:
    pause = pause_after(faults, attempt)
    assert pause == pause_after(faults, attempt)
    plain = 1.0
    for _ in range(faults - 1):
        plain = min(60.0, plain * 2)
    assert plain <= pause <= min(60.0, plain * 1.25)


def test_stages_that_err_together_are_not_tried_again_together() -> None:
    assert len({pause_after(1, f"7/s{number}/1") for number in range(100)}) == 100


# --- a gate that cannot pass any more ---

EVALUATE = stage("evaluate").model_copy(update={"metrics": ("metrics.json",)})
EXPLAIN = stage("explain", "evaluate")
SERVED = StagePlan(name="served", kind="measure", builtin="served", needs=("evaluate",))
MEASURED = StagePlan(name="measurements", kind="measure", builtin="measurements", needs=("evaluate",))
LIMIT = GatePlan(metric="auc", min=0.7)
OTHERS = (GatePlan(metric="latency_p99_ms", max=20.0), GatePlan(metric="auc", against="production", margin=0.01))


def measured(gates: tuple[GatePlan, ...] = (LIMIT, *OTHERS), **phases: Phase) -> Run:
    """Evaluated and measured, while the explanation still runs."""
    done = {"evaluate": Phase.SUCCEEDED, "measurements": Phase.SUCCEEDED}
    return run_of(EVALUATE, EXPLAIN, SERVED, MEASURED, gates=gates, **(done | phases))


def reported(**metrics: float) -> RunSeen:
    return RunSeen(reports={"measurements": {"metrics": dict(metrics), "invalid": {}}})


@pytest.mark.parametrize("explain", [Phase.RUNNING, Phase.QUEUED])
def test_a_metric_below_its_limit_ends_the_run_before_the_rest_of_it(explain: Phase) -> None:
    run = measured(explain=explain, served=Phase.QUEUED)
    after = advance(
        run, reported(auc=0.64).model_copy(update={"lookups": {"explain": MISS, "served": MISS}}), NOW
    ).state
    assert (after.phase, after.because) == (Phase.FAILED, "gates fail: auc min 0.7: 0.64 is below min 0.7")
    phase = Phase.CANCELLED if explain is Phase.RUNNING else Phase.SKIPPED
    assert after.stages["explain"].phase is phase
    assert after.stages["explain"].because == "a gate cannot pass any more: auc min 0.7: 0.64 is below min 0.7"
    assert after.stages["served"].phase is Phase.SKIPPED
    assert after.judgement is not None
    assert [result.gate for result in after.judgement.results] == ["auc min 0.7"]
    assert after.judgement.verdict is Verdict.FAIL


@pytest.mark.parametrize("metrics", [{"auc": 0.8}, {"accuracy": 0.1}])
def test_limits_that_hold_or_cannot_be_told_are_noted_once_and_end_nothing(metrics: dict[str, float]) -> None:
    run = measured()
    decision = advance(run, reported(**metrics), NOW)
    after = decision.state
    assert decision.because.startswith("so far ")
    assert after.phase is Phase.RUNNING
    assert after.stages == run.stages
    assert after.judgement is None
    assert not is_worth_judging_early(after)
    assert advance(after, reported(auc=0.1), NOW).state == after


@pytest.mark.parametrize(
    ("run", "is_worth"),
    [
        (measured(), True),
        (measured(OTHERS), False),  # served measurements and comparisons are left to the end
        (measured(()), False),
        (measured(measurements=Phase.RUNNING), False),
        (measured(explain=Phase.SUCCEEDED, served=Phase.SUCCEEDED), False),  # then all gates are judged
        (run_of(EVALUATE, EXPLAIN, gates=(LIMIT,), evaluate=Phase.SUCCEEDED), False),
    ],
)
def test_only_limits_on_metrics_that_are_final_are_judged_early(run: Run, is_worth: bool) -> None:
    assert is_worth_judging_early(run) is is_worth
    if not is_worth and not all(one.phase is Phase.SUCCEEDED for one in run.stages.values()):
        assert advance(run, reported(auc=0.1), NOW).state == run


@given(st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_an_early_failure_is_one_that_the_end_would_have_told(auc: float, limit: float, has_served: bool) -> None:
    """Whatever the other stages would still do: where the run ends early, all gates judged at its end fail too."""
    gates = (GatePlan(metric="auc", min=limit), *OTHERS[:1])
    early = advance(measured(gates), reported(auc=auc), NOW).state
    whole = measured(gates, explain=Phase.SUCCEEDED, served=Phase.SUCCEEDED)
    reports = reported(auc=auc).reports | ({"served": {"candidate": None}} if has_served else {})
    late = advance(whole, RunSeen(reports=reports), NOW).state
    assert (early.phase is Phase.FAILED) == (late.phase is Phase.FAILED)


# --- what a run will take ---


def hit(name: str) -> Lookup:
    trace = Trace(
        inputs=KeyInputs(stage=name, command="x"), reads={}, listings={}, products={}, run="3", attempt=f"3/{name}/1",
        seconds=1.0, made=1.0,
    )  # fmt: skip
    return Lookup(key="k", hit=trace, because="reused from run 3")


A, B, C = stage("a"), stage("b", "a"), stage("c")
QUEUED = dict.fromkeys("abc", Phase.QUEUED)


@pytest.mark.parametrize(
    ("phases", "lookups", "fresh", "executed"),
    [
        (QUEUED, {}, (), None),
        (QUEUED, {"a": MISS}, (), None),  # nothing is known of c
        (QUEUED, {"a": MISS, "c": hit("c")}, (), {"a", "b"}),
        (QUEUED, {"a": hit("a"), "c": hit("c")}, (), None),  # b is looked up when a is there
        (QUEUED | {"a": Phase.SUCCEEDED}, {"b": hit("b"), "c": MISS}, (), {"c"}),
        (QUEUED, {"a": hit("a"), "c": hit("c")}, ("a", "b"), {"a", "b"}),
        (QUEUED | {"a": Phase.RUNNING}, {"c": MISS}, (), {"a", "b", "c"}),
    ],
)
def test_what_is_executed_is_known_when_every_stage_was_looked_up_or_needs_one_that_is(
    phases: dict[str, Phase], lookups: dict[str, Lookup], fresh: tuple[str, ...], executed: set[str] | None
) -> None:
    run = run_of(A, B, C, **phases).model_copy(update={"fresh": fresh})
    states = {
        name: one.model_copy(update={"attempt": int(one.phase is Phase.RUNNING)}) for name, one in run.stages.items()
    }
    assert executed_stages(run.model_copy(update={"stages": states}), lookups) == executed


def test_the_first_estimate_is_kept_with_the_decision_that_starts_what_it_speaks_of() -> None:
    first, second = (
        Estimate(seconds=seconds, cpu_seconds=None, stages={"a": seconds}, runs=1) for seconds in (5.0, 9.0)
    )
    run = run_of(A, C, a=Phase.QUEUED, c=Phase.QUEUED)
    started = advance(run, RunSeen(lookups={"a": MISS}, estimate=first), NOW).state
    assert started.estimate == first
    assert advance(started, RunSeen(lookups={"c": MISS}, estimate=second), NOW).state.estimate == first

"""What a forge is told of a run, as tables: statuses of the commit, each with its reason and the way out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.delivery.rollout import RolloutPhase
from interlock.feedback.status import LONGEST_DESCRIPTION, Status
from interlock.feedback.statuses import LONGEST_CONTEXT, Delivery, delivery_statuses, run_statuses, statuses
from interlock.feedback.text import code, fit, one_line
from interlock.gate.judgement import GateResult, Judgement, Override
from interlock.pipeline.plan import GatePlan, Plan, StagePlan
from interlock.run.requests import refuse
from interlock.run.run import Run, StageRun, begin
from interlock.run.scheduling.estimate import Estimate
from interlock.run.stage import Problem
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Json, Phase, Verdict

URL = "https://ci.example/runs/12"
COMMIT = Commit(repository="flights", git_directory="/g", ref="refs/heads/main", sha="a" * 40, tree="b" * 40)
UNIT = StagePlan(name="unit", kind="check", command="pytest")
FEATURES = StagePlan(name="features", kind="stage", command="f", needs=("unit",))
TRAIN = StagePlan(name="train", kind="stage", command="t", needs=("unit", "features"))
EVALUATE = StagePlan(name="evaluate", kind="stage", command="e", needs=("train",))
PROFILE = StagePlan(name="profile", kind="stage", command="p", needs=("unit",))
SERVED = StagePlan(name="served", kind="measure", builtin="served", needs=("train",))
MIN = GatePlan(metric="auc", min=0.7)
MARGIN = GatePlan(metric="auc", against="production", margin=0.005)
RATIO = GatePlan(metric="latency_p99_ms", against="production", max_ratio=1.2)
SPEED = GatePlan(metric="throughput_rps", against="production", min_ratio=0.9)
PLAN = Plan(stages=(UNIT, FEATURES, TRAIN, EVALUATE, PROFILE, SERVED), gates=(MIN, MARGIN, RATIO, SPEED))

RAN = StageRun(phase=Phase.SUCCEEDED, attempt=1, because="exit code 0")
REUSED = StageRun(phase=Phase.SUCCEEDED, reused="3/x/1", because="reused from run 3")


def a_run(
    phase: Phase = Phase.RUNNING, plan: Plan = PLAN, stages: dict[str, StageRun] | None = None, **more: object
) -> Run:
    run = begin(12, COMMIT, Occasion(kind="push"), plan, Digest("blake3:x"), driver="server", is_trusted=True)
    return run.model_copy(update={"phase": phase, "stages": {**run.stages, **(stages or {})}, **more})


def result(gate: GatePlan, verdict: Verdict, because: str = "it is so", **evidence: Json) -> GateResult:
    return GateResult(gate=gate.title, verdict=verdict, because=because, evidence=evidence)


def judged(*results: GateResult) -> Judgement:
    return Judgement(results=results)


def told(run: Run, context: str = "interlock") -> tuple[str, str]:
    found = {status.context: status for status in run_statuses(run, URL)}[context]
    return found.state, found.description


UNDECIDED = judged(result(MIN, Verdict.PASS), result(MARGIN, Verdict.UNDECIDED, more_rows_needed=800))
RUNS: list[tuple[str, Run, str, str]] = [
    ("queued", a_run(Phase.QUEUED), "pending", "waits for its turn"),
    ("running", a_run(), "pending", "runs"),
    ("succeeded", a_run(Phase.SUCCEEDED, because="all 3 gates passed"), "success", "passed: all 3 gates passed"),
    (
        "failed",
        a_run(Phase.FAILED, because="train failed: exit code 1"),
        "failure",
        "failed: train failed: exit code 1; interlock explain run/12",
    ),
    (
        "errored",
        a_run(Phase.ERRORED, because="train errored: the disk is full"),
        "error",
        "not your fault: train errored: the disk is full; interlock rerun 12",
    ),
    (
        "cancelled",
        a_run(Phase.CANCELLED, because="superseded by run 13"),
        "error",
        "cancelled: superseded by run 13; interlock rerun 12",
    ),
    (
        "undecided",
        a_run(Phase.HELD, judgement=UNDECIDED),
        "failure",
        "undecided: needs about 800 more rows; interlock rerun 12 or widen the margin",
    ),
    ("held for another reason", a_run(Phase.HELD, because="odd"), "failure", "held: odd; interlock explain run/12"),
    (
        "held though judged good",
        a_run(Phase.HELD, because="odd", judgement=judged(result(MIN, Verdict.PASS))),
        "failure",
        "held: odd; interlock explain run/12",
    ),
    (
        "from a fork",
        a_run(Phase.HELD, needs_approval=True),
        "pending",
        "waits for a maintainer; interlock approve 12",
    ),
]


@pytest.mark.parametrize(("name", "run", "state", "description"), RUNS, ids=[row[0] for row in RUNS])
def test_a_run_is_told_with_its_reason_and_the_way_out(name: str, run: Run, state: str, description: str) -> None:
    assert told(run) == (state, description)


def test_a_refused_pipeline_file_is_told_with_its_problem_and_no_stage_is_counted() -> None:
    problem = Problem(message="unknown key stagse", path="interlock.yaml", line=3)
    run = refuse(12, COMMIT, Occasion(kind="push"), (problem,), driver="server", is_trusted=True)
    assert told(run) == ("failure", "failed: the pipeline file is refused: unknown key stagse; mend it and push")
    assert told(run, "interlock/plan") == ("failure", "the pipeline file is refused")


CHANGED = RAN.model_copy(update={"phase": Phase.RUNNING, "differences": ("features.py changed", "and more")})
ALL_REUSED = dict.fromkeys(("features", "train", "evaluate", "profile"), REUSED)
PLANS: list[tuple[str, Run, str, str]] = [
    ("before the checks", a_run(Phase.QUEUED), "pending", "known when the checks have passed"),
    ("checks ran", a_run(stages={"unit": RAN}), "pending", "known when the checks have passed"),
    (
        "one side only is known",
        a_run(stages={"unit": RAN, "features": CHANGED}),
        "pending",
        "known when the checks have passed",
    ),
    (
        "the rest follows from the first",
        a_run(stages={"unit": RAN, "features": CHANGED, "profile": REUSED}),
        "success",
        "3 of 4 stages run: features.py changed",
    ),
    (
        "the very first time",
        a_run(stages={"features": RAN, "profile": RAN}),
        "success",
        "4 of 4 stages run: features never ran before",
    ),
    (
        "a later stage",
        a_run(stages={"features": REUSED, "train": REUSED, "evaluate": CHANGED, "profile": REUSED}),
        "success",
        "1 of 4 stages run: features.py changed",
    ),
    (
        "with what it will take",
        a_run(
            stages={"features": CHANGED, "profile": REUSED},
            estimate=Estimate(seconds=240.0, cpu_seconds=None, stages={"features": 240.0, "train": None}, runs=1),
        ),
        "success",
        "3 of 4 stages run, at least 4 min: features.py changed",
    ),
    (
        "with nothing known of what it will take",
        a_run(
            stages={"features": CHANGED, "profile": REUSED},
            estimate=Estimate(seconds=None, cpu_seconds=None, stages={"features": None}),
        ),
        "success",
        "3 of 4 stages run: features.py changed",
    ),
    ("nothing", a_run(stages=ALL_REUSED), "success", "0 of 4 stages run: all are reused"),
    (
        "measured as before",
        a_run(stages={**ALL_REUSED, "served": REUSED}),
        "success",
        "0 of 4 stages run: all are reused",
    ),
    ("serving", a_run(stages={**ALL_REUSED, "served": RAN}), "success", "touches serving only: 0 of 4 stages"),
    ("checks failed", a_run(Phase.FAILED), "failure", "not reached"),
    ("checks errored", a_run(Phase.ERRORED), "error", "not reached"),
    ("waits for a maintainer", a_run(Phase.HELD, needs_approval=True), "pending", "known when the checks have passed"),
    ("only checks", a_run(plan=Plan(stages=(UNIT,))), "success", "no stage is to run, 1 checks only"),
]


@pytest.mark.parametrize(("name", "run", "state", "description"), PLANS, ids=[row[0] for row in PLANS])
def test_the_plan_is_told_as_soon_as_it_follows(name: str, run: Run, state: str, description: str) -> None:
    assert told(run, "interlock/plan") == (state, description)


GATES: list[tuple[GatePlan, GateResult, str, str]] = [
    (MIN, result(MIN, Verdict.PASS, "0.73 >= 0.7"), "success", "passed: 0.73 >= 0.7"),
    (MIN, result(MIN, Verdict.FAIL, "0.6 is below min 0.7"), "failure", "failed: 0.6 is below min 0.7"),
    (
        MIN,
        result(MIN, Verdict.UNDECIDED, "auc was not measured"),
        "failure",
        "undecided: auc was not measured; interlock explain gate run/12",
    ),
    (
        MARGIN,
        result(MARGIN, Verdict.UNDECIDED, more_rows_needed=1),
        "failure",
        "undecided: needs about 1 more row; interlock rerun 12 or widen the margin",
    ),
    (
        RATIO,
        result(RATIO, Verdict.UNDECIDED, "too noisy to tell"),
        "failure",
        "undecided: too noisy to tell; interlock rerun 12 or raise max_ratio",
    ),
    (
        SPEED,
        result(SPEED, Verdict.UNDECIDED, "too noisy to tell"),
        "failure",
        "undecided: too noisy to tell; interlock rerun 12 or lower min_ratio",
    ),
]


@pytest.mark.parametrize(("gate", "answer", "state", "description"), GATES)
def test_each_gate_is_told_with_one_line(gate: GatePlan, answer: GateResult, state: str, description: str) -> None:
    run = a_run(Phase.HELD, judgement=judged(answer))
    assert told(run, f"interlock/gate: {gate.title}") == (state, description)


def test_a_gate_that_was_overridden_stays_red_and_names_who_and_why() -> None:
    answer = result(MIN, Verdict.FAIL, "0.6 < 0.7")
    word = Override(gate=answer.gate, by="ada", reason="old labels")
    run = a_run(Phase.SUCCEEDED, judgement=Judgement(results=(answer,), overrides=(word,)))
    expected = ("failure", "fail, overridden: ada: old labels; 0.6 < 0.7")
    assert told(run, f"interlock/gate: {MIN.title}") == expected


def test_gates_that_were_not_judged_are_not_told() -> None:
    assert [status.context for status in run_statuses(a_run(Phase.FAILED), URL)] == ["interlock", "interlock/plan"]


def test_gates_of_a_model_that_was_gated_before_are_told_as_passed() -> None:
    run = a_run(Phase.SUCCEEDED, version="flights v3")
    expected = ("success", "passed: the model is that of flights v3, already gated")
    assert [told(run, f"interlock/gate: {gate.title}") for gate in PLAN.gates] == [expected] * 4


def test_contexts_are_of_one_project_and_no_two_are_alike() -> None:
    louder = GatePlan(metric="AUC", min=0.7)
    twice = judged(result(MIN, Verdict.PASS), result(louder, Verdict.FAIL))
    run = a_run(Phase.FAILED, plan=PLAN.model_copy(update={"project": "models/churn"}), judgement=twice)
    assert [status.context for status in run_statuses(run, URL)] == [
        "interlock (models/churn)",
        "interlock/plan (models/churn)",
        "interlock/gate: auc min 0.7 (models/churn)",
        "interlock/gate: AUC min 0.7 (models/churn) (2)",
    ]


def test_what_waits_for_people_is_pending() -> None:
    because = "0 of 1 of the approvals it waits for were given"
    waiting = Delivery(environment="production", phase=RolloutPhase.PROGRESSING, because=because, is_waiting=True)
    (status,) = delivery_statuses(a_run(), [waiting], URL)
    assert (status.state, status.description) == ("pending", f"waits: {because}")


def test_deliveries_are_told_once_they_ended_or_are_on_probation_and_the_newest_of_an_environment_counts() -> None:
    deliveries = [
        Delivery(environment="staging", phase=RolloutPhase.PROMOTED, because="flights v3 has all traffic"),
        Delivery(environment="production", phase=RolloutPhase.PROMOTED, because="flights v3 has all traffic"),
        Delivery(environment="production", phase=RolloutPhase.ROLLED_BACK, because="error rate 7 %"),
        Delivery(environment="canada", phase=RolloutPhase.PROGRESSING, because="weight 5 %"),
        Delivery(environment="canada", phase=RolloutPhase.SUPERSEDED, because="superseded by release 9"),
        Delivery(environment="mexico", phase=RolloutPhase.PROGRESSING, because="on probation", is_on_probation=True),
    ]
    assert delivery_statuses(a_run(), deliveries, URL) == (
        Status(
            context="interlock/deploy: staging",
            state="success",
            description="delivered: flights v3 has all traffic",
            url=URL,
        ),
        Status(
            context="interlock/deploy: production", state="failure", description="rolled back: error rate 7 %", url=URL
        ),
        Status(
            context="interlock/deploy: mexico",
            state="pending",
            description="passed all steps: on probation",
            url=URL,
        ),
    )
    run = a_run(Phase.SUCCEEDED)
    assert statuses(run, deliveries, URL) == (*run_statuses(run, URL), *delivery_statuses(run, deliveries, URL))


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("plain", 10, "plain"),
        ("two\nlines\tand  more", 30, "two lines and more"),
        ("  around  ", 10, "around"),
        ("exactly ten", 11, "exactly ten"),
        ("one too long", 11, "one too lo…"),
        ("cut at a space", 5, "cut…"),
        ("\x1b[31mred\x1b[0m \x00\u202eevil\u200b \ud800", 60, "[31mred [0m evil"),
        (" " * 100 + "x", 10, "…"),
        ("", 10, ""),
    ],
)
def test_a_text_is_brought_onto_one_line(text: str, most: int, expected: str) -> None:
    assert one_line(text, most) == expected


def test_the_way_out_is_never_cut() -> None:
    cut = fit("a long reason " * 20, "interlock rerun 12", 60)
    assert cut == "a long reason a long reason a long reas…; interlock rerun 12"
    assert len(cut) == 60
    assert fit("short", "", 60) == "short"


@pytest.mark.parametrize(
    ("text", "expected"), [("a|b`c`", "`a¦b'c'`"), ("\\", "`\\`"), (" ", ""), ("<b>", "`<b>`"), ("@all", "`@all`")]
)
def test_a_text_in_code_can_neither_end_its_span_nor_its_cell(text: str, expected: str) -> None:
    assert code(text) == expected


@given(
    st.sampled_from(list(Phase)),
    st.text(max_size=400),
    st.lists(st.tuples(st.text(min_size=1, max_size=300), st.sampled_from(list(Verdict))), max_size=5),
    st.text(max_size=80),
    st.integers(1, 10**12),
)
def test_whatever_is_named_how_statuses_are_bounded_alike_and_on_one_line(
    phase: Phase, because: str, gates: list[tuple[str, Verdict]], project: str, number: int
) -> None:
    results = tuple(GateResult(gate=name, verdict=verdict, because=because) for name, verdict in gates)
    plan = PLAN.model_copy(update={"project": project})
    run = a_run(phase, plan=plan, because=because, judgement=judged(*results), number=number)
    deliveries = [Delivery(environment=because, phase=RolloutPhase.ROLLED_BACK, because=because)]
    found = statuses(run, deliveries, URL)
    assert found == statuses(run, deliveries, URL)
    assert len({status.context.lower() for status in found}) == len(found) == 3 + len(gates)
    for status in found:
        assert 0 < len(status.context) <= LONGEST_CONTEXT
        assert 0 < len(status.description) <= LONGEST_DESCRIPTION
        assert status.description.isprintable()
        assert status.context.isprintable()
        assert status.url == URL
    is_good = found[0].state == "success"
    assert is_good == (phase is Phase.SUCCEEDED)

"""The shared words: what is written is read back, what is wrong says where."""

import pytest

from interlock.errors import AlreadyExists, Fault, Refused, SeveralRefused, StaleWrite, StoreFault
from interlock.gate.judgement import GateResult, Judgement
from interlock.pipeline.plan import GatePlan, Plan, StagePlan
from interlock.source.commit import branch_of
from interlock.vocabulary import Phase, Verdict, canonical


@pytest.mark.parametrize(
    ("ref", "branch"),
    [("refs/heads/main", "main"), ("refs/heads/feature/x", "feature/x"), ("refs/tags/v1", None), ("HEAD", None)],
)
def test_only_heads_name_branches(ref: str, branch: str | None) -> None:
    assert branch_of(ref) == branch


def test_equal_values_are_written_alike_whatever_their_order() -> None:
    assert (
        canonical({"b": [1, 2.5], "a": "é"}) == canonical({"a": "é", "b": [1, 2.5]}) == '{"a":"é","b":[1,2.5]}'.encode()
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_json_number_cannot_be_hashed(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": number})


@pytest.mark.parametrize(
    ("refused", "text"),
    [
        (Refused("no stage"), "no stage"),
        (Refused("no stage", "interlock.yaml:1:1"), "interlock.yaml:1:1: no stage"),
        (Refused("no stage", "interlock.yaml:1:1", "add one"), "interlock.yaml:1:1: no stage (add one)"),
    ],
)
def test_a_refusal_says_what_where_and_the_remedy(refused: Refused, text: str) -> None:
    assert str(refused) == text


def test_several_refusals_are_told_together() -> None:
    both = SeveralRefused([Refused("one", "a"), Refused("two", "b")])
    assert str(both).splitlines() == ["a: one", "b: two"]
    assert len(both.refusals) == 2


def test_a_lost_swap_is_a_fault_of_the_store_and_no_refusal() -> None:
    for error in (StaleWrite, AlreadyExists):
        assert issubclass(error, StoreFault)
        assert issubclass(error, Fault)
        assert not issubclass(error, Refused)


def test_only_queued_and_running_go_on() -> None:
    assert {phase for phase in Phase if not phase.is_final} == {Phase.QUEUED, Phase.RUNNING}


def result(verdict: Verdict) -> GateResult:
    return GateResult(gate=f"g {verdict}", verdict=verdict, because=f"it {verdict}")


@pytest.mark.parametrize(
    ("verdicts", "expected", "told"),
    [
        ([], Verdict.PASS, "no gate was asked for"),
        ([Verdict.PASS, Verdict.PASS], Verdict.PASS, "all 2 gates passed"),
        ([Verdict.PASS, Verdict.UNDECIDED], Verdict.UNDECIDED, "g undecided: it undecided"),
        ([Verdict.UNDECIDED, Verdict.FAIL, Verdict.PASS], Verdict.FAIL, "g fail: it fail"),
    ],
)
def test_the_worst_gate_decides_a_judgement(verdicts: list[Verdict], expected: Verdict, told: str) -> None:
    judgement = Judgement(results=tuple(result(verdict) for verdict in verdicts))
    assert (judgement.verdict, judgement.because) == (expected, told)


@pytest.mark.parametrize(
    ("gate", "title"),
    [
        (GatePlan(metric="auc", min=0.7), "auc min 0.7"),
        (GatePlan(metric="auc", min=0.7, max=0.99), "auc min 0.7 max 0.99"),
        (GatePlan(metric="auc", against="production", margin=0.005), "auc against production, margin 0.005"),
        (
            GatePlan(metric="latency_p99_ms", against="production", max_ratio=1.2),
            "latency_p99_ms against production, max_ratio 1.2",
        ),
        (
            GatePlan(metric="throughput_rps", against="production", min_ratio=0.9),
            "throughput_rps against production, min_ratio 0.9",
        ),
    ],
)
def test_a_gate_is_titled_by_its_rule(gate: GatePlan, title: str) -> None:
    assert gate.title == title


def test_a_plan_finds_its_stages_and_a_stage_knows_its_products() -> None:
    stage = StagePlan(name="evaluate", kind="stage", command="c", outs=("a", "b"), metrics=("b",), predictions="p.csv")
    assert Plan(stages=(stage,)).stage("evaluate").products == ("a", "b", "p.csv")
    measured = StagePlan(name="measurements", kind="measure", builtin="measurements", metrics=("b",))
    assert measured.products == ()
    with pytest.raises(KeyError):
        Plan().stage("evaluate")

"""Conditions as gates, and what is shown of a metric whose test set is counted."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.measured import report_of

from interlock.errors import SeveralRefused
from interlock.gate.judge import NO_PRODUCTION, UNKNOWN_PRODUCTION, judge, judge_limits
from interlock.gate.judgement import GateResult, Judgement
from interlock.gate.reuse.counting import Asked, new_uses, with_uses
from interlock.gate.reuse.ledger import Use
from interlock.gate.reuse.showing import ladder_step, score_to_show
from interlock.gate.reuse.sizes import sizes_needed, steps_borne
from interlock.gate.row_metrics import ROW_METRICS, row_metric
from interlock.gate.rows.alone import judge_predictions
from interlock.pipeline.gates.conditions import read_condition
from interlock.pipeline.plan import ConditionPlan, GatePlan, ReusePlan, SlicePlan
from interlock.pipeline.resolve import read_pipeline
from interlock.pipeline.rules.work import gate_of
from interlock.vocabulary import Verdict

PASS, FAIL, UNDECIDED = Verdict.PASS, Verdict.FAIL, Verdict.UNDECIDED
BETTER = "n - o > 0.02 +/- 0.1"
FILE = """\
version: 1
data: {holdout: {path: h.csv, id: id, label: late}}
stages: {evaluate: {cmd: python e.py, metrics: [m.json], predictions: p.csv}}
gates: [%s]
"""


def gates(text: str) -> list[GatePlan]:
    return [gate_of(gate) for gate in read_pipeline((FILE % text).encode()).spec.gates]


def report(count: int, new: float, old: float | None = None, *, seed: int = 1, missing: int = 0) -> dict:
    """So many rows, of which each side has this share right."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count).astype(float)

    def side(share: float) -> dict:
        right = np.arange(count) < round(share * count)
        return {"prediction": np.where(right, labels, 1 - labels).tolist(), "probability": None}

    baseline = None if old is None else {**side(old), "name": "flights v3", "missing": missing, "columns": {}}
    columns = {"carrier": ["AA" if row % 2 else "BB" for row in range(count)]}
    return {"measurements": report_of(labels.tolist(), side(new), columns, baseline)}


# ---- conditions


def test_a_condition_is_written_short_or_with_its_keys():
    short, long = gates(
        "{condition: n  > 0.8 +/- 0.05}, "
        "{condition: {holds: 'n - o > 0.02 +/- 0.01 /\\ d < 0.1 +/- 0.01', reliability: 0.9999, mode: fn-free, "
        "adaptivity: first_change, steps: 32}}"
    )
    assert short == GatePlan(metric="accuracy", condition=ConditionPlan(holds="n > 0.8 +/- 0.05"))
    assert short.title == "n > 0.8 +/- 0.05, fp-free, reliability 0.99"
    assert long.against == "production"
    assert long.condition == ConditionPlan(
        holds="n - o > 0.02 +/- 0.01 /\\ d < 0.1 +/- 0.01",
        reliability=0.9999,
        mode="fn-free",
        adaptivity="first_change",
        steps=32,
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{condition: n > 0.8}", "`n > 0.8` is no clause"),
        ("{condition: {holds: x > 0.8 +/- 0.1}}", "is no sum of n, o and d"),
        ("{condition: {reliability: 0.9}}", "the key holds is missing"),
        ("{condition: {holds: n > 0.8 +/- 0.1, reliability: 1}}", "reliability must be less than 1"),
        ("{condition: {holds: n > 0.8 +/- 0.1, adaptivity: none}}", "none is not known here"),
        ("{condition: {holds: n > 0.8 +/- 0.1, mode: fp}}", "fp is not known here"),
        ("{condition: n > 0.8 +/- 0.1, metric: auc}", "a gate with a condition has no metric"),
        ("{condition: n > 0.8 +/- 0.1, reuse: {commits: 3}}", "a gate with a condition has no reuse"),
        ("{min: 0.8}", "the gate names no metric"),
        ("{condition: n > 0.8 +/- 0.1}, {condition: n > 0.8 +/- 0.1}", "is given twice"),
    ],
)
def test_what_makes_no_sense_is_refused(text, problem):
    with pytest.raises(SeveralRefused) as refused:
        gates(text)
    assert problem in str(refused.value)


def test_a_condition_needs_predictions_and_a_holdout():
    with pytest.raises(SeveralRefused) as refused:
        read_pipeline(b"version: 1\nstages: {a: {cmd: a, outs: [b]}}\ngates: [{condition: n > 0.8 +/- 0.1}]\n")
    assert "the condition is judged row by row, but no stage makes predictions" in str(refused.value)
    assert "the condition is judged row by row, but no dataset has id and label" in str(refused.value)


def conditional(holds: str = BETTER, **more: object) -> GatePlan:
    asked = ConditionPlan.model_validate({"holds": holds, **more})
    return GatePlan(metric="accuracy", against="production" if "o" in holds else None, condition=asked)


@pytest.mark.parametrize(
    ("new", "mode", "verdict"),
    [
        (0.95, "fp-free", PASS),
        (0.8, "fp-free", FAIL),
        (0.8, "fn-free", PASS),
        (0.5, "fn-free", FAIL),
    ],
)
def test_a_condition_is_accepted_or_not_and_no_number_tells_how_nearly(new, mode, verdict):
    gate = conditional(mode=mode)
    (result,) = judge([gate], report(6000, new, 0.75), "flights v3").results
    assert result.verdict is verdict
    assert result.because == f"{'' if verdict is PASS else 'not '}shown on 6000 rows at reliability 0.99"
    borne = steps_borne(read_condition(BETTER), 6000, 0.99, "full")
    assert result.evidence == {
        "method": "ease.ml/ci, Hoeffding",
        "rows": 6000,
        "rows_needed": sizes_needed(read_condition(BETTER), 0.99, 1, "full").rows,
        "reliability": 0.99,
        "mode": mode,
        "budget": borne,
        "is_accepted": verdict is PASS,
    }


def test_a_close_miss_and_a_far_one_are_told_alike():
    near, far = (judge([conditional()], report(6000, new, 0.75), "flights v3").results[0] for new in (0.86, 0.2))
    assert near == far


@pytest.mark.parametrize(
    ("gate", "steps"), [(conditional(steps=32), "32 commits"), (conditional("n > 0.8 +/- 0.01"), "one commit")]
)
def test_too_few_rows_for_the_reliability_decide_nothing_and_cost_no_use(gate, steps):
    (result,) = judge([gate], report(5000, 0.95, 0.75), "flights v3").results
    needed = result.evidence["rows_needed"] - result.evidence["rows"]
    assert result.verdict is UNDECIDED
    assert result.because == f"5000 rows are too few for {steps} at reliability 0.99: needs {needed} more"
    assert result.evidence["more_rows_needed"] == needed > 0
    assert new_uses([gate], Judgement(results=(result,)), Asked(holdout="h", commit="a")) == {}


def test_where_models_differ_little_the_rows_bear_more():
    plain, little = BETTER.replace("0.1", "0.01"), "n - o > 0.02 +/- 0.01 /\\ d < 0.08 +/- 0.01"
    assert steps_borne(read_condition(plain), 67_705, 0.9999, "full") == 0
    borne = steps_borne(read_condition(little), 67_705, 0.9999, "full")
    # how far the two differ has to be known first, to its own tolerance, for as many commits
    first = [(steps * math.log(2) - math.log(0.0001 / 2)) / (2 * 0.01**2) for steps in (borne, borne + 1)]
    assert first[0] <= 67_705 < first[1]


def test_a_condition_on_the_new_model_alone_needs_no_other():
    gate = conditional("n > 0.7 +/- 0.1")
    assert not judge_limits([gate], report(3000, 0.9)["measurements"]).results
    assert judge([gate], report(3000, 0.9), NO_PRODUCTION).verdict is PASS
    assert judge([gate], report(3000, 0.9), UNKNOWN_PRODUCTION).verdict is PASS
    assert judge([conditional()], report(3000, 0.9), NO_PRODUCTION).verdict is PASS  # only absolute gates apply
    assert judge([conditional()], report(3000, 0.9), UNKNOWN_PRODUCTION).verdict is UNDECIDED
    assert judge([gate], {}, NO_PRODUCTION).verdict is UNDECIDED


@pytest.mark.parametrize(("production", "missing"), [("flights v4", 0), ("flights v3", 3)])
def test_a_condition_against_another_model_or_with_gaps_is_undecided(production, missing):
    found = judge([conditional()], report(6000, 0.9, 0.7, missing=missing), production)
    assert found.verdict is UNDECIDED
    assert "is_accepted" not in found.results[0].evidence


def test_conditions_are_judged_without_a_run_too():
    labels = np.tile([0.0, 1.0], 3000)
    wrong = np.where(np.arange(6000) < 1500, 1 - labels, labels)
    both = [conditional(), conditional("n > 0.7 +/- 0.1")]
    assert judge_predictions(both, labels, {"prediction": labels}, {"prediction": wrong}).verdict is PASS
    assert judge_predictions(both[1:], labels, {"prediction": labels}).verdict is PASS
    gappy = np.where(np.arange(6000) < 3, np.nan, labels)
    ours = judge_predictions(both[:1], labels, {"prediction": gappy}, {"prediction": wrong})
    theirs = judge_predictions(both[:1], labels, {"prediction": wrong}, {"prediction": gappy})
    assert (ours.verdict, theirs.verdict) == (FAIL, UNDECIDED)
    assert "the predictions miss 3 of 6000 rows" in ours.because


def test_a_condition_spends_the_budget_that_its_rows_bear():
    gate = conditional(steps=2)
    judgement = judge([gate], report(6000, 0.95, 0.75), "flights v3")
    uses: tuple[Use, ...] = ()
    verdicts = []
    for commit in "abc":
        asked = Asked(holdout="h", commit=commit, uses={"accuracy": uses})
        told = with_uses([gate], judgement, asked)
        verdicts.append(told.verdict)
        uses = (*uses, *new_uses([gate], told, asked).values())
    assert verdicts == [PASS, PASS, UNDECIDED]
    assert "this test set is spent: 2 commits were judged with it" in told.because
    retiring = conditional(adaptivity="first_change", steps=2)
    asked = Asked(holdout="h", commit="b", uses={"accuracy": uses[:1]})
    assert "passed accuracy, and that is news" in with_uses([retiring], judgement_of(retiring), asked).because


def judgement_of(gate: GatePlan) -> Judgement:
    return judge([gate], report(6000, 0.95, 0.75), "flights v3")


# ---- the ladder

LADDER = ReusePlan(commits=9, scores="ladder")
BOUND = GatePlan(metric="accuracy", min=0.7, reuse=LADDER)


def shown(new: float, *before: float | None, gate: GatePlan = BOUND, others: tuple[GatePlan, ...] = ()) -> GateResult:
    """What a gate tells of 2,000 rows with this accuracy, after these scores were shown."""
    uses = tuple(Use(commit=str(place), verdict=PASS, shown=one) for place, one in enumerate(before))
    judgement = judge([gate, *others], report(2000, new, 0.75), "flights v3")
    return with_uses([gate, *others], judgement, Asked(holdout="h", commit="new", uses={"accuracy": uses})).results[0]


def test_the_plan_of_a_budget_puts_scores_on_a_ladder_unless_it_says_exact():
    ladder, exact = gates(
        "{metric: auc, min: 0, reuse: {commits: 3}}, {metric: f1, min: 0, reuse: {commits: 3, scores: exact}}"
    )
    assert (ladder.reuse.scores, exact.reuse.scores) == ("ladder", "exact")


@pytest.mark.parametrize(("error", "step"), [(0.5 / 2000**0.5, 0.03), (0.5 / 500**0.5, 0.06), (12.34, 33.0)])
def test_a_step_is_2_7_standard_errors_in_two_digits(error, step):
    assert ladder_step(error) == step


@pytest.mark.parametrize(
    ("new", "before", "score"),
    [
        (0.8123, (), 0.792),  # a step is 0.024 there, the caution 0.0178
        (0.809, (), 0.768),  # 0.7912 is careful
        (0.8123, (0.775,), 0.775),  # 0.7945 is better, by more than a step only without the caution
        (0.8123, (0.792,), 0.792),
        (0.8123, (None, 0.72, 0.768), 0.792),
        (0.8123, (0.84, 0.792), 0.84),
        (0.5, (0.792,), 0.792),
    ],
)
def test_a_score_is_shown_only_where_it_beats_the_best(new, before, score):
    result = shown(new, *before)
    assert result.verdict is (PASS if new >= 0.7 else FAIL)
    assert result.evidence["candidate"] == pytest.approx(score)
    assert f"the best score shown is {score:g} (2 standard errors worse than measured" in result.because
    assert str(round(new * 2000) / 2000) not in json.dumps(result.model_dump(mode="json"))


@given(new=st.floats(0.76, 0.99), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_no_number_of_the_evidence_tells_more_than_the_ladder(new, seed):
    gate = GatePlan(metric="accuracy", against="production", margin=0.3, slices="found", reuse=LADDER)
    judgement = judge([gate], report(2000, new, 0.75, seed=seed), "flights v3")
    (result,) = with_uses([gate], judgement, Asked(holdout="h", commit="new", uses={})).results
    assert set(result.evidence) == {
        *("method", "production_name", "rows", "margin", "alpha", "candidate", "ladder_step", "slices", "test_set"),
    }
    assert set(result.evidence["slices"]) == {"tested", "skipped", "family", "look_at", "proven_worse"}
    steps = result.evidence["candidate"] / result.evidence["ladder_step"]
    assert steps == pytest.approx(round(steps))
    # two of its standard errors below, and less than a step below that
    careful = new - result.evidence["ladder_step"] * 2 / 2.7
    assert careful - result.evidence["ladder_step"] - 1e-3 <= result.evidence["candidate"] <= careful + 1e-3


def test_a_share_of_rows_is_never_shown_below_none_and_a_loss_is_shown_higher():
    assert score_to_show(None, 0.01, 0.02, is_higher_better=True) == 0.0
    assert score_to_show(None, 0.01, 0.02, is_higher_better=False) == pytest.approx(0.04)  # 0.0248, rounded up
    assert score_to_show(0.5, math.nan, 0.02, is_higher_better=True) == 0.5


def test_somebody_who_knows_nothing_is_shown_about_the_truth_after_a_thousand_commits():
    rows, shown_at_last = 500, []
    for seed, truth in enumerate(np.linspace(0.5, 0.56, 4)):  # a step is 0.06
        generator = np.random.default_rng(seed)
        right = generator.random((1000, rows)) < truth
        step, best, kept = ladder_step(math.sqrt(truth * (1 - truth) / rows)), None, right[0]
        for commit, guess in enumerate(right):  # all, half or a tenth of what was rewarded last is guessed anew
            attempt = np.where(generator.random(rows) < (1.0, 0.5, 0.1)[commit % 3], guess, kept)
            found = score_to_show(best, float(attempt.mean()), step, is_higher_better=True)
            best, kept = (found, attempt) if found != best else (best, kept)
        shown_at_last.append(best - truth)
    assert max(shown_at_last) < 0.06  # one step; without the caution it is up to two
    assert np.mean(shown_at_last) < 0.03


def test_a_model_without_a_fault_is_on_the_ladder_too():
    result = shown(1.0)
    assert result.evidence["ladder_step"] == ladder_step(1 / 2000)
    assert 1.0 - 2 * ladder_step(1 / 2000) < result.evidence["candidate"] < 1.0


def test_a_slice_that_blocks_is_named_without_its_numbers():
    gate = GatePlan(
        metric="accuracy", against="production", margin=0.0, slices=(SlicePlan(column="carrier"),), reuse=LADDER
    )
    raw = report(2000, 0.9, 0.9)
    rows = raw["measurements"]["rows"]
    for row in range(1, 2000, 2):  # the candidate is wrong on every fourth row of one carrier
        rows["candidate"]["prediction"][row] = 1.0 - rows["labels"][row] if row % 4 == 1 else rows["labels"][row]
    judgement = judge([gate], raw, "flights v3")
    (result,) = with_uses([gate], judgement, Asked(holdout="h", commit="new", uses={})).results
    assert result.evidence["slices"]["proven_worse"] == ["carrier=AA"]
    assert result.because.startswith("carrier=AA proven worse; failed on 2000 rows; the best score shown is")


def test_what_was_shown_is_remembered_and_told_again():
    asked = Asked(holdout="h", commit="new", uses={"accuracy": (Use(commit="old", verdict=PASS, shown=0.72),)})
    judgement = judge([BOUND], report(2000, 0.8123), NO_PRODUCTION)
    told = with_uses([BOUND], judgement, asked)
    (use,) = new_uses([BOUND], told, asked).values()
    assert (use.commit, use.verdict, use.shown) == ("new", PASS, pytest.approx(0.792))
    later = Use(commit="later", verdict=PASS, shown=0.9)
    again = asked.model_copy(update={"uses": {"accuracy": (*asked.uses["accuracy"], use, later)}})
    assert with_uses([BOUND], judgement, again).results[0].evidence["candidate"] == pytest.approx(0.792)
    assert (
        "the best score shown is 0.9"
        in with_uses([BOUND], judgement, again.model_copy(update={"commit": "one more"})).results[0].because
    )


def test_no_gate_of_the_metric_shows_more():
    free = GatePlan(metric="accuracy", max=0.99)
    judgement = judge([BOUND, free], report(2000, 0.8123), NO_PRODUCTION)
    asked = Asked(holdout="h", commit="new", uses={})
    assert [one.evidence["candidate"] for one in with_uses([BOUND, free], judgement, asked).results] == [
        pytest.approx(0.792)
    ] * 2
    (alone,) = with_uses([free], Judgement(results=judgement.results[1:]), asked, [BOUND]).results
    assert (alone.evidence["candidate"], alone.because) == (
        None,
        "passed on 2000 rows; no score is shown, and a better one from a step on",
    )
    assert new_uses([free], Judgement(results=(alone,)), asked)["accuracy"].shown is None


def test_a_gap_has_no_score_and_a_metrics_file_that_says_something_else_is_no_way_around():
    gap = GatePlan(metric="accuracy", gap_between="carrier", max=0.5, reuse=LADDER)
    judgement = judge([gap], report(2000, 0.8123), NO_PRODUCTION)
    (result,) = with_uses([gap], judgement, Asked(holdout="h", commit="new", uses={})).results
    assert (result.verdict, result.evidence["candidate"]) == (PASS, None)
    assert "groups" not in result.evidence
    raw = report(2000, 0.8123)
    raw["measurements"]["metrics"] = {"accuracy": 0.1}
    judgement = judge([BOUND], raw, NO_PRODUCTION)
    assert "the predictions say 0.8125" in judgement.because
    (result,) = with_uses([BOUND], judgement, Asked(holdout="h", commit="new", uses={})).results
    assert (result.verdict, result.evidence["written"]) == (FAIL, 0.1)
    assert "0.81" not in result.because


@pytest.mark.parametrize("metric", [metric.name for metric in ROW_METRICS] + ["row_loss_cost"])
def test_the_ladder_goes_where_the_metric_is_better(metric):
    known = row_metric(metric)
    assert known is not None
    gate = GatePlan(metric=metric, min=0.0, reuse=LADDER)
    result = GateResult(
        gate=gate.title,
        verdict=PASS,
        because="",
        evidence={"candidate": 0.5, "rows": 400, "standard_error": 0.1 / 2.7},
    )
    found = {}
    for best in (0.3, 0.7):
        uses = {metric: (Use(commit="a", verdict=PASS, shown=best),)}
        told = with_uses([gate], Judgement(results=(result,)), Asked(holdout="h", commit="new", uses=uses))
        found[best] = told.results[0].evidence["candidate"]
    assert found == pytest.approx({0.3: 0.4, 0.7: 0.7} if known.is_higher_better else {0.3: 0.3, 0.7: 0.6})


def test_the_standard_error_is_measured_where_a_step_needs_it():
    for metric in ("accuracy", "f1", "auc"):
        gate = GatePlan(metric=metric, min=0.0, reuse=LADDER)
        (result,) = judge([gate], report(2000, 0.8), NO_PRODUCTION).results
        assert ("standard_error" in result.evidence) == (metric != "auc")  # there are no probabilities
    assert (
        "standard_error" not in judge([GatePlan(metric="f1", min=0.0)], report(2000, 0.8), "none").results[0].evidence
    )
    raw = report(2000, 0.8)
    raw["measurements"]["rows"]["candidate"]["probability"] = [
        0.1 + 0.8 * value for value in raw["measurements"]["rows"]["candidate"]["prediction"]
    ]
    (result,) = judge([GatePlan(metric="auc", min=0.0, reuse=LADDER)], raw, NO_PRODUCTION).results
    assert result.evidence["standard_error"] == pytest.approx((0.8 * 0.2 / 2000) ** 0.5, rel=0.05)


def test_a_loss_has_a_step_of_its_own_and_a_number_of_a_metrics_file_none():
    raw = report(2000, 0.8)
    gate = GatePlan(metric="rmse", max=1.0, reuse=LADDER)
    (result,) = judge([gate], raw, NO_PRODUCTION).results
    # the root of a mean of 0 and 1: its error is that of the mean, by the derivative of the root
    assert result.evidence["standard_error"] == pytest.approx((0.2 * 0.8 / 2000) ** 0.5 / (2 * 0.2**0.5), rel=0.01)
    raw["measurements"]["metrics"] = {"auc": 0.8}
    (written,) = judge([GatePlan(metric="auc", min=0.7, reuse=LADDER)], raw, NO_PRODUCTION).results
    assert (written.verdict, "standard_error" in written.evidence) == (PASS, False)


def test_labels_of_more_than_two_classes_are_told():
    raw = report(900, 0.8)
    raw["measurements"]["rows"]["labels"] = [float(row % 3) for row in range(900)]
    (result,) = judge([GatePlan(metric="f1", min=0.7)], raw, NO_PRODUCTION).results
    told = "f1 needs labels of two classes, and these have 3 values; judge by f1_macro"
    assert (result.verdict, result.because) == (UNDECIDED, told)


@pytest.mark.parametrize("metric", ["f1", "accuracy"])
def test_slices_that_are_too_small_are_skipped(metric):
    raw = report(2000, 0.9, 0.9)
    raw["measurements"]["rows"]["columns"]["carrier"] = ["AA" if row < 1970 else "BB" for row in range(2000)]
    gate = GatePlan(metric=metric, against="production", margin=0.3, slices=(SlicePlan(column="carrier"),))
    (result,) = judge([gate], raw, "flights v3").results
    assert (result.evidence["slices"]["tested"], result.evidence["slices"]["skipped"]) == (1, 1)

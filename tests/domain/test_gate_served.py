"""Gates on the model as it is served: limits, and ratios to production over lives of both servers."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from interlock.gate.judge import NO_PRODUCTION, UNKNOWN_PRODUCTION, judge
from interlock.gate.serving.ratios import bound_place, ratio_of_lives, smallest_lives
from interlock.pipeline.gates.served import SERVED_METRICS, Measuring, compares_rows, measuring_for
from interlock.pipeline.plan import GatePlan
from interlock.vocabulary import Verdict

PASS, FAIL, UNDECIDED = Verdict.PASS, Verdict.FAIL, Verdict.UNDECIDED
PRODUCTION = "flights v3"
LIVES = 8


def one(gate, reports=None, production=PRODUCTION):
    (result,) = judge([gate], reports or {}, production).results
    assert result.gate == gate.title
    assert result.because
    return result


def ratio(metric, limit=1.2, **more):
    key = "min_ratio" if metric == "throughput_rps" else "max_ratio"
    return GatePlan(metric=metric, against="production", **{key: limit}, **more)


def life(generator, scale, count, wander=0.0):
    """One life of a server whose numbers all grow with ``scale``; no two lives are quite alike."""
    fate = scale * math.exp(generator.normal(0, wander))
    return {
        "latency_ms": (fate * 5 * np.exp(generator.normal(0, 0.2, count))).tolist(),
        "memory_peak_mb": 100.0 * fate,
        "startup_ms": 1000.0 * fate,
        "cpu_s_per_1000": 4.0 * fate,
        "throughput_rps": 200.0 * fate,
    }


def served(scale=1.0, lives=LIVES, count=400, seed=1, wander=0.0, **changed):
    """A report of two models, the candidate ``scale`` times the other; ``candidate`` and ``baseline`` change theirs."""
    generator = np.random.default_rng(seed)
    sides = {}
    for name, factor in (("candidate", scale), ("baseline", 1.0)):
        sides[name] = {
            "name": PRODUCTION,
            "lives": [life(generator, factor, count, wander) for _ in range(lives)],
            "model_size_mb": 10.0 * factor,
            "requests": lives * count,
            "errors": 0,
            "golden": {"checked": 1, "wrong": []},
            **changed.get(name, {}),
        }
    return {"served": sides}


# ---- what is measured


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ([], Measuring()),
        ([GatePlan(metric="auc", against="production", margin=0.1)], Measuring()),
        ([GatePlan(metric="latency_p99_ms", max=20)], Measuring(is_loaded=True)),
        ([GatePlan(metric="throughput_rps", min=20)], Measuring(is_pressed=True)),
        ([ratio("model_size_mb")], Measuring(is_compared=True)),
        ([ratio("startup_ms")], Measuring(lives=8, pairs=400, is_compared=True)),
        ([ratio("throughput_rps")], Measuring(lives=8, pairs=400, is_compared=True, is_pressed=True)),
        (
            [ratio("latency_p50_ms"), GatePlan(metric="latency_p50_ms", max=20)],
            Measuring(lives=8, pairs=400, is_compared=True, is_loaded=True),
        ),
    ],
)
def test_no_more_is_measured_than_gates_ask(gates, expected):
    assert compares_rows(gates) is (gates != [] and gates[0].metric == "auc")
    assert measuring_for(gates) == expected
    assert expected.alone() == Measuring(is_pressed=expected.is_pressed, is_loaded=expected.is_loaded)


# ---- limits


@pytest.mark.parametrize(
    ("metric", "limits", "verdict"),
    [
        ("latency_p50_ms", {"max": 6}, PASS),
        ("latency_p50_ms", {"max": 4}, FAIL),
        ("latency_p99_ms", {"max": 20}, PASS),
        ("memory_peak_mb", {"max": 100}, PASS),
        ("memory_peak_mb", {"max": 99}, FAIL),
        ("model_size_mb", {"max": 10}, PASS),
        ("model_size_mb", {"max": 9}, FAIL),
        ("startup_ms", {"max": 999}, FAIL),
        ("cpu_s_per_1000", {"max": 4}, PASS),
        ("cpu_s_per_1000", {"max": 3}, FAIL),
        ("throughput_rps", {"min": 200}, PASS),
        ("throughput_rps", {"min": 201}, FAIL),
    ],
)
@pytest.mark.parametrize("production", [PRODUCTION, NO_PRODUCTION, UNKNOWN_PRODUCTION])
def test_limits_need_no_production(metric, limits, verdict, production):
    result = one(GatePlan(metric=metric, **limits), served(lives=1), production)
    assert result.verdict is verdict, result.because
    assert result.evidence["source"] == "the model as served"


def test_of_several_lives_the_most_memory_counts_and_of_others_the_median():
    reports = served(lives=5)
    for number, one_life in enumerate(reports["served"]["candidate"]["lives"]):
        one_life |= {"memory_peak_mb": 100.0 + number, "startup_ms": [1.0, 9.0, 3.0, 8.0, 2.0][number]}
    assert one(GatePlan(metric="memory_peak_mb", max=103.9), reports).verdict is FAIL
    assert one(GatePlan(metric="startup_ms", max=3), reports).evidence["candidate"] == 3.0


def test_latency_is_that_at_the_declared_rate_where_there_is_one():
    calm = one(GatePlan(metric="latency_p50_ms", max=20), served(lives=1))
    assert (calm.verdict, calm.evidence["asked"], calm.evidence["n"]) == (PASS, "one after the other", 400)
    loaded = {"rate": 70.0, "latency_ms": [50.0] * 300}
    result = one(GatePlan(metric="latency_p50_ms", max=20), served(lives=1, candidate={"loaded": loaded}))
    assert (result.verdict, result.evidence["asked"], result.evidence["n"]) == (FAIL, "70 a second, open loop", 300)
    few = {"rate": 70.0, "latency_ms": [1.0] * 199}
    result = one(GatePlan(metric="latency_p99_ms", max=20), served(lives=1, candidate={"loaded": few}))
    assert (result.verdict, result.because) == (UNDECIDED, "latency_p99_ms needs 200 requests, and 199 were measured")


def test_metrics_files_cannot_set_what_is_measured_as_served():
    for metric in SERVED_METRICS:
        written = {"measurements": {"metrics": {metric: 1.0}, "invalid": {}, "rows": None}}
        assert one(GatePlan(metric=metric, max=1e9), written).verdict is UNDECIDED


# ---- ratios


@pytest.mark.parametrize(
    ("metric", "scale", "limit", "verdict"),
    [
        ("latency_p99_ms", 1.0, 1.2, PASS),
        ("latency_p95_ms", 1.0, 1.2, PASS),
        ("latency_p50_ms", 1.6, 1.2, FAIL),
        ("latency_p99_ms", 1.6, 1.2, FAIL),
        ("latency_p99_ms", 1.2, 1.2, UNDECIDED),
        ("memory_peak_mb", 1.19, 1.2, PASS),
        ("memory_peak_mb", 1.21, 1.2, FAIL),
        ("model_size_mb", 1.19, 1.2, PASS),
        ("model_size_mb", 1.21, 1.2, FAIL),
        ("startup_ms", 2.0, 1.2, FAIL),
        ("cpu_s_per_1000", 1.0, 1.2, PASS),
        ("cpu_s_per_1000", 1.3, 1.2, FAIL),
        ("throughput_rps", 1.0, 0.9, PASS),
        ("throughput_rps", 0.85, 0.9, FAIL),
        ("throughput_rps", 2.0, 0.9, PASS),
    ],
)
def test_ratios(metric, scale, limit, verdict):
    result = one(ratio(metric, limit), served(scale))
    assert result.verdict is verdict, result.because
    assert {"candidate", "production", "estimate", "production_name", "method"} <= set(result.evidence)


@pytest.mark.parametrize(("metric", "limit"), [("startup_ms", 1.2), ("throughput_rps", 0.9)])
def test_lives_that_differ_too_much_are_undecided_and_say_so(metric, limit):
    result = one(ratio(metric, limit), served(scale=limit, wander=0.3, seed=2))
    assert result.verdict is UNDECIDED
    assert "too noisy to tell" in result.because
    assert result.evidence["smallest_detectable_ratio"] > 1.2


@given(st.lists(st.tuples(st.floats(0.1, 1e4), st.floats(0.1, 1e4)), min_size=8, max_size=12), st.floats(0.005, 0.3))
@settings(max_examples=100)
def test_the_bounds_can_be_computed_again_from_the_evidence(pairs, alpha):
    ours, theirs = zip(*pairs, strict=True)
    lives = [[{"latency_ms": [], "startup_ms": value} for value in values] for values in (ours, theirs)]
    reports = served(candidate={"lives": lives[0]}, baseline={"lives": lives[1]})
    found = one(ratio("startup_ms", alpha=alpha), reports).evidence
    ratios = np.sort(np.array(found["candidate_of_lives"]) / np.array(found["production_of_lives"]))
    place = int(stats.binom.cdf(np.arange(len(pairs)), len(pairs), 0.5).searchsorted(alpha, side="right"))
    assert found["interval"] == pytest.approx([ratios[place - 1], ratios[-place]])
    assert found["estimate"] == pytest.approx(np.median(ratios))
    assert (found["lives"], found["alpha"]) == (len(pairs), alpha)


@given(st.floats(0.3, 3.0), st.floats(0.5, 2.0), st.floats(1.0, 1e3))
@settings(max_examples=50)
def test_neither_the_unit_nor_the_order_of_lives_matters_and_a_wider_limit_is_never_stricter(scale, limit, unit):
    def verdict(limit, factor, order):
        reports = served(scale, wander=0.05)
        for side in reports["served"].values():
            side["lives"] = [{"latency_ms": [], "startup_ms": each["startup_ms"] * factor} for each in side["lives"]]
            side["lives"] = [side["lives"][place] for place in order]
        return one(ratio("startup_ms", limit), reports).verdict

    there = [PASS, UNDECIDED, FAIL]
    before = verdict(limit, 1.0, range(LIVES))
    assert verdict(limit, unit, [3, 1, 7, 4, 0, 2, 6, 5]) is before
    assert there.index(verdict(limit * 1.3, 1.0, range(LIVES))) <= there.index(before)


@pytest.mark.parametrize(
    ("count", "alpha", "place"),
    [(8, 0.05, 2), (8, 0.01, 1), (8, 0.003, 0), (5, 0.05, 1), (4, 0.05, 0), (11, 0.05, 3), (1, 0.5, 1), (0, 0.05, 0)],
)
def test_the_place_of_a_bound_is_that_of_the_sign_test(count, alpha, place):
    assert bound_place(count, alpha) == place


def test_fewer_lives_than_needed_have_no_bound():
    for alpha in (0.3, 0.1, 0.05, 0.03, 0.01, 0.001):
        needed = smallest_lives(alpha)
        assert bound_place(needed, alpha) == 1
        assert bound_place(needed - 1, alpha) == 0


def test_one_life_that_was_disturbed_decides_nothing():
    reports = served(scale=1.5)
    reports["served"]["candidate"]["lives"][3]["startup_ms"] = 10.0
    assert one(ratio("startup_ms"), reports).verdict is FAIL
    even = served()
    even["served"]["candidate"]["lives"][3]["startup_ms"] = 1e6
    assert one(ratio("startup_ms"), even).verdict is PASS


def test_at_the_limit_a_gate_passes_no_more_often_than_alpha_says_whatever_the_distribution():
    generator = np.random.default_rng(5)
    for draw in (generator.normal, generator.standard_cauchy):
        logs = math.log(1.2) + 0.03 * draw(size=(2000, LIVES))
        passed = sum(ratio_of_lives(np.exp(each).tolist(), [1.0] * LIVES, 0.05).upper <= 1.2 for each in logs)
        assert stats.binomtest(passed, 2000, 9 / 256).pvalue > 0.001


# ---- whatever is missing


@pytest.mark.parametrize("wrong", [{"errors": 1}, {"golden": {"checked": 1, "wrong": ["it"]}}])
@pytest.mark.parametrize(
    "gate",
    [GatePlan(metric="latency_p50_ms", max=1e9), GatePlan(metric="memory_peak_mb", max=1e9)]
    + [ratio(metric, 100) for metric in ("latency_p99_ms", "memory_peak_mb", "model_size_mb")],
)
def test_a_model_that_answers_wrongly_fails_however_fast_it_is(gate, wrong):
    assert one(gate, served(candidate=wrong)).verdict is FAIL


LIFE = {"latency_ms": [5.0] * 400, "memory_peak_mb": None}


@pytest.mark.parametrize(
    ("metric", "reports", "because"),
    [
        ("memory_peak_mb", {}, "the model was not measured as served"),
        ("memory_peak_mb", {"served": {**served()["served"], "baseline": None}}, "production was not measured"),
        ("memory_peak_mb", served(baseline={"name": "flights v2"}), "measured beside flights v2"),
        ("memory_peak_mb", served(baseline={"errors": 5}), "nothing to compare with"),
        ("memory_peak_mb", served(baseline={"lives": [LIFE] * 8}), "memory_peak_mb of flights v3 is missing"),
        ("memory_peak_mb", served(candidate={"lives": [LIFE] * 8}), "memory_peak_mb of the candidate is missing"),
        ("cpu_s_per_1000", served(candidate={"lives": [LIFE] * 8}), "of the candidate was not measured"),
        ("cpu_s_per_1000", served(candidate={"lives": []}), "of the candidate was not measured"),
        ("model_size_mb", served(baseline={"model_size_mb": "10"}), "model_size_mb of flights v3 is str"),
        ("latency_p99_ms", served(count=199), "needs 200 requests, and 199 were measured"),
        ("latency_p50_ms", served(lives=4), "4 and 4 lives of the servers are too few: needs 5 of both"),
        ("latency_p50_ms", served(baseline={"lives": [LIFE] * 4}), "8 and 4 lives of the servers are too few"),
    ],
)
def test_what_was_not_measured_is_undecided(metric, reports, because):
    result = one(ratio(metric, 1e9), reports)
    assert result.verdict is UNDECIDED
    assert because in result.because


@pytest.mark.parametrize(
    ("gate", "because"),
    [
        (GatePlan(metric="startup_ms", against="production", margin=9.0), "by max_ratio, not by margin"),
        (GatePlan(metric="startup_ms", against="production", min_ratio=0.1), "by max_ratio, not by min_ratio"),
        (GatePlan(metric="throughput_rps", against="production", max_ratio=9.0), "by min_ratio, not by max_ratio"),
        (GatePlan(metric="throughput_rps", against="production"), "by min_ratio, not by margin"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_undecided(gate, because):
    result = one(gate, served())
    assert result.verdict is UNDECIDED
    assert because in result.because


def test_without_production_a_ratio_passes_and_says_that_limits_are_all_there_is():
    for metric in SERVED_METRICS:
        result = one(ratio(metric), served(lives=1), NO_PRODUCTION)
        assert (result.verdict, result.because) == (PASS, "no production model yet: only absolute gates apply")
        assert one(ratio(metric), served(), UNKNOWN_PRODUCTION).verdict is UNDECIDED


RUBBISH = (math.nan, math.inf, -math.inf, True, False, "5", "", None, [5.0], {"value": 5.0}, 10**400, 0, -5.0)


def spoil(generator, side, metric):
    """Something of one side is missing or rubbish."""
    lives, wrong = side["lives"], generator.choice(RUBBISH)
    chosen = generator.choice(lives)
    if metric == "model_size_mb":
        side[metric] = wrong
    elif metric.startswith("latency") and generator.random() < 0.5:
        chosen["latency_ms"] = chosen["latency_ms"][: generator.choice((0, 1, 3))]
    elif metric.startswith("latency"):
        chosen["latency_ms"][generator.randrange(len(chosen["latency_ms"]))] = wrong
    elif generator.random() < 0.2:
        del chosen[metric]
    else:
        chosen[metric] = wrong


def lose_lives(generator, side, _metric):
    side["lives"] = generator.choice(([], side["lives"][:4], None, 3, [3]))


def miscount(generator, side, _metric):
    side[generator.choice(("requests", "errors"))] = generator.choice((None, -1, 1.5, True, "0"))


def err(generator, side, _metric):
    side["errors"] = generator.randint(1, 9)


def test_hundreds_of_broken_reports_never_pass():
    generator = random.Random(2)
    whole = served(scale=1.0, count=210)
    for case in range(500):
        metric = generator.choice(SERVED_METRICS)
        gate = ratio(metric, 1e-9 if metric == "throughput_rps" else 1e9)
        reports = copy.deepcopy(whole)
        side = reports["served"][generator.choice(("candidate", "baseline"))]
        wrongs = (spoil, spoil, miscount, err, *(() if metric == "model_size_mb" else (lose_lives,)))
        wrong = generator.choice(wrongs)
        wrong(generator, side, metric)
        result = one(gate, reports)
        assert result.verdict is not PASS, (case, wrong, gate, result)
    assert all(
        one(ratio(metric, 1e-9 if metric == "throughput_rps" else 1e9), whole).verdict is PASS
        for metric in SERVED_METRICS
    )

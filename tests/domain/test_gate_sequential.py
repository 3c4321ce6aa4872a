"""The canary test: what it proves, how soon, and how rarely it is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.gate.sequential import CanaryTest, Tick, begin_test, conclude, observe_tick
from interlock.pipeline.plan import AnalysisMetricPlan, AnalysisPlan
from interlock.vocabulary import Verdict


def plan(**metric):
    return AnalysisPlan(metrics=(AnalysisMetricPlan(metric="error_rate", **metric),))


def feed(test, ticks):
    for candidate, stable in ticks:
        test = observe_tick(
            test,
            Tick(
                candidate_errors=candidate[0],
                candidate_requests=candidate[1],
                stable_errors=stable[0],
                stable_requests=stable[1],
            ),
        )
    return test


def ticks_until(test, verdict, candidate, stable, most=2000):
    for count in range(1, most + 1):
        test = feed(test, [(candidate, stable)])
        result = conclude(test)
        if result.verdict is verdict:
            return count, result
        assert result.verdict is Verdict.UNDECIDED, result.because
    raise AssertionError(f"still undecided after {most} ticks")


def test_no_evidence_is_undecided():
    result = conclude(begin_test(AnalysisPlan(), 100))
    assert result.verdict is Verdict.UNDECIDED
    assert result.because == "the candidate has answered no request yet"


def test_no_metric_is_undecided():
    test = feed(begin_test(AnalysisPlan(metrics=()), 100), [((0, 9000), (0, 9000))])
    assert conclude(test).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("stable_per_candidate", [19, 3, 1])
def test_fourteen_percent_errors_against_none_are_found_within_ten_errors(stable_per_candidate):
    test = begin_test(plan(max=0.02), 720)
    errors, result = ticks_until(test, Verdict.FAIL, (1, 7), (0, 7 * stable_per_candidate))
    assert errors <= 10
    assert "proven worse than tolerated" in result.because
    assert result.evidence["candidate_errors"] == errors
    assert result.evidence["harm"] >= result.evidence["harm_needed"] == pytest.approx(100.0)


def test_without_a_limit_the_ratio_alone_finds_harm_against_a_stable_side_without_errors():
    errors, _ = ticks_until(begin_test(plan(), 720), Verdict.FAIL, (1, 7), (0, 63))
    assert errors <= 6


@pytest.mark.parametrize(("margin", "fewest", "most"), [(0.02, 150, 200), (0.01, 300, 400), (0.1, 25, 45)])
def test_a_candidate_without_errors_is_proven_safe_after_so_many_pairs(margin, fewest, most):
    pairs, result = ticks_until(begin_test(plan(margin=margin), 720), Verdict.PASS, (0, 1), (0, 19))
    assert fewest <= pairs <= most
    assert "proven to be within" in result.because
    assert result.evidence["safety"] >= result.evidence["safety_needed"] == pytest.approx(20.0)


def test_big_ticks_prove_the_same_as_small_ones():
    test = feed(begin_test(plan(margin=0.02), 720), [((0, 100), (0, 900))] * 2)
    assert conclude(test).verdict is Verdict.PASS


def test_what_is_missing_is_estimated_and_then_suffices():
    test = feed(begin_test(plan(margin=0.02), 720), [((0, 50), (0, 50))])
    result = conclude(test)
    more = result.evidence["more_candidate_requests"]
    assert f"about {more} more candidate requests" in result.because
    assert conclude(feed(test, [((0, 1), (0, 1))] * more)).verdict is Verdict.PASS


def test_at_rates_beyond_the_margin_no_number_of_requests_is_promised():
    test = feed(begin_test(plan(max_ratio=50.0, margin=0.01), 720), [((1, 20), (0, 20))])
    result = conclude(test)
    assert result.verdict is Verdict.UNDECIDED
    assert result.evidence["more_candidate_requests"] is None
    assert "will not be proven" in result.because


def test_a_first_model_has_no_stable_side():
    test = feed(begin_test(plan(), 720), [((0, 5000), (0, 0))])
    result = conclude(test)
    assert result.verdict is Verdict.UNDECIDED
    assert "no stable side" in result.because


def test_a_first_model_is_still_held_to_its_limit():
    test = feed(begin_test(plan(max=0.02), 720), [((10, 50), (0, 0))] * 3)
    assert conclude(test).verdict is Verdict.FAIL


def test_harm_outweighs_safety():
    test = begin_test(plan(max=0.001, margin=0.2), 720)
    test = feed(test, [((0, 100), (0, 100))] * 3)
    assert conclude(test).verdict is Verdict.PASS
    test = feed(test, [((6, 100), (6, 100))] * 3)
    assert conclude(test).verdict is Verdict.FAIL


def test_ticks_without_requests_change_nothing():
    test = feed(begin_test(plan(max=0.02), 720), [((1, 10), (0, 90))])
    assert feed(test, [((0, 0), (0, 0))] * 5) == test


def test_a_tick_of_one_side_alone_is_no_comparison():
    test = begin_test(plan(max=0.02), 720)
    seen = feed(test, [((0, 0), (50, 90))])
    assert seen.metrics == test.metrics
    assert seen.stable_errors == 50


def test_an_error_whose_request_was_counted_before_still_counts():
    test = feed(begin_test(plan(), 720), [((3, 0), (0, 0))])
    assert (test.candidate_errors, test.candidate_requests) == (3, 3)


def test_each_metric_must_be_proven_and_all_share_one_alpha():
    strict = AnalysisMetricPlan(metric="error_rate", margin=0.001)
    loose = AnalysisMetricPlan(metric="error_rate", margin=0.05)
    ticks = [((0, 100), (0, 100))] * 2
    assert conclude(feed(begin_test(AnalysisPlan(metrics=(loose,)), 720), ticks)).verdict is Verdict.PASS
    assert conclude(feed(begin_test(AnalysisPlan(metrics=(loose, strict)), 720), ticks)).verdict is Verdict.UNDECIDED
    one = feed(begin_test(AnalysisPlan(metrics=(loose,)), 720), [((2, 20), (0, 180))])
    two = feed(begin_test(AnalysisPlan(metrics=(loose, loose)), 720), [((2, 20), (0, 180))])
    assert conclude(one).evidence["harm"] == pytest.approx(conclude(two).evidence["harm"])


def test_the_state_is_small_json_and_comes_back_the_same():
    test = feed(begin_test(plan(max=0.02), 720), [((1, 10), (2, 90))] * 50)
    text = test.model_dump_json()
    assert len(text) < 3000
    assert CanaryTest.model_validate_json(text) == test
    assert feed(CanaryTest.model_validate_json(text), [((1, 10), (0, 90))]) == feed(test, [((1, 10), (0, 90))])


def test_a_horizon_below_one_is_one():
    assert begin_test(plan(), 0).horizon == 1


@given(
    ticks=st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 3), st.integers(0, 60), st.integers(0, 6)), min_size=1, max_size=12
    ),
    where=st.integers(0, 11),
)
@settings(max_examples=40, deadline=None)
def test_a_worse_candidate_never_looks_better(ticks, where):
    def evidence(extra):
        test = begin_test(plan(max=0.05), 100)
        for position, (n1, x1, n0, x0) in enumerate(ticks):
            added = extra if position == where % len(ticks) else 0
            requests = n1 + 4
            test = feed(test, [((min(x1, n1) + added, requests), (min(x0, n0), n0))])
        return conclude(test).evidence

    better, worse = evidence(0), evidence(2)
    assert worse["harm"] >= better["harm"] * (1 - 1e-9)
    assert worse["safety"] <= better["safety"] * (1 + 1e-9)


def simulate(seed, runs, stop, *, candidate, stable, weights=(0.05, 0.25, 0.5), ticks=40, requests=40, **metric):
    """How many rollouts ever answer ``stop``; both sides share a rate that drifts from tick to tick."""
    generator = np.random.default_rng(seed)
    return sum(
        any(answer is stop for answer in answers(generator, candidate, stable, weights, ticks, requests, metric))
        for _ in range(runs)
    )


def answers(generator, candidate, stable, weights, ticks, requests, metric):
    """What one rollout is told, after every tick."""
    test = begin_test(plan(**metric), ticks * len(weights))
    for weight in np.repeat(weights, ticks):
        n1, drift = generator.binomial(requests, weight), math.exp(generator.normal(-0.02, 0.2))
        x1 = generator.binomial(n1, min(1.0, candidate * drift))
        x0 = generator.binomial(requests - n1, min(1.0, stable * drift))
        test = feed(test, [((int(x1), int(n1)), (int(x0), int(requests - n1)))])
        yield conclude(test).verdict


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.1])
def test_an_equal_candidate_is_hardly_ever_rolled_back(rate):
    assert simulate(1, 60, Verdict.FAIL, candidate=rate, stable=rate, max_ratio=1.0) <= 2


def test_an_improvement_is_never_rolled_back():
    assert simulate(2, 60, Verdict.FAIL, candidate=0.03, stable=0.06) == 0


def test_a_candidate_within_the_tolerated_ratio_is_hardly_ever_rolled_back():
    assert simulate(3, 60, Verdict.FAIL, candidate=0.06, stable=0.04, max_ratio=1.5) <= 2


def test_a_candidate_worse_by_the_margin_is_promoted_in_at_most_a_twentieth():
    """Looked at after every tick, at the margin exactly: 5 % of 200 rollouts, and chance."""
    generator = np.random.default_rng(4)
    promoted = 0
    for _ in range(200):
        test = begin_test(plan(max_ratio=100.0, margin=0.05), 100)
        x1, x0 = generator.binomial(8, 0.06, 100), generator.binomial(32, 0.01, 100)
        for errors, stable_errors in zip(x1, x0, strict=True):
            test = feed(test, [((int(errors), 8), (int(stable_errors), 32))])
            if test.metrics[0].log_safety >= math.log(20):
                promoted += 1
                break
    assert promoted <= 18


def test_the_mean_evidence_of_equal_sides_stays_at_most_one():
    generator = np.random.default_rng(5)
    values = []
    for _ in range(400):
        test = begin_test(plan(max_ratio=1.0, max=0.05), 20)
        x1, x0 = generator.binomial(10, 0.05, 20), generator.binomial(30, 0.05, 20)
        test = feed(test, [((int(a), 10), (int(b), 30)) for a, b in zip(x1, x0, strict=True)])
        values.append(conclude(test).evidence["harm"])
    assert np.mean(values) <= 1.0 + 3 * np.std(values) / math.sqrt(len(values))


def test_a_real_regression_is_found():
    assert simulate(6, 20, Verdict.FAIL, candidate=0.12, stable=0.01) == 20

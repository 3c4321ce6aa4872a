"""The analysis of a rollout: what one tick says, what it proves, how soon, and what it never says."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.delivery.analysis.bets import (
    STAKE_WEIGHTS,
    STAKES,
    log_wealth,
    paired_safety_gains,
    safety_gains,
)
from interlock.delivery.analysis.engine import Analysis, begin_analysis, conclude, harm_of, minutes_needed, observe
from interlock.delivery.analysis.forecast import smallest_ratio
from interlock.delivery.analysis.gains import limit_gains, odds_gains, ratio_gains
from interlock.delivery.analysis.latency import Histogram, bin_of, edge_of, exceeding, tolerance_bins
from interlock.delivery.analysis.spread import Spread, learn
from interlock.delivery.analysis.streams import Rule
from interlock.delivery.analysis.ticks import Counts, Latencies, Pairs, Tick, counts_of
from interlock.delivery.analysis.wealth import (
    PAIR_RATIOS,
    PAIR_WEIGHTS,
    RATIO_WEIGHTS,
    RATIOS,
    EProcess,
    log_sum,
    paired_process,
)
from interlock.vocabulary import Verdict

VECTOR = [(0, 5, 1, 95), (1, 5, 0, 95), (1, 5, 1, 95), (2, 5, 0, 95), (1, 10, 1, 90), (3, 10, 0, 90)]
ERRORS = Rule(metric="error_rate")
HOLDS_BACK = {Verdict.FAIL, Verdict.UNDECIDED}


def counts(x1, n1, x0, n0):
    return Counts(candidate_events=x1, candidate_requests=n1, stable_events=x0, stable_requests=n0)


def feed(analysis, ticks, metric="error_rate", **how):
    """Ticks are what is seen of one metric, or tuples (x1, n1, x0, n0)."""
    for seen in ticks:
        whole = counts(*seen) if isinstance(seen, tuple) else seen
        parts = whole if isinstance(whole, dict) else {"": whole}
        analysis = observe(analysis, Tick(number=analysis.last + 1, seen={metric: parts}, **how))
    return analysis


def ticks_until(analysis, verdict, seen, most=3000, **how):
    for count in range(1, most + 1):
        analysis = feed(analysis, [seen], **how)
        result = conclude(analysis)
        if result.verdict is verdict:
            return count, result
        assert result.verdict is Verdict.UNDECIDED, result.because
    raise AssertionError(f"still undecided after {most} ticks: {result.because}")


# -- what one tick says


@pytest.mark.parametrize(
    ("first", "tolerated", "expected"),
    [
        (0.5, 1.0, [0.929109, 1.73721, 4.382448, 243.882055, 484.40119, 169717.117669]),
        (1.0, 1.25, [0.840017, 2.239745, 6.010099, 244.844331, 407.828843, 76697.430826]),
    ],
)
def test_the_published_vectors_of_the_binomial_split(first, tolerated, expected):
    process = EProcess(horizon=360, first=first)
    for (x1, n1, x0, n0), value in zip(VECTOR, expected, strict=True):
        process = process.grow(ratio_gains((x1, n1), (x0, n0), tolerated))
        assert process.value == pytest.approx(value, abs=1e-6 * max(1.0, value))


def test_the_vectors_hold_for_a_whole_analysis_too():
    analysis = begin_analysis([ERRORS], 360)
    for tick, value in zip(VECTOR, [0.929109, 1.73721, 4.382448, 243.882055, 484.40119, 169717.117669], strict=True):
        analysis = feed(analysis, [tick])
        assert harm_of(analysis) == pytest.approx(value, rel=1e-6)


def test_the_weights_of_alternatives_and_stakes_add_up_to_one():
    for weights in (RATIO_WEIGHTS, PAIR_WEIGHTS, STAKE_WEIGHTS):
        assert math.fsum(weights) == pytest.approx(1.0)
    assert (len(RATIOS), len(PAIR_RATIOS), len(STAKES)) == (len(RATIO_WEIGHTS), len(PAIR_WEIGHTS), len(STAKE_WEIGHTS))


def chances(n, p):
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


@pytest.mark.parametrize(
    ("n1", "n0", "p", "tolerated"),
    [(5, 20, 0.05, 1.0), (8, 8, 0.3, 1.0), (10, 3, 0.1, 1.5), (4, 16, 0.2, 2.0), (1, 9, 0.4, 1.25)],
)
def test_the_mean_of_a_tick_is_at_most_one_at_the_edge_of_what_is_tolerated(n1, n0, p, tolerated):
    means = np.zeros(len(RATIOS))
    for (x1, c1), (x0, c0) in itertools.product(enumerate(chances(n1, p * tolerated)), enumerate(chances(n0, p))):
        means += c1 * c0 * np.exp(ratio_gains((x1, n1), (x0, n0), tolerated))
    assert (means <= 1.0 + 1e-12).all()
    assert means.max() > 0.5  # and it is no test that never says anything


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 24), st.sampled_from([1.0, 1.5, 3.0]))
def test_the_exact_form_has_mean_one_for_noncentral_hypergeometric_events(n1, n0, events, tolerated):
    events = min(events, n1 + n0)
    cases = range(max(0, events - n0), min(n1, events) + 1)
    weight = {x: math.comb(n1, x) * math.comb(n0, events - x) * tolerated**x for x in cases}
    total = sum(weight.values())
    for index in range(len(RATIOS)):
        mean = sum(weight[x] / total * math.exp(odds_gains((x, n1), (events - x, n0), tolerated)[index]) for x in cases)
        assert mean == pytest.approx(1.0, rel=1e-9)


@given(st.integers(100, 4000), st.integers(100, 4000), st.integers(65, 800), st.integers(0, 800))
def test_the_bound_never_says_more_than_the_exact_form(n1, n0, events, more):
    events = min(events, n1 + n0 - 1)
    x1 = min(max(more, events - n0, 0), n1, events)
    bound = odds_gains((x1, n1), (events - x1, n0))
    p = [math.lgamma(n1 + 1) - math.lgamma(x + 1) - math.lgamma(n1 - x + 1)
         + math.lgamma(n0 + 1) - math.lgamma(events - x + 1) - math.lgamma(n0 - events + x + 1)
         for x in range(max(0, events - n0), min(n1, events) + 1)]  # fmt: skip
    least = max(0, events - n0)
    for ratio, gain in zip(RATIOS, bound, strict=True):
        grown = log_sum([value + (least + at) * math.log(ratio) for at, value in enumerate(p)])
        assert gain <= x1 * math.log(ratio) - (grown - log_sum(p)) + 1e-6


def test_where_the_exact_form_is_too_large_for_a_number_its_bound_stands_for_it():
    gains = odds_gains((60, 10**9), (4, 60))
    assert all(math.isfinite(gain) for gain in gains)
    assert odds_gains((300, 1000), (300, 3000), 1.5) == ratio_gains((300, 1000), (300, 3000), 1.5)


@pytest.mark.parametrize("gains", [ratio_gains, safety_gains])
@pytest.mark.parametrize(("candidate", "stable"), [((0, 0), (1, 9)), ((1, 9), (0, 0))])
def test_one_side_alone_says_nothing(gains, candidate, stable):
    assert set(gains(candidate, stable, 1.0)) == {0.0}
    assert set(odds_gains(candidate, stable)) == {0.0}


def test_requests_that_all_fail_or_none_say_nothing_of_odds():
    assert set(odds_gains((5, 5), (9, 9))) == {0.0} == set(odds_gains((0, 5), (0, 9)))


def test_a_limit_of_nothing_and_of_everything():
    assert set(limit_gains((1, 10), 0.0)) == {600.0}
    assert set(limit_gains((0, 10), 0.0)) == {0.0} == set(limit_gains((9, 10), 1.0))


@pytest.mark.parametrize(("n", "limit"), [(10, 0.02), (7, 0.5), (20, 0.3)])
def test_the_mean_of_a_limit_is_one_at_the_limit(n, limit):
    means = sum(chance * np.exp(limit_gains((x, n), limit)) for x, chance in enumerate(chances(n, limit)))
    assert means == pytest.approx(np.ones(len(RATIOS)))


@pytest.mark.parametrize(
    ("n1", "n0", "p", "margin"), [(6, 20, 0.1, 0.1), (10, 10, 0.01, 0.02), (20, 4, 0.3, 0.05), (1, 1, 0.5, 0.2)]
)
def test_the_mean_of_a_safety_bet_is_at_most_one_at_the_margin(n1, n0, p, margin):
    means = np.zeros(len(STAKES))
    for (x1, c1), (x0, c0) in itertools.product(enumerate(chances(n1, p + margin)), enumerate(chances(n0, p))):
        means += c1 * c0 * np.exp(safety_gains((x1, n1), (x0, n0), margin))
    assert (means <= 1.0 + 1e-12).all()
    assert means[0] > 0.9


@given(st.floats(0.0, 0.4), st.floats(0.01, 0.3))
def test_the_mean_of_a_bet_on_a_pair_is_one_at_the_margin(better, margin):
    worse = better + margin
    for index in range(len(STAKES)):
        mean = (
            worse * math.exp(paired_safety_gains(1, 0, 1, margin)[index])
            + better * math.exp(paired_safety_gains(0, 1, 1, margin)[index])
            + (1 - worse - better) * math.exp(paired_safety_gains(0, 0, 1, margin)[index])
        )
        assert mean == pytest.approx(1.0)


# -- wealth


def test_a_tick_that_says_nothing_is_not_counted():
    process = EProcess(horizon=10)
    assert process.value == pytest.approx(1.0)
    assert process.grow((0.0,) * len(RATIOS)) is process


def test_after_the_horizon_nothing_new_begins_and_wealth_stays_a_number():
    process = EProcess(horizon=3)
    for _ in range(50):
        process = process.grow((-1e9,) * len(RATIOS))
    assert process.value == pytest.approx(0.0, abs=1e-12)
    rich = EProcess(horizon=3)
    for _ in range(50):
        rich = rich.grow((1e9,) * len(RATIOS))
    assert math.isfinite(rich.value)
    assert EProcess.model_validate_json(rich.model_dump_json()) == rich


def test_harm_that_begins_late_is_found_nearly_as_soon():
    calm, harm = (1, 50, 19, 950), (6, 50, 19, 950)
    at_once, _ = ticks_until(begin_analysis([ERRORS], 720), Verdict.FAIL, harm)
    late = feed(begin_analysis([Rule(metric="error_rate", margin=1e-6)], 720), [calm] * 360)
    later, _ = ticks_until(late, Verdict.FAIL, harm)
    assert later <= 2 * at_once + 3


def test_pairs_have_alternatives_of_their_own():
    assert paired_process(9).value == pytest.approx(1.0)


# -- latency


@given(st.floats(0.01, 1e6))
def test_a_latency_is_in_its_bin(milliseconds):
    index = bin_of(milliseconds)
    assert edge_of(index) <= milliseconds * (1 + 1e-12)
    assert milliseconds < edge_of(index + 1) * (1 + 1e-12)


def test_thresholds_need_enough_requests_and_lie_above_the_quantile():
    few = Histogram().add({10: 19}, 10.0)
    assert few.thresholds() == (None, None, None)
    some = Histogram().add({10: 50, 20: 40, 30: 9, 40: 1}, 10.0)
    assert some.thresholds() == (11, 21, None)
    assert Histogram().add({10: 500, 20: 400, 30: 90, 40: 10}, 10.0).thresholds() == (11, 21, 31)


def test_what_was_long_ago_is_forgotten_and_weights_stay_numbers():
    old = Histogram().add({50: 1000}, 10.0)
    assert old.add({10: 1000}, 1800.0).thresholds()[0] == 11
    assert old.add({}, 1800.0).thresholds() == (None, None, None)
    long = old
    for _ in range(200):
        long = long.add({10: 100}, 600.0)
    assert long.thresholds()[:2] == (11, 11)
    assert long.unit < 1e110


def test_requests_above_a_threshold_are_counted_and_a_tolerance_is_in_whole_bins():
    assert exceeding({1: 5, 2: 7, 3: 1}, 2) == 8
    assert [tolerance_bins(ratio) for ratio in (1.0, 1.02, 1.06, 1.2)] == [0, 1, 3, 10]


def times(rng, scale, n):
    drawn, number = np.unique(
        [bin_of(value) for value in rng.lognormal(math.log(60 * scale), 0.6, n)], return_counts=True
    )
    return {int(index): int(count) for index, count in zip(drawn, number, strict=True)}


@pytest.mark.parametrize(("scale", "within"), [(1.5, 40), (3.0, 8)])
def test_a_slower_candidate_is_found(scale, within):
    rng = np.random.default_rng(5)
    rule = Rule(metric="latency", kind="latency", max_ratio=1.06)
    analysis = begin_analysis([rule], 360)
    for _ in range(within):
        seen = Latencies(candidate=times(rng, scale, 25), stable=times(rng, 1.0, 475))
        analysis = feed(analysis, [seen], metric="latency", seconds=10.0)
        if conclude(analysis).verdict is Verdict.FAIL:
            break
    assert conclude(analysis).verdict is Verdict.FAIL
    assert "slow in" in conclude(analysis).because


def test_a_candidate_as_quick_is_proven_so_and_a_quicker_one_is_no_harm():
    rng = np.random.default_rng(6)
    rule = Rule(metric="latency", kind="latency", max_ratio=1.06, margin=0.05)
    for scale in (1.0, 0.7):
        analysis = begin_analysis([rule], 360)
        for _ in range(60):
            seen = Latencies(candidate=times(rng, scale, 50), stable=times(rng, 1.0, 450))
            analysis = feed(analysis, [seen], metric="latency", seconds=10.0)
        assert conclude(analysis).verdict is Verdict.PASS


# -- spread between replicas


def test_replicas_that_differ_by_chance_alone_have_no_spread():
    rng = np.random.default_rng(7)
    blocks = [[(int(rng.binomial(1000, 0.02)), 1000) for _ in range(4)] for _ in range(400)]
    assert learn({60.0: blocks}).variances[60.0] < 0.02


def test_the_spread_of_replicas_is_learnt_from_their_blocks():
    rng = np.random.default_rng(8)
    blocks = []
    for _ in range(600):
        factors = rng.lognormal(-0.08, 0.4, 4)
        blocks.append([(int(rng.binomial(2000, 0.02 * factor)), 2000) for factor in factors])
    spread = learn({300.0: blocks})
    assert spread.replicas == 4
    assert spread.variances[300.0] == pytest.approx(math.exp(0.16) - 1, rel=0.2)
    assert spread.divisor(0.5) == pytest.approx(1 + 1.25 * spread.variances[300.0] * 150)


def test_blocks_of_one_replica_or_without_events_teach_nothing():
    assert learn({60.0: [[(3, 100)], [(0, 50), (0, 50)], [(1, 50), (0, 0)]]}) == Spread()
    assert Spread().divisor(10.0) == 1.0


def test_evidence_is_worth_less_where_replicas_differ_by_themselves():
    noisy = Rule(metric="error_rate", spreads={"error_rate": Spread(replicas=4, variances={60.0: 0.2})})
    harm = (6, 100, 20, 900)
    plain, _ = ticks_until(begin_analysis([ERRORS], 720), Verdict.FAIL, harm, seconds=10.0)
    tempered, _ = ticks_until(begin_analysis([noisy], 720), Verdict.FAIL, harm, seconds=10.0)
    assert tempered > 2 * plain


# -- verdicts


def test_no_evidence_is_undecided():
    result = conclude(begin_analysis([ERRORS], 100))
    assert (result.verdict, result.because) == (Verdict.UNDECIDED, "the candidate has answered no request yet")


def test_no_metric_is_undecided():
    analysis = feed(begin_analysis([], 100), [(0, 9000, 0, 9000)])
    assert conclude(analysis).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("stable_per_candidate", [19, 3, 1])
def test_fourteen_percent_errors_against_none_are_found_within_ten_errors(stable_per_candidate):
    analysis = begin_analysis([Rule(metric="error_rate", max_ratio=1.5, max=0.02)], 720)
    errors, result = ticks_until(analysis, Verdict.FAIL, (1, 7, 0, 7 * stable_per_candidate))
    assert errors <= 10
    assert "proven worse than tolerated" in result.because
    assert result.evidence["metrics"]["error_rate"]["candidate"] == [errors, 7 * errors]
    assert result.evidence["harm"] >= result.evidence["harm_needed"] == pytest.approx(100.0)


@pytest.mark.parametrize(("margin", "fewest", "most"), [(0.02, 150, 250), (0.01, 300, 450), (0.1, 25, 50)])
def test_a_candidate_without_errors_is_proven_safe_after_so_many_requests(margin, fewest, most):
    requests, result = ticks_until(
        begin_analysis([Rule(metric="error_rate", margin=margin)], 720), Verdict.PASS, (0, 1, 0, 19)
    )
    assert fewest <= requests <= most
    assert f"error_rate within {margin:g} of stable" in result.because


def test_what_is_missing_is_told_in_requests_and_minutes_and_then_suffices():
    analysis = feed(begin_analysis([Rule(metric="error_rate", margin=0.02)], 720), [(0, 50, 0, 50)], seconds=30.0)
    result = conclude(analysis)
    more = result.evidence["more_candidate_requests"]
    assert f"about {more} more candidate requests needed, 2 min at this traffic" in result.because
    assert result.evidence["more_minutes"] == pytest.approx(more * 30 / 50 / 60)
    assert conclude(feed(analysis, [(0, 1, 0, 1)] * (more - 1))).verdict is Verdict.UNDECIDED
    assert conclude(feed(analysis, [(0, 1, 0, 1)] * more)).verdict is Verdict.PASS
    assert minutes_needed(analysis, None) is None


def test_at_rates_beyond_the_margin_no_number_of_requests_is_promised():
    analysis = feed(begin_analysis([Rule(metric="error_rate", max_ratio=50.0)], 720), [(1, 20, 0, 20)])
    result = conclude(analysis)
    assert result.verdict is Verdict.UNDECIDED
    assert result.evidence["more_candidate_requests"] is None
    assert "will not be proven" in result.because


def test_without_a_stable_side_nothing_is_compared_but_a_limit_holds():
    alone = feed(begin_analysis([ERRORS], 720), [(0, 5000, 0, 0)])
    assert conclude(alone).verdict is Verdict.UNDECIDED
    assert "no stable side" in conclude(alone).because
    limited = feed(begin_analysis([Rule(metric="error_rate", max=0.02)], 720), [(10, 50, 0, 0)] * 3)
    assert conclude(limited).verdict is Verdict.FAIL


def test_an_error_whose_request_was_counted_before_still_counts():
    analysis = feed(begin_analysis([ERRORS], 720), [(3, 0, 0, 5)])
    assert analysis.streams[0].totals.candidate == (3, 3)


def test_all_metrics_share_one_alpha_and_each_must_be_proven():
    two = [Rule(metric="error_rate", share=0.6), Rule(metric="accuracy", kind="pairs", share=0.4)]
    one = feed(begin_analysis([ERRORS], 720), VECTOR)
    both = feed(begin_analysis(two, 720), VECTOR)
    assert harm_of(both) == pytest.approx(0.6 * harm_of(one) + 0.4)
    safe = feed(begin_analysis(two, 720), [(0, 900, 0, 900)])
    assert conclude(safe).verdict is Verdict.UNDECIDED
    assert conclude(safe).because == "no evidence of accuracy yet"
    assert conclude(feed(safe, [Pairs(pairs=900)], metric="accuracy")).verdict is Verdict.PASS
    with pytest.raises(ValueError, match="add up to 1"):
        begin_analysis([ERRORS, Rule(metric="accuracy", share=0.5)], 720)


def test_pairs_prove_harm_safety_and_what_is_missing():
    rule = Rule(metric="accuracy", kind="pairs", margin=0.02)
    ticks, result = ticks_until(
        begin_analysis([rule], 720), Verdict.FAIL, Pairs(pairs=100, worse=6, better=2), metric="accuracy"
    )
    assert ticks < 25
    assert "alone wrong" in result.because
    some = feed(begin_analysis([rule], 720), [Pairs(pairs=100, worse=1, better=1)], metric="accuracy")
    more = conclude(some).evidence["more_candidate_requests"]
    enough = feed(some, [Pairs(pairs=100, worse=1, better=1)] * math.ceil(more / 100), metric="accuracy")
    assert conclude(enough).verdict is Verdict.PASS
    with pytest.raises(ValueError, match="more pairs differ"):
        Pairs(pairs=3, worse=2, better=2)


def test_the_same_tick_twice_or_an_older_one_counts_once():
    analysis = feed(begin_analysis([ERRORS], 720), [(1, 10, 0, 90)] * 3)
    for number in (0, 1, 3):
        again = observe(analysis, Tick(number=number, seen={"error_rate": {"": counts(5, 10, 0, 90)}}))
        assert again == analysis


def test_a_tick_while_a_replica_is_young_is_not_judged_but_teaches_thresholds():
    rule = Rule(metric="latency", kind="latency")
    analysis = begin_analysis([rule], 720, warm_up=60.0)
    seen = Latencies(candidate={300: 50}, stable={200: 450})
    cold = feed(analysis, [seen] * 20, metric="latency", youngest=59.0)
    assert conclude(cold).verdict is Verdict.UNDECIDED
    assert (cold.cold, cold.ticks, harm_of(cold)) == (20, 0, pytest.approx(1.0))
    assert conclude(feed(cold, [seen], metric="latency", youngest=60.0)).verdict is Verdict.FAIL


def test_strata_are_compared_each_within_itself():
    heavy, light = counts(20, 40, 5, 10), counts(0, 10, 9, 900)
    mixed = counts(20, 50, 14, 910)
    rule = Rule(metric="error_rate", margin=0.001)
    apart = feed(begin_analysis([rule], 720, strata=["heavy", "light"]), [{"heavy": heavy, "light": light}] * 20)
    together = feed(begin_analysis([rule], 720), [mixed] * 20)
    assert conclude(together).verdict is Verdict.FAIL
    assert conclude(apart).verdict is Verdict.UNDECIDED


def test_harm_to_one_stratum_alone_is_found():
    rule = Rule(metric="error_rate", margin=0.0001)
    fine, hurt = counts(5, 500, 50, 4500), counts(9, 50, 1, 450)
    analysis = begin_analysis([rule], 720, strata=["a", "b", "c"])
    _, result = ticks_until(analysis, Verdict.FAIL, {"": fine, "a": fine, "b": fine, "c": hurt})
    questions = result.evidence["metrics"]["error_rate"]["questions"]
    assert max(questions, key=questions.get) == "error_rate in c"


SLICED = Rule(metric="accuracy", margin=0.005, slices=("carrier=AA", "carrier=UA", "origin=EWR"))


def test_harm_to_one_slice_alone_is_found_and_named_while_the_whole_is_judged_as_ever():
    whole, fine, hurt = counts(11, 100, 10, 100), counts(2, 20, 2, 20), counts(5, 10, 1, 10)
    seen = {"": whole, "carrier=AA": fine, "carrier=UA": hurt}
    plain = SLICED.model_copy(update={"slices": ()})
    count, result = ticks_until(begin_analysis([SLICED], 720), Verdict.FAIL, seen, metric="accuracy")
    assert f"accuracy of carrier=UA: candidate {5 * count} wrong in {10 * count} requests (50.00 %)" in result.because
    assert f"stable {count} wrong in {10 * count} requests (10.00 %): proven worse" in result.because
    questions = result.evidence["metrics"]["accuracy"]["questions"]
    assert max(questions, key=questions.get) == "accuracy in carrier=UA"
    assert result.evidence["metrics"]["accuracy"]["slices"]["carrier=UA"] == {
        "candidate": [5 * count, 10 * count],
        "stable": [count, 10 * count],
    }
    # All requests together are hardly worse, and nothing of how they are judged is other than it was.
    alone = feed(begin_analysis([plain], 720), [whole] * count, metric="accuracy")
    assert conclude(alone).verdict is Verdict.UNDECIDED
    sliced = feed(begin_analysis([SLICED], 720), [seen] * count, metric="accuracy").streams[0]
    assert (sliced.totals, sliced.bets) == (alone.streams[0].totals, alone.streams[0].bets)
    assert sliced.harm["accuracy"] == alone.streams[0].harm["accuracy"]


@pytest.mark.parametrize("told", [{}, {"carrier=UA": counts(9, 10, 0, 0)}, {"carrier=UA": counts(0, 0, 1, 10)}])
def test_a_slice_that_one_side_does_not_tell_says_nothing_and_the_whole_still_judges(told):
    rule = SLICED.model_copy(update={"margin": 0.1})
    seen = {"": counts(1, 100, 1, 100)} | told
    _, result = ticks_until(begin_analysis([rule], 720), Verdict.PASS, seen, metric="accuracy")
    assert "not seen on both sides: carrier=AA, carrier=UA, origin=EWR" in result.because
    questions = result.evidence["metrics"]["accuracy"]["questions"]
    assert [questions[f"accuracy in {name}"] for name in SLICED.slices] == [1.0] * 3
    worse = {"": counts(30, 100, 1, 100)} | told
    _, result = ticks_until(begin_analysis([SLICED], 720), Verdict.FAIL, worse, metric="accuracy")
    assert result.because.startswith("accuracy: candidate 30 wrong")


def test_slices_of_requests_that_both_were_asked_are_judged_by_their_pairs():
    seen = {"": Pairs(pairs=100, worse=3, better=2), "carrier=AA": Pairs(pairs=9, worse=3)}
    _, result = ticks_until(begin_analysis([SLICED], 720), Verdict.FAIL, seen, metric="accuracy")
    assert result.because.startswith("accuracy of carrier=AA: candidate")


def test_a_limit_is_of_all_requests_and_not_of_a_slice():
    rule = SLICED.model_copy(update={"max": 0.3, "margin": 0.1})
    seen = {"": counts(10, 100, 10, 100), "carrier=AA": counts(10, 10, 10, 10)}
    assert conclude(feed(begin_analysis([rule], 720), [seen] * 200, metric="accuracy")).verdict is Verdict.PASS


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(*(st.integers(0, 9) for _ in range(4))).filter(lambda one: one[0] <= one[1] and one[2] <= one[3]),
        min_size=1,
        max_size=12,
    )
)
def test_what_is_in_a_slice_is_counted_in_the_whole_once(ticks):
    rule = SLICED.model_copy(update={"max": 0.4})
    parts = [{"": one, **dict.fromkeys(rule.slices, one)} for one in (counts(*tick) for tick in ticks)]
    sliced = feed(begin_analysis([rule], 50), parts, metric="accuracy").streams[0]
    plain = feed(begin_analysis([rule.model_copy(update={"slices": ()})], 50), ticks, metric="accuracy").streams[0]
    assert (sliced.bets, sliced.totals) == (plain.bets, plain.totals)
    assert {name: sliced.harm[name] for name in plain.harm} == plain.harm
    assert {sliced.harm[f"accuracy in {name}"] for name in rule.slices} == {plain.harm["accuracy"]}


def test_of_candidates_like_stable_at_most_alpha_are_rolled_back_with_slices_that_overlap():
    alpha, runs, random = 0.1, 100, np.random.default_rng(7)
    rule = SLICED.model_copy(update={"max_ratio": 1.0, "margin": 0.001})
    rolled_back = 0
    for _ in range(runs):
        analysis = begin_analysis([rule], 40, alpha=alpha)
        for number in range(1, 41):
            requests = random.multinomial(60, [0.1, 0.05, 0.05, 0.8]), random.multinomial(60, [0.1, 0.05, 0.05, 0.8])
            (x1, n1), (x0, n0) = [(random.binomial(side, [0.4, 0.1, 0.3, 0.05]), side) for side in requests]
            part = {"": [0, 1, 2, 3], "carrier=AA": [0, 1], "carrier=UA": [2], "origin=EWR": [1, 2]}
            seen = {
                name: counts(*(int(side[cells].sum()) for side in (x1, n1, x0, n0))) for name, cells in part.items()
            }
            analysis = observe(analysis, Tick(number=number, seen={"accuracy": seen}))
            if harm_of(analysis) >= 1.0 / alpha:
                rolled_back += 1
                break
    assert rolled_back <= alpha * runs


def test_the_state_is_small_json_and_comes_back_the_same():
    rules = [Rule(metric="error_rate", share=0.5, max=0.02), Rule(metric="accuracy", kind="pairs", share=0.5)]
    analysis = feed(begin_analysis(rules, 720), VECTOR * 30)
    analysis = feed(analysis, [Pairs(pairs=9, worse=1, better=2)], metric="accuracy")
    text = analysis.model_dump_json()
    assert len(text) < 4096
    assert Analysis.model_validate_json(text) == analysis
    assert conclude(Analysis.model_validate_json(text)) == conclude(analysis)


# -- nothing is assumed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 2.5])
def test_what_is_no_count_is_no_evidence(bad):
    for place in range(4):
        numbers = [1.0, 10.0, 2.0, 20.0]
        numbers[place] = bad
        assert counts_of(*numbers) is None
    assert counts_of(1.0, 10.0, 2.0, 20.0) == counts(1, 10, 2, 20)


PARTS = st.one_of(
    st.builds(counts, st.just(0), st.integers(0, 500), st.just(0), st.just(0)),
    st.builds(counts, st.just(0), st.just(0), st.integers(0, 5), st.integers(0, 500)),
    st.builds(Pairs, pairs=st.just(0)),
    st.builds(Latencies, stable=st.dictionaries(st.integers(0, 300), st.integers(0, 50), max_size=5)),
)


@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.sampled_from(["error_rate", "latency", "other"]), PARTS, max_size=3), max_size=40))
def test_without_requests_of_both_sides_nothing_is_ever_promoted_or_rolled_back(ticks):
    rules = [Rule(metric="error_rate", share=0.5), Rule(metric="latency", kind="latency", share=0.5)]
    analysis = begin_analysis(rules, 100)
    for number, seen in enumerate(ticks, start=1):
        analysis = observe(analysis, Tick(number=number, seen={metric: {"": part} for metric, part in seen.items()}))
    assert conclude(analysis).verdict is Verdict.UNDECIDED


@settings(max_examples=60)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=40), st.sampled_from(["latency", "accuracy"]))
def test_one_metric_without_evidence_holds_all(requests, dead):
    kinds = {"latency": "latency", "accuracy": "pairs"}
    rules = [Rule(metric="error_rate", share=0.5), Rule(metric=dead, kind=kinds[dead], share=0.5)]
    analysis = feed(begin_analysis(rules, 100), [(0, count, 0, count) for count in requests])
    assert conclude(analysis).verdict is Verdict.UNDECIDED


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(3, 60), st.integers(0, 9), st.integers(9, 600)), max_size=60))
def test_few_requests_never_promote(ticks):
    analysis = begin_analysis([ERRORS], 100)
    for tick in ticks:
        analysis = feed(analysis, [tick])
        if analysis.streams[0].totals.candidate_requests < 300 and tick[2] == 0:
            break
    if sum(tick[1] for tick in ticks[: analysis.ticks]) < 300 and not sum(tick[2] for tick in ticks):
        assert conclude(analysis).verdict in HOLDS_BACK


def test_bets_are_an_average_over_stakes():
    assert log_wealth((0.0,) * len(STAKES)) == pytest.approx(0.0)


# -- what traffic can show


@pytest.mark.parametrize(
    ("candidate", "stable", "tolerated"), [(60, 1140, 1.5), (2000, 2000, 1.0), (7500, 142500, 1.5)]
)
def test_the_smallest_visible_regression_is_found_in_about_every_second_rollout(candidate, stable, tolerated):
    ratio = smallest_ratio(candidate, stable, 0.01, tolerated, 0.01)
    rng = np.random.default_rng(9)

    def found(times, runs=60, ticks=20):
        alarms = 0
        for _ in range(runs):
            analysis = begin_analysis([Rule(metric="error_rate", max_ratio=tolerated)], 720)
            for _ in range(ticks):
                x1 = int(rng.binomial(candidate // ticks, min(1.0, 0.01 * times)))
                x0 = int(rng.binomial(stable // ticks, 0.01))
                analysis = feed(analysis, [(x1, candidate // ticks, x0, stable // ticks)])
                if harm_of(analysis) >= 100.0:
                    alarms += 1
                    break
        return alarms / runs

    assert 0.3 <= found(ratio) <= 0.9
    assert found(1 + (ratio - 1) * 0.4) < 0.3


def test_too_little_traffic_shows_nothing():
    assert smallest_ratio(0, 100, 0.01, 1.5, 0.01) is None
    assert smallest_ratio(0.5, 9, 0.01, 1.5, 0.01) is None

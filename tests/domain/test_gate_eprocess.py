"""E-values against published vectors, brute force and simulation."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.gate.eprocess import (
    RATIO_WEIGHTS,
    RATIOS,
    STAKE_WEIGHTS,
    STAKES,
    EProcess,
    limit_gains,
    log_sum,
    ratio_gains,
    safety_gains,
)

VECTOR_TICKS = [(0, 5, 1, 95), (1, 5, 0, 95), (1, 5, 1, 95), (2, 5, 0, 95), (1, 10, 1, 90), (3, 10, 0, 90)]


@pytest.mark.parametrize(
    ("share", "tolerated", "expected"),
    [
        (0.5, 1.0, [0.929109, 1.73721, 4.382448, 243.882055, 484.40119, 169717.117669]),
        (1.0, 1.25, [0.840017, 2.239745, 6.010099, 244.844331, 407.828843, 76697.430826]),
    ],
)
def test_known_values(share, tolerated, expected):
    process = EProcess(horizon=360, share=share)
    seen = []
    for x1, n1, x0, n0 in VECTOR_TICKS:
        process = process.grow(ratio_gains((x1, n1), (x0, n0), tolerated))
        seen.append(math.exp(process.log_value))
    assert seen == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_weights_are_shares_of_one():
    assert sum(RATIO_WEIGHTS) == pytest.approx(1.0)
    assert sum(STAKE_WEIGHTS) == pytest.approx(1.0)
    assert len(RATIO_WEIGHTS) == len(RATIOS)
    assert len(STAKE_WEIGHTS) == len(STAKES)


def test_nothing_seen_is_worth_one_for_ever():
    process = EProcess(horizon=3)
    for _ in range(10):
        assert process.log_value == pytest.approx(0.0, abs=1e-12)
        process = process.grow((0.0,) * len(RATIOS))


def test_state_survives_json_also_at_its_extremes():
    process = EProcess(horizon=3)
    assert EProcess.model_validate_json(process.model_dump_json()) == process
    for _ in range(5):
        process = process.grow(ratio_gains((1000, 1000), (0, 1000), 1.0))
    assert process.log_value == 600.0
    assert EProcess.model_validate_json(process.model_dump_json()) == process
    for _ in range(5):
        process = process.grow(ratio_gains((0, 10**6), (10**6, 10**6), 1.0))
    assert process.log_value < math.log(0.01)


def test_a_late_regression_is_found_sooner_because_of_the_start_mixture():
    def ticks_until_found(share):
        process, count = EProcess(horizon=400, share=share), 0
        for _ in range(200):
            process = process.grow(ratio_gains((1, 50), (1, 50), 1.0))
        while process.log_value < math.log(100):
            process, count = process.grow(ratio_gains((3, 50), (1, 50), 1.0)), count + 1
        return count

    assert ticks_until_found(0.5) < ticks_until_found(1.0)


def binomial(n, p):
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


@pytest.mark.parametrize("tolerated", [1.0, 1.5])
@pytest.mark.parametrize(("n1", "n0", "p0"), [(1, 9, 0.1), (5, 5, 0.02), (12, 3, 0.5), (4, 20, 0.3)])
def test_the_mean_ratio_evidence_is_at_most_one_at_the_tolerated_ratio(n1, n0, p0, tolerated):
    p1 = tolerated * p0
    means = [0.0] * len(RATIOS)
    for (x1, w1), (x0, w0) in itertools.product(enumerate(binomial(n1, p1)), enumerate(binomial(n0, p0))):
        gains = ratio_gains((x1, n1), (x0, n0), tolerated)
        means = [mean + w1 * w0 * math.exp(gain) for mean, gain in zip(means, gains, strict=True)]
    assert max(means) <= 1.0 + 1e-12


@pytest.mark.parametrize("limit", [0.001, 0.02, 0.5, 0.9])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_mean_limit_evidence_is_at_most_one_up_to_the_limit(limit, share):
    means = [0.0] * len(RATIOS)
    for events, weight in enumerate(binomial(15, limit * share)):
        gains = limit_gains((events, 15), limit)
        means = [mean + weight * math.exp(gain) for mean, gain in zip(means, gains, strict=True)]
    assert max(means) <= 1.0 + 1e-12


def test_limits_at_the_ends():
    assert limit_gains((5, 10), 1.0) == (0.0,) * len(RATIOS)
    assert limit_gains((0, 10), 0.0) == (0.0,) * len(RATIOS)
    assert min(limit_gains((1, 10), 0.0)) > math.log(1e9)


def brute_force_safety(candidate, stable, margin, stake):
    """The mean over every pairing, by listing them."""
    (x1, n1), (x0, n0) = candidate, stable
    ours = [1] * x1 + [0] * (n1 - x1)
    theirs = [1] * x0 + [0] * (n0 - x0)
    small, large = (ours, theirs) if n1 <= n0 else (theirs, ours)
    sign = 1 if n1 <= n0 else -1
    total, count = 0.0, 0
    for chosen in itertools.permutations(large, len(small)):
        product = 1.0
        for mine, other in zip(small, chosen, strict=True):
            product *= 1.0 + stake * (sign * (other - mine) + margin)
        total, count = total + product, count + 1
    return math.log(total / count)


@pytest.mark.parametrize(
    ("candidate", "stable"),
    [((0, 2), (1, 5)), ((1, 2), (0, 5)), ((2, 3), (3, 6)), ((3, 6), (2, 3)), ((0, 1), (0, 1)), ((4, 4), (2, 4))],
)
def test_the_average_over_pairings_is_that_of_all_pairings(candidate, stable):
    gains = safety_gains(candidate, stable, 0.02)
    expected = [brute_force_safety(candidate, stable, 0.02, stake) for stake in STAKES]
    assert gains == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n1", "n0", "p0"), [(3, 12, 0.05), (8, 8, 0.3), (12, 3, 0.1)])
def test_the_mean_safety_evidence_is_one_at_the_margin(n1, n0, p0):
    margin = 0.05
    means = [0.0] * len(STAKES)
    for (x1, w1), (x0, w0) in itertools.product(enumerate(binomial(n1, p0 + margin)), enumerate(binomial(n0, p0))):
        gains = safety_gains((x1, n1), (x0, n0), margin)
        means = [mean + w1 * w0 * math.exp(gain) for mean, gain in zip(means, gains, strict=True)]
    assert means == pytest.approx([1.0] * len(STAKES), abs=1e-9)


@pytest.mark.parametrize(
    ("x1", "n1", "x0", "n0"), [(30, 400, 25, 900), (200, 300, 190, 300), (40, 60, 800, 900), (25, 900, 30, 400)]
)
def test_many_errors_are_averaged_from_below(x1, n1, x0, n0):
    """The bound that stands for too many cases is below a sample of random pairings."""
    generator = random.Random(11)
    ours, theirs = [1] * x1 + [0] * (n1 - x1), [1] * x0 + [0] * (n0 - x0)
    pairs = min(n1, n0)
    gains = safety_gains((x1, n1), (x0, n0), 0.02)
    for stake, gain in zip(STAKES[:4], gains, strict=False):
        logs = []
        for _ in range(200):
            drawn = zip(generator.sample(ours, pairs), generator.sample(theirs, pairs), strict=True)
            logs.append(math.fsum(math.log1p(stake * (b - a + 0.02)) for a, b in drawn))
        highest = max(logs)
        mean = highest + math.log(sum(math.exp(value - highest) for value in logs) / len(logs))
        deviation = math.sqrt(sum((value - sum(logs) / 200) ** 2 for value in logs) / 199)
        assert gain <= mean + 4 * deviation / math.sqrt(200) + 1e-9
        assert gain >= mean - deviation**2 - 4 * deviation / math.sqrt(200) - 1e-9


side = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(candidate=side, stable=side, margin=st.floats(0.0, 0.5), tolerated=st.floats(1.0, 3.0))
@settings(max_examples=60, deadline=None)
def test_one_more_candidate_error_is_more_harm_and_less_safety(candidate, stable, margin, tolerated):
    errors, requests = candidate
    fewer = (max(0, errors - 1), requests)
    for more, less in zip(
        ratio_gains(candidate, stable, tolerated), ratio_gains(fewer, stable, tolerated), strict=True
    ):
        assert more >= less - 1e-9
    for more, less in zip(limit_gains(candidate, 0.1), limit_gains(fewer, 0.1), strict=True):
        assert more >= less
    for more, less in zip(safety_gains(candidate, stable, margin), safety_gains(fewer, stable, margin), strict=True):
        assert more <= less + 1e-9


def test_log_sum_of_extremes():
    assert log_sum([-1e300, -1e300]) <= -1e299
    assert log_sum([600.0, -1e300]) == 600.0
    assert log_sum([0.0, 0.0]) == pytest.approx(math.log(2))

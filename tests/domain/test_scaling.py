"""How many replicas an environment needs: tables of loads, and what holds for every load."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.delivery.revision import LoadSeen
from interlock.delivery.scaling import (
    FULLEST,
    PATIENT_SECONDS,
    History,
    Scope,
    Size,
    remember,
    replicas_for,
    service_of,
    size,
    total,
    utilization,
)

SCOPE = Scope(least=2, most=10, room=64, latency=0.1, service=0.02)


class Traffic:
    """A load that a test makes, second by second, and what the policy made of it."""

    def __init__(self, scope: Scope = SCOPE, asked: int = 2) -> None:
        self.scope = scope
        self.asked = asked
        self.history = History()
        self.now = 0.0
        self.answered = self.late = self.active = 0
        self.seconds = 0.0
        self.epoch = "1"
        self.is_moving = False
        self.ready: int | None = None
        self.found = Size(asked, "")
        self.look()

    def look(self) -> Size:
        within = ((50.0, self.answered - self.late), (100.0, self.answered - self.late))
        load = LoadSeen(
            epoch=self.epoch, answered=self.answered, active=self.active, seconds=self.seconds, within=within
        )
        self.history = remember(self.history, load, self.scope, self.now)
        ready = self.asked if self.ready is None else self.ready
        self.history, self.found = size(self.history, self.scope, self.asked, ready, self.now, is_moving=self.is_moving)
        self.asked = self.found.replicas
        return self.found

    def go(self, seconds: int, rate: float, takes: float = 0.02, late: float = 0.0, active: int = 0) -> Size:
        for _ in range(seconds):
            self.now += 1.0
            self.active = active
            count = round(rate)
            self.answered += count
            self.late += round(count * late)
            self.seconds += count * takes
            self.look()
        return self.found


def test_a_steady_load_has_the_fewest_replicas_that_hold_it_within_the_gate() -> None:
    traffic = Traffic()
    found = traffic.go(400, 120)
    assert found.replicas == replicas_for(120, 0.02, 0.1, 10) == 4
    assert "120 requests/s are expected; a request takes 20 ms of a replica and may take 100 ms" in found.because


def test_a_burst_is_answered_at_the_first_look_and_what_it_needed_is_kept_for_minutes() -> None:
    traffic = Traffic()
    traffic.go(100, 10)
    found = traffic.go(1, 200, active=100)
    assert found.replicas >= 6
    assert "300 requests/s came at once and 100 are in flight" in found.because
    most = traffic.asked
    traffic.go(int(PATIENT_SECONDS) - 20, 10)
    assert traffic.asked == most
    assert traffic.go(60, 10).replicas == 2


def test_chance_alone_adds_nothing() -> None:
    traffic = Traffic()
    traffic.go(200, 100)
    before = traffic.asked
    assert traffic.go(1, 120).replicas == before


def test_a_rising_load_is_met_before_it_is_there() -> None:
    rising, steady = Traffic(), Traffic()
    for second in range(120):
        rising.go(1, 20 + second)
    steady.go(120, 139)
    assert rising.asked == replicas_for(139 + 5, 0.02, 0.1, 10) >= steady.asked
    assert "144 requests/s are expected" in rising.found.because


def test_a_falling_load_is_not_expected_below_the_last_minute() -> None:
    traffic = Traffic()
    for second in range(120):
        traffic.go(1, 240 - second)
    assert "150 requests/s are expected" in traffic.found.because


def test_none_are_taken_away_while_a_rollout_is_under_way() -> None:
    traffic = Traffic(asked=8)
    traffic.is_moving = True
    assert traffic.go(400, 10).replicas == 8
    traffic.is_moving = False
    assert traffic.go(1, 10).replicas == 2


def test_a_control_plane_that_began_just_now_takes_none_away_for_three_minutes() -> None:
    traffic = Traffic(asked=8)
    assert traffic.go(int(PATIENT_SECONDS) - 10, 10).replicas == 8
    assert traffic.go(20, 10).replicas == 2


def test_never_fewer_than_answer_what_is_in_flight_within_the_gate() -> None:
    traffic = Traffic(asked=8)
    assert traffic.go(400, 1, active=30).replicas == math.ceil(30 * 0.02 / 0.1)


def test_late_answers_ask_for_one_more_once_all_are_ready() -> None:
    traffic = Traffic()
    traffic.go(100, 50)
    traffic.ready = 1
    assert traffic.go(3, 50, late=0.3).replicas == 2
    traffic.ready = 2
    found = traffic.go(1, 50, late=0.3)
    assert found.replicas == 3
    assert "answers were late" in found.because


@pytest.mark.parametrize(
    ("scope", "replicas", "told"),
    [
        (SCOPE._replace(most=4), 4, "more than 4 are needed, the pipeline file allows 4"),
        (SCOPE._replace(room=3), 3, "7 are needed, the machine holds 3"),
        (SCOPE._replace(room=1), 2, "7 are needed, the machine holds 2"),
        (SCOPE, 7, None),
    ],
)
def test_the_bounds_hold_and_what_they_withhold_is_said(scope: Scope, replicas: int, told: str | None) -> None:
    found = Traffic(scope).go(100, 230)
    assert found.replicas == replicas
    assert told is None or found.because.endswith(told)


def test_without_any_measurement_there_are_the_fewest_until_traffic_tells() -> None:
    traffic = Traffic(Scope(least=2, most=10, room=64))
    assert traffic.go(1, 50).because == "too little was answered yet to tell what a request takes"
    found = traffic.go(5, 200)
    assert found.replicas > 4
    assert "may take 200 ms" in found.because  # ten times what it takes: no gate says otherwise
    assert traffic.go(300, 1).replicas == 2


def test_what_a_request_takes_is_the_shortest_mean_of_many_but_not_half_of_what_was_measured() -> None:
    traffic = Traffic()
    traffic.go(10, 100, takes=0.050)
    assert service_of(traffic.history, SCOPE) == pytest.approx(0.050)
    traffic.go(5, 100, takes=0.015)
    assert service_of(traffic.history, SCOPE) == pytest.approx(0.015)
    traffic.go(5, 100, takes=0.0)
    assert service_of(traffic.history, SCOPE) == 0.01
    assert service_of(traffic.history, SCOPE._replace(service=None)) == 0.0005


def test_what_may_use_half_a_core_needs_twice_the_replicas_and_time() -> None:
    half = SCOPE._replace(share=0.5)
    traffic = Traffic()
    assert service_of(traffic.history, half) == pytest.approx(0.040)
    assert service_of(traffic.history, half._replace(service=None)) is None
    traffic.go(10, 100, takes=0.015)
    assert service_of(traffic.history, half) == pytest.approx(0.030)


def test_counters_that_began_anew_or_a_clock_that_stood_still_tell_nothing() -> None:
    traffic = Traffic()
    traffic.go(3, 100)
    samples = traffic.history.samples
    traffic.epoch, traffic.answered, traffic.seconds = "2", 5, 0.1
    traffic.now += 1.0
    traffic.look()
    assert traffic.history.samples == samples
    traffic.look()
    assert traffic.history.samples == samples
    traffic.answered = 3
    traffic.now += 1.0
    traffic.look()
    assert traffic.history.samples == samples
    traffic.go(1, 100)
    assert traffic.history.samples[-1].arrived == 100


def test_a_look_after_a_long_sleep_draws_no_trend_and_forgets_what_was_before() -> None:
    traffic = Traffic(asked=4)
    traffic.now += 40.0
    traffic.answered += 40 * 120
    traffic.seconds += 40 * 120 * 0.02
    assert "120 requests/s are expected" in traffic.look().because
    traffic.now += 100.0
    traffic.epoch, traffic.answered, traffic.seconds = "2", 0, 0.0
    found = traffic.look()
    assert found.because.startswith("0 requests/s are expected")
    assert found.replicas == 4


def test_the_load_of_all_revisions_is_one_load() -> None:
    one = LoadSeen(epoch="1", answered=10, active=1, seconds=0.5, within=((5.0, 4), (10.0, 9)))
    other = LoadSeen(epoch="1", answered=5, active=2, seconds=0.25, within=((5.0, 5), (10.0, 5)))
    both = LoadSeen(epoch="1", answered=15, active=3, seconds=0.75, within=((5.0, 9), (10.0, 14)))
    assert total([one, other]) == both
    assert total([]) is None
    assert total([one, other.model_copy(update={"epoch": "2"})]) is None


@pytest.mark.parametrize(
    ("replicas", "ratio", "simulated"),
    [(1, 5, 0.39), (2, 5, 0.58), (4, 5, 0.74), (8, 5, 0.84), (2, 3, 0.22), (6, 3, 0.38), (1, 10, 0.69), (1, 20, 0.87)],
)
def test_replicas_are_as_busy_as_a_simulation_allows(replicas: int, ratio: float, simulated: float) -> None:
    assert utilization(replicas, ratio) == pytest.approx(min(FULLEST, simulated), rel=0.12)


@given(st.integers(1, 64), st.floats(0.1, 1000.0))
def test_more_replicas_and_wider_gates_may_be_busier(replicas: int, ratio: float) -> None:
    busy = utilization(replicas, ratio)
    assert 0.0 < busy <= FULLEST
    assert utilization(replicas, ratio * 1.5) >= busy - 1e-9
    assert replicas == 1 or (replicas + 1) * utilization(replicas + 1, ratio) > replicas * busy


@given(st.floats(0.1, 2000.0), st.floats(0.001, 0.1), st.floats(0.02, 1.0))
def test_enough_replicas_are_never_fully_busy_and_one_less_would_not_do(
    rate: float, service: float, latency: float
) -> None:
    found = replicas_for(rate, service, latency, 64)
    if found <= 64:
        assert rate * service < found
    assert found == 1 or rate * service > (found - 1) * utilization(found - 1, latency / service)


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 300), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 4),
    st.integers(0, 12),
    st.integers(1, 20),
)
def test_over_any_traffic_the_bounds_hold_and_a_rollout_loses_none(
    seconds: list[tuple[int, int, bool]], least: int, more: int, room: int
) -> None:
    scope = Scope(least, least + more, room, latency=0.1, service=0.02)
    traffic = Traffic(scope, asked=least)
    for rate, active, is_moving in seconds:
        before, traffic.is_moving = traffic.asked, is_moving
        found = traffic.go(1, rate, active=active)
        assert least <= found.replicas <= max(least, min(least + more, room))
        assert not is_moving or found.replicas >= before
        assert found.because

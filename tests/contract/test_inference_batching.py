"""When requests are asked together: the policy as tables, and real requests that wait for a real model function."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.inference.batching.asking import MOST_WAITING, Asking, Overloaded, TooLate, divide, merge
from interlock.inference.batching.policy import MOST_ROWS, ServiceCurve, helps, most_rows, wait_seconds
from interlock.inference.batching.warming import warm
from interlock.inference.inputs import Batch
from interlock.inference.protocol.tensors import Array


def curve_of(fixed: float, each: float) -> ServiceCurve:
    curve = ServiceCurve()
    for rows in (1, 2, 4, 8, 16, 32) * 4:
        curve.observe(rows, fixed + each * rows)
    return curve


def batch_of(*values: float) -> Batch:
    return Batch(len(values), {"x": np.array(values)}, None)


class TestCurve:
    @given(fixed=st.floats(0, 1), each=st.floats(1e-6, 1))
    def test_a_straight_line_is_found(self, fixed: float, each: float) -> None:
        curve = curve_of(fixed, each)
        assert curve.fixed == pytest.approx(fixed, abs=1e-6 + 1e-6 * each, rel=1e-3)
        assert curve.each == pytest.approx(each, rel=1e-3)

    def test_one_size_tells_its_time_and_nothing_of_the_shares(self) -> None:
        curve = ServiceCurve()
        assert (curve.is_known, curve.seconds(5)) == (False, 0.0)
        for _ in range(5):
            curve.observe(1, 0.01)
        assert curve.seconds(1) == pytest.approx(0.01)
        assert not helps(curve)

    @given(fixed=st.floats(0, 0.1), each=st.floats(1e-6, 0.1), seconds=st.floats(1e-4, 0.1))
    def test_fewer_rows_than_those_within_a_time_take_less_than_it(
        self, fixed: float, each: float, seconds: float
    ) -> None:
        curve = curve_of(fixed, each)
        rows = curve.rows_within(seconds)
        assert curve.seconds(math.ceil(rows) + 1) >= seconds
        assert rows <= 1 or curve.seconds(math.ceil(rows) - 1) < seconds
        assert ServiceCurve().rows_within(seconds) == 0

    def test_a_machine_that_becomes_slower_is_followed_and_a_hiccup_is_not(self) -> None:
        curve = curve_of(0.01, 0.001)
        curve.observe(1, 60.0)
        assert curve.seconds(1) < 0.02
        for rows in (1, 4, 16, 32) * 100:
            curve.observe(rows, 0.02 + 0.002 * rows)
        assert curve.seconds(16) == pytest.approx(0.052, rel=0.05)


class TestPolicy:
    @pytest.mark.parametrize(
        ("fixed", "each", "limit", "rows"),
        [
            (0.010, 0.0001, 0.100, 400),  # half of the limit, less the fixed part
            (0.010, 0.0001, 10.0, MOST_ROWS),
            (0.060, 0.0001, 0.100, 1),  # one call is over half of it already
            (0.0, 0.001, 0.100, 1),  # nothing is saved
            (0.0001, 0.001, 0.100, 1),  # little is saved
            (0.00003, 0.000001, 0.100, 1),  # less is saved than it costs
            (0.0002, 0.000005, 0.100, MOST_ROWS),
        ],
    )
    def test_how_many_rows(self, fixed: float, each: float, limit: float, rows: int) -> None:
        assert most_rows(curve_of(fixed, each), limit) == pytest.approx(rows, abs=2)

    @pytest.mark.parametrize(
        ("rows", "gap", "wait"),
        [
            (1, 0.001, 0.002),  # the next comes soon: twice as long as that
            (1, 0.007, 0.010),  # never longer than a call of its own would cost
            (1, 0.010, 0.0),  # it comes too late
            (9, 0.001, 0.002),
            (10, 0.001, 0.0),  # ten that wait cost as much as the call
            (400, 0.00001, 0.0),  # full
        ],
    )
    def test_how_long_to_wait(self, rows: int, gap: float, wait: float) -> None:
        assert wait_seconds(curve_of(0.010, 0.0001), rows, gap, 0.100) == pytest.approx(wait, abs=1e-5)

    @given(fixed=st.floats(0, 0.2), each=st.floats(1e-7, 0.2), limit=st.floats(0.001, 1), gap=st.floats(0, 1))
    def test_batching_keeps_within_half_of_the_limit(self, fixed: float, each: float, limit: float, gap: float) -> None:
        curve = curve_of(fixed, each)
        rows = most_rows(curve, limit)
        assert rows >= 1
        assert rows == 1 or curve.seconds(rows) <= limit / 2 + 1e-9
        assert 0 <= wait_seconds(curve, 1, gap, limit) <= max(0.0, limit / 2)


class TestParts:
    @given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6))
    def test_what_was_merged_comes_apart_again(self, sizes: list[int]) -> None:
        batches = [batch_of(*(float(place * 10 + row) for row in range(size))) for place, size in enumerate(sizes)]
        parts = divide({"y": merge(batches).arrays["x"]}, batches)
        assert [part["y"].tolist() for part in parts] == [batch.arrays["x"].tolist() for batch in batches]


class Model:
    """Answers with twice its input after ``fixed`` seconds a call, and keeps how many rows each call had."""

    def __init__(self, fixed: float) -> None:
        self.fixed = fixed
        self.calls: list[int] = []

    def __call__(self, batch: Batch) -> dict[str, Array]:
        self.calls.append(batch.rows)
        time.sleep(self.fixed)
        if (batch.arrays["x"] < 0).any():
            raise KeyError("negative")
        return {"y": batch.arrays["x"] * 2}


def asking(model: Callable[[Batch], dict[str, Array]], fixed: float, *, may_merge: bool = True) -> Asking:
    return Asking(model, curve_of(fixed, fixed / 1000), may_merge=may_merge, limit=1.0)


async def ask_all(to: Asking, *values: float, deadline: float = math.inf) -> list[object]:
    asked = [to.ask(batch_of(value), deadline) for value in values]
    found = await asyncio.gather(*asked, return_exceptions=True)
    return [each if isinstance(each, BaseException) else each["y"].tolist() for each in found]


class TestAsking:
    @pytest.mark.parametrize("fixed", [0.001, 0.02])
    def test_what_waits_together_is_asked_together(self, fixed: float) -> None:
        model = Model(fixed)
        assert asyncio.run(ask_all(asking(model, fixed), *range(50))) == [[2.0 * value] for value in range(50)]
        assert len(model.calls) < 10
        assert sum(model.calls) == 50

    def test_nothing_is_merged_where_that_is_not_known_to_be_right(self) -> None:
        model = Model(0.001)
        asyncio.run(ask_all(asking(model, 0.001, may_merge=False), 1, 2, 3))
        assert model.calls == [1, 1, 1]

    def test_a_quick_call_is_made_at_once_unless_others_might_join_it_or_were_before(self) -> None:
        to = asking(Model(0.001), 0.001, may_merge=False)
        found = to.ask_at_once(batch_of(4.0))
        assert found is not None
        assert found["y"].tolist() == [8.0]
        assert asking(Model(0.001), 0.001).ask_at_once(batch_of(4.0)) is None
        assert asking(Model(0.02), 0.02, may_merge=False).ask_at_once(batch_of(4.0)) is None

        async def behind_another() -> object:
            first = asyncio.ensure_future(to.ask(batch_of(1.0), math.inf))
            await asyncio.sleep(0)
            found = to.ask_at_once(batch_of(4.0))
            await first
            return found

        assert asyncio.run(behind_another()) is None

    def test_one_that_fails_fails_alone(self) -> None:
        first, second, third = asyncio.run(ask_all(asking(Model(0.001), 0.001), 1, -1, 3))
        assert (first, third) == ([2.0], [6.0])
        assert isinstance(second, KeyError)

    def test_others_than_the_first_are_not_merged_with_it(self) -> None:
        model = Model(0.001)
        to = asking(model, 0.001)

        async def both() -> None:
            texts = Batch(1, {"x": np.array([1], np.int64)}, None)
            await asyncio.gather(to.ask(batch_of(1.0), math.inf), to.ask(texts, math.inf))

        asyncio.run(both())
        assert model.calls == [1, 1]

    def test_one_too_many_is_told_at_once_how_long_the_others_take(self) -> None:
        to = asking(Model(0.006), 0.006, may_merge=False)
        *answered, refused = asyncio.run(ask_all(to, *([1.0] * MOST_WAITING), 2.0))
        assert answered == [[2.0]] * MOST_WAITING
        assert isinstance(refused, Overloaded)
        assert refused.seconds == pytest.approx(0.006 * MOST_WAITING, rel=0.1)

    def test_what_became_too_late_is_not_asked(self) -> None:
        model = Model(0.03)
        to = Asking(model, ServiceCurve(), may_merge=False, limit=1.0)  # it does not know how slow it is

        async def three() -> list[object]:
            return await ask_all(to, 1.0, 2.0, 3.0, deadline=time.monotonic() + 0.02)

        first, *others = asyncio.run(three())
        assert first == [2.0]
        assert all(isinstance(each, TooLate) for each in others)
        assert model.calls == [1]


class TestWarming:
    BATCHES = (batch_of(1.0), batch_of(2.0, 3.0))

    def test_learns_how_long_calls_take_and_that_they_may_be_merged(self) -> None:
        learnt = warm(Model(0.002), self.BATCHES, is_wanted=True)
        assert learnt.may_merge, learnt.because
        assert learnt.curve.fixed == pytest.approx(0.002, rel=0.5)
        assert helps(learnt.curve)

    @pytest.mark.parametrize(
        ("answer", "because"),
        [
            (lambda batch: {"y": batch.arrays["x"] - batch.arrays["x"].mean()}, "otherwise together"),
            (
                lambda batch: {"y": batch.arrays["x"] if batch.rows < 3 else 1 / 0},
                "not answered together: ZeroDivision",
            ),
        ],
    )
    def test_a_model_whose_rows_depend_on_one_another_is_asked_one_by_one(
        self, answer: Callable[[Batch], dict[str, Array]], because: str
    ) -> None:
        learnt = warm(answer, self.BATCHES, is_wanted=True)
        assert not learnt.may_merge
        assert because in learnt.because

    def test_without_two_golden_requests_nothing_is_known(self) -> None:
        assert "fewer than two" in warm(Model(0.0), self.BATCHES[:1], is_wanted=True).because
        assert warm(Model(0.0), (), is_wanted=True).curve.is_known is False
        assert "--no-batching" in warm(Model(0.0), self.BATCHES, is_wanted=False).because

"""What every store does: the one in SQL and the one in memory alike."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from interlock.edges.store import MemoryStore, SqlStore
from interlock.errors import AlreadyExists, StaleWrite, StoreFault
from interlock.ports import Store
from interlock.vocabulary import Json, Kind, Row, Write


class Ticks:
    """A clock that tests set; it may go backwards, as clocks do."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture(params=["sql", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, ticks: Ticks) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore(now=ticks)
        return
    opened = SqlStore(f"sqlite:///{tmp_path}/interlock.db", now=ticks)
    yield opened
    opened.close()


def write(
    key: str,
    expected: int = 0,
    phase: str = "queued",
    *,
    kind: Kind = Kind.RUN,
    state: dict[str, Json] | None = None,
    observed: dict[str, Json] | None = None,
    identity: str | None = None,
) -> Write:
    return Write(
        kind=kind,
        key=key,
        expected=expected,
        phase=phase,
        state=state if state is not None else {},
        because=f"{key} is {phase}",
        observed=observed if observed is not None else {},
        identity=identity,
    )


def keys(rows: list[Row]) -> list[str]:
    return [row.key for row in rows]


def test_an_inserted_row_is_read_back(store: Store, ticks: Ticks) -> None:
    state: dict[str, Json] = {"a": [1, 2.5, None, True, {"deep": "é\ud800\x00"}], "": ""}
    (saved,) = store.save(write("1", state=state, identity="main@abc"))
    assert saved.version == 1
    assert (saved.created, saved.updated) == (1000.0, 1000.0)
    assert saved.state == state
    assert store.load(Kind.RUN, "1") == saved
    assert store.find(Kind.RUN, "main@abc") == saved


def test_what_is_not_there_is_none(store: Store) -> None:
    store.save(write("1", identity="here"))
    assert store.load(Kind.RUN, "2") is None
    assert store.load(Kind.ROLLOUT, "1") is None
    assert store.find(Kind.RUN, "there") is None
    assert store.find(Kind.ROLLOUT, "here") is None


def test_a_save_moves_the_version_and_keeps_what_is_of_the_birth(store: Store, ticks: Ticks) -> None:
    store.save(write("1", identity="same"))
    ticks.at = 1007.5
    (saved,) = store.save(write("1", expected=1, phase="running", state={"step": 2}))
    assert (saved.version, saved.phase, saved.state) == (2, "running", {"step": 2})
    assert (saved.created, saved.updated, saved.identity) == (1000.0, 1007.5, "same")
    assert store.find(Kind.RUN, "same") == saved == store.load(Kind.RUN, "1")


def test_a_later_write_can_change_the_identity(store: Store) -> None:
    store.save(write("1", identity="old"))
    store.save(write("1", expected=1, identity="new"))
    assert store.find(Kind.RUN, "old") is None
    assert store.find(Kind.RUN, "new") == store.load(Kind.RUN, "1")
    store.save(write("2", identity="old"))


@pytest.mark.parametrize("expected", [1, 3, 7])
def test_a_save_on_another_version_loses_and_leaves_no_trace(store: Store, expected: int) -> None:
    store.save(write("1"))
    store.save(write("1", expected=1, phase="running"))
    before = store.load(Kind.RUN, "1"), store.events()
    with pytest.raises(StaleWrite, match="run 1"):
        store.save(write("1", expected=expected, phase="failed"))
    assert (store.load(Kind.RUN, "1"), store.events()) == before


def test_a_row_that_was_never_inserted_cannot_be_updated(store: Store) -> None:
    with pytest.raises(StaleWrite):
        store.save(write("1", expected=1))
    assert store.rows(Kind.RUN) == []


def test_a_key_is_inserted_once(store: Store) -> None:
    store.save(write("1", phase="first"))
    with pytest.raises(AlreadyExists, match="run 1"):
        store.save(write("1", phase="second"))
    assert [event.phase for event in store.events()] == ["first"]
    store.save(write("1", kind=Kind.ROLLOUT))


def test_an_identity_is_taken_once_within_its_kind(store: Store) -> None:
    store.save(write("1", identity="x"), write("none"), write("also none"))
    with pytest.raises(AlreadyExists):
        store.save(write("2", identity="x"))
    with pytest.raises(AlreadyExists):
        store.save(write("none", expected=1, identity="x"))
    store.save(write("2", kind=Kind.ATTEMPT, identity="x"))
    assert keys(store.rows(Kind.RUN)) == ["1", "none", "also none"]


@pytest.mark.parametrize("bad", ["stale", "taken", "NaN"])
def test_several_writes_are_saved_together_or_not_at_all(store: Store, bad: str) -> None:
    store.save(write("old"))
    spoilers = {
        "stale": write("old", expected=5),
        "taken": write("old"),
        "NaN": write("other", state={"auc": math.nan}),
    }
    with pytest.raises(StoreFault):
        store.save(write("new"), write("old", expected=1, phase="running"), spoilers[bad])
    assert keys(store.rows(Kind.RUN)) == ["old"]
    assert [row.phase for row in store.rows(Kind.RUN)] == ["queued"]
    assert len(store.events()) == 1
    saved = store.save(write("new"), write("old", expected=1, phase="running"))
    assert [(row.key, row.version) for row in saved] == [("new", 1), ("old", 2)]


def test_nothing_to_save_saves_nothing(store: Store) -> None:
    assert store.save() == ()
    assert store.events() == []


def test_rows_come_in_the_order_of_their_creation_whatever_the_clock_says(store: Store, ticks: Ticks) -> None:
    for key, at in [("b", 3000.0), ("a", 2000.0), ("10", 1000.0), ("9", 2500.0)]:
        ticks.at = at
        store.save(write(key))
    store.save(write("b", expected=1, phase="running"))
    assert keys(store.rows(Kind.RUN)) == ["b", "a", "10", "9"]
    assert keys(store.rows(Kind.RUN, newest=3)) == ["9", "10", "a"]
    assert keys(store.rows(Kind.RUN, newest=0)) == []
    assert store.rows(Kind.ROLLOUT) == []


def test_rows_are_chosen_by_phase_and_by_the_beginning_of_the_key(store: Store) -> None:
    for key in ["flights/1", "flights/2", "Flights/3", "fli%hts/4", "flights"]:
        store.save(write(key))
    store.save(write("flights/2", expected=1, phase="running"))
    assert keys(store.rows(Kind.RUN, prefix="flights/")) == ["flights/1", "flights/2"]
    assert keys(store.rows(Kind.RUN, prefix="fli%")) == ["fli%hts/4"]
    assert keys(store.rows(Kind.RUN, phases=["running", "held"])) == ["flights/2"]
    assert keys(store.rows(Kind.RUN, phases=["queued"], prefix="flights", newest=1)) == ["flights"]
    assert store.rows(Kind.RUN, phases=[]) == []
    assert len(store.rows(Kind.RUN, prefix="")) == 5


def test_every_save_leaves_an_event_with_its_reason(store: Store, ticks: Ticks) -> None:
    store.save(write("1", observed={"seen": [1]}), write("1", kind=Kind.ROLLOUT))
    ticks.at = 1001.0
    store.save(write("1", expected=1, phase="running"))
    first, other, second = store.events()
    assert first.number < other.number < second.number
    assert (first.kind, first.key, first.version, first.phase) == (Kind.RUN, "1", 1, "queued")
    assert (first.at, first.because, first.observed) == (1000.0, "1 is queued", {"seen": [1]})
    assert (second.version, second.phase, second.at) == (2, "running", 1001.0)
    assert store.events(Kind.RUN) == [first, second]
    assert store.events(Kind.RUN, "1", after=first.number) == [second]
    assert store.events(key="1", after=second.number) == []
    assert store.events(Kind.ROLLOUT, "1") == [other]
    assert store.events(Kind.ROLLOUT, "2") == []


def test_numbers_count_from_one_for_each_kind(store: Store) -> None:
    assert [store.number(Kind.RUN) for _ in range(3)] == [1, 2, 3]
    assert store.number(Kind.ROLLOUT) == 1
    assert store.number(Kind.RUN) == 4


def test_facts_come_back_newest_first(store: Store) -> None:
    facts: list[Json] = [None, 1, "two", [3], {"four": 4.5}]
    for fact in facts:
        store.remember("trace", "train", fact)
    store.remember("trace", "other", "elsewhere")
    store.remember("other", "train", "elsewhere")
    assert store.recall("trace", "train") == facts[::-1]
    assert store.recall("trace", "train", newest=2) == [{"four": 4.5}, [3]]
    assert store.recall("trace", "nothing") == []


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_not_stored(store: Store, number: float) -> None:
    with pytest.raises(StoreFault, match="run 1"):
        store.save(write("1", state={"auc": [number]}))
    with pytest.raises(StoreFault):
        store.save(write("1", observed={"auc": number}))
    with pytest.raises(StoreFault):
        store.remember("space", "key", {"auc": number})
    assert store.rows(Kind.RUN) == []
    assert store.recall("space", "key") == []


def test_a_caller_cannot_change_what_is_stored(store: Store) -> None:
    state: dict[str, Json] = {"steps": [1]}
    (saved,) = store.save(write("1", state=state, observed={"seen": [1]}))
    for held in (state, saved.state, store.rows(Kind.RUN)[0].state):
        steps = held["steps"]
        assert isinstance(steps, list)
        steps.append(2)
    store.events()[0].observed.clear()
    loaded = store.load(Kind.RUN, "1")
    assert loaded is not None
    assert loaded.state == {"steps": [1]}
    assert store.events()[0].observed == {"seen": [1]}


def in_threads(number: int, work: Callable[[int], None]) -> None:
    gate = threading.Barrier(number)

    def begin(index: int) -> None:
        gate.wait()
        work(index)

    threads = [threading.Thread(target=begin, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_of_twenty_inserts_of_one_identity_one_wins(store: Store) -> None:
    won, lost = [], []

    def insert(index: int) -> None:
        try:
            won.extend(store.save(write(str(index), identity="the same push")))
        except AlreadyExists:
            lost.append(index)

    in_threads(20, insert)
    assert len(lost) == 19
    assert store.rows(Kind.RUN) == won
    assert len(won) == 1
    assert len(store.events()) == 1


def test_threads_that_add_up_lose_no_update(store: Store) -> None:
    store.save(write("sum", state={"value": 0}))

    def add(_: int) -> None:
        for attempt in count():
            assert attempt < 1000
            row = store.load(Kind.RUN, "sum")
            assert row is not None
            value = row.state["value"]
            assert isinstance(value, int)
            try:
                store.save(write("sum", expected=row.version, state={"value": value + 1}))
            except StaleWrite:
                continue
            return

    in_threads(8, add)
    row = store.load(Kind.RUN, "sum")
    assert row is not None
    assert row.state == {"value": 8}
    assert [event.version for event in store.events()] == list(range(1, 10))


def test_threads_never_get_the_same_number(store: Store) -> None:
    numbers: list[int] = []
    in_threads(8, lambda _: numbers.extend(store.number(Kind.RUN) for _ in range(5)))
    assert sorted(numbers) == list(range(1, 41))

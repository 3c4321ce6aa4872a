"""What every store does: the one in SQL and the one in memory alike."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from interlock.access.audit import GENESIS, Deed, first_break
from interlock.edges.store import MemoryStore, SqlStore
from interlock.errors import AlreadyExists, StaleWrite, StoreFault
from interlock.ports import Store
from interlock.source.notice import Notice
from interlock.source.repository import PullRequest
from interlock.vocabulary import Fact, Json, Kind, Row, Write


class Ticks:
    """A clock that tests set; it may go backwards, as clocks do."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture(params=["sqlite", "postgres", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, ticks: Ticks) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore(now=ticks)
        return
    is_file = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/interlock.db" if is_file else request.getfixturevalue("postgres").create()
    opened = SqlStore(url, now=ticks)
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
    repository: str | None = None,
    ref: str | None = None,
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
        repository=repository,
        ref=ref,
    )


def keys(rows: list[Row]) -> list[str]:
    return [row.key for row in rows]


def test_an_inserted_row_is_read_back(store: Store, ticks: Ticks) -> None:
    state: dict[str, Json] = {"a": [1, 2.5, None, True, {"deep": "é\ud800\x00"}], "": "", "big": 2**70, "small": -0.0}
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


def test_a_version_is_told_without_the_row(store: Store) -> None:
    assert store.version(Kind.RUN, "1") == 0
    store.save(write("1"))
    assert store.version(Kind.RUN, "1") == 1
    store.save(write("1", expected=1))
    assert store.version(Kind.RUN, "1") == 2
    assert store.version(Kind.ATTEMPT, "1") == 0


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


def test_a_row_that_is_written_several_times_at_once_has_every_event_and_the_last_state(store: Store) -> None:
    steps = [write("1", expected=number, phase=f"step {number}", state={"step": number}) for number in range(4)]
    saved = store.save(*steps)
    assert [row.version for row in saved] == [1, 2, 3, 4]
    assert [event.phase for event in store.events()] == ["step 0", "step 1", "step 2", "step 3"]
    row = store.load(Kind.RUN, "1")
    assert row == saved[-1]
    assert row is not None
    assert row.state == {"step": 3}
    with pytest.raises(StaleWrite):
        store.save(write("1", expected=3), write("1", expected=4))
    assert store.load(Kind.RUN, "1") == row


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
    store.save(
        write("flights/é"), write("flights/\U0001f9ea/2"), write("flights0"), write("flights."), write("FLIGHTS/")
    )
    assert keys(store.rows(Kind.RUN, prefix="flights/")) == [
        "flights/1",
        "flights/2",
        "flights/é",
        "flights/\U0001f9ea/2",
    ]
    assert keys(store.rows(Kind.RUN, prefix="flights/\U0001f9ea")) == ["flights/\U0001f9ea/2"]


def test_lists_are_filtered_by_repository_and_ref(store: Store) -> None:
    store.save(write("1", repository="flights", ref="refs/heads/main"))
    store.save(write("2", repository="flights", ref="refs/heads/next"))
    store.save(write("3", repository="fl", ref="refs/heads/main"), write("4"))
    store.save(write("5", repository="flights", ref="refs/heads/main", phase="running"))
    assert keys(store.rows(Kind.RUN, repository="flights")) == ["1", "2", "5"]
    assert keys(store.rows(Kind.RUN, repository="flights", ref="refs/heads/main")) == ["1", "5"]
    assert keys(store.rows(Kind.RUN, ref="refs/heads/main", newest=2)) == ["5", "3"]
    assert keys(store.rows(Kind.RUN, repository="flights", phases=["queued"])) == ["1", "2"]
    assert keys(store.rows(Kind.RUN, repository="flights", phases=["running", "queued", "queued"], newest=2)) == [
        "5",
        "2",
    ]
    assert keys(store.rows(Kind.RUN, ref="refs/heads/main", phases=["running", "queued"])) == ["1", "3", "5"]
    assert store.rows(Kind.RUN, repository="") == []
    assert store.rows(Kind.ATTEMPT, repository="flights") == []


def test_labels_stay_unless_a_write_names_others(store: Store) -> None:
    store.save(write("1", repository="flights", ref="refs/heads/main"), write("2"))
    (kept,) = store.save(write("1", expected=1))
    assert (kept.repository, kept.ref) == ("flights", "refs/heads/main")
    (moved,) = store.save(write("1", expected=2, ref="refs/heads/next"))
    assert (moved.repository, moved.ref) == ("flights", "refs/heads/next")
    (labelled,) = store.save(write("2", expected=1, repository="late"))
    assert (labelled.repository, labelled.ref) == ("late", None)
    assert store.rows(Kind.RUN) == [moved, labelled] == [store.load(Kind.RUN, "1"), store.load(Kind.RUN, "2")]


def test_a_place_is_given_once_over_all_kinds_and_kept(store: Store) -> None:
    first, other = store.save(write("1"), write("1", kind=Kind.ROLLOUT))
    (second,) = store.save(write("2"))
    assert 0 < first.place < other.place < second.place
    (saved,) = store.save(write("1", expected=1, phase="running"))
    assert saved.place == first.place


def test_a_list_is_read_page_by_page_while_it_grows(store: Store) -> None:
    for number in range(25):
        store.save(write(str(number), repository="a" if number % 2 else "b"), write(str(number), kind=Kind.ATTEMPT))
    pages: list[list[str]] = []
    before = None
    while page := store.rows(Kind.RUN, newest=4, before=before):
        pages.append(keys(page))
        before = page[-1].place
        store.save(write(f"new {before}"))
    assert [len(page) for page in pages] == [4] * 6 + [1]
    assert [int(key) for page in pages for key in page] == list(range(24, -1, -1))
    odd = store.rows(Kind.RUN, repository="a", newest=3)
    assert keys(odd) == ["23", "21", "19"]
    assert keys(store.rows(Kind.RUN, repository="a", newest=2, before=odd[-1].place)) == ["17", "15"]
    assert keys(store.rows(Kind.RUN, before=odd[-1].place))[-1] == "18"


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


def test_events_are_followed_a_few_at_a_time(store: Store) -> None:
    assert store.last_event() == 0
    for number in range(7):
        store.save(write(str(number)), write(str(number), kind=Kind.ATTEMPT))
    every = store.events()
    assert store.last_event() == every[-1].number
    followed, after = [], 0
    while part := store.events(after=after, most=3):
        assert len(part) <= 3
        followed += part
        after = part[-1].number
    assert followed == every
    assert [event.key for event in store.events(Kind.ATTEMPT, after=every[4].number, most=2)] == ["2", "3"]
    assert store.events(most=0) == []


def test_a_reason_with_a_nul_is_kept_readable(store: Store) -> None:
    store.save(write("1\U0001f9ea", phase="a\ufffdb").model_copy(update={"because": "exit\0code é"}))
    assert [event.because for event in store.events()] == ["exit\ufffdcode é"]


def deed(action: str, **detail: Json) -> Deed:
    return Deed(who="local:ada", action=action, thing="flights/production", detail=detail)


def test_deeds_are_chained_in_the_transaction_of_what_they_did(store: Store, ticks: Ticks) -> None:
    assert store.audit() == []
    saved = store.save(write("1"), audit=[deed("release", version=3), deed("approve")])
    assert [row.key for row in saved] == ["1"]
    ticks.at = 1001.25
    assert store.save(audit=[deed("login refused", **{"é\0": [None, 1.5, 2**70]})]) == ()
    entries = store.audit()
    assert [(entry.number, entry.at, entry.deed.action) for entry in entries] == [
        (1, 1000.0, "release"),
        (2, 1000.0, "approve"),
        (3, 1001.25, "login refused"),
    ]
    assert entries[2].deed.detail == {"é\0": [None, 1.5, 2**70]}
    assert entries[0].previous == GENESIS
    assert first_break(entries) is None
    assert first_break(entries[1:]) is not None
    assert len(store.events()) == 1


def test_the_audit_log_is_read_from_either_end(store: Store) -> None:
    for number in range(6):
        store.save(audit=[deed(str(number))])
    entries = store.audit()
    assert store.audit(after=4) == entries[4:]
    assert store.audit(newest=2) == entries[4:]
    assert store.audit(after=3, newest=10) == entries[3:]
    assert store.audit(newest=0) == store.audit(after=6) == []


@pytest.mark.parametrize("bad", ["stale", "taken", "NaN"])
def test_what_was_not_done_is_not_in_the_audit_log(store: Store, bad: str) -> None:
    store.save(write("old"), audit=[deed("begin")])
    spoilers = {"stale": write("old", expected=5), "taken": write("old"), "NaN": write("new")}
    deeds = [deed("end"), deed("measure", auc=math.nan if bad == "NaN" else 0.5)]
    with pytest.raises(StoreFault):
        store.save(write("other"), spoilers[bad], audit=deeds)
    assert keys(store.rows(Kind.RUN)) == ["old"]
    store.save(audit=[deed("go on")])
    assert [entry.deed.action for entry in store.audit()] == ["begin", "go on"]
    assert first_break(store.audit()) is None


def notice(number: int, repository: str = "flights") -> Notice:
    pull_request = PullRequest(number=number, title="<b>é\0</b>", base="main") if number % 2 else None
    return Notice(repository=repository, source="github", kind="push", delivery=str(number), pull_request=pull_request)


def test_notices_wait_in_order_until_they_are_settled(store: Store) -> None:
    store.note()
    store.note(*[notice(number) for number in range(5)])
    store.note(notice(5, "other"))
    waiting = store.pending(100)
    assert [kept for _, kept in waiting] == [*[notice(number) for number in range(5)], notice(5, "other")]
    numbers = [number for number, _ in waiting]
    assert numbers == sorted(set(numbers))
    assert store.pending(2) == waiting[:2]
    store.settle([])
    store.settle([numbers[0], numbers[3], numbers[3], 10_000])
    assert [number for number, _ in store.pending(3)] == [numbers[1], numbers[2], numbers[4]]
    store.settle([numbers[0]])
    assert len(store.pending(100)) == 4
    assert store.pending(0) == []


def test_settled_notices_are_forgotten_by_their_age_and_waiting_ones_never(store: Store, ticks: Ticks) -> None:
    for number in range(4):
        ticks.at = 1000.0 + number
        store.note(notice(number))
    numbers = [number for number, _ in store.pending(9)]
    store.settle([numbers[0], numbers[1], numbers[3]])
    assert store.forget_notices(1001.0) == 1
    assert store.forget_notices(1001.0) == 0
    assert store.forget_notices(9999.0) == 2
    assert [number for number, _ in store.pending(9)] == [numbers[2]]
    store.note(notice(9))
    assert store.pending(9)[-1][0] > numbers[3]


def test_numbers_count_from_one_for_each_kind(store: Store) -> None:
    assert [store.number(Kind.RUN) for _ in range(3)] == [1, 2, 3]
    assert store.number(Kind.ROLLOUT) == 1
    assert store.number(Kind.RUN) == 4


def test_facts_come_back_newest_first(store: Store) -> None:
    facts: list[Json] = [None, 1, "two", [3], {"four": 4.5}]
    for fact in facts:
        store.save(facts=[Fact("trace", "train", fact)])
    store.save(facts=[Fact("trace", "other", "elsewhere")])
    store.save(facts=[Fact("other", "train", "elsewhere")])
    assert store.recall("trace", "train") == facts[::-1]
    assert store.recall("trace", "train", newest=2) == [{"four": 4.5}, [3]]
    assert store.recall("trace", "nothing") == []


def test_facts_of_many_keys_come_back_together(store: Store) -> None:
    keys = [f"s{number}" for number in range(1200)]
    store.save(facts=[Fact("cost", key, [turn, key]) for turn in (1, 2, 3) for key in keys])
    store.save(facts=[Fact("other", "s1", "elsewhere")])
    found = store.recall_each("cost", [*keys, "never"], 2)
    assert found == {key: [[3, key], [2, key]] for key in keys}
    assert store.recall_each("cost", [], 2) == {}


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_not_stored(store: Store, number: float) -> None:
    with pytest.raises(StoreFault, match="run 1"):
        store.save(write("1", state={"auc": [number]}))
    with pytest.raises(StoreFault):
        store.save(write("1", observed={"auc": number}))
    with pytest.raises(StoreFault):
        store.save(facts=[Fact("space", "key", {"auc": number})])
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


def test_threads_never_break_the_chain_nor_an_order_that_was_read(store: Store) -> None:
    """Who follows the events sees each of them, though many write: none appears behind one that was seen."""
    seen: list[int] = []
    over = threading.Event()

    def follow() -> None:
        while not over.is_set() or store.last_event() > (seen[-1] if seen else 0):
            seen.extend(event.number for event in store.events(after=seen[-1] if seen else 0))

    def work(index: int) -> None:
        for number in range(6):
            store.save(write(f"{index}/{number}"), audit=[deed(f"{index}/{number}")])
            store.note(notice(number))

    follower = threading.Thread(target=follow)
    follower.start()
    in_threads(6, work)
    over.set()
    follower.join()
    assert seen == [event.number for event in store.events()]
    assert len(seen) == len(store.audit()) == len(store.pending(100)) == 36
    assert first_break(store.audit()) is None

"""Attempts are claimed once, told once, and never forgotten, whoever dies and whatever fails at the moment they end."""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from interlock.access.audit import Deed
from interlock.control.running.attempts import ENDS_KEPT, FINISHED, RUNNING, Attempt, Attempts
from interlock.edges.blobs import LocalBlobs, MemoryBlobs
from interlock.edges.executor import FakeExecutor
from interlock.edges.store import MemoryStore, SqlStore
from interlock.errors import ExecutorFault, StoreFault
from interlock.pipeline.plan import PythonPlan, StagePlan
from interlock.run.stage import StageOutcome, StageRequest
from interlock.source.commit import Commit
from interlock.vocabulary import Digest, Fact, Kind, Phase, Row, Write

COMMIT = Commit(repository="small", git_directory="/small.git", ref="refs/heads/main", sha="a" * 40, tree="b" * 40)
WELL = StageOutcome(phase=Phase.SUCCEEDED, because="finished in 1.0 s", exit_code=0)
BADLY = StageOutcome(phase=Phase.FAILED, because="exit code 1", exit_code=1)


def request_for(attempt: str) -> StageRequest:
    stage = StagePlan(name="train", kind="stage", command="python train.py")
    return StageRequest(attempt=attempt, stage=stage, commit=COMMIT, python=PythonPlan())


class Life:
    """One control plane's life: its own executor, on a store that it may share with others."""

    def __init__(self, store: MemoryStore | SqlStore, owner: str) -> None:
        self.executor = FakeExecutor(on_demand=True)
        self.blobs = MemoryBlobs()
        self.rings = 0
        self.judged: list[StageOutcome] = []
        self.attempts = Attempts(store, self.executor, self.blobs, owner, self.ring)

    def ring(self) -> None:
        self.rings += 1

    def start(self, attempt: str) -> None:
        self.attempts.start(request_for(attempt), self.remember)

    def remember(self, outcome: StageOutcome) -> list[Fact]:
        self.judged.append(outcome)
        return [Fact("trace", "train", outcome.because)]

    def started(self) -> list[str]:
        return [request.attempt for request in self.executor.started]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(lambda: 0.0)


def test_an_attempt_is_claimed_before_it_is_started(store: MemoryStore) -> None:
    life = Life(store, "life 1")
    rows_at_start: list[Row | None] = []
    start = life.executor.start

    def look_first(request: StageRequest, finished: Callable[[StageOutcome], None]) -> None:
        rows_at_start.append(store.load(Kind.ATTEMPT, request.attempt))
        start(request, finished)

    life.executor.start = look_first  # type: ignore[method-assign]
    life.start("1/train/1")
    (row,) = rows_at_start
    assert row is not None
    assert row.phase == RUNNING
    assert row.state["owner"] == "life 1"


def test_of_two_owners_who_claim_one_attempt_one_starts_it(store: MemoryStore) -> None:
    first, second = Life(store, "life 1"), Life(store, "life 2")
    first.start("1/train/1")
    second.start("1/train/1")
    first.start("1/train/1")
    assert first.started() == ["1/train/1"]
    assert second.started() == []
    assert not first.attempts.is_lost("1/train/1")
    assert second.attempts.is_lost("1/train/1")


def test_of_sixteen_owners_on_one_database_one_starts_each_attempt(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'interlock.db'}"
    stores = [SqlStore(url) for _ in range(16)]
    lives = [Life(store, f"life {number}") for number, store in enumerate(stores)]
    gate = threading.Barrier(16, timeout=20)

    def race(life: Life) -> None:
        for number in range(1, 6):
            gate.wait()
            life.start(f"1/train/{number}")

    threads = [threading.Thread(target=race, args=(life,)) for life in lives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    started = sorted(attempt for life in lives for attempt in life.started())
    assert started == [f"1/train/{number}" for number in range(1, 6)]
    for store in stores:
        store.close()


def test_how_it_ended_is_known_to_everybody_once_it_is_saved(store: MemoryStore) -> None:
    first, second = Life(store, "life 1"), Life(store, "life 2")
    assert first.attempts.outcome("1/train/1") is None
    assert not first.attempts.is_lost("1/train/1")
    first.start("1/train/1")
    assert first.attempts.outcome("1/train/1") is None
    first.executor.finish("1/train/1", WELL)
    for life in (first, second):
        assert life.attempts.outcome("1/train/1") == WELL
        assert not life.attempts.is_lost("1/train/1")
    assert first.rings == 1
    assert first.judged == [WELL]


def test_ends_that_nobody_asks_for_are_forgotten_here_and_known_from_their_rows(store: MemoryStore) -> None:
    life = Life(store, "life 1")
    for number in range(1, ENDS_KEPT + 3):
        life.start(f"1/train/{number}")
        life.executor.finish(f"1/train/{number}", WELL)
    assert len(life.attempts._ended) == ENDS_KEPT
    assert life.attempts.outcome("1/train/1") == WELL
    assert life.attempts.outcome(f"1/train/{ENDS_KEPT}") == WELL
    assert len(life.attempts._ended) == ENDS_KEPT - 1


def test_a_failure_is_told_too_and_what_says_nothing_of_the_stage_is_not(store: MemoryStore) -> None:
    life = Life(store, "life 1")
    life.start("1/train/1")
    life.executor.finish("1/train/1", BADLY)
    assert life.judged == [BADLY]
    assert life.attempts.outcome("1/train/1") == BADLY
    for number, phase in enumerate((Phase.ERRORED, Phase.CANCELLED), start=2):
        life.start(f"1/train/{number}")
        life.executor.finish(f"1/train/{number}", BADLY.model_copy(update={"phase": phase}))
    assert life.judged == [BADLY]


def test_a_report_is_kept_as_an_artifact_and_the_row_stays_small(store: MemoryStore) -> None:
    life = Life(store, "life 1")
    report = {"metrics": [{"name": f"metric {number}", "value": number} for number in range(5000)]}
    life.start("1/served/1")
    life.executor.finish("1/served/1", WELL.model_copy(update={"report": report}))
    kept = life.attempts.outcome("1/served/1")
    assert kept is not None
    assert isinstance(kept.report, str)
    assert json.loads(life.blobs.read(Digest(kept.report))) == report
    row = store.load(Kind.ATTEMPT, "1/served/1")
    assert row is not None
    assert len(json.dumps(row.state)) < 1000
    assert life.judged[0].report == kept.report


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_report_that_no_json_can_hold_is_a_fault_and_no_success(store: MemoryStore, number: float) -> None:
    life = Life(store, "life 1")
    life.start("1/served/1")
    life.executor.finish("1/served/1", WELL.model_copy(update={"report": {"latency": number}}))
    outcome = life.attempts.outcome("1/served/1")
    assert outcome is not None
    assert outcome.phase is Phase.ERRORED
    assert "cannot be stored" in outcome.because
    assert life.judged == []


def test_the_attempt_of_a_dead_owner_is_lost_and_its_late_end_changes_no_other(store: MemoryStore) -> None:
    dead, alive = Life(store, "life 1"), Life(store, "life 2")
    dead.start("1/train/1")
    assert alive.attempts.is_lost("1/train/1")
    alive.start("1/train/2")
    assert alive.attempts.refuse_end("1/train/1")
    assert alive.attempts.refuse_end("1/train/1")
    dead.executor.finish("1/train/1", WELL)  # it was only stopped, and comes back
    assert alive.attempts.outcome("1/train/1") is None
    assert alive.attempts.is_lost("1/train/1")
    assert store.recall("trace", "train") == []  # and what it made is never reused
    assert alive.attempts.outcome("1/train/2") is None
    alive.executor.finish("1/train/2", BADLY)
    assert alive.attempts.outcome("1/train/2") == BADLY


def test_an_attempt_that_ended_at_the_last_moment_is_not_lost(store: MemoryStore) -> None:
    slow, hasty = Life(store, "life 1"), Life(store, "life 2")
    slow.start("1/train/1")
    assert hasty.attempts.is_lost("1/train/1")
    slow.executor.finish("1/train/1", WELL)
    assert not hasty.attempts.refuse_end("1/train/1")
    assert not hasty.attempts.is_lost("1/train/1")
    assert hasty.attempts.outcome("1/train/1") == WELL
    assert not hasty.attempts.refuse_end("1/train/7")


def test_only_what_this_life_runs_can_be_stopped(store: MemoryStore) -> None:
    first, second = Life(store, "life 1"), Life(store, "life 2")
    first.start("1/train/1")
    second.attempts.stop("1/train/1", "not mine")
    assert first.executor.running() == first.attempts.running() == {"1/train/1"}
    assert second.attempts.running() == frozenset()
    first.attempts.stop("1/train/1", "unit did not succeed")
    outcome = first.attempts.outcome("1/train/1")
    assert outcome is not None
    assert (outcome.phase, outcome.because) == (Phase.CANCELLED, "unit did not succeed")
    first.attempts.stop("1/train/1", "again")
    first.attempts.stop("1/elsewhere/1", "never was")


def test_a_claim_that_was_saved_with_its_decision_is_not_made_again(store: MemoryStore) -> None:
    life = Life(store, "life 1")
    store.save(life.attempts.claim("1/train/1"))
    life.start("1/train/1")
    assert life.started() == []  # for all that is known here, somebody else has claimed it
    life.attempts.start(request_for("1/train/1"), life.remember, is_claimed=True)
    assert life.started() == ["1/train/1"]
    row = store.load(Kind.ATTEMPT, "1/train/1")
    assert row is not None
    assert (row.version, row.state["owner"]) == (1, "life 1")


def test_an_executor_that_cannot_start_leaves_an_attempt_that_is_lost(store: MemoryStore) -> None:
    class Closed(FakeExecutor):
        def start(self, request: StageRequest, finished: Callable[[StageOutcome], None]) -> None:
            raise ExecutorFault("the executor is closed")

    attempts = Attempts(store, Closed(), MemoryBlobs(), "life 1", lambda: None)
    with pytest.raises(ExecutorFault):
        attempts.start(request_for("1/train/1"), lambda _: ())
    assert attempts.is_lost("1/train/1")
    attempts.start(request_for("1/train/1"), lambda _: ())  # it is claimed: nobody starts it twice
    row = store.load(Kind.ATTEMPT, "1/train/1")
    assert row is not None
    assert row.phase == RUNNING


class FullStore(MemoryStore):
    """A store on a disk that is full now and then."""

    is_full = False

    def save(self, *writes: Write, audit: Sequence[Deed] = (), facts: Sequence[Fact] = ()) -> tuple[Row, ...]:
        if self.is_full:
            raise StoreFault("the database did not do it: database or disk is full")
        return super().save(*writes, audit=audit, facts=facts)


def test_an_end_that_cannot_be_saved_is_kept_until_it_can() -> None:
    store = FullStore(lambda: 0.0)
    life = Life(store, "life 1")
    life.start("1/train/1")
    store.is_full = True
    life.executor.finish("1/train/1", WELL)
    assert life.rings == 1  # so that the loop looks, and says what is wrong
    with pytest.raises(StoreFault, match="full"):
        life.attempts.outcome("1/train/1")
    store.is_full = False
    assert not life.attempts.is_lost("1/train/1")
    assert life.attempts.outcome("1/train/1") == WELL
    row = store.load(Kind.ATTEMPT, "1/train/1")
    assert row is not None
    assert row.phase == FINISHED
    assert len(life.judged) >= 1
    assert store.recall("trace", "train") == [WELL.because]


def test_an_end_whose_report_cannot_be_kept_is_kept_until_it_can(tmp_path: Path) -> None:
    store = MemoryStore(lambda: 0.0)
    executor = FakeExecutor(on_demand=True)
    blobs = LocalBlobs(tmp_path / "artifacts")
    attempts = Attempts(store, executor, blobs, "life 1", lambda: None)
    attempts.start(request_for("1/served/1"), lambda _: ())
    incoming = tmp_path / "artifacts" / "incoming"
    incoming.rmdir()
    executor.finish("1/served/1", WELL.model_copy(update={"report": {"passed": True}}))
    incoming.mkdir()
    outcome = attempts.outcome("1/served/1")
    assert outcome is not None
    assert json.loads(blobs.read(Digest(str(outcome.report)))) == {"passed": True}


def test_an_end_whose_trace_cannot_be_remembered_is_an_end_all_the_same(store: MemoryStore) -> None:
    executor = FakeExecutor(on_demand=True)
    attempts = Attempts(store, executor, MemoryBlobs(), "life 1", lambda: None)

    def remember(_outcome: StageOutcome) -> list[Fact]:
        raise StoreFault("the database is locked")

    attempts.start(request_for("1/train/1"), remember)
    executor.finish("1/train/1", WELL)
    assert attempts.outcome("1/train/1") == WELL
    assert not attempts.is_lost("1/train/1")


class ForgetfulStore(MemoryStore):
    """Saves, and then says that it could not."""

    is_forgetful = False

    def save(self, *writes: Write, audit: Sequence[Deed] = (), facts: Sequence[Fact] = ()) -> tuple[Row, ...]:
        rows = super().save(*writes, audit=audit, facts=facts)
        if self.is_forgetful:
            self.is_forgetful = False
            raise StoreFault("the database did not do it: disk I/O error")
        return rows


def test_a_save_that_was_done_although_a_fault_was_told_is_no_second_end() -> None:
    store = ForgetfulStore(lambda: 0.0)
    life = Life(store, "life 1")
    life.start("1/train/1")
    store.is_forgetful = True
    life.executor.finish("1/train/1", WELL)
    assert life.attempts.outcome("1/train/1") == WELL
    assert [event.because for event in store.events(Kind.ATTEMPT)] == ["claimed", WELL.because]


def test_a_loop_that_asks_all_the_time_never_takes_a_finishing_attempt_for_lost(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'interlock.db'}")
    life = Life(store, "life 1")
    lost: list[str] = []
    is_over = threading.Event()
    keys = [f"1/train/{number}" for number in range(1, 31)]

    def ask() -> None:
        while not is_over.is_set():
            lost.extend(key for key in keys if life.attempts.outcome(key) is None and life.attempts.is_lost(key))

    for key in keys:
        life.start(key)
    asking = threading.Thread(target=ask)
    asking.start()
    for key in keys:
        life.executor.finish(key, WELL)
    is_over.set()
    asking.join()
    assert lost == []
    assert all(life.attempts.outcome(key) == WELL for key in keys)
    store.close()


def test_a_life_that_ends_leaves_what_it_ended_itself_to_the_next_as_lost(store: MemoryStore) -> None:
    first, second = Life(store, "life 1"), Life(store, "life 2")
    for name in ("train", "unit", "slow"):
        first.start(f"1/{name}/1")
    first.attempts.let_go()
    first.executor.finish("1/train/1", StageOutcome(phase=Phase.ERRORED, because="Interlock was stopped"))
    first.executor.finish("1/unit/1", WELL)
    first.executor.finish("1/slow/1", BADLY)
    assert second.attempts.is_lost("1/train/1")
    assert second.attempts.outcome("1/unit/1") == WELL
    assert second.attempts.outcome("1/slow/1") == BADLY


def test_what_a_row_holds_is_read_back_as_it_was(store: MemoryStore) -> None:
    life = Life(store, "life 1")
    life.start("1/train/1")
    outcome = StageOutcome(
        phase=Phase.FAILED,
        because="killed by SIGKILL",
        exit_code=-9,
        seconds=1.5,
        cpu_seconds=0.25,
        peak_memory=1 << 30,
        reads=("train.py",),
        listings=("",),
        changed_inputs=("data.csv",),
        products={"model": Digest("blake3:" + "0" * 64)},
        sandbox="namespace",
    )
    life.executor.finish("1/train/1", outcome)
    row = store.load(Kind.ATTEMPT, "1/train/1")
    assert row is not None
    assert Attempt.model_validate(row.state) == Attempt(owner="life 1", outcome=outcome)
    assert row.phase == FINISHED
    assert [event.because for event in store.events(Kind.ATTEMPT, "1/train/1")] == ["claimed", "killed by SIGKILL"]

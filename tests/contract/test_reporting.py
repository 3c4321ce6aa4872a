"""Reporting: from stored runs to what forges show, with real stores, and through faults, restarts and dead forges."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.database import database_url

from interlock.control.reporting import Reporting
from interlock.control.rows import load_state, write_state
from interlock.delivery.analysis.engine import begin_analysis
from interlock.delivery.analysis.streams import Rule
from interlock.delivery.release import Release, ReleaseSeen, advance, approve
from interlock.delivery.revision import Revision
from interlock.delivery.rollout import Rollout, RolloutPhase, summary
from interlock.edges.forge import MemoryForge
from interlock.edges.store import MemoryStore, SqlStore
from interlock.errors import ForgeFault, Refused, StoreFault
from interlock.feedback.report import Report, ReportPhase
from interlock.feedback.status import Comment, Status
from interlock.gate.judgement import GateResult, Judgement
from interlock.pipeline.plan import EnvironmentPlan, Plan, StagePlan
from interlock.ports import Forge, Store
from interlock.registry.version import ModelVersion
from interlock.run.run import Run, StageRun, begin
from interlock.source.commit import Commit, Occasion
from interlock.source.repository import PullRequest, Watched
from interlock.vocabulary import Digest, Json, Kind, Phase, Stored, Verdict

A, B = "a" * 40, "b" * 40
TRAIN = StagePlan(name="train", kind="stage", command="t")
RAN = {"train": StageRun(phase=Phase.SUCCEEDED, attempt=1, differences=("train.py changed",))}
PULL_REQUEST = PullRequest(number=7, base="main")


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class World:
    """A store with runs, forges, and the part under test, which can be ended and begun again."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.forges: dict[str, Forge] = {}
        self.said: list[str] = []
        self.reporting: Reporting | None = None

    def forge(self, name: str = "flights") -> MemoryForge:
        made = MemoryForge()
        self.forges[name] = made
        return made

    def begin(self) -> None:
        self.end()
        watched = {name: Watched(name=name, git_directory="/g") for name in self.forges}
        url = "https://ci.example/"
        self.reporting = Reporting(self.store, watched, self.forges, url, self.clock, self.said.append)

    def end(self) -> None:
        if self.reporting is not None:
            self.reporting.close()
            self.reporting = None

    def once(self) -> bool:
        if self.reporting is None:
            self.begin()
        assert self.reporting is not None
        return self.reporting.one_pass()

    def settle(self) -> None:
        """Until nothing is left to tell."""
        self.until(lambda: not self.once())

    def until(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not what():
            assert time.monotonic() < deadline, self.said
            time.sleep(0.005)

    def save(self, kind: Kind, key: str, state: Stored, phase: str, observed: dict[str, Json] | None = None) -> None:
        _, version = load_state(self.store, kind, key, type(state))
        write = write_state(kind, key, state, expected=version, phase=phase, because="b", observed=observed or {})
        self.store.save(write)

    def run(
        self, number: int, phase: Phase = Phase.RUNNING, sha: str = A, name: str = "flights", **more: object
    ) -> Run:
        commit = Commit(repository=name, git_directory="/g", ref="refs/heads/main", sha=sha, tree=sha)
        plan = Plan(stages=(TRAIN,))
        run = begin(number, commit, Occasion(kind="push"), plan, Digest("blake3:x"), driver="server", is_trusted=True)
        run = run.model_copy(update={"phase": phase, "stages": RAN, "because": "it is so", **more})
        self.save(Kind.RUN, run.key, run, phase)
        return run

    def report(self, number: int) -> Report:
        report, _ = load_state(self.store, Kind.REPORT, str(number), Report)
        assert report is not None
        return report

    def rollout(
        self, number: int, phase: RolloutPhase, release: int | None, because: str = "because", **more: object
    ) -> None:
        one = Revision(
            environment="flights/production",
            number=number,
            version=3 if release else 2,
            model="flights",
            model_digest=Digest("blake3:m"),
            lock=Digest("blake3:l"),
            format="skops",
        )
        rollout = Rollout(
            number=number,
            environment="flights/production",
            release=release,
            stable=None if release else one.model_copy(update={"version": 3}),
            candidate=one,
            steps=(),
            deadline=1.0,
            started=0.0,
            since=0.0,
            phase=phase,
            because=because,
        ).model_copy(update=more)
        self.save(Kind.ROLLOUT, rollout.key, rollout, phase, summary(rollout))


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    clock = Clock()
    store: MemoryStore | SqlStore
    store = MemoryStore(clock) if request.param == "memory" else SqlStore(database_url(request, tmp_path), now=clock)
    made = World(store, clock)
    yield made
    made.end()
    if isinstance(store, SqlStore):
        store.close()


def shown(forge: MemoryForge, sha: str = A) -> dict[str, str]:
    return {context: status.state for context, status in forge.statuses.get(sha, {}).items()}


def told(forge: MemoryForge) -> list[tuple[str, str]]:
    return [(item.context, item.state) for item in forge.told if isinstance(item, Status)]


def test_a_run_is_told_as_it_goes_on_and_nothing_twice(world: World) -> None:
    forge = world.forge()
    world.run(1, Phase.QUEUED, stages={"train": StageRun()})
    world.settle()
    assert shown(forge) == {"interlock": "pending", "interlock/plan": "pending"}
    world.run(1)
    world.settle()
    result = GateResult(gate="auc min 0.7", verdict=Verdict.PASS, because="0.8 >= 0.7")
    world.run(1, Phase.SUCCEEDED, judgement=Judgement(results=(result,)))
    world.settle()
    assert shown(forge) == {
        "interlock": "success",
        "interlock/plan": "success",
        "interlock/gate: auc min 0.7": "success",
    }
    assert forge.statuses[A]["interlock"].url == "https://ci.example/api/v1/runs/1"
    assert len(told(forge)) == len(set(told(forge))) + 1  # pending is told twice: it waits, it runs
    assert world.report(1).phase is ReportPhase.TOLD
    world.run(1, Phase.SUCCEEDED, judgement=Judgement(results=(result,)))
    world.settle()
    assert len(told(forge)) == 6
    assert world.said == []


def test_runs_of_other_repositories_and_of_nobody_are_not_told(world: World) -> None:
    forge = world.forge()
    world.run(1, name="unknown")
    world.run(2, Phase.SUCCEEDED, occasion=Occasion(kind="local"))
    world.settle()
    assert forge.told == []
    assert world.store.rows(Kind.REPORT) == []


def test_what_was_not_acknowledged_is_told_after_a_restart_from_rows_alone(world: World) -> None:
    forge = world.forge()
    forge.problem = ForgeFault("502")
    world.run(1, Phase.SUCCEEDED)
    world.until(lambda: world.once() and bool(world.said))
    world.begin()
    forge.problem = None
    world.clock.now += 5
    world.settle()
    assert shown(forge) == {"interlock": "success", "interlock/plan": "success"}


def test_what_happened_while_nobody_followed_is_told_after_a_restart(world: World) -> None:
    forge = world.forge()
    world.run(1)
    world.settle()
    world.end()
    world.run(1, Phase.FAILED)
    world.run(2, Phase.SUCCEEDED, sha=B)
    world.settle()
    assert shown(forge)["interlock"] == "failure"
    assert shown(forge, B)["interlock"] == "success"


def test_a_restart_tells_nothing_that_was_acknowledged(world: World) -> None:
    forge = world.forge()
    world.run(1, Phase.SUCCEEDED)
    world.settle()
    before = len(forge.told)
    for _ in range(3):
        world.begin()
        world.settle()
    assert len(forge.told) == before


def test_where_events_were_never_followed_only_recent_runs_are_told(world: World) -> None:
    world.run(1, Phase.SUCCEEDED)
    world.clock.now += 7200
    world.run(2, Phase.SUCCEEDED, sha=B)
    forge = world.forge()
    world.settle()
    assert shown(forge) == {}
    assert shown(forge, B)["interlock"] == "success"


def test_an_older_state_is_never_told_after_a_newer_one(world: World) -> None:
    forge = world.forge()
    forge.problem = ForgeFault("502")
    world.run(1)
    world.until(lambda: world.once() and bool(world.said))
    world.run(1, Phase.SUCCEEDED)
    forge.problem = None
    world.clock.now += 5
    world.settle()
    assert told(forge) == [("interlock", "success"), ("interlock/plan", "success")]


def test_of_two_runs_of_a_commit_the_newer_one_speaks(world: World) -> None:
    forge = world.forge()
    forge.problem = ForgeFault("502")
    world.run(1, Phase.FAILED)
    world.until(lambda: world.once() and bool(world.said))
    world.run(2, Phase.SUCCEEDED)
    world.run(1, Phase.CANCELLED)
    forge.problem = None
    world.clock.now += 5
    world.settle()
    assert told(forge) == [("interlock", "success"), ("interlock/plan", "success")]
    assert world.report(1).phase is ReportPhase.TOLD
    world.run(1, Phase.ERRORED)
    world.settle()
    assert shown(forge)["interlock"] == "success"


def test_a_pull_request_has_the_comment_of_its_newest_commit(world: World) -> None:
    forge = world.forge()
    world.run(1, Phase.FAILED, pull_request=PULL_REQUEST)
    world.settle()
    assert "### Interlock: failed" in forge.comments[7]["<!-- interlock -->"]
    world.run(2, Phase.SUCCEEDED, sha=B, pull_request=PULL_REQUEST)
    world.settle()
    assert "### Interlock: passed" in forge.comments[7]["<!-- interlock -->"]
    world.run(3, Phase.FAILED, pull_request=PULL_REQUEST, reruns=(1,))
    world.settle()
    assert "### Interlock: passed" in forge.comments[7]["<!-- interlock -->"]
    assert shown(forge)["interlock"] == "failure"


def test_a_refusal_is_said_held_and_tried_again_after_an_hour(world: World) -> None:
    forge = world.forge()
    forge.problem = Refused("it does not take this", "404", "check the project's name")
    world.run(1, Phase.SUCCEEDED)
    world.settle()
    assert world.report(1).phase is ReportPhase.HELD
    assert world.said == ["flights: 404: it does not take this (check the project's name)"] * 2
    event = world.store.events(Kind.REPORT, "1")[-1]
    assert "interlock is refused: 404: it does not take this (check the project's name)" in event.because
    forge.problem = None
    world.clock.now += 3500
    world.begin()
    world.settle()
    assert forge.told == []
    world.clock.now += 200
    world.until(lambda: world.once() or world.report(1).phase is ReportPhase.TOLD)
    world.settle()
    assert shown(forge)["interlock"] == "success"


def test_a_refused_run_is_told_at_once_when_it_changes(world: World) -> None:
    forge = world.forge()
    forge.problem = Refused("no", "403", "give it rights")
    world.run(1)
    world.settle()
    forge.problem = None
    world.run(1, Phase.SUCCEEDED)
    world.settle()
    assert shown(forge) == {"interlock": "success"}


def test_a_failing_forge_is_asked_once_for_each_wait(world: World) -> None:
    forge = world.forge()
    forge.problem = ForgeFault("502", retry_after=30.0)
    for number in range(1, 20):
        world.run(number, Phase.SUCCEEDED, sha=f"{number:040}")
    world.until(lambda: world.once() and bool(world.said))
    for _ in range(50):
        assert world.once()
        time.sleep(0.002)
    assert world.said == ["flights is tried again in 30 s: 502"]
    world.clock.now += 31
    world.until(lambda: world.once() and len(world.said) == 2)
    forge.problem = None
    world.clock.now += 31
    world.settle()
    assert len(forge.statuses) == 19


class DeadForge:
    """A forge that does not answer until it is let go."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.released = threading.Event()

    def set_status(self, sha: str, status: Status) -> None:
        self.asked.set()
        self.released.wait(60)
        raise ForgeFault("no answer")

    def put_comment(self, comment: Comment) -> None:
        raise AssertionError("statuses come first")


def test_a_dead_forge_holds_no_other(world: World) -> None:
    alive, dead = world.forge("alive"), DeadForge()
    world.forges["dead"] = dead
    world.run(1, Phase.SUCCEEDED, name="dead")
    world.until(lambda: world.once() and dead.asked.is_set())
    world.run(2, Phase.SUCCEEDED, name="alive")
    world.until(lambda: world.once() and shown(alive) == {"interlock": "success", "interlock/plan": "success"})
    world.run(3, Phase.FAILED, sha=B, name="alive")
    world.until(lambda: world.once() and "interlock/plan" in shown(alive, B))
    dead.released.set()


class BrokenForge(DeadForge):
    """A forge with a mistake in it."""

    def set_status(self, sha: str, status: Status) -> None:
        raise ZeroDivisionError("division by zero")


def test_a_mistake_in_a_forge_is_said_and_ends_nothing(world: World) -> None:
    alive = world.forge("alive")
    world.forges["broken"] = BrokenForge()
    world.run(1, Phase.SUCCEEDED, name="broken")
    world.until(lambda: world.once() and bool(world.said))
    assert world.said == ["broken is tried again in 1 s: ZeroDivisionError: division by zero"]
    world.run(2, Phase.SUCCEEDED, name="alive")
    world.until(lambda: world.once() and "interlock/plan" in shown(alive))


def test_a_run_that_cannot_be_read_keeps_no_other_from_being_told(world: World) -> None:
    forge = world.forge()
    world.save(Kind.RUN, "1", PULL_REQUEST, Phase.SUCCEEDED)
    world.run(2, Phase.SUCCEEDED)
    world.settle()
    assert shown(forge)["interlock"] == "success"
    assert [said.partition(":")[0] for said in world.said] == ["run 1 cannot be told of"]


def test_a_rollout_that_cannot_be_read_keeps_no_other_from_being_told(world: World) -> None:
    forge = world.forge()
    world.settle()
    world.save(Kind.ROLLOUT, "1", PULL_REQUEST, RolloutPhase.PROMOTED)
    world.run(2, Phase.SUCCEEDED)
    world.settle()
    assert shown(forge)["interlock"] == "success"
    assert [said.partition(":")[0] for said in world.said] == ["rollout 1 cannot be told of"]


class DyingStore:
    """A store of a process that is killed at its call number ``last``, before or after that call is done."""

    def __init__(self, store: Store, last: int, is_done: bool) -> None:
        self._store = store
        self._left = last
        self._is_done = is_done
        self._turn = threading.Lock()

    @property
    def is_dead(self) -> bool:
        return self._left <= 0

    def __getattr__(self, name: str) -> object:
        def call(*arguments: object, **named: object) -> object:
            with self._turn:
                self._left -= 1
                if self._left > 0 or (self._left == 0 and self._is_done):
                    answer = getattr(self._store, name)(*arguments, **named)
                if self._left <= 0:
                    raise StoreFault("killed")
                return answer

        return call


@pytest.mark.parametrize("is_done", [True, False], ids=["after the call", "before the call"])
def test_killed_at_any_call_to_the_store_all_is_told_in_the_end_and_in_order(is_done: bool) -> None:
    deaths = 0
    for last in range(1, 200):
        world = World(MemoryStore(), Clock())
        forge = world.forge()
        dying = DyingStore(world.store, last, is_done)
        watched = {"flights": Watched(name="flights", git_directory="/g")}
        killed = Reporting(dying, watched, world.forges, "", world.clock)  # type: ignore[arg-type]  # by __getattr__
        world.run(1, Phase.QUEUED, stages={"train": StageRun()}, pull_request=PULL_REQUEST)
        world.until(lambda killed=killed, dying=dying: not killed.one_pass() or dying.is_dead)  # type: ignore[misc]
        world.run(1, Phase.SUCCEEDED, pull_request=PULL_REQUEST)
        world.until(lambda killed=killed, dying=dying: not killed.one_pass() or dying.is_dead)  # type: ignore[misc]
        killed.close()
        world.settle()
        world.end()
        assert shown(forge) == {"interlock": "success", "interlock/plan": "success"}
        assert "### Interlock: passed" in forge.comments[7]["<!-- interlock -->"]
        states = [state for context, state in told(forge) if context == "interlock"]
        assert states == sorted(states)  # pending before success
        assert len(states) <= 3
        deaths += dying.is_dead
        if not dying.is_dead:
            break
    assert 15 < deaths < 199


def test_deliveries_are_told_to_the_commit_they_come_from(world: World) -> None:
    forge = world.forge()
    world.run(1, Phase.SUCCEEDED, version="flights/3")
    world.settle()
    release = Release(number=5, model="flights", version="flights/3", title="flights v3", run="1", environments=())
    world.save(Kind.RELEASE, "5", release, "open")
    world.rollout(1, RolloutPhase.PROGRESSING, release=5)
    world.settle()
    assert "interlock/deploy: production" not in shown(forge)
    evidence = begin_analysis([Rule(metric="error_rate")], 9)
    probation = {"is_on_probation": True, "probation": 86400.0, "weight": 95, "analysis": evidence}
    for because in ("some evidence", "more evidence"):
        world.rollout(1, RolloutPhase.PROGRESSING, release=5, because=because, **probation)
        world.settle()
        status = forge.statuses[A]["interlock/deploy: production"]
        told = "passed all steps: on probation at 95 % until 1970-01-02 00:00 UTC"
        assert (status.state, status.description) == ("pending", told)
    world.rollout(1, RolloutPhase.PROMOTED, release=5, because="flights v3 has all traffic")
    world.settle()
    status = forge.statuses[A]["interlock/deploy: production"]
    assert (status.state, status.description) == ("success", "delivered: flights v3 has all traffic")
    world.run(2, Phase.SUCCEEDED, version="flights v3")
    world.save(Kind.VERSION, "flights/3", version_of_run("1"), "registered")
    world.rollout(2, RolloutPhase.PROMOTED, release=None)
    world.settle()
    status = forge.statuses[A]["interlock/deploy: production"]
    assert (status.state, status.description) == ("failure", "rolled back: back to flights v2")
    assert forge.statuses[A]["interlock"].url.endswith("/2")


def test_what_waits_for_people_is_told_until_it_goes_on(world: World) -> None:
    forge = world.forge()
    world.run(1, Phase.SUCCEEDED, version="flights/3")
    world.settle()
    production = EnvironmentPlan(name="production", approvals=1)
    release = Release(
        number=5, model="flights", version="flights/3", title="flights v3", run="1", environments=(production,)
    )
    waiting = advance(release, ReleaseSeen()).state
    write = write_state(Kind.RELEASE, "5", waiting, expected=0, phase=waiting.phase, because=waiting.because)
    world.store.save(write)
    world.settle()
    status = forge.statuses[A]["interlock/deploy: production"]
    assert status.state == "pending"
    assert status.description.startswith("waits: 0 of 1 of the approvals it waits for were given: interlock approve")
    approved = approve(waiting, "ada", "looked at").state
    world.save(Kind.RELEASE, "5", approved, "open")
    world.rollout(1, RolloutPhase.PROMOTED, release=5, because="flights v3 has all traffic")
    world.settle()
    assert forge.statuses[A]["interlock/deploy: production"].state == "success"


def version_of_run(run: str) -> ModelVersion:
    digest = Digest("blake3:m")
    return ModelVersion(
        model="flights",
        number=3,
        digest=digest,
        lock=digest,
        format="skops",
        judgement=Judgement(),
        repository="flights",
        ref="refs/heads/main",
        commit=A,
        run=run,
        plan=digest,
        serving=digest,
        signature=digest,
        provenance=digest,
        is_trusted=True,
        made=0.0,
    )


def test_rollouts_of_nobody_are_passed_over(world: World) -> None:
    forge = world.forge()
    world.settle()
    world.rollout(1, RolloutPhase.PROMOTED, release=9)
    world.rollout(2, RolloutPhase.PROMOTED, release=None)
    world.rollout(3, RolloutPhase.ROLLED_BACK, release=None)
    world.settle()
    assert forge.told == []
    assert world.said == []


def test_a_server_that_ends_waits_for_the_item_it_is_at(world: World) -> None:
    dead = DeadForge()
    world.forges["flights"] = dead
    world.run(1, Phase.SUCCEEDED)
    world.until(lambda: world.once() and dead.asked.is_set())
    ending = threading.Thread(target=world.end)
    ending.start()
    dead.released.set()
    ending.join(30)
    assert not ending.is_alive()
    assert world.report(1).phase is ReportPhase.TELLING

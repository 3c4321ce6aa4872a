"""Twenty runs under way at once while the server and their stages are killed at random: every run ends, once.

C2 of the fault matrix. ``STORM_SEEDS`` says how many storms; ``make storm`` takes fifty.
"""

import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from tests.conftest import free_port
from tests.small_server import SmallRepository, SmallServer, is_over, marked, wait_for

from interlock.client.api import Client
from interlock.control.running.attempts import Attempt
from interlock.run.run import Run
from interlock.run.stage import StageOutcome
from interlock.vocabulary import Event, Kind, Phase, Row

SEEDS = int(os.environ.get("STORM_SEEDS", "1"))
RUNS, KILLS = 20, 4
ENDING_SECONDS = 60.0
PIPELINE = """
version: 1
checks: []
stages:
  one: {{cmd: "sleep 5; cat number > one", outs: [one], resources: {{cpu: 0.1}}, env: {{STORM: "{mark}"}}}}
  two: {{cmd: "(setsid sleep 300 &) ; sleep 0.3; cat one > two", deps: [one], outs: [two], resources: {{cpu: 0.1}},
        env: {{STORM: "{mark}"}}}}
  three: {{cmd: "sleep 0.3; cat two > three", deps: [two], outs: [three], resources: {{cpu: 0.1}},
          env: {{STORM: "{mark}"}}}}
"""


class Storm:
    """Twenty small repositories and one server, somebody who follows all that it decides, and a hand that kills."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.choice = random.Random(seed)
        self.mark = f"storm-{os.getpid()}-{seed}-"
        self.repositories = [SmallRepository(folder, f"r{n}", PIPELINE.format(mark=self.mark)) for n in range(RUNS)]
        paths = {one.name: {"path": str(one.bare)} for one in self.repositories}
        self.server = SmallServer(folder, paths, listen=f"127.0.0.1:{free_port()}")
        self.shas: Counter[tuple[str, str]] = Counter()
        self.stages_killed = 0
        self.heard: list[int] = []

    def push(self, *repositories: SmallRepository) -> None:
        for repository in repositories:
            sha = repository.commit("work", number=f"{repository.name} {len(self.shas)}\n")
            self.shas[repository.name, sha] += 1
        for repository in repositories:  # all at once, or the first would be over before the last begins
            repository.arrive()

    def follow(self, token: str) -> None:
        """Hears of every decision, over every death of the server."""
        with Client(self.server.url, token) as client, suppress(Exception):
            for event in client.follow_events(after=0):
                self.heard.append(event.number)

    def kill_a_stage(self) -> None:
        """Any process of a stage, its supervisor included."""
        if found := marked(self.mark):
            with suppress(ProcessLookupError):
                os.kill(self.choice.choice(found), signal.SIGKILL)
                self.stages_killed += 1

    def runs(self) -> list[Run]:
        return [Run.model_validate(row.state) for row in self.server.rows(Kind.RUN)]

    def under_way(self) -> int:
        return sum(run.phase is Phase.RUNNING for run in self.runs())


def broken_rules(events: Sequence[Event], runs: Sequence[Run], attempts: Sequence[Row]) -> list[str]:
    """What the history tells that no history may tell."""
    histories: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        histories.setdefault((event.kind, event.key), []).append(event)
    told = [f"{thing} has other versions" for thing, history in histories.items() if not is_in_order(history)]
    for run in runs:
        finals = [Phase(event.phase).is_final for event in histories[Kind.RUN, run.key]]
        if finals != [False] * (len(finals) - 1) + [True]:
            told.append(f"run {run.key} did not end exactly once: {finals}")
    tries: dict[str, dict[int, Attempt]] = {}
    for row in attempts:
        stage, _, number = row.key.rpartition("/")
        tries.setdefault(stage, {})[int(number)] = Attempt.model_validate(row.state)
    used = {f"{run.key}/{name}": stage.attempt for run in runs for name, stage in run.stages.items() if stage.attempt}
    return [*told, *(problem for stage, last in used.items() for problem in broken_tries(stage, last, tries[stage]))]


def is_in_order(history: Sequence[Event]) -> bool:
    return [event.version for event in history] == list(range(1, len(history) + 1))


def broken_tries(stage: str, last: int, tries: Mapping[int, Attempt]) -> Iterator[str]:
    """``last`` is the attempt whose result the run has."""
    if sorted(tries) != list(range(1, last + 1)):
        yield f"{stage}: tried as {sorted(tries)}, and the run knows of {last}"
    for number, attempt in tries.items():
        if number < last and attempt.outcome is not None and attempt.outcome.phase is not Phase.ERRORED:
            yield f"{stage}: tried again after attempt {number} had {attempt.outcome.phase}"


@pytest.fixture
def storm(request: pytest.FixtureRequest) -> Iterator[Storm]:
    with tempfile.TemporaryDirectory(prefix="ij-storm-", ignore_cleanup_errors=True) as folder:
        made = Storm(Path(folder), request.param)
        try:
            yield made
        finally:
            made.server.end()


@pytest.mark.slow
@pytest.mark.xdist_group("servers")
@pytest.mark.parametrize("storm", range(SEEDS), indirect=True)
def test_every_run_ends_once_whatever_is_killed(storm: Storm) -> None:
    # Given twenty runs under way at once, and a follower
    server = storm.server.start()
    storm.push(storm.repositories[0])
    server.until("r0", 1, Phase.SUCCEEDED, told="the run that makes the environment")
    follower = threading.Thread(target=storm.follow, args=(server.token(),), daemon=True)
    follower.start()
    storm.push(*storm.repositories)
    wait_for(lambda: storm.under_way() == RUNS, "twenty runs under way at once")
    # When the server and some stages are killed again and again
    under_way = []
    for kill in range(KILLS):
        time.sleep(storm.choice.uniform(0.1, 2.5) if kill else 0.0)
        for _ in range(storm.choice.randrange(3)):
            storm.kill_a_stage()
        under_way.append(storm.under_way())
        server.kill()
        began = time.monotonic()
        server.start()
    # Then every run ends within a minute, once
    wait_for(
        lambda: len(runs := storm.runs()) == RUNS + 1 and all(map(is_over, runs)),
        "the end of every run",
        ENDING_SECONDS - (time.monotonic() - began),
    )
    runs = storm.runs()
    print(f"under way at the kills {under_way}, {storm.stages_killed} stages killed, {time.monotonic() - began:.1f} s")
    assert under_way[0] == RUNS
    assert Counter((run.commit.repository, run.commit.sha) for run in runs) == storm.shas
    assert broken_rules(server.store.events(), runs, server.rows(Kind.ATTEMPT)) == []
    assert server.store.check() is None
    # And only a stage that was killed itself lets its run fail
    others = {run.number: (run.phase, run.because) for run in runs if run.phase is not Phase.SUCCEEDED}
    assert len(others) <= storm.stages_killed, others
    assert all("SIGKILL" in because or "killed" in because for _, because in others.values()), others
    # And no process and no workspace is left, and the follower heard everything, once and in order
    wait_for(lambda: marked(storm.mark) == [], "the end of every process", 5)
    assert not list((server.state / "execution" / "workspaces").glob("executor-*/*"))
    decided = [event.number for event in server.store.events()]
    wait_for(lambda: len(storm.heard) >= len(decided), "the follower's last event")
    assert storm.heard == decided


def event(version: int, phase: str, kind: Kind = Kind.RUN) -> Event:
    return Event(number=version, kind=kind, key="1", version=version, phase=phase, at=0.0, because="", observed={})


def test_the_rules_find_what_they_are_there_for() -> None:
    """A versions' gap, a life after the end, an attempt nobody knows of, and one after another's success."""
    assert is_in_order([event(1, "queued"), event(2, "running")])
    assert not is_in_order([event(1, "queued"), event(3, "running")])
    assert not is_in_order([event(1, "queued"), event(1, "queued")])
    done = Attempt(owner="a", outcome=StageOutcome(phase=Phase.SUCCEEDED, because="finished"))
    lost = Attempt(owner="a")
    assert list(broken_tries("1/one", 2, {1: lost, 2: done})) == []
    assert list(broken_tries("1/one", 1, {1: done, 2: lost}))
    assert list(broken_tries("1/one", 2, {1: done, 2: done}))

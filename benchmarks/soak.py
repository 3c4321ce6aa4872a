"""Half an hour of ordinary days: whether a server under steady load keeps its memory and its descriptors.

``python benchmarks/soak.py [--minutes 30]``; a few minutes are enough to see a leak of some size. A real server with
one repository: 20 reads of the API a second, 20 signed webhooks a second (mostly copies), a push every few seconds, and
a follower of all events. Ends with 1 where memory grows by more than 1 MB a minute after the warm-up, descriptors grow,
anything is answered that should not be, or the follower misses an event.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.small_server import SmallRepository, SmallServer, on_github, push_of, wait_for

from interlock.client.api import Client
from interlock.vocabulary import Phase

READS, CALLS = 20.0, 20.0
"""A second."""
PUSH_EVERY = 5.0
SAMPLE_EVERY = 2.0
MOST_GROWTH = 1.0
"""MB a minute."""
MOST_MORE_DESCRIPTORS = 5.0
PIPELINE = "version: 1\nchecks: []\nstages:\n  only: {cmd: 'cat number > made; seq 50', outs: [made]}\n"


class Load:
    """What is asked of the server, each kind on a thread of its own, and what was answered."""

    def __init__(self, server: SmallServer, repository: SmallRepository) -> None:
        self.server, self.repository = server, repository
        self.answers: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.followed: list[int] = []
        self.pushes = 0
        self._token = server.token()
        self._over = threading.Event()
        self._turn = threading.Lock()
        works = (self._read, 1 / READS), (self._call, 1 / CALLS), (self._push, PUSH_EVERY)
        self._threads = [threading.Thread(target=self._repeat, args=work, daemon=True) for work in works]
        self._threads.append(threading.Thread(target=self._follow, daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends all but the follower, who waits for an event that will not come."""
        self._over.set()
        for thread in self._threads[:-1]:
            thread.join()

    def _repeat(self, work: Callable[[int], str], pause: float) -> None:
        turn, due = 0, time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due, turn = max(due + pause, time.monotonic() - 1.0), turn + 1
            try:
                told = work(turn)
            except OSError as lost:
                told = type(lost).__name__
            with self._turn:
                self.answers[told] += 1

    def _read(self, turn: int) -> str:
        last = max(1, self.pushes)
        run = f"/api/v1/runs/{last}"
        paths = ["/api/v1/runs", run, f"{run}/stages/only/attempts/1/log", "/api/v1/events?limit=100", "/metrics"]
        path = paths[turn % len(paths)]
        began = time.monotonic()
        status = self.server.get(path, self._token).status
        self.seconds.append(time.monotonic() - began)
        return f"read {200 if status == 404 and path.startswith(run) else status}"  # not begun yet

    def _call(self, _: int) -> str:
        return f"call {self.server.hook('small', 'push', push_of(self.repository.head)).status}"

    def _push(self, turn: int) -> str:
        self.repository.commit(f"commit {turn}", number=f"{turn}\n")
        self.repository.arrive()
        self.pushes += 1
        return "push"

    def _follow(self) -> None:
        with Client(self.server.url, self._token) as client:
            for event in client.follow_events(after=0):
                self.followed.append(event.number)


def memory(pid: int) -> float:
    """Resident megabytes of the process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def descriptors(pid: int) -> int:
    """Open descriptors of the process."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - only their number is wanted


def measure(pid: int, minutes: float) -> list[tuple[float, float, int]]:
    """Minutes, megabytes and descriptors over the time."""
    samples, began = [], time.monotonic()
    while (at := (time.monotonic() - began) / 60) < minutes:
        samples.append((at, memory(pid), descriptors(pid)))
        time.sleep(SAMPLE_EVERY)
    return samples


def main() -> int:
    """Loads, measures, prints, judges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory(prefix="ij-soak-") as name:
        folder = Path(name)
        repository = SmallRepository(folder, "small", PIPELINE)
        server = SmallServer(folder, {"small": on_github(repository)}, poll_every=30)
        try:
            return soak(server.start(), repository, minutes)
        finally:
            server.end()


def is_last_run_over(server: SmallServer, sha: str) -> bool:
    """Whether the run of this commit has succeeded."""
    last = server.runs("small")[-1]
    return last.commit.sha == sha and last.phase is Phase.SUCCEEDED


def soak(server: SmallServer, repository: SmallRepository, minutes: float) -> int:
    """The exit code."""
    assert server.process is not None
    load = Load(server, repository)
    samples = measure(server.process.pid, minutes)
    load.stop()
    server.hook("small", "push", push_of(repository.head))
    wait_for(lambda: is_last_run_over(server, repository.head), "the last run")
    time.sleep(2.0)
    decided = [event.number for event in server.store.events()]
    warm = [sample for sample in samples if sample[0] >= minutes / 4]
    slope = statistics.linear_regression([at for at, _, _ in warm], [used for _, used, _ in warm]).slope
    third = len(warm) // 3
    more = statistics.mean(open_ for _, _, open_ in warm[-third:]) - statistics.mean(o for _, _, o in warm[:third])
    errors = {told: count for told, count in load.answers.items() if told not in ("read 200", "call 202", "push")}
    slow = statistics.quantiles(load.seconds, n=100)[98]
    runs = len(server.runs("small"))
    print(f"{minutes:g} minutes, {load.pushes} pushes, {runs} runs, {sum(load.answers.values())} requests")
    eighth = max(1, len(samples) // 8)
    course = [statistics.mean(used for _, used, _ in samples[at : at + eighth]) for at in range(0, 8 * eighth, eighth)]
    print(f"memory        {' '.join(f'{used:.1f}' for used in course)} MB, {slope:+.2f} MB/min after the warm-up")
    print(f"descriptors   {warm[0][2]} to {warm[-1][2]}, {more:+.1f}")
    print(f"reads         p50 {statistics.median(load.seconds) * 1000:.1f} ms, p99 {slow * 1000:.1f} ms")
    print(f"errors        {errors or 'none'}")
    print(f"follower      {len(load.followed)} of {len(decided)} events, in order: {load.followed == decided}")
    is_good = slope <= MOST_GROWTH and more <= MOST_MORE_DESCRIPTORS and not errors and load.followed == decided
    print("good" if is_good else "NOT good")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())

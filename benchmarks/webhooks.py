"""Durable webhooks a second while runs go on: the inbox's group commit against one commit for each call, on the same
server, and nothing lost when it is killed in the middle.

``python benchmarks/webhooks.py [SECONDS]``. Two real servers, ``interlock server`` and the same with an inbox written
without thought, each with its own database. Each call is a push of 6 KB, signed, and answered only when it is on the
disk (fsync). The load comes from another process on this machine, over 64 connections that are kept alive; meanwhile a
second repository is pushed to again and again, and its runs are executed. The naive server has its turn before and
after the other's minute. Then the good one is killed under load: every call that it answered must be in its database.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop
from tests.small_server import HOOK_SECRET, SmallRepository, SmallServer, on_github, push_of

from interlock.app import server
from interlock.control.inbox import Inbox
from interlock.errors import StoreFault
from interlock.source.notice import Notice
from interlock.vocabulary import Phase
from interlock.web.running import serve

CONNECTIONS = 64
"""A flood comes over many: one commit can be for no more calls than these."""
LEAST_RATIO = 4.0
LEAST_RATE = 1000.0
MOST_P99 = 0.250
PUSH_EVERY = 1.0
"""Seconds between the commits of the repository whose runs go on."""
LEAST_RUNS = 0.2
"""Runs a second that must have ended meanwhile; with fewer the figures are not of a server that does its work."""
KILLED_AFTER = 500
"""Calls, of a load that would go on for longer."""
DYING_SECONDS = 30.0
SETTLING_SECONDS = 120.0
PIPELINE = "version: 1\nchecks: []\nstages:\n  only: {cmd: 'cat number > made; seq 50', outs: [made]}\n"
BODY = json.dumps(
    {"ref": "refs/heads/main", "before": "0" * 40, "after": "1" * 40, "commits": ["x" * 100] * 58}
).encode()


class Load(NamedTuple):
    """How many calls were answered, the seconds of the middle one and of 99 in 100, and how many connections ended."""

    calls: int
    middle: float
    late: float
    lost: int


class Figures(NamedTuple):
    """Calls a second, seconds of the middle one and of 99 in 100, and the runs that ended meanwhile."""

    rate: float
    middle: float
    late: float
    runs: int


class OneCommitEach(Inbox):
    """What a server does that is written without thought: each call is its own transaction."""

    def accept(self, notice: Notice) -> Future[None]:
        """Done once its own transaction is."""
        accepted: Future[None] = Future()

        def keep() -> None:
            try:
                self._store.note(notice)
                accepted.set_result(None)
                self._ring()
            except StoreFault as fault:
                accepted.set_exception(fault)

        threading.Thread(target=keep, daemon=True).start()
        return accepted


def serve_naively(state: Path) -> None:
    """``interlock server`` with that inbox."""
    server.Inbox = OneCommitEach  # type: ignore[misc]
    serve(state, None, os.environ, lambda line: print(line, flush=True))


async def load(port: int, seconds: float) -> Load:
    """Calls from all connections for so long. RuntimeError for an answer that is not 202."""
    signature = hmac.new(HOOK_SECRET.encode(), BODY, hashlib.sha256).hexdigest()
    head = (
        f"POST /hooks/github/small HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"X-GitHub-Event: push\r\nX-Hub-Signature-256: sha256={signature}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    request = head.encode() + BODY
    took: list[float] = []
    over = time.monotonic() + seconds

    async def call() -> int:
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while time.monotonic() < over:
                began = time.monotonic()
                writer.write(request)
                answer = await reader.readuntil(b"\r\n\r\n")
                if not answer.startswith(b"HTTP/1.1 202"):
                    raise RuntimeError(answer.decode())
                took.append(time.monotonic() - began)
                length = next(line for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length"))
                await reader.readexactly(int(length.partition(b":")[2]))
        except (ConnectionError, asyncio.IncompleteReadError):
            return 1
        finally:
            if writer is not None:
                writer.close()
        return 0

    lost = await asyncio.gather(*(call() for _ in range(CONNECTIONS)))
    took.sort()
    middle, late = (took[int(len(took) * share)] if took else 0.0 for share in (0.5, 0.99))
    return Load(len(took), middle, late, sum(lost))


class Contender:
    """A server, the repository that is called for, the one whose runs go on, and what was acknowledged."""

    def __init__(self, folder: Path, *, is_naive: bool) -> None:
        folder.mkdir()
        self.busy, small = SmallRepository(folder, "busy", PIPELINE), SmallRepository(folder, "small", PIPELINE)
        small.commit("next", number="small\n")
        small.arrive()
        settings = {one.name: on_github(one) for one in (self.busy, small)}
        self.server = SmallServer(folder, settings, poll_every=30)
        self.command = [sys.executable, __file__, "--serve", str(self.server.state)] if is_naive else None
        self.acknowledged = 0
        self.pushes = 0
        self.server.start(self.command)

    def measure(self, seconds: float) -> Figures:
        """Under load for so long."""
        over = threading.Event()
        pushing = threading.Thread(target=self._push, args=(over,))
        before = self._ended()
        pushing.start()
        told = self._load(seconds)
        ended = self._ended() - before
        over.set()
        pushing.join()
        if told.lost:
            raise RuntimeError(f"{told.lost} connections were lost")
        return Figures(told.calls / seconds, told.middle, told.late, ended)

    def die_under_load(self) -> tuple[int, float]:
        """How many acknowledged calls are lost when it is killed, and the seconds until the next life has looked into
        all the others.
        """
        told: list[Load] = []
        loading = threading.Thread(target=lambda: told.append(self._load(DYING_SECONDS)))
        before = self._count("1")
        loading.start()
        while self._count("1") < before + KILLED_AFTER:
            time.sleep(0.05)
        self.server.kill()
        loading.join()
        assert told[0].lost, "the server was killed when nobody called"
        lost = self.acknowledged + self.pushes - self._count("1")
        self.server.start(self.command)
        began = time.monotonic()
        while self._count("not is_settled") and time.monotonic() - began < SETTLING_SECONDS:
            time.sleep(0.2)
        return max(0, lost), time.monotonic() - began

    def _load(self, seconds: float) -> Load:
        port = urlsplit(self.server.url).port
        command = [sys.executable, __file__, "--load", str(port), str(seconds)]
        told = Load(*json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        self.acknowledged += told.calls
        return told

    def _push(self, over: threading.Event) -> None:
        while not over.wait(PUSH_EVERY):
            self.busy.commit("next", number=f"{self.pushes}\n")
            self.busy.arrive()
            if self.server.hook("busy", "push", push_of(self.busy.head)).status == 202:
                self.pushes += 1

    def _ended(self) -> int:
        return sum(run.phase is Phase.SUCCEEDED for run in self.server.runs("busy"))

    def _count(self, which: str) -> int:
        with closing(sqlite3.connect(self.server.state / "interlock.db", timeout=30)) as database:
            found: int = database.execute(f"select count(*) from notices where {which}").fetchone()[0]
        return found


def main() -> int:
    """Prints the table; 1 where a limit is broken."""
    if sys.argv[1:2] == ["--load"]:
        print(json.dumps(uvloop.run(load(int(sys.argv[2]), float(sys.argv[3])))))
        return 0
    if sys.argv[1:2] == ["--serve"]:
        serve_naively(Path(sys.argv[2]))
        return 0
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory(prefix="ij-webhooks-") as folder:
        good = Contender(Path(folder, "good"), is_naive=False)
        naive = Contender(Path(folder, "naive"), is_naive=True)
        try:
            for contender in (good, naive):
                contender.measure(3.0)  # makes the environment, and warms all up
            first = naive.measure(seconds / 4)
            ours = good.measure(seconds)
            naives = (first, naive.measure(seconds / 4))
            lost, settled = good.die_under_load()
        finally:
            good.server.end()
            naive.server.end()
    theirs = Figures(*(statistics.mean(column) for column in zip(*naives, strict=True)))
    print(f"{os.cpu_count()} cores, {seconds:g} s, {len(BODY)} bytes, {CONNECTIONS} connections\n")
    print(f"{'':<18} {'calls/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'runs ended':>11}")
    for name, one in (("group commit", ours), ("one commit each", theirs)):
        print(f"{name:<18} {one.rate:>9.0f} {one.middle * 1000:>8.1f} {one.late * 1000:>8.1f} {one.runs:>11.0f}")
    ratio = ours.rate / theirs.rate
    print(f"\nGroup commit takes {ratio:.1f} times as many; the limits are {LEAST_RATIO:g} times, {LEAST_RATE:g}/s")
    print(
        f"and {MOST_P99 * 1000:g} ms for 99 of 100. Of the {good.acknowledged} calls that were acknowledged {lost} were"
    )
    print(f"lost when it was killed; all others were looked into {settled:.1f} s after its next start.")
    is_good = ratio >= LEAST_RATIO and ours.rate >= LEAST_RATE and ours.late <= MOST_P99
    is_at_work = ours.runs >= LEAST_RUNS * seconds
    if not is_at_work:
        print(f"Only {ours.runs} runs ended meanwhile: too few for these figures to count.")
    return 0 if is_good and is_at_work and lost == 0 and settled < SETTLING_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())

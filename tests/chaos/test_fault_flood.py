"""A flood of calls, and as many who send slowly. W4 of the fault matrix, in short; its minute with figures is
``benchmarks/webhooks.py``.
"""

import json
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.small_server import SmallRepository, SmallServer, on_github

pytestmark = pytest.mark.xdist_group("faults")

LOAD = Path(__file__).parents[2] / "benchmarks" / "webhooks.py"
SECONDS = 6.0
LEAST_CALLS = 200
"""A second, on a machine that others use too; the benchmark asks for five times as many."""
SLOW = 200
SLOW_SECONDS = 10.0
HALF = (
    b"POST /hooks/github/small HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 999\r\n"
)
QUICK = "version: 1\nchecks: []\nstages:\n  only: {cmd: 'echo made > made', outs: [made]}\n"


@pytest.fixture
def server() -> Iterator[SmallServer]:
    with tempfile.TemporaryDirectory(prefix="ij-") as name:
        folder = Path(name)
        repository = SmallRepository(folder, "small", QUICK)
        repository.arrive()
        made = SmallServer(folder, {"small": on_github(repository)}, poll_every=30)
        try:
            yield made.start()
        finally:
            made.end()


def closing_times(port: int) -> list[float]:
    """Seconds after which each of the slow ones is closed: half of them never end their headers, half their body."""
    began = time.monotonic()
    slow = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(SLOW)]
    for number, connection in enumerate(slow):
        connection.sendall(HALF + (b"\r\n{" if number % 2 else b""))
    times = []
    for connection in slow:
        while connection.recv(1 << 16):
            pass
        times.append(time.monotonic() - began)
        connection.close()
    return times


@pytest.mark.slow
def test_a_flood_is_kept_whole_and_who_is_slow_is_closed(server: SmallServer) -> None:
    port = urlsplit(server.url).port
    assert port is not None
    times: list[float] = []
    waiting = threading.Thread(target=lambda: times.extend(closing_times(port)))
    waiting.start()
    command = [sys.executable, str(LOAD), "--load", str(port), str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # an answer that is not 202 ends it
    calls, _, _, lost = json.loads(done.stdout)
    waiting.join()
    with closing(sqlite3.connect(server.state / "interlock.db", timeout=30)) as database:
        ((kept,),) = database.execute("select count(*) from notices").fetchall()
    print(f"{calls / SECONDS:.0f} calls a second; the slow ones are closed after {max(times):.1f} s")
    assert lost == 0
    assert kept == calls
    assert calls >= LEAST_CALLS * SECONDS
    assert len(times) == SLOW
    assert max(times) <= SLOW_SECONDS
    server.until("small", 1)
    server.stays("small", 1, seconds=0.5)

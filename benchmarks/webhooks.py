"""Durable webhooks a second: the inbox's group commit against one commit for each call, on the same server.

``python benchmarks/webhooks.py [SECONDS] [ROUNDS]``. Each call is a push of 6 KB, signed, and answered only when it is
on the disk (fsync). The load comes from another process on this machine, over 32 connections that are kept alive. The
two variants take turns; medians of the rounds are compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop
from tests.face import SECRET, ServedFace

from interlock.app.services import Services
from interlock.control.inbox import Inbox
from interlock.errors import StoreFault
from interlock.source.notice import Notice
from interlock.web.serving import Face, Listener

CONNECTIONS = 32
LEAST_RATIO = 4.0
LEAST_RATE = 1000.0
MOST_P99 = 0.250
BODY = json.dumps(
    {"ref": "refs/heads/main", "before": "0" * 40, "after": "1" * 40, "commits": ["x" * 100] * 58}
).encode()


class OneCommitEach(Inbox):
    """What a server does that is written without thought: each call is its own transaction."""

    def accept(self, notice: Notice) -> Future[None]:
        """Done once its own transaction is."""
        accepted: Future[None] = Future()

        def keep() -> None:
            try:
                self._store.note(notice)
                accepted.set_result(None)
            except StoreFault as fault:
                accepted.set_exception(fault)

        threading.Thread(target=keep, daemon=True).start()
        return accepted


async def load(port: int, seconds: float) -> list[float]:
    """How long each call took, in seconds. RuntimeError for an answer that is not 202."""
    signature = hmac.new(SECRET, BODY, hashlib.sha256).hexdigest()
    head = (
        f"POST /hooks/github/small HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"X-GitHub-Event: push\r\nX-Hub-Signature-256: sha256={signature}\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    request = head.encode() + BODY
    took: list[float] = []
    over = time.monotonic() + seconds

    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < over:
            began = time.monotonic()
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 202"):
                raise RuntimeError(answer.decode())
            length = next(line for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length"))
            await reader.readexactly(int(length.partition(b":")[2]))
            took.append(time.monotonic() - began)
        writer.close()

    await asyncio.gather(*(call() for _ in range(CONNECTIONS)))
    return took


def measure(port: int, seconds: float) -> tuple[float, float, float]:
    """Calls a second, and the median and 99th percentile of their times, as another process sees them."""
    command = [sys.executable, __file__, "--load", str(port), str(seconds)]
    took = sorted(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return len(took) / seconds, took[len(took) // 2], took[int(len(took) * 0.99)]


def begin(services: Services, folder: Path) -> Face:
    """A face of its own, on any free port."""
    folder.mkdir()
    face = Face(services, [Listener(address="127.0.0.1", port=0)], folder)
    face.start()
    return face


def main() -> int:
    """Prints the table; 1 where a limit is broken."""
    if sys.argv[1:2] == ["--load"]:
        print(json.dumps(uvloop.run(load(int(sys.argv[2]), float(sys.argv[3])))))
        return 0
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as folder:
        served = ServedFace(Path(folder))
        single = OneCommitEach(served.store, lambda: None)
        usual = replace(served.services, webhook_secrets=lambda _: (SECRET,), say=lambda _: None)
        faces = {
            "group commit": begin(usual, Path(folder, "group")),
            "one commit each": begin(replace(usual, inbox=single), Path(folder, "single")),
        }
        ports = {name: face.ports[0] for name, face in faces.items()}
        found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ports}
        for port in ports.values():
            measure(port, 1.0)
        for _ in range(rounds):
            for name, port in ports.items():
                found[name].append(measure(port, seconds))
        for face in faces.values():
            face.stop()
        single.close()
        served.end()
    print(f"{os.cpu_count()} cores, {rounds} rounds of {seconds:g} s, {len(BODY)} bytes, {CONNECTIONS} connections\n")
    print(f"{'':<18} {'calls/s':>9} {'p50 ms':>8} {'p99 ms':>8}")
    medians = {}
    for name, values in found.items():
        rate, middle, late = (statistics.median(column) for column in zip(*values, strict=True))
        medians[name] = (rate, late)
        print(f"{name:<18} {rate:>9.0f} {middle * 1000:>8.1f} {late * 1000:>8.1f}")
    rate, late = medians["group commit"]
    ratio = rate / medians["one commit each"][0]
    print(f"\nGroup commit takes {ratio:.1f} times as many; the limits are {LEAST_RATIO:g} times, {LEAST_RATE:g}/s")
    print(f"and {MOST_P99 * 1000:g} ms for 99 of 100.")
    return 0 if ratio >= LEAST_RATIO and rate >= LEAST_RATE and late <= MOST_P99 else 1


if __name__ == "__main__":
    sys.exit(main())

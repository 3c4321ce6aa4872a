"""The processes of the demo: Interlock's server, as anybody would start it, and the traffic."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TypedDict

from interlock.errors import ServingFault

INTERLOCK = (sys.executable, "-c", "import sys; from interlock.cli import main; sys.exit(main())")
STARTING_SECONDS = 60.0
STOPPING_SECONDS = 60.0


class Tally(TypedDict):
    """The traffic so far. ``served`` and ``failed`` count requests by revision (``""`` where no revision answered)."""

    sent: int
    served: dict[str, int]
    failed: dict[str, int]
    labels: int
    labels_failed: int
    latency_p50_ms: float
    latency_p99_ms: float


NO_TRAFFIC = Tally(sent=0, served={}, failed={}, labels=0, labels_failed=0, latency_p50_ms=0.0, latency_p99_ms=0.0)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Service:
    """``interlock server`` on one state folder, started and ended as often as the story wants."""

    def __init__(self, state: Path, config: Path, log: Path) -> None:
        self.state = state
        self._config = config
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it watches its repositories. ServingFault with its own last words where it ends."""
        seen = self._log.stat().st_size if self._log.exists() else 0
        command = [*INTERLOCK, "server", "--state", str(self.state), "--config", str(self._config)]
        self._process = _spawn(command, self._log)
        deadline = time.monotonic() + STARTING_SECONDS
        while b"ready:" not in self._log.read_bytes()[seen:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServingFault(f"the server did not start; {self._log} says: {self.last_words()}")
            time.sleep(0.05)

    def kill(self) -> int:
        """``kill -9``: it cannot notice. The process id it had."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        return self._process.pid

    def stop(self) -> None:
        """Ends it and everything that serves, as ``interlock server stop --data-plane`` does."""
        command = [*INTERLOCK, "server", "stop", "--state", str(self.state), "--data-plane"]
        subprocess.run(command, capture_output=True, check=False, timeout=STOPPING_SECONDS)
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(STOPPING_SECONDS)

    def last_words(self) -> str:
        """The end of its log."""
        return " | ".join(self._log.read_text(errors="replace").splitlines()[-5:]) or "nothing"


class Traffic:
    """The replay of live flights; ``folder`` is where it counts."""

    def __init__(self, endpoint: str, flights: Path, folder: Path, rate: float) -> None:
        self._command = [
            *(sys.executable, "-m", "interlock.cli.demo.replay"),
            *("--endpoint", endpoint, "--flights", str(flights), "--folder", str(folder), "--rate", f"{rate:g}"),
        ]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begins; it waits by itself until somebody serves."""
        self._folder.mkdir(exist_ok=True)
        self._process = _spawn(self._command, self._folder / "replay.log")

    def stop(self) -> None:
        """Ends it; what is in flight is still counted."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def tally(self) -> Tally:
        """The counts, as of at most a second ago."""
        try:
            tally: Tally = json.loads((self._folder / "tally.json").read_text())
        except FileNotFoundError:
            return NO_TRAFFIC
        return tally

    def failures(self) -> list[dict[str, object]]:
        """Every request that was not answered with 200: when, its id, status, revision and reason."""
        try:
            lines = (self._folder / "failures.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A process of its own session, so that Ctrl-C reaches the director alone, who then ends everything in order."""
    output: IO[bytes]
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

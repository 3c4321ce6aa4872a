"""One real model server of a stage: started in the model's own Python environment, asked over its socket, ended."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

START_SECONDS = 120.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 30.0

_SCHEDULED = 2  # of the kernel's clocks of a process: the time for which its threads ran


class NotServed(Exception):
    """A model server did not become ready; the text is its own last word."""


class ModelServer:
    """A model's server. ``requests`` and ``errors`` (answers other than 200) count what ``ask`` sent."""

    def __init__(self, folder: Path, inference_folder: str, model: dict[str, Any]) -> None:
        """``model``: name, path, format, python (of the environment), digest, golden (or None)."""
        folder.mkdir()
        self._folder = folder
        self._package_parent = Path(inference_folder).resolve().parent.parent
        self._model = model
        self._process: subprocess.Popen[bytes] | None = None
        self._connection = self.connect()
        self._counting = threading.Lock()
        self._served_as = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:63] or "model"
        self.requests = 0
        self.errors = 0

    @property
    def name(self) -> str:
        """The model's name, for people."""
        return str(self._model["name"])

    def start(self, cores: set[int]) -> float:
        """Starts it on these cores and waits until it is ready; answers after how many milliseconds it was.

        NotServed where that does not happen.
        """
        began = time.perf_counter()
        self._process = self._spawn(cores)
        while not self._is_ready():
            if self._process.poll() is not None:
                raise NotServed(
                    f"the model server ended with exit code {self._process.returncode}: {self._last_word()}"
                )
            if time.perf_counter() - began > START_SECONDS:
                raise NotServed(f"the model server was not ready within {START_SECONDS:.0f} s")
            time.sleep(0.005)
        return (time.perf_counter() - began) * 1000

    def connect(self) -> Connection:
        """One more connection to it."""
        return Connection(self._folder / "socket")

    def ask(self, body: bytes, connection: Connection | None = None) -> float | None:
        """The milliseconds until the answer of one request; None where it was not 200."""
        began = time.perf_counter()
        status, _ = (connection or self._connection).send("POST", f"/v2/models/{self._served_as}/infer", body)
        elapsed = (time.perf_counter() - began) * 1000
        with self._counting:
            self.requests += 1
            self.errors += status != 200
        return elapsed if status == 200 else None

    def answer(self, request: dict[str, Any]) -> bytes | None:
        """The answer to one request, which counts nowhere; None where it was not 200."""
        path = f"/v2/models/{self._served_as}/infer"
        status, content = self._connection.send("POST", path, json.dumps(request).encode())
        return content if status == 200 else None

    def stats(self) -> dict[str, Any]:
        """What the server says of itself."""
        status, content = self._connection.send("GET", "/interlock/stats", None)
        return dict(json.loads(content)) if status == 200 else {}

    def cpu_seconds(self) -> float:
        """Processor seconds of the server and of the processes it has started so far, as their clocks tell
        (clock_getcpuclockid(3)). Those of processes that have ended are missing.
        """
        if self._process is None:
            return 0.0
        total = 0.0
        for process in _family(self._process.pid):
            try:
                total += time.clock_gettime((~process << 3) | _SCHEDULED)
            except OSError:
                continue
        return total

    def dismiss(self) -> None:
        """Asks it to end, and does not wait: several end at once then."""
        self._connection.close()
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """Ends the server gently, and at last surely."""
        self.dismiss()
        if self._process is None:
            return
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _spawn(self, cores: set[int]) -> subprocess.Popen[bytes]:
        model = self._model
        command = [model["python"], "-m", "interlock.inference", "--name", self._served_as, "--socket", "socket"]
        command += ["--digest", model["digest"], "--model", str(Path(model["path"]).resolve())]
        command += ["--format", model["format"]]
        command += ["--golden", str(Path(model["golden"]).resolve())] if model["golden"] else []
        environment = {**os.environ, "PYTHONPATH": str(self._package_parent), "OMP_NUM_THREADS": "1"}
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)  # a child has its parent's cores from its first instruction on
        try:
            with (self._folder / "stderr").open("wb") as stderr:
                return subprocess.Popen(command, cwd=self._folder, env=environment, stdout=stderr, stderr=stderr)
        finally:
            os.sched_setaffinity(0, before)

    def _is_ready(self) -> bool:
        return (self._folder / "socket").exists() and self._connection.send("GET", "/v2/health/ready", None)[0] == 200

    def _last_word(self) -> str:
        lines = (self._folder / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:500] if lines else "it said nothing"


class Connection:
    """One kept-alive connection to a Unix socket; made again where it broke."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._http = http.client.HTTPConnection("model", timeout=ANSWER_SECONDS)

    def send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Status and body of the answer; status 0 where there was none."""
        try:
            if self._http.sock is None:
                self._connect()
            self._http.request(method, path, body)
            answer = self._http.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._http.close()
            return 0, b""

    def _connect(self) -> None:
        self._http.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._http.sock.settimeout(ANSWER_SECONDS)
        # A socket's path may have 107 bytes; this one is short however deep the folder lies.
        folder = os.open(self._path.parent, os.O_PATH)
        try:
            self._http.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)

    def close(self) -> None:
        """Closes it; sending again would open it again."""
        self._http.close()


def _family(process: int) -> list[int]:
    """The process and all that it, or what it started, has started and that lives."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found

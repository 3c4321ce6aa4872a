"""One model served by itself, as long as somebody wants it: a sandboxed replica, and a door to its socket.

The replica has no network. What comes in at the door, a port of loopback or a Unix socket, is passed on byte by byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from interlock.errors import Refused, ServingFault
from interlock.ports import Isolation, Sandbox
from interlock.system.sockets import connect, http_over, listen

SOCKET = "s"
LOOPBACK = "127.0.0.1"
READY_SECONDS = 120.0
LOOK_SECONDS = 0.02
STOP_SECONDS = 20.0
CONNECT_SECONDS = 5.0
CHUNK = 1 << 16
PR_SET_PDEATHSIG = 1  # prctl(2)
ENDED = {
    3: "its bytes changed while it was being started",
    4: "a golden request was not answered as it should be",
    5: "it cannot be loaded",
}
"""Exit codes of the model server that are about the model."""


class Alone(NamedTuple):
    """What is served: the model's file or folder and its digest, the interpreter of its environment, and how.

    ``port`` of loopback, or ``socket``, is where it can be reached.
    """

    name: str
    model: Path
    digest: str
    format: str
    golden: Path | None
    python: str
    port: int | None
    socket: Path | None


def isolate_alone(served: Alone, folder: Path, package: Path, threads: int) -> Isolation:
    """What the replica runs and sees; it may write to ``folder`` only, where its socket is."""
    argv = [served.python, "-m", "interlock.inference", "--name", served.name, "--model", str(served.model)]
    argv += ["--digest", served.digest, "--format", served.format, "--socket", SOCKET]
    argv += ["--golden", str(served.golden)] if served.golden else []
    program = [(str(package / part), f"/interlock/interlock/{part}") for part in ("__init__.py", "inference")]
    return Isolation(
        argv=tuple(argv),
        folder=str(folder),
        env={
            "HOME": "/tmp",  # noqa: S108 - its own, inside
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": str(threads),
            "PATH": "/usr/bin:/bin",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": "/interlock",
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
        },
        read_only=(*program, *((str(path), str(path)) for path in (served.model, served.golden) if path)),
        writable=((str(folder), str(folder)),),
        interpreters=(served.python,),
    )


def serve_alone(
    served: Alone, folder: Path, package: Path, sandbox: Sandbox, threads: int, tell_ready: Callable[[], None]
) -> None:
    """Serves until SIGTERM or SIGINT. Refused where the model cannot be, ServingFault where its server dies."""
    isolation = isolate_alone(served, folder, package, threads)
    if not sandbox.is_namespace:  # the program is where it is
        isolation = isolation.model_copy(update={"env": {**isolation.env, "PYTHONPATH": str(package.parent)}})
    program = {"argv": sandbox.command(isolation), "env": {}, "folder": str(folder)}
    parent = [sys.executable, "-I", "-S", str(package / "supervise" / "stub.py")]
    libc = ctypes.CDLL(None)
    with subprocess.Popen(
        parent,
        stdin=subprocess.PIPE,
        start_new_session=True,
        # This program's own end, also by KILL, is that of the replica. Before its parent has read what to run, it ends
        # by itself.
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),  # noqa: PLW1509 - there is one thread
    ) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(program).encode())
        process.stdin.close()
        try:
            asyncio.run(_Door(served, folder, process).keep(tell_ready))
        finally:
            _stop(process)
    if process.returncode in ENDED:
        raise Refused(
            f"the model cannot be served: {ENDED[process.returncode]}", str(served.model), "its own words are above"
        )
    if process.returncode != 0:
        raise ServingFault(f"the model server ended with exit code {process.returncode}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the parent of the replica to end it, gently; its own end is that of the replica."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


class _Door:
    """Passes on what comes in to the replica's socket, while the replica lives."""

    def __init__(self, served: Alone, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self._served = served
        self._folder = folder
        self._process = process

    async def keep(self, tell_ready: Callable[[], None]) -> None:
        """Opens once the replica is ready; returns when it has ended, or when a signal comes."""
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        until = time.monotonic() + READY_SECONDS
        while not await asyncio.to_thread(self._is_ready):
            if stopped.is_set() or self._process.poll() is not None:
                return
            if time.monotonic() > until:
                raise ServingFault(f"the model server was not ready within {READY_SECONDS:g} s")
            await asyncio.sleep(LOOK_SECONDS)
        async with await self._open():
            tell_ready()
            while not stopped.is_set() and self._process.poll() is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopped.wait(), 0.2)

    def _is_ready(self) -> bool:
        try:
            return http_over(self._folder, SOCKET, "GET", "/v2/health/ready", timeout=5.0).status == 200
        except OSError:
            return False

    async def _open(self) -> asyncio.Server:
        path = self._served.socket
        where = path or f"{LOOPBACK}:{self._served.port}"
        try:
            if path is None:
                return await asyncio.start_server(self._pass_on, LOOPBACK, self._served.port)
            if path.exists() and not path.is_socket():
                raise FileExistsError(errno.EEXIST, "another file is there")
            return await asyncio.start_unix_server(self._pass_on, sock=listen(path.absolute().parent, path.name))
        except OSError as problem:
            raise Refused(f"it cannot be listened on: {problem.strerror}", str(where), "choose another") from problem

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner = connect(self._folder, SOCKET, CONNECT_SECONDS)
            inner_reader, inner_writer = await asyncio.open_unix_connection(sock=inner)
        except OSError:
            writer.close()
            return
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies until the end, and hands the end on."""
    try:
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    finally:
        writer.close()

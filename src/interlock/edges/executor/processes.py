"""One isolated process, watched from its start to the end of everything it started."""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from interlock.errors import ExecutorFault
from interlock.system.processes import kill_tree
from interlock.vocabulary import Phase

from .log import CappedLog

PROC = Path("/proc")
GRACE = 10.0
"""Seconds between TERM and KILL."""

SAMPLE_SECONDS = (0.02, 0.25)
"""Memory is looked at this often: the first looks come quickly, so that short stages are seen too."""

PIPE, LARGEST_PIPE = 64 * 1024, 1024 * 1024
"""Bytes that every pipe of Linux holds, and that one can be made to hold without privileges."""

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class Brake:
    """Ends one attempt from another thread: pulled at most once, with the reason and the phase it leads to."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.pulled: tuple[Phase, str] | None = None

    def pull(self, phase: Phase, because: str) -> None:
        """From now on the attempt ends as soon as it can; later calls change nothing."""
        if self.pulled is None:
            self.pulled = (phase, because)
            os.eventfd_write(self._descriptor, 1)

    def fileno(self) -> int:
        """Becomes readable when the brake is pulled."""
        return self._descriptor

    def close(self) -> None:
        """Gives the descriptor back; nobody may pull any more."""
        os.close(self._descriptor)


class Limits(NamedTuple):
    """What a process may use: seconds of wall time, and bytes of memory of its whole tree (None: any)."""

    timeout: float
    memory: int | None = None


class Ended(NamedTuple):
    """How a process ended. ``forced`` is why we ended it, None where it ended by itself."""

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_memory: int | None
    forced: tuple[Phase, str] | None


class Usage(NamedTuple):
    """Bytes in memory and seconds of processor time of a tree at one moment."""

    memory: int
    cpu_seconds: float


def run_watched(
    command: Sequence[str], log: CappedLog, limits: Limits, brake: Brake, is_namespace: bool, given: bytes = b""
) -> Ended:
    """Runs a command with its output in the log, and returns when nothing it started is left.

    ``given`` is what it can read from its input. ``is_namespace``: the command is a supervisor outside the namespaces,
    and its child the first process inside, whose end is the end of all. ExecutorFault where it cannot be started or
    does not end when killed.
    """
    source = _source_of(given)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    try:
        process = subprocess.Popen(command, stdin=source, stdout=writing, stderr=writing, start_new_session=True)
    except OSError as error:
        os.close(reading)
        raise ExecutorFault(f"{command[0]} cannot be started: {error}") from error
    finally:
        os.close(writing)
        os.close(source)
    watch = _Watch(process, reading, log, limits, brake, is_namespace)
    try:
        return watch.until_it_ended()
    finally:
        watch.close()


def _source_of(given: bytes) -> int:
    """A descriptor to read this from, once. ExecutorFault where it is more than a pipe can hold."""
    if not given:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    if len(given) > LARGEST_PIPE:
        raise ExecutorFault(f"{len(given)} bytes of secrets are too much for one stage: it can have 1 MiB")
    source, filling = os.pipe2(os.O_CLOEXEC)
    try:
        if len(given) > PIPE:
            fcntl.fcntl(filling, fcntl.F_SETPIPE_SZ, len(given))
        os.write(filling, given)
    except OSError as error:
        os.close(source)
        raise ExecutorFault(f"{len(given)} bytes of secrets cannot be handed to the stage: {error}") from error
    finally:
        os.close(filling)
    return source


class _Watch:
    """The state of ``run_watched`` while the process lives."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reading: int,
        log: CappedLog,
        limits: Limits,
        brake: Brake,
        is_namespace: bool,
    ) -> None:
        self._process, self._reading, self._log, self._limits = process, reading, log, limits
        self._brake, self._is_namespace = brake, is_namespace
        self._began = time.monotonic()
        self._forced: tuple[Phase, str] | None = None
        self._kill_at = float("inf")
        self._peak, self._cpu = 0, 0.0
        self._interval, self._sample_at = SAMPLE_SECONDS[0], self._began
        self._ended = os.pidfd_open(process.pid)
        self._first_inside = self._find_first_inside() if is_namespace else None
        self._selector = selectors.DefaultSelector()
        for descriptor in (reading, self._ended, brake.fileno()):
            self._selector.register(descriptor, selectors.EVENT_READ)

    def until_it_ended(self) -> Ended:
        while True:
            ready = {key.fd for key, _ in self._selector.select(self._wait())}
            if self._reading in ready:
                self._drain(rounds=16)
            if self._ended in ready:
                break
            now = time.monotonic()
            if now >= self._sample_at:
                self._sample(now)
            self._judge(now)
        seconds = time.monotonic() - self._began
        self._end_the_rest()
        self._drain()
        self._log.flush()
        code = self._process.wait()
        return Ended(code, seconds, self._cpu, self._peak or None, self._forced)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        for descriptor in (self._reading, self._ended, self._first_inside):
            if descriptor is not None:
                os.close(descriptor)

    def _wait(self) -> float:
        deadline = self._began + self._limits.timeout if self._forced is None else self._kill_at
        return max(0.0, min(self._sample_at, deadline) - time.monotonic())

    def _drain(self, rounds: int | None = None) -> None:
        while rounds is None or rounds > 0:
            rounds = None if rounds is None else rounds - 1
            try:
                content = os.read(self._reading, 1 << 16)
            except BlockingIOError:
                return
            if not content:
                if self._reading in self._selector.get_map():
                    self._selector.unregister(self._reading)  # closed by the stage, which may run on
                return
            self._log.write(content)

    def _sample(self, now: float) -> None:
        self._interval = min(self._interval * 1.5, SAMPLE_SECONDS[1])
        self._sample_at = now + self._interval
        usage = measure_tree(self._process.pid)
        self._peak = max(self._peak, usage.memory)
        self._cpu = max(self._cpu, usage.cpu_seconds)

    def _judge(self, now: float) -> None:
        """Decides whether the process has to end, and ends it: gently first, then for good."""
        if self._forced is None:
            self._forced = self._reason_to_end(now)
            if self._forced is not None:
                self._log.say(f"ending the stage: {self._forced[1]}")
                self._kill_at = now + GRACE
                self._terminate()
        elif now >= self._kill_at:
            self._kill_at = float("inf")
            self._process.kill()

    def _reason_to_end(self, now: float) -> tuple[Phase, str] | None:
        if self._brake.pulled is not None:
            self._selector.unregister(self._brake.fileno())
            return self._brake.pulled
        if now - self._began >= self._limits.timeout:
            return Phase.FAILED, f"timed out after {self._limits.timeout:g} s"
        limit = self._limits.memory
        if limit is not None and self._peak > limit:
            used, allowed = self._peak / 2**20, limit / 2**20
            return Phase.FAILED, f"out of memory: it used {used:.0f} MiB, the limit is {allowed:.0f} MiB"
        return None

    def _terminate(self) -> None:
        """Asks everything in the tree to end; a supervisor outside would take the namespace with it at once."""
        for pid in tree_of(self._process.pid):
            if pid != self._process.pid or not self._is_namespace:
                _send(pid, signal.SIGTERM)

    def _end_the_rest(self) -> None:
        """Whatever the stage left behind ends now, before anybody looks at the workspace."""
        if self._first_inside is not None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._first_inside, selectors.EVENT_READ)
                if not selector.select(GRACE):
                    raise ExecutorFault(f"the processes of stage process {self._process.pid} do not end")
        elif not self._is_namespace:
            kill_tree(self._process.pid, 0)  # it is not reaped yet, so that its session can still be found

    def _find_first_inside(self) -> int | None:
        """A handle of the namespace's first process; None where the supervisor ended before it made one."""
        while self._process.poll() is None:
            for child in _children(self._process.pid):
                try:
                    return os.pidfd_open(child)
                except ProcessLookupError:
                    continue
            time.sleep(0.001)
        return None


def tree_of(pid: int) -> list[int]:
    """A process and its descendants that can be found now."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting.extend(_children(one))
    return found


def measure_tree(pid: int) -> Usage:
    """What a process and its descendants use now; processor time includes children that have ended."""
    memory, ticks = 0, 0
    for one in tree_of(pid):
        try:
            memory += int((PROC / str(one) / "statm").read_text().split()[1]) * PAGE
            fields = (PROC / str(one) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except (OSError, IndexError):
            continue
        ticks += sum(map(int, fields[11:15]))
    return Usage(memory, ticks / TICKS)


def _children(pid: int) -> Iterator[int]:
    try:
        threads = os.listdir(PROC / str(pid) / "task")  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return
    for thread in threads:
        try:
            text = (PROC / str(pid) / "task" / thread / "children").read_text()
        except OSError:
            continue
        yield from map(int, text.split())


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return

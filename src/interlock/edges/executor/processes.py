"""One isolated process, watched from its start to the end of everything it started."""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from interlock.errors import ExecutorFault
from interlock.ports import Cell, CellSeen, Start
from interlock.system.processes import kill_tree
from interlock.system.usage import DiskGuard, Usage, children_of, ended_for_memory, measure, shared_out, tree_of
from interlock.vocabulary import Phase

from .log import CappedLog

GRACE = 10.0
"""Seconds between TERM and KILL."""

SAMPLE_SECONDS = (0.02, 0.25)
"""Memory is looked at this often: the first looks come quickly, so that short stages are seen too."""

FASTEST_GROWTH = 4 << 30
"""Bytes a second that a stage may take at most, as far as looking in time goes."""

MANY = 256
"""Processes of a tree up to which each is looked at, where the cell counts them and what they take."""

KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)

OWN_PROCESSES = 3
"""The supervisor, the first process inside, and the shell that waits for the stage."""

TIMED_OUT = "timed out"

PIPE, LARGEST_PIPE = 64 * 1024, 1024 * 1024
"""Bytes that every pipe of Linux holds, and that one can be made to hold without privileges."""


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
    """What a process and all it starts may use: seconds of wall time, and the rest as in ``Resources``.

    ``folder`` is where it may write ``disk`` bytes, half of what is free where that is None. Its cell may keep the
    bounds of memory and processes better than anybody who only looks.
    """

    timeout: float
    memory: int | None = None
    processes: int | None = None
    disk: int | None = None
    folder: str | None = None


class Launch(NamedTuple):
    """A program and what it is started with.

    ``given`` is what it can read from its input. ``is_namespace``: the command is a supervisor outside the namespaces,
    and its child the first process inside, whose end is the end of all. ``gate``: both ends of a pipe, where it waits
    for something to read from the first.
    """

    start: Start
    is_namespace: bool
    given: bytes = b""
    gate: tuple[int, int] | None = None


class Ended(NamedTuple):
    """How a process ended, and what it used together with all that it started.

    ``forced`` is why it had to end or counts as failed, None where it ended by itself. ``peak_memory`` is None where it
    ended before it was looked at.
    """

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_memory: int | None
    read: int
    written: int
    forced: tuple[Phase, str] | None


def run_watched(launch: Launch, log: CappedLog, limits: Limits, brake: Brake, cell: Cell) -> Ended:
    """Runs a command in a cell with its output in the log, and returns when nothing it started is left.

    ExecutorFault where it cannot be started or does not end when killed.
    """
    source = _source_of(launch.given)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    gate = launch.gate

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            launch.start.command,
            env=launch.start.env,
            cwd=launch.start.folder,
            stdin=source,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
            pass_fds=() if gate is None else (gate[0],),
        )

    try:
        process = cell.within(start)
    except OSError as error:
        os.close(reading)
        raise ExecutorFault(f"{launch.start.command[0]} cannot be started: {error}") from error
    finally:
        os.close(writing)
        os.close(source)
    watch = _Watch(process, reading, log, limits, brake, cell, launch)
    try:
        return watch.until_it_ended()
    finally:
        watch.close()


@contextmanager
def gate_of(cell: Cell) -> Iterator[tuple[int, int] | None]:
    """A pipe for a program to wait at, where the cell admits it only after it was started; None where it need not."""
    if not cell.is_late:
        yield None
        return
    ends = os.pipe2(os.O_CLOEXEC)
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


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
        cell: Cell,
        launch: Launch,
    ) -> None:
        self._process, self._reading, self._log, self._limits = process, reading, log, limits
        self._brake, self._cell, self._is_namespace = brake, cell, launch.is_namespace
        self._began = time.monotonic()
        self._forced: tuple[Phase, str] | None = None
        self._kill_at = float("inf")
        self._used = Usage(0, 0, 0.0, 0, 0)
        self._counted: CellSeen | None = None
        self._interval, self._sample_at = SAMPLE_SECONDS[0], self._began
        self._ended_before = 0 if cell.keeps_bounds else ended_for_memory()
        self._disk = None if limits.folder is None else DiskGuard(limits.folder, process.pid, limits.disk)
        self._ended = os.pidfd_open(process.pid)
        self._first_inside = self._find_first_inside() if launch.is_namespace else None
        if launch.gate is not None:
            self._admit(launch.gate[1])
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
                self._force(self._limit_passed(), now, 0.0)
            self._judge(now)
        seconds = time.monotonic() - self._began
        self._end_the_rest()
        self._drain()
        self._log.flush()
        code = self._process.wait()
        self._counted = self._cell.look()
        self._forced = self._forced or self._limit_passed() or self._machine_gave_out(code)
        peak = self._counted.peak if self._counted else self._used.memory
        used = self._used
        return Ended(code, seconds, used.cpu_seconds, peak or None, used.read, used.written, self._forced)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._selector.close()
        for descriptor in (self._reading, self._ended, self._first_inside):
            if descriptor is not None:
                os.close(descriptor)

    def _admit(self, gate: int) -> None:
        """The process waits at its gate: it is put into the cell, and let go."""
        for pid in tree_of(self._process.pid):
            self._cell.admit(pid)
        os.write(gate, b"go\n")

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
        self._counted = self._cell.look()
        if self._counted is None or self._counted.processes < MANY:
            self._measure(tree_of(self._process.pid))
        self._sample_at = now + self._interval

    def _measure(self, pids: list[int]) -> None:
        seen, limit = measure(pids), self._limits.memory
        if self._counted is None and limit is not None:
            if seen.memory > limit and len(pids) > 1:
                seen = seen._replace(memory=shared_out(pids))
            self._interval = min(self._interval, max(SAMPLE_SECONDS[0], (limit - seen.memory) / FASTEST_GROWTH))
        self._used = self._used.most(seen)

    def _judge(self, now: float) -> None:
        """Decides whether the process has to end; gently first, then for good."""
        if self._forced is None:
            self._force(self._reason_to_end(now), now, GRACE)
        if now >= self._kill_at:
            self._kill_at = float("inf")
            self._process.kill()

    def _force(self, reason: tuple[Phase, str] | None, now: float, grace: float) -> None:
        """Where there is a reason, it ends, after so many seconds of grace."""
        if reason is None or self._forced is not None:
            return
        self._forced, self._kill_at = reason, now + grace
        self._log.say(f"ending the stage: {reason[1]}")
        if grace:
            self._terminate()

    def _reason_to_end(self, now: float) -> tuple[Phase, str] | None:
        if self._brake.pulled is not None:
            self._selector.unregister(self._brake.fileno())
            return self._brake.pulled
        if now - self._began >= self._limits.timeout:
            return Phase.FAILED, f"{TIMED_OUT} after {self._limits.timeout:g} s"
        return None

    def _limit_passed(self) -> tuple[Phase, str] | None:
        """Which limit it passed: what goes on growing is not asked but made to end."""
        memory, processes = self._limits.memory, self._limits.processes
        counted, used = self._counted, self._used
        if memory is not None and (counted.kills if counted else used.memory > memory):
            return Phase.FAILED, f"out of memory: it needs more than its limit of {told(memory)} (resources.memory)"
        if processes is not None and (counted.refusals if counted else used.processes > processes + OWN_PROCESSES):
            because = f"too many processes: it wants more than its limit of {processes} (resources.processes)"
            return Phase.FAILED, because
        taken = self._disk.excess() if self._disk is not None else None
        if self._disk is not None and taken is not None:
            rule = "resources.disk" if self._limits.disk is not None else "half of what was free"
            told_limit = f"its limit of {told(self._disk.limit)} ({rule})"
            return Phase.FAILED, f"out of disk: it wrote {told(taken)}, more than {told_limit}"
        return None

    def _machine_gave_out(self, code: int) -> tuple[Phase, str] | None:
        """Where there was no limit to pass and the kernel ended it all the same."""
        kills = self._counted.kills if self._counted else ended_for_memory() - self._ended_before
        if code not in KILLED or not kills:
            return None
        return Phase.FAILED, f"out of memory: the machine had no more when it used {told(self._used.memory)}"

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
        elif not self._is_namespace and not self._cell.keeps_bounds:  # else its group knows all that it started
            kill_tree(self._process.pid, 0)  # it is not reaped yet, so that its session can still be found
        try:
            self._cell.empty()
        except TimeoutError as error:
            raise ExecutorFault(f"the stage cannot be ended: {error}") from error

    def _find_first_inside(self) -> int | None:
        """A handle of the namespace's first process; None where the supervisor ended before it made one."""
        while self._process.poll() is None:
            for child in children_of(self._process.pid):
                try:
                    return os.pidfd_open(child)
                except ProcessLookupError:
                    continue
            time.sleep(0.001)
        return None


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def told(size: int) -> str:
    """Bytes as people say them: ``512 MiB``, ``1.5 GiB``."""
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"

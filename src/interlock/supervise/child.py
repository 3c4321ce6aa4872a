"""One started program, seen through its stub: this supervise's own child, or one adopted from an earlier supervise."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from .program import EPOCH, Program

STUB = Path(__file__).with_name("stub.py")


def identity_of(pid: int) -> str | None:
    """Which process a number means now, ``pid:start:boot``; None where it has ended (proc_pid_stat(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    if fields[0] in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{pid}:{fields[19]}:{boot}"


class Child:
    """A process that may be asked whether it is over, and be ended."""

    def __init__(self, pid: int, identity: str, popen: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self.identity = identity
        self._popen = popen

    @classmethod
    def adopt(cls, pid: int, identity: str) -> Child | None:
        """The process that an earlier supervise started; None where it has ended."""
        return cls(pid, identity) if identity_of(pid) == identity else None

    @classmethod
    def prepare(cls, folder: Path, log: Path) -> Child:
        """A stub that waits to be told what to run. Its output goes to the end of ``log``."""
        with log.open("ab") as output:
            popen = subprocess.Popen(  # in a session of its own, so that no terminal ends it
                [sys.executable, "-I", "-S", str(STUB)],
                cwd=folder,
                env={},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(popen.pid, identity_of(popen.pid) or "", popen)

    def begin(self, program: Program, epoch: int) -> None:
        """Tells the waiting stub what to run."""
        assert self._popen is not None
        assert self._popen.stdin is not None
        argv = [word.replace(EPOCH, str(epoch)) for word in program.argv]
        message = {"argv": argv, "env": program.env, "folder": program.folder}
        with contextlib.suppress(BrokenPipeError), self._popen.stdin as pipe:  # broken: killed just now; we shall see
            pipe.write(json.dumps(message).encode())

    def has_ended(self) -> bool:
        """Whether it is over; then what it may have left in its process group is killed too."""
        if self._popen is None:
            if identity_of(self.pid) == self.identity:
                return False
            self._kill_group()
            return True
        if self._popen.returncode is None:
            # the number stays taken until it is waited for, so the group that is killed is surely its own
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return False
            self._kill_group()
            self._popen.wait()
        return True

    @property
    def exit_code(self) -> int | None:
        """How it ended; None where another supervise had started it."""
        return self._popen.returncode if self._popen else None

    def terminate(self) -> None:
        """Asks it to end: the stub passes TERM on."""
        if not self.has_ended():
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and its process group at once."""
        if not self.has_ended():
            self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

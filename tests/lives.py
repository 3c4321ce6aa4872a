"""One state folder and the lives of its server, each forked from a process that has imported all of it: a life costs a
sixth of a second, all its calls are seen, and it dies or falls ill at the call that a test chooses.
"""

import json
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPException
from pathlib import Path

from tests.calls import Calls
from tests.small_server import ENVIRONMENT, PROJECT, SmallRepository, SmallServer, on_github, push_of

from interlock.vocabulary import Phase

ROOT = Path(__file__).parents[1]
KILL = 0
MOST_PUSHES = 600
MARK = f"life-{os.getpid()}-mark"
PIPELINE = f"""
version: 1
checks: []
stages:
  only: {{cmd: "cat number > made", outs: [made], env: {{MARK: {MARK}}}}}
"""


class Lives:
    """``variant`` is what is wrong with the next lives (see tests.warm_server); ``is_terse`` that of Calls.

    With ``has_new_locks`` each commit has files of its own to make an environment of, which is made each time; what
    happens in the folder of environments is not counted.
    """

    def __init__(
        self,
        folder: Path,
        variant: str = "right",
        *,
        is_terse: bool = True,
        has_new_locks: bool = False,
        poll_every: float = 3600,
    ) -> None:
        self.variant, self._is_terse = variant, is_terse
        self._repository = SmallRepository(folder, "small", PIPELINE)
        self.server = SmallServer(folder, {"small": on_github(self._repository)}, poll_every=poll_every)
        self.state = self.server.state
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(60)
        command = [sys.executable, "-m", "tests.warm_server", str(theirs.fileno())]
        self._warm = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, pass_fds=[theirs.fileno()])
        theirs.close()
        self._commits = self._make_commits(has_new_locks=has_new_locks)
        self.shas: list[str] = []
        self.kept = 0
        """Calls that were answered with 202."""
        self.starts: list[float] = []
        """Seconds until the server was ready, of each life."""
        self._pid = 0
        self._life: int | None = None
        self.calls: Calls | None = None

    def _make_commits(self, *, has_new_locks: bool) -> Iterator[str]:
        """More commits than there are points, each with another file to work on; none of them on a branch yet."""
        base = self._repository.arrive()
        stream = []
        for number in range(MOST_PUSHES):
            text, project = f"{number}\n", f"{PROJECT}# {number if has_new_locks else ''}\n"
            parent = base if number == 0 else f":{number}"
            stream.append(
                f"commit refs/later/all\nmark :{number + 1}\ncommitter A <a@example.org> {1000 + number} +0000\n"
                f"data 1\n.\nfrom {parent}\nM 644 inline number\ndata {len(text)}\n{text}\n"
                f"M 644 inline pyproject.toml\ndata {len(project)}\n{project}\n"
            )
        git = ["git", "--git-dir", self._repository.bare]
        subprocess.run([*git, "fast-import", "--quiet"], input="".join(stream).encode(), check=True)
        listing = [*git, "rev-list", "--reverse", "refs/later/all"]
        listed = subprocess.run(listing, capture_output=True, text=True, check=True)
        (self._repository.bare / "refs" / "heads" / "main").unlink()
        return iter(listed.stdout.split()[1:])

    # --- its lives ---

    def start(self) -> None:
        """Begins a life, which is ready when this returns.

        A first one, that nobody watches, begins the data plane: it outlives who answers its calls.
        """
        if not self.starts:
            self._begin(is_watched=False)
            self.end()
        self._begin(is_watched=True)

    def _begin(self, *, is_watched: bool) -> None:
        before, began = len(self.server.log), time.monotonic()
        variant = self.variant if is_watched else "right"
        life = {"state": str(self.state), "log": str(self.server.log_file), "variant": variant}
        self._channel.send(json.dumps({**life, "is_watched": is_watched}).encode())
        told, listeners, _, _ = socket.recv_fds(self._channel, 100, 1)
        self._pid = int(told)
        self._life = os.pidfd_open(self._pid)
        if is_watched:
            self.calls = Calls(listeners[0], self._is_ours, is_terse=self._is_terse)
        while "ready: " not in (log := self.server.log[before:]):
            assert time.monotonic() - began < 60, log
            time.sleep(0.002)
        self.starts.append(time.monotonic() - began)
        self.server.url = log.partition("API and webhooks: ")[2].split()[0]

    def _is_ours(self, path: str) -> bool:
        folder, _, rest = path.removeprefix(f"{self.state}/").partition("/")
        return path.startswith(f"{self.state}/") and not (rest and folder in ("data", "environments"))

    def end(self) -> None:
        """Asks this life to end, if it has not ended."""
        if self._life is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._life, signal.SIGTERM)
            self._wait_for_death()

    def _wait_for_death(self) -> None:
        assert self._life is not None
        is_dead = bool(select.select([self._life], [], [], 60)[0])
        os.close(self._life)
        self._life = None
        assert is_dead

    def close(self) -> None:
        """Nothing of it is left."""
        self.end()
        if self.calls is not None:
            self.calls.close()
        self._channel.close()
        self._warm.wait(60)
        self.server.end()

    # --- what is asked of it ---

    def push(self, point: int = 0, fault: int = KILL) -> bool:
        """A commit arrives, the forge calls, and the ``point``-th call is broken, from 1; whether there was one.

        When it returns the run has ended and its notice is settled, or the server has ended; nothing more is broken.
        """
        assert self.calls is not None
        self.shas.append(next(self._commits))
        (self._repository.bare / "refs" / "heads" / "main").write_text(f"{self.shas[-1]}\n")
        self.calls.arm(point, fault, [self._pid])
        self._call()
        deadline = time.monotonic() + 60
        while not self._is_killed(fault) and not (self.is_last_over() and self.is_settled()):
            assert time.monotonic() < deadline, f"{self.calls.at}: {self.server.log[-3000:]}"
            time.sleep(0.005)
        self.calls.disarm()
        if self._is_killed(fault):
            self._wait_for_death()
        return self.calls.at is not None

    def _is_killed(self, fault: int) -> bool:
        assert self.calls is not None
        return fault == KILL and self.calls.at is not None

    def _call(self) -> None:
        """As a forge does whose call was not answered, or with 503: once more."""
        for _ in range(2):
            try:
                status = self.server.hook("small", "push", push_of(self.shas[-1])).status
            except (OSError, HTTPException):
                return  # it was killed
            assert status in (202, 503)
            if status == 202:
                self.kept += 1
                return

    def is_last_over(self) -> bool:
        """Whether the run of the newest commit has ended."""
        query = "select phase from rows where kind = 'run' and identity like ?"
        found = self.ask(query, f"%{self.shas[-1]}%")
        return bool(found) and Phase(found[0][0]).is_final

    def is_settled(self) -> bool:
        """Whether nothing is left to do for any notice."""
        return not self.ask("select number from notices where not is_settled")

    def ask(self, query: str, *values: str) -> list[tuple[str, ...]]:
        """What the database holds."""
        with closing(sqlite3.connect(self.state / "interlock.db", timeout=10)) as connection:
            return connection.execute(query, values).fetchall()

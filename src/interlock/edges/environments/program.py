"""The uv program: how it is called, and whose fault it is when it fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import uv

from interlock.errors import EnvironmentFault

KEPT = re.compile(
    r"(UV|PIP|SSL|XDG|NETRC|LC)_.*|UV|HOME|USER|LOGNAME|LANG|PATH|TMPDIR|NETRC|CURL_CA_BUNDLE|REQUESTS_CA_BUNDLE"
    r"|(HTTP|HTTPS|ALL|NO)_PROXY",
    re.IGNORECASE,
)
"""Variables of the server's own environment that uv may see: indexes, certificates, proxies, caches."""

DROPPED = frozenset(
    {
        "UV_PROJECT_ENVIRONMENT",
        "UV_PYTHON",
        "UV_PROJECT",
        "UV_WORKING_DIRECTORY",
        "UV_FROZEN",
        "UV_COMPILE_BYTECODE",
        "UV_NO_BUILD_ISOLATION",
    }
)
"""Variables that would point uv at another environment than the one that is being built, or let its packages run."""

BUILDS_ALLOWED = frozenset({"0", "false", "f", "no", "n", "off"})
"""What UV_NO_BUILD says where the person who runs the server lets sources be built, outside the sandbox."""

WORLD = re.compile(
    r"failed to fetch|error sending request|dns error|connection (refused|reset)|timed out|tls|certificate"
    r"|no space left|permission denied|read-only file system|network was disabled|status (server )?(error )?\(?5\d\d",
    re.IGNORECASE,
)
"""What uv says when the network or the disk, and not the user's lock, is the trouble."""

GONE = re.compile(r"status client error \(4(04|10)\b", re.IGNORECASE)
"""What it says when the index answers, and does not have what the lock names."""

NO_WHEEL = re.compile(
    r"Distribution `(\S+) @ [^`]*` can't be installed because it is marked as `--no-build`.*", re.DOTALL
)

REMEDIES = (
    (r"hash mismatch", "the index has another file than the one that was locked: find out why before you lock again"),
    (
        r"no-build|has no wheels",
        "use a version with a wheel, or let the server build outside the sandbox (UV_NO_BUILD=0)",
    ),
    (
        r"python requirement|current python version",
        "change python.version, or requires-python, so that an installed interpreter fits",
    ),
    (r"not found in the package registry|status client error", "name a package and version that uv's index has"),
)
"""What to do, by what uv said; the first that fits."""


class UvFailed(Exception):
    """uv said no. ``said`` is what it printed, ``is_of_the_world`` whether network or disk are to blame."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said
        self.is_of_the_world = WORLD.search(said) is not None and GONE.search(said) is None

    @property
    def cause(self) -> str:
        """Its message in one paragraph, without progress, hints and repeated spaces."""
        found = re.search(r"(?:^|\n)error: (.*?)(?=\n\s*\n|\nhint:|\Z)", self.said, re.DOTALL)
        text = NO_WHEEL.sub(r"\1 has no wheel for this platform and Python", found[1] if found else self.said)
        return " ".join(re.sub(r"\b(cause|Caused by):", "", text).split()) or "uv gave no reason"

    def remedy(self, otherwise: str) -> str:
        """What a person can do about it; ``otherwise`` where what uv said tells nothing special."""
        return next((told for said, told in REMEDIES if re.search(said, self.said, re.IGNORECASE)), otherwise)


class Uv:
    """uv, with interpreter downloads off and the person's own index and certificate settings in force."""

    def __init__(self) -> None:
        try:
            self._program = uv.find_uv_bin()
        except FileNotFoundError as error:
            raise EnvironmentFault(f"the uv program is missing ({error}); install Interlock again") from error
        self._guard = [guard, "--pdeathsig", "KILL"] if (guard := shutil.which("setpriv")) else []

    def __call__(
        self,
        *arguments: str,
        folder: Path,
        say: Callable[[str], None] = lambda _: None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Runs ``uv ARGUMENTS`` in ``folder``, saying each line of its progress; answers its standard output.

        UvFailed where it exits with another code than 0; it has ended when this returns or raises.
        """
        with subprocess.Popen(
            [*self._guard, self._program, *arguments],
            cwd=folder,
            env=_environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process:
            try:
                lines = list(_spoken(process, say))
            except BaseException:
                process.kill()
                raise
        said = "".join(lines)
        if process.returncode != 0:
            raise UvFailed(said)
        return said


def _spoken(process: subprocess.Popen[str], say: Callable[[str], None]) -> Sequence[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.strip():
            say(line.rstrip())
    return lines


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name) and name.upper() not in DROPPED}
    # A source distribution runs its author's code while it is built, outside any sandbox: only wheels, unless the
    # person who runs the server says otherwise. uv builds the project itself all the same, for metadata that it does
    # not find in pyproject.toml: without isolation, so that no package that the commit names is fetched and run.
    found = {"UV_NO_BUILD": "1", "UV_LINK_MODE": "hardlink"} | _cache() | kept
    if found["UV_NO_BUILD"].lower() not in BUILDS_ALLOWED:
        found["UV_NO_BUILD_ISOLATION"] = "1"
    return found | {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}


def _cache() -> dict[str, str]:
    """The usual cache: a pyproject.toml could name another folder, to be written to by this user."""
    home = os.environ.get("XDG_CACHE_HOME") or (f"{os.environ['HOME']}/.cache" if os.environ.get("HOME") else "")
    return {"UV_CACHE_DIR": f"{home}/uv"} if home else {}

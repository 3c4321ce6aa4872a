"""No isolation, for a machine that cannot give any and a person who said that this is all right."""

from __future__ import annotations

import shutil

from interlock.ports import Isolation


class NoSandbox:
    """Programs run as the user who started Interlock, with all that this user may see; only the environment is clean.

    Paths are the same outside and inside: whoever asks for isolation at another path inside is answered ValueError.
    """

    def __init__(self) -> None:
        self._env = shutil.which("env") or "/usr/bin/env"
        self._setpriv = shutil.which("setpriv")

    @property
    def level(self) -> str:
        """Always ``none``."""
        return "none"

    def command(self, isolation: Isolation) -> list[str]:
        """The command line that runs the program.

        When its parent ends the program itself ends; what it started may live on, for nothing here can hold it.
        """
        for outside, inside in (*isolation.read_only, *isolation.writable):
            if outside != inside:
                raise ValueError(f"without a sandbox {outside} cannot be seen at {inside}")
        line = [self._setpriv, "--pdeathsig", "KILL"] if self._setpriv else []
        variables = [f"{name}={value}" for name, value in isolation.env.items()]
        return [*line, self._env, "-i", f"--chdir={isolation.folder}", *variables, *isolation.argv]

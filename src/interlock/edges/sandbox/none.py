"""No isolation, for a machine that cannot give any and a person who said that this is all right."""

from __future__ import annotations

import shutil

from interlock.ports import Bounds, Cell, Isolation, Start

from .cells import Cells
from .lines import line_of

GATE = 'read -r _ < "/dev/fd/$0"; exec "$@"'
"""Not every shell can read from a descriptor whose number has two digits."""


class NoSandbox:
    """Programs run as the user who started Interlock, with all that this user may see; only the environment is clean.

    Where the kernel has Landlock they cannot trace or signal other processes, and without network not use TCP; where
    there are control groups their bounds are kept and nothing survives. Paths are the same outside and inside: whoever
    asks for isolation at another path inside is answered ValueError.
    """

    def __init__(self) -> None:
        self._setpriv = shutil.which("setpriv")
        self._cells = Cells()

    @property
    def level(self) -> str:
        """``none``, and what this machine has beside namespaces."""
        return "+".join(("none", *self._cells.walls))

    @property
    def is_namespace(self) -> bool:
        """Never."""
        return False

    def cell(self, bounds: Bounds, *, network: bool) -> Cell:
        """See the port. Without network TCP is denied altogether, also between a program's own parts."""
        return self._cells.open(bounds, denies_network=not network)

    def close(self) -> None:
        """Ends the cells."""
        self._cells.close()

    def command(self, isolation: Isolation, cpu: float | None = None) -> list[str]:
        """See the port."""
        return line_of(self.start(isolation), cpu)

    def start(self, isolation: Isolation) -> Start:
        """How the program is started; see the port.

        When its parent ends the program itself ends; what it started may live on, for nothing here can hold it.
        """
        for outside, inside in (*isolation.read_only, *isolation.writable):
            if outside != inside:
                raise ValueError(f"without a sandbox {outside} cannot be seen at {inside}")
        gate = ["/bin/sh", "-c", GATE, str(isolation.gate)] if isolation.gate is not None else []
        line = [*gate, *([self._setpriv, "--pdeathsig", "KILL"] if self._setpriv else [])]
        return Start((*line, *isolation.argv), isolation.env, isolation.folder)

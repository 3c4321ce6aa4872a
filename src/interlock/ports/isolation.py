"""How programs are kept apart from this machine and from one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeVar

from interlock.vocabulary import Stored

T = TypeVar("T")


class Isolation(Stored):
    """A program and the little of the machine it may see.

    ``read_only`` and ``writable`` are pairs (path outside, path inside); ``folder`` is the working folder inside;
    ``env`` is its whole environment. Without ``network`` it has none, not even loopback of this machine (Unix sockets
    in visible folders still work). ``interpreters`` are Python executables whose environments and standard libraries
    must be visible at their own paths; ``devices`` are device files that it may use, at their own paths. It begins only
    when something can be read from the descriptor ``gate``, where there is one.
    """

    argv: tuple[str, ...]
    folder: str
    env: dict[str, str] = {}
    read_only: tuple[tuple[str, str], ...] = ()
    writable: tuple[tuple[str, str], ...] = ()
    interpreters: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    network: bool = False
    gate: int | None = None


class Start(NamedTuple):
    """How an isolated program is started: its command line, its whole environment, its working folder (None: any)."""

    command: tuple[str, ...]
    env: Mapping[str, str]
    folder: str | None


class Bounds(NamedTuple):
    """What a program and all that it starts may use together: bytes, processes and threads, cores. None is any."""

    memory: int | None = None
    processes: int | None = None
    cpu: float | None = None


class CellSeen(NamedTuple):
    """What a cell's programs use now, and the most ``memory`` so far (bytes; ``processes`` with their threads).

    ``kills`` are those for want of memory, ``refusals`` processes that could not be made because of the bound.
    """

    memory: int
    peak: int
    processes: int
    kills: int
    refusals: int


class Cell(Protocol):
    """Holds a program and all that it starts together, by what this machine has beside namespaces."""

    @property
    def keeps_bounds(self) -> bool:
        """Whether the kernel itself keeps the bounds; else whoever opened the cell has to watch them."""

    @property
    def is_late(self) -> bool:
        """Whether a program has to be admitted after it was started, and to wait at a gate until then."""

    def within(self, start: Callable[[], T]) -> T:
        """Calls it in a thread whose children are held. They may end when the cells of their sandbox are closed."""

    def admit(self, pid: int) -> None:
        """The process, and what it starts from now on, is held."""

    def look(self) -> CellSeen | None:
        """What is used and was refused since the cell was opened; None where nobody counts."""

    def empty(self) -> None:
        """Ends all that it holds, where it can find them. TimeoutError where one does not end."""

    def close(self) -> None:
        """Empties it; it may be opened again with other bounds."""


class Sandbox(Protocol):
    """Isolation of programs: stages and model servers alike."""

    @property
    def level(self) -> str:
        """The walls that there really are on this machine, recorded in provenance.

        ``namespace`` or ``none``, then ``landlock`` and ``cgroup`` where there are such: ``namespace+landlock``.
        """

    @property
    def is_namespace(self) -> bool:
        """Whether a program sees only what it is given, at the paths inside, and all end with the first of them."""

    def cell(self, bounds: Bounds, *, network: bool) -> Cell:
        """Opens a cell for one program."""

    def start(self, isolation: Isolation) -> Start:
        """How the program is started isolated. It ends, with all it started, when its parent ends."""

    def command(self, isolation: Isolation, cpu: float | None = None) -> list[str]:
        """The same as a command line alone, for whoever only writes it down: one program more is started by it.

        With ``cpu`` all it starts may use so many cores together; where nothing keeps that, it says so on stderr.
        """

"""Cells: what holds a stage beside its namespaces. One thread each, which starts programs and sleeps in between.

Control groups and Landlock alike belong to threads and are inherited by what a thread starts. So a thread is put into
its group and its domain once, and starting a program from it costs nothing: no wrapper, no code between fork and exec.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TypeVar

from interlock.ports import Bounds, CellSeen

from . import landlock
from .cgroups import Group, Places

T = TypeVar("T")


class Cells:
    """Cells that are open or can be opened again, and the walls that this machine has for them."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._idle: dict[bool, list[_Cell]] = {True: [], False: []}
        self._all: list[_Cell] = []
        self._cores = Cores(os.sched_getaffinity(0))
        self._end = weakref.finalize(self, _end_all, self._all)

    @cached_property
    def walls(self) -> tuple[str, ...]:
        """``landlock`` and ``cgroup``, those that there are."""
        has_landlock = landlock.version() >= landlock.SCOPES_SINCE
        return (*(["landlock"] if has_landlock else []), *(["cgroup"] if self._places is not None else []))

    def open(self, bounds: Bounds, *, denies_network: bool) -> _Cell:
        """A cell with these bounds, empty. Closing it makes it ready for the next.

        ``denies_network``: TCP is denied by Landlock, where there is Landlock.
        """
        with self._guard:
            idle = self._idle[denies_network]
            cell = idle.pop() if idle else self._make(denies_network)
        cell.take(bounds)
        return cell

    def close(self) -> None:
        """Ends the threads of all cells and removes their groups. Happens at the end of the program at the latest."""
        self._end()

    @cached_property
    def _places(self) -> Places | None:
        try:
            return Places()
        except OSError:
            return None

    def _make(self, denies_network: bool) -> _Cell:
        group = self._places.make() if self._places is not None else None
        enter = [group.enter] if group is not None else []
        if "landlock" in self.walls:
            enter.append(lambda: landlock.restrict_thread(has_network=not denies_network))
        cell = _Cell(group, enter, self._cores, self._idle[denies_network].append)
        self._all.append(cell)
        return cell


class _Cell:
    """See the port. ``done`` is told when it can be used again."""

    def __init__(
        self,
        group: Group | None,
        enter: Iterable[Callable[[], None]],
        cores: Cores,
        done: Callable[[_Cell], None],
    ) -> None:
        self._group, self._cores, self._done = group, cores, done
        self._taken: tuple[int, ...] = ()
        steps = tuple(enter)
        self._starter = ThreadPoolExecutor(1, "cell", initializer=lambda: [step() for step in steps])
        self._starter.submit(int)  # goes in now: that can take 10 ms, in which the caller has other things to do

    @property
    def is_late(self) -> bool:
        return self._group is not None and self._group.is_late

    @property
    def keeps_bounds(self) -> bool:
        return self._group is not None

    def within(self, start: Callable[[], T]) -> T:
        return self._starter.submit(start).result()

    def admit(self, pid: int) -> None:
        if self._group is not None:
            self._group.admit(pid)

    def look(self) -> CellSeen | None:
        return self._group.look() if self._group is not None else None

    def empty(self) -> None:
        if self._group is not None:
            self._group.empty()

    def close(self) -> None:
        self.empty()
        self._cores.give_back(self._taken)
        self._taken = ()
        self._done(self)

    def take(self, bounds: Bounds) -> None:
        """From now on it is used, with these bounds."""
        if self._group is not None:
            self._group.bound(bounds)
        else:
            self._taken = self._cores.take(bounds.cpu)
            self._starter.submit(os.sched_setaffinity, 0, self._taken or self._cores.all)

    def end(self) -> None:
        """Its thread ends, and with it what was started with the wish to end so; its group is removed."""
        self._starter.shutdown()
        if self._group is not None:
            self._group.empty()
            self._group.remove()


def _end_all(cells: list[_Cell]) -> None:
    for cell in cells:
        cell.end()


class Cores:
    """Which cores are whose, where no control group shares out their time: the least used, as many as asked for."""

    def __init__(self, cores: Iterable[int]) -> None:
        self.all = tuple(sorted(cores))
        self._users = dict.fromkeys(self.all, 0)
        self._guard = threading.Lock()

    def take(self, cpu: float | None) -> tuple[int, ...]:
        """The cores to use; none where all may be."""
        if cpu is None or cpu >= len(self.all):
            return ()
        with self._guard:
            # Another Interlock on this machine begins elsewhere.
            first = os.getpid() % len(self.all)
            turned = self.all[first:] + self.all[:first]
            chosen = tuple(sorted(turned, key=self._users.__getitem__)[: max(1, math.ceil(cpu))])
            self._users |= {core: self._users[core] + 1 for core in chosen}
        return chosen

    def give_back(self, cores: Iterable[int]) -> None:
        """Others may use them."""
        with self._guard:
            self._users |= {core: self._users[core] - 1 for core in cores}

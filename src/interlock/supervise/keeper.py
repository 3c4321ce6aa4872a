"""Keeping one program alive: when it starts, starts again, and ends.

=====================  =============================================================================
seen                   done
=====================  =============================================================================
not running, wanted    started; after a death at once, then 0.2, 0.4 ... 5 s later, until it lived 10 s
never ran, is patient  started once there is room to begin
running, other         TERM, after its grace KILL; then the new generation is started at once
generation wanted
the same, which is     the new generation is started beside it, which takes over and ends it; while it cannot live
its successor          the old one stays
running, not wanted    TERM, after its grace KILL; then its status goes away
too much memory        TERM, after its grace KILL; started again as after a death
no answer for 20 s     KILL; started again as after a death
=====================  =============================================================================
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from .ailments import Pulse, memory_of
from .child import Child
from .files import read_object, record, rotate, write_atomically
from .program import Program

FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
STEADY = 10.0
"""Seconds alive after which a program's earlier deaths are forgiven."""


HUNG = 20.0
"""Seconds without an answer after which a program hangs: longer than any request may take."""
BEGINNING = 4.0
"""Seconds for which a program that has not answered yet makes others wait: most of a start's processor time."""
MEMORY_LOOK = 1.0
HAND_OVER = 60.0
"""Seconds that a successor lives beside its predecessor before that is killed."""


class Keeper:
    """Keeps the program of one name. ``folder`` is the data-plane folder; all moments are of the monotonic clock."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._status_file = folder / "status" / f"{name}.json"
        self._log = folder / "logs" / f"{name}.log"
        self._child: Child | None = None
        self._generation: int | None = None
        self._grace = 0.0
        self._unlink: tuple[str, ...] = ()
        self._started = 0.0
        self._due = 0.0
        self._deaths = 0
        self._kill_at: float | None = None
        self._pulse: Pulse | None = None
        self._next_memory = 0.0
        self._ailment = ""
        self._succession: str | None = None
        self._predecessor: Child | None = None
        self._epoch = 0
        self._status: dict[str, Any] = {}

    @classmethod
    def adopt(cls, folder: Path, name: str, now: float) -> Keeper:
        """Takes over what an earlier supervise had started, if it still runs."""
        keeper = cls(folder, name)
        try:
            status = read_object(keeper._status_file)
            keeper._child = Child.adopt(int(status["pid"]), str(status["identity"]))
            keeper._generation = int(status["generation"])
            keeper._grace = float(status["grace"])
            keeper._unlink = tuple(status["unlink"])
            keeper._succession = status.get("succession")
            keeper._epoch = int(status.get("epoch", 0))
            if status.get("predecessor") is not None:
                keeper._predecessor = Child.adopt(*status["predecessor"])
            keeper._status = status
        except (OSError, ValueError, KeyError, TypeError):
            return keeper
        keeper._started = now
        if keeper._child is not None:
            record(folder, name, "adopted", f"process {keeper._child.pid} runs since an earlier supervise")
        return keeper

    @property
    def is_serving(self) -> bool:
        """Whether it runs and has answered at its pulse."""
        return self._pulse is not None and self._pulse.has_answered

    def is_beginning(self, now: float) -> bool:
        """Whether it has a pulse, runs for a moment only, and has not answered yet."""
        return self._pulse is not None and not self._pulse.has_answered and now - self._started < BEGINNING

    def look(self, wanted: Program | None, now: float, *, has_room: bool = True) -> bool:
        """One look: does what is due. Answers whether there is anything left to keep.

        Without room to begin (``has_room``) a patient program that did not run before is not started.
        """
        if self._child is not None and self._child.has_ended():
            self._note_end(self._child, now)
        if self._predecessor is not None:
            self._see_off(self._predecessor, wanted, now)
        if self._child is not None and not self._give_way(wanted):
            self._keep(self._child, wanted, now)
            return True
        if wanted is None:
            return self._predecessor is not None or self._forget()
        if wanted.generation != self._generation:
            self._deaths, self._due, self._status = 0, now, {}
        waits = wanted.is_patient and not self._status and not has_room
        if now >= self._due and not waits:
            self._start(wanted, now)
        return True

    def _keep(self, child: Child, wanted: Program | None, now: float) -> None:
        """Ends what is not wanted any more, and looks after what is."""
        if wanted is None or self._kill_at is not None:
            self._end(child, now)
        elif wanted.generation == self._generation:
            self._examine(child, wanted, now)
        elif not self._is_succeeded(wanted):  # else it waits until its own predecessor has left
            self._end(child, now)

    def _give_way(self, wanted: Program | None) -> bool:
        """Makes what runs the predecessor of another generation that is wanted, if that takes over from it now."""
        if wanted is None or not self._is_succeeded(wanted) or self._predecessor is not None:
            return False
        self._predecessor, self._child = self._child, None
        self._epoch += 1
        return True

    def _is_succeeded(self, wanted: Program) -> bool:
        """Whether another generation is wanted which takes over from the one that runs, and is not ended anyway."""
        if wanted.generation == self._generation or self._kill_at is not None:
            return False
        return wanted.succession is not None and wanted.succession == self._succession

    def _forget(self) -> bool:
        """Nothing runs and nothing is wanted; nothing is left to keep."""
        self._clean()
        self._status_file.unlink(missing_ok=True)
        return False

    def _see_off(self, predecessor: Child, wanted: Program | None, now: float) -> None:
        """It ends by itself once its successor has taken over; until then it is what serves."""
        if predecessor.has_ended():
            self._predecessor = None
            self._say(predecessor=None)
            record(self._folder, self._name, "handed over", f"process {predecessor.pid} has ended")
        elif wanted is None or (self._child is not None and now - self._started >= HAND_OVER):
            predecessor.kill()

    def _examine(self, child: Child, wanted: Program, now: float) -> None:
        """Ends a program that hangs or has taken too much memory; what becomes of it is that of one that died."""
        if wanted.pulse is not None and self._pulse is None:  # adopted
            self._pulse = Pulse(self._folder, wanted.pulse, has_answered=True)
        if self._pulse is not None and self._pulse.look(now) >= HUNG:
            self._ailment = f"it has not answered for {HUNG:g} s"
            child.kill()
        elif wanted.memory is not None and now >= self._next_memory:
            self._next_memory = now + MEMORY_LOOK
            used = memory_of(child.pid)
            if used > wanted.memory:
                self._ailment = f"it uses {used / 2**20:.0f} MiB of memory, of {wanted.memory / 2**20:.0f} it may"
                self._end(child, now)

    def _start(self, program: Program, now: float) -> None:
        self._unlink = program.unlink
        if self._predecessor is None:
            self._clean()
        rotate(self._log)
        self._epoch = 0 if self._predecessor is None else self._epoch
        before = self._predecessor and (self._predecessor.pid, self._predecessor.identity)
        child = Child.prepare(self._folder, self._log)
        self._succession = program.succession
        self._child, self._generation, self._grace = child, program.generation, program.grace
        self._started, self._kill_at = now, None
        # Written down before it may run: whenever supervise dies, the next one knows of everything that runs.
        self._say(
            pid=child.pid,
            identity=child.identity,
            started=time.time(),
            restarts=self._status.get("restarts", -1) + 1,
            generation=program.generation,
            grace=program.grace,
            unlink=list(program.unlink),
            succession=program.succession,
            epoch=self._epoch,
            predecessor=before,
            state="running",
            exit=self._status.get("exit"),
            ailment=self._status.get("ailment", ""),
        )
        child.begin(program, self._epoch)
        if program.pulse is not None:
            self._pulse = Pulse(self._folder, program.pulse, has_answered=False)

    def _end(self, child: Child, now: float) -> None:
        if self._kill_at is None:
            self._kill_at = now + self._grace
            self._say(state="stopping")
            child.terminate()
        elif now >= self._kill_at:
            child.kill()

    def _note_end(self, child: Child, now: float) -> None:
        self._child = None
        if self._pulse is not None:
            self._pulse.close()
        ailment, self._pulse, self._ailment = self._ailment, None, ""
        if self._kill_at is not None and not ailment:
            self._say(pid=None, identity=None, exit=child.exit_code)
            return
        self._deaths = 0 if now - self._started >= STEADY else self._deaths
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (self._deaths - 1)) if self._deaths else 0.0
        self._deaths += 1
        self._due = now + delay
        self._kill_at = None
        self._say(pid=None, identity=None, state="backing_off", exit=child.exit_code, ailment=ailment)
        why = ailment or f"exit code {child.exit_code}"
        record(self._folder, self._name, "ended", f"{why}; started again in {delay:g} s")

    def _clean(self) -> None:
        for path in self._unlink:
            (self._folder / path).unlink(missing_ok=True)

    def _say(self, **status: object) -> None:
        self._status = {**self._status, **status}
        try:
            write_atomically(self._status_file, self._status)
        except OSError as problem:  # a full disk: to serve matters more than to say so
            sys.stderr.write(f"{self._name}: its status cannot be written: {problem}\n")

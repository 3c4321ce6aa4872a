"""The loop. One pass steps every row that can move; between passes it waits for the bell or the timer."""

from __future__ import annotations

from collections.abc import Callable

from interlock.control.bell import BUSY_SECONDS, IDLE_SECONDS, Bell
from interlock.control.delivering.dataplane import Plane
from interlock.control.delivering.deliveries import ACTIVE_RELEASES, Deliveries
from interlock.control.running.runs import Runs
from interlock.delivery.rollout import RolloutPhase
from interlock.errors import Fault, InterlockError
from interlock.ports import Store
from interlock.vocabulary import Kind, Phase

ACTIVE_RUNS = (Phase.QUEUED, Phase.RUNNING)


class Loop:
    """Steps all rows of one driver. ``say`` hears of faults, each of which is retried at the next pass.

    ``make_room`` answers whether the disk was full and has just got some space again that was reserved: then what moves
    or keeps an environment is tried once more at once, or a rollback could not be saved. ``watch`` looks at what an
    environment serves.
    """

    def __init__(
        self,
        store: Store,
        runs: Runs,
        deliveries: Deliveries,
        plane: Plane,
        driver: str,
        say: Callable[[str], None],
        make_room: Callable[[], bool] = lambda: False,
        watch: Callable[[str], bool] = lambda _key: False,
    ) -> None:
        self._store = store
        self._runs = runs
        self._deliveries = deliveries
        self._plane = plane
        self._driver = driver
        self._say = say
        self._make_room = make_room
        self._watch = watch
        self._last_fault = ""

    def one_pass(self) -> bool:
        """Steps everything once; whether anything moved or is under way."""
        busy = False
        for key in self._runs.survey(self._store.rows(Kind.RUN, phases=ACTIVE_RUNS), self._driver):
            busy = True
            self._until_still(self._runs.step, key)
        for row in self._store.rows(Kind.RELEASE, phases=ACTIVE_RELEASES):
            self._until_still(self._deliveries.step_release, row.key)
        for row in self._store.rows(Kind.ROLLOUT, phases=(RolloutPhase.PROGRESSING,)):
            busy = busy or not row.state.get("is_on_probation", False)  # which lasts a day: a look a second will do
            self._until_still(self._insisting(self._deliveries.step_rollout), row.key)
        self._guard(_told(self._plane.forbid_quarantined), "")
        self._guard(_told(self._plane.allow_keys), "")
        for row in self._store.rows(Kind.ENVIRONMENT):
            busy = self._guard(self._insisting(self._deliveries.step_environment), row.key) or busy
            busy = self._guard(self._insisting(self._plane.keep), row.key) or busy
            busy = self._guard(self._insisting(self._watch), row.key) or busy
        return busy

    def run_until(self, is_over: Callable[[], bool], bell: Bell) -> None:
        """Passes until ``is_over``."""
        while not is_over():
            busy = self._guard(lambda _: self.one_pass(), "")
            bell.wait(BUSY_SECONDS if busy else IDLE_SECONDS)

    def _insisting(self, step: Callable[[str], bool]) -> Callable[[str], bool]:
        """The step, tried again where room could be made for it."""

        def insist(key: str) -> bool:
            try:
                return step(key)
            except Fault:
                if not self._make_room():
                    raise
                self._say("the disk is full: reserved space was given up for what delivers and rolls back")
                return step(key)

        return insist

    def _until_still(self, step: Callable[[str], bool], key: str) -> None:
        while self._guard(step, key):
            pass

    def _guard(self, step: Callable[[str], bool], key: str) -> bool:
        """A fault of the world ends this step, not the loop: the next pass tries again."""
        try:
            return step(key)
        except InterlockError as fault:
            told = f"{type(fault).__name__}: {fault}"
            if told != self._last_fault:
                self._say(told)
            self._last_fault = told
            return False


def _told(tell: Callable[[], None]) -> Callable[[str], bool]:
    """What the whole data plane is told is the step of no row, and moves none."""

    def step(_key: str) -> bool:
        tell()
        return False

    return step

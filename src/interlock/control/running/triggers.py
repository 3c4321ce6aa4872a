"""What makes Interlock begin runs by itself: notices that came in, schedules, and data that changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from interlock.control.arriving.seen import Clock, Repository
from interlock.control.rows import load_state, write_run, write_state
from interlock.control.running.intake import Intake
from interlock.errors import AlreadyExists, InterlockError, Refused, StaleWrite, StoreFault, WatchFault
from interlock.ports import Store, Watch
from interlock.run.run import Run
from interlock.source.commit import Occasion
from interlock.source.notice import Notice
from interlock.source.repository import Watched
from interlock.source.schedule import latest_slot
from interlock.vocabulary import Kind

NOTICES = 1000
"""Notices that are taken up at once."""
LONGEST_PAUSE = 60.0
"""Seconds between two looks at a repository that cannot be asked, at most."""
SWAPS = 5
"""Tries when somebody else moves the same row."""

LookAtClock: TypeAlias = Callable[[Clock, int, list[InterlockError]], tuple[Clock, list[Occasion]]]
"""From a clock, the version of its repository's row and the troubles so far to the clock afterwards, and what came."""


class Arrivals:
    """Looks into notices. They are settled after the look, so that one which a crash cut short is looked into again."""

    def __init__(self, store: Store, intake: Intake, say: Callable[[str], None], now: Callable[[], float]) -> None:
        """``say`` hears of repositories that cannot be asked; those are tried again, ever more rarely."""
        self._store = store
        self._intake = intake
        self._say = say
        self._now = now
        self._faults: dict[str, tuple[int, float]] = {}

    def settle_pending(self, repositories: Sequence[Watched]) -> list[Run]:
        """One look for each repository that notices wait for; the runs it began."""
        watched = {repository.name: repository for repository in repositories}
        waiting: dict[str, list[tuple[int, Notice]]] = {}
        for number, notice in self._store.pending(NOTICES):
            waiting.setdefault(notice.repository, []).append((number, notice))
        begun: list[Run] = []
        for name, group in waiting.items():
            found: list[Run] | None = []
            if name in watched:
                found = None if self._is_paused(name) else self._look(watched[name], group)
            begun += found or []
            self._store.settle([number for number, _ in group] if found is not None else _found_by_polls(group))
        return begun

    def _look(self, repository: Watched, group: Sequence[tuple[int, Notice]]) -> list[Run] | None:
        """The runs that the notices begin; None where the repository could not be looked at."""
        notices = [notice for _, notice in group if notice.kind not in ("ping", "other")]
        try:
            begun = self._intake.look(repository, notices) if notices else []
        except StoreFault:
            raise
        except InterlockError as trouble:
            count, _ = self._faults.get(repository.name, (0, 0.0))
            self._faults[repository.name] = (count + 1, self._now() + min(2.0**count, LONGEST_PAUSE))
            self._say(f"repository {repository.name}: {trouble}")
            return None
        self._faults.pop(repository.name, None)
        return begun

    def _is_paused(self, name: str) -> bool:
        _, again = self._faults.get(name, (0, 0.0))
        return 0 < again - self._now() <= LONGEST_PAUSE


def _found_by_polls(group: Sequence[tuple[int, Notice]]) -> list[int]:
    """The notices that need not be kept for another look: all but the last of each pull request."""
    kept = {notice.pull_request.number: number for number, notice in group if notice.pull_request is not None}
    return [number for number, _ in group if number not in kept.values()]


class Clockwork:
    """Begins runs of the trusted default branch at their times and when watched data has changed.

    What was missed while no server ran is made up for by one run, that of the newest slot. ``now`` is wall time.
    """

    def __init__(self, store: Store, intake: Intake, watch: Watch, now: Callable[[], float]) -> None:
        self._store = store
        self._intake = intake
        self._watch = watch
        self._now = now

    def tick(self, repositories: Sequence[Watched]) -> list[Run]:
        """Begins what schedules are due for."""
        return self._begin_all(repositories, self._due)

    def look_at_data(self, repositories: Sequence[Watched]) -> list[Run]:
        """Begins what watched data has changed for; listing it may take long."""
        return self._begin_all(repositories, self._changed)

    def _begin_all(self, repositories: Sequence[Watched], look: LookAtClock) -> list[Run]:
        """What keeps one repository or place from being read is raised once all were looked at."""
        begun: list[Run] = []
        troubles: list[InterlockError] = []
        for repository in repositories:
            try:
                begun += self._begin_due(repository, look, troubles)
            except InterlockError as trouble:
                troubles.append(trouble)
        if troubles:
            raise troubles[0]
        return begun

    def _begin_due(self, repository: Watched, look: LookAtClock, troubles: list[InterlockError]) -> list[Run]:
        for _ in range(SWAPS):
            known, version = load_state(self._store, Kind.REPOSITORY, repository.name, Repository)
            ref = f"refs/heads/{repository.default_branch}"
            if known is None or not known.clocks or ref not in known.refs:
                return []
            clocks: dict[str, Clock] = {}
            begun: list[Run] = []
            told: list[str] = []
            for project, clock in known.clocks.items():
                clocks[project], occasions = look(clock, version, troubles)
                for occasion in occasions:
                    runs, because = self._begin(repository, ref, known.refs[ref], occasion, project)
                    begun += runs
                    told.append(because)
            if clocks == known.clocks:
                return []
            after = known.model_copy(update={"clocks": clocks})
            because = "; ".join(told) or "schedules and data are watched from now on"
            write = write_state(Kind.REPOSITORY, known.name, after, expected=version, phase="watched", because=because)
            try:
                self._store.save(write, *(write_run(run) for run in begun))
            except (StaleWrite, AlreadyExists):
                continue
            return begun
        raise StaleWrite(f"repository {repository.name} is moved by others all the time")

    def _due(self, clock: Clock, _version: int, _troubles: list[InterlockError]) -> tuple[Clock, list[Occasion]]:
        """The clock as it is afterwards, and the slot that has come."""
        if not clock.schedule:
            return clock, []
        now, since = self._now(), clock.since
        slot = None if since is None else latest_slot(clock.schedule, clock.time_zone, since, now)
        after = now if since is None else since if slot is None else slot
        occasions = [Occasion(kind="schedule", detail=f"{slot:.0f}")] if slot is not None else []
        return clock.model_copy(update={"since": after}), occasions

    def _changed(self, clock: Clock, version: int, troubles: list[InterlockError]) -> tuple[Clock, list[Occasion]]:
        """The clock as it is afterwards, and the change of data."""
        seen, changed = dict(clock.seen), list[str]()
        for place in clock.data:
            try:
                found = self._watch.fingerprint(place)
            except WatchFault as fault:
                troubles.append(fault)
                continue
            changed += [found] if seen.get(place, found) != found else []
            seen[place] = found
        # the version makes data that is again what it was before another occasion
        occasions = [Occasion(kind="data", detail=" ".join((str(version), *changed)))] if changed else []
        return clock.model_copy(update={"seen": seen}), occasions

    def _begin(
        self, repository: Watched, ref: str, sha: str, occasion: Occasion, project: str
    ) -> tuple[list[Run], str]:
        try:
            begun = self._intake.begin(repository, ref, sha, occasion, project)
        except Refused as refused:
            return [], f"{occasion.kind} of {project or repository.name} not run: {refused.problem}"
        return begun, f"{occasion.kind} of {project or repository.name}: run {begun[0].number}"

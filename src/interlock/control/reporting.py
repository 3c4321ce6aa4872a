"""Tells forges of runs: follows the events, keeps a report of each run, and sends what its forge has not acknowledged.

A report is saved when what it wants changes and again when the forge has answered: told twice is the same as told once,
so nothing has to be saved before it is sent. Each forge has a thread of its own: one that is dead holds no other.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, ParamSpec, TypeVar

from interlock.control.rows import load_state, read_state, write_state
from interlock.delivery.holding import APPROVED
from interlock.delivery.release import Release, ReleasePhase
from interlock.delivery.rollout import PROBATION_END, Rollout, RolloutPhase
from interlock.delivery.stages.probation import place_of
from interlock.errors import Fault, ForgeFault, Refused, StoreFault
from interlock.feedback.comment import comment
from interlock.feedback.report import Item, Outcome, Report, ReportPhase, advance, back_off, due, next_due, want
from interlock.feedback.status import Status
from interlock.feedback.statuses import Delivery, delivery_statuses, run_statuses
from interlock.ports import Forge, Store
from interlock.registry.version import ModelVersion
from interlock.run.run import Run
from interlock.source.repository import Watched
from interlock.source.trust import is_trusted
from interlock.vocabulary import Event, Fact, Kind

SPACE = "reporting"
"""Of facts: up to which event everything was followed, and which runs a commit and a pull request had."""
OPEN = (ReportPhase.TELLING, ReportPhase.HELD)
ENDED = tuple(phase.value for phase in RolloutPhase if phase.is_final)
BATCH = 500
REMEMBER_SECONDS = 10.0
"""Between two notes of how far events were followed; after a restart those since are followed again."""
RECENT_SECONDS = 3600.0
"""Where events were never followed, the runs that moved since then are told of."""


Read = TypeVar("Read")
Keys = ParamSpec("Keys")


class Waiting(NamedTuple):
    """A report that is not told to the end: when to try next, and whether only refused items are left."""

    until: float
    is_held: bool


class Pause(NamedTuple):
    """Faults of one forge in a row, and until when it is left alone."""

    faults: int = 0
    until: float = 0.0


class Reporting:
    """Reports of the runs of ``repositories`` that have one of ``forges`` (both by name).

    ``url`` is the server's own, as people reach it; without one nothing is linked. ``now`` is wall time; ``say`` hears
    of faults and refusals.
    """

    def __init__(
        self,
        store: Store,
        repositories: Mapping[str, Watched],
        forges: Mapping[str, Forge],
        url: str,
        now: Callable[[], float],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._repositories = repositories
        self._forges = {name: forge for name, forge in forges.items() if name in repositories}
        self._url = url.rstrip("/")
        self._now = now
        self._say = say
        self._followed: int | None = None
        self._remembered = 0.0
        self._waiting: dict[str, dict[str, Waiting]] = {name: {} for name in self._forges}
        self._pauses: dict[str, Pause] = {}
        self._telling: dict[str, Future[None]] = {}
        self._is_closed = False
        self._turn = threading.Lock()
        self._threads = ThreadPoolExecutor(max(1, len(self._forges)), thread_name_prefix="forge")

    def one_pass(self) -> bool:
        """Follows what happened and lets each forge be told; whether anything is still to be told (refused: no)."""
        try:
            self._follow()
        except StoreFault as fault:
            self._say(f"runs cannot be followed: {fault}")
            return True
        for name in self._forges:
            self._start(name)
        return bool(self._telling) or any(
            not waiting.is_held for reports in self._waiting.values() for waiting in list(reports.values())
        )

    def close(self) -> None:
        """Ends the threads; each sends the item it is at."""
        self._is_closed = True
        self._threads.shutdown()

    def _follow(self) -> None:
        followed = self._begin() if self._followed is None else self._followed
        while events := self._store.events(after=followed, most=BATCH):
            touched = self._touched(events)
            for key, rollouts in touched.items():
                self._read(f"run {key}", self._refresh, key, rollouts)
            followed = self._followed = events[-1].number
            if touched and self._now() >= self._remembered + REMEMBER_SECONDS:
                self._store.save(facts=[Fact(SPACE, "followed", followed)])
                self._remembered = self._now()

    def _begin(self) -> int:
        """Where to follow from: rows alone say it."""
        noted = [fact for fact in self._store.recall(SPACE, "followed", 1) if isinstance(fact, int)]
        followed = noted[0] if noted else self._store.last_event()
        keys = [row.key for row in self._store.rows(Kind.REPORT, phases=OPEN)]
        if not noted:
            recent = self._store.rows(Kind.RUN, newest=BATCH)
            keys += [row.key for row in reversed(recent) if row.updated >= self._now() - RECENT_SECONDS]
        for key in keys:
            self._read(f"run {key}", self._refresh, key)
        if not noted:
            self._store.save(facts=[Fact(SPACE, "followed", followed)])
        self._followed = followed
        return followed

    def _touched(self, events: Sequence[Event]) -> dict[str, tuple[int, ...]]:
        """The runs of which something new is to be told, each with rollouts that ended, are on probation or wait for
        people.
        """
        touched: dict[str, tuple[int, ...]] = {}
        for event in events:
            run: str | None = None
            if event.kind is Kind.RUN:
                touched.setdefault(event.key, ())
            elif event.kind is Kind.RELEASE and APPROVED in event.because:
                release, _ = load_state(self._store, Kind.RELEASE, event.key, Release)
                if release is not None:
                    touched.setdefault(release.run, ())
            elif event.kind is Kind.ROLLOUT and (
                event.phase in ENDED or PROBATION_END in event.observed or APPROVED in event.because
            ):
                run = self._read(f"rollout {event.key}", self._run_of, event.key)
            if run is not None:
                touched[run] = (*touched.get(run, ()), int(event.key))
        return touched

    def _read(self, about: str, step: Callable[Keys, Read], *keys: Keys.args, **more: Keys.kwargs) -> Read | None:
        """What the step answers; one row that cannot be read must not keep all others from being told."""
        try:
            return step(*keys, **more)
        except ValueError as problem:
            self._say(f"{about} cannot be told of: {problem}")
            return None

    def _run_of(self, rollout_key: str) -> str | None:
        """The run whose model a rollout delivered or, where nobody released it, took back."""
        rollout, _ = load_state(self._store, Kind.ROLLOUT, rollout_key, Rollout)
        if rollout is None:
            return None
        if rollout.release is not None:
            release, _ = load_state(self._store, Kind.RELEASE, str(rollout.release), Release)
            return release.run if release else None
        if rollout.stable is None:
            return None
        key = f"{rollout.stable.model}/{rollout.stable.version}"
        version, _ = load_state(self._store, Kind.VERSION, key, ModelVersion)
        return version.run if version else None

    def _refresh(self, key: str, rollouts: Iterable[int] = ()) -> Report | None:
        """The report as the run stands now, saved if that is news. None where nobody is to be told of the run."""
        with self._turn:
            run, _ = load_state(self._store, Kind.RUN, key, Run)
            if run is None or run.commit.repository not in self._forges or run.occasion.kind in ("local", "reproduce"):
                return None
            known, version = load_state(self._store, Kind.REPORT, key, Report)
            if known is None:
                known = Report(run=run.number, repository=run.commit.repository, sha=run.commit.sha)
                for place, order in self._places(run).items():
                    self._store.save(facts=[Fact(SPACE, place, [*order])])
            delivered = tuple(sorted({*known.rollouts, *rollouts}))
            report = self._want(run, known.model_copy(update={"rollouts": delivered}))
            self._keep(known, report, version, f"run {key} is {run.phase}")
            return report

    def _want(self, run: Run, report: Report) -> Report:
        """For a commit and for a pull request the first in order speaks; what another delivers is told still."""
        url = f"{self._url}/api/v1/runs/{run.number}" if self._url else ""
        is_newest = [self._is_newest(place, order) for place, order in self._places(run).items()]
        deliveries = [delivery for number in report.rollouts for delivery in self._delivery(number)]
        deliveries += self._unapproved(run.key)
        told = (*(run_statuses(run, url) if is_newest[0] else ()), *delivery_statuses(run, deliveries, url))
        return want(report, told, comment(run, url) if is_newest[-1] else None)

    def _places(self, run: Run) -> dict[str, tuple[int, ...]]:
        """Where the run speaks, and its place in the order there.

        That is its commit's page and, if it has one, its pull request's, where a newer commit comes before a rerun of
        an older one. On a commit's page a trusted branch has the first word, also as the one a pull request goes into:
        a run of any other branch is judged by gates that its author wrote.
        """
        name = f"{run.commit.repository} {run.plan.project}"
        pull = run.pull_request
        judge = f"refs/heads/{pull.base}" if pull else run.commit.ref
        rank = int(is_trusted(judge, self._repositories[run.commit.repository]))
        places: dict[str, tuple[int, ...]] = {f"{name} commit {run.commit.sha}": (rank, run.number)}
        if pull is not None:
            places[f"{name} pull request {pull.number}"] = (run.age, run.number)
        return places

    def _is_newest(self, place: str, order: Sequence[int]) -> bool:
        others = [other for other in self._store.recall(SPACE, place) if isinstance(other, list)]
        return all(tuple(other) <= tuple(order) for other in others)

    def _unapproved(self, run: str) -> list[Delivery]:
        """The environments before which the run's release waits for people."""
        rows = self._store.rows(Kind.RELEASE, phases=(ReleasePhase.WAITING,))
        releases = [release for row in rows if (release := read_state(row, Release)).run == run]
        return [
            Delivery(environment=one.here.name, phase=RolloutPhase.PROGRESSING, because=one.unapproved, is_waiting=True)
            for one in releases
            if one.here is not None and one.unapproved is not None
        ]

    def _delivery(self, number: int) -> list[Delivery]:
        rollout, _ = load_state(self._store, Kind.ROLLOUT, str(number), Rollout)
        if rollout is None:
            return []
        environment = rollout.environment.rpartition("/")[2]
        if rollout.is_on_probation and not rollout.phase.is_final:
            told = place_of(rollout)  # without its evidence, which is another one each minute
            return [Delivery(environment=environment, phase=rollout.phase, because=told, is_on_probation=True)]
        if rollout.release is not None:
            is_waiting = not rollout.phase.is_final and rollout.unapproved(rollout.step) is not None
            because = rollout.because
            return [Delivery(environment=environment, phase=rollout.phase, because=because, is_waiting=is_waiting)]
        if rollout.phase is not RolloutPhase.PROMOTED:
            return []
        because = f"back to {rollout.candidate.title}"
        return [Delivery(environment=environment, phase=RolloutPhase.ROLLED_BACK, because=because)]

    def _keep(self, known: Report, report: Report, version: int, because: str) -> None:
        """Saves the report if it is news, and notes whether something of it is still to be told."""
        if report != known or not version:
            write = write_state(
                Kind.REPORT,
                report.key,
                report,
                expected=version,
                phase=report.phase,
                because=because,
                repository=report.repository,
            )
            self._store.save(write)
        reports = self._waiting.get(report.repository, {})
        if report.phase is ReportPhase.TOLD:
            reports.pop(report.key, None)
        else:
            reports[report.key] = Waiting(next_due(report), report.phase is ReportPhase.HELD)

    def _start(self, name: str) -> None:
        """Lets the forge's thread tell what is due, unless it is at it."""
        under_way = self._telling.get(name)
        if under_way is not None:
            if not under_way.done():
                return
            del self._telling[name]
            problem = under_way.exception()
            if problem is not None:
                self._rest(name, f"{type(problem).__name__}: {problem}")
        now = self._now()
        ready = [key for key, waiting in list(self._waiting[name].items()) if now >= waiting.until]
        if ready and now >= self._pauses.get(name, Pause()).until and not self._is_closed:
            self._telling[name] = self._threads.submit(self._tell_all, name, sorted(ready, key=int))

    def _tell_all(self, name: str, keys: Sequence[str]) -> None:
        """In the forge's thread: one report after the other, until the forge fails."""
        for key in keys:
            report = self._refresh(key)
            if report is None:
                self._waiting[name].pop(key, None)
                continue
            outcome = self._send(name, report)
            self._acknowledge(key, outcome)
            if self._is_closed:
                return
            if outcome.fault is not None:
                self._rest(name, outcome.fault, outcome.retry_after)
                return
            self._pauses.pop(name, None)

    def _send(self, name: str, report: Report) -> Outcome:
        told: list[Item] = []
        refused: list[tuple[Item, str]] = []
        for item in due(report, self._now()):
            if self._is_closed:
                break
            try:
                self._send_one(name, report.sha, item)
            except Refused as refusal:
                self._say(f"{name}: {refusal}")
                refused.append((item, str(refusal)))
            except Fault as fault:
                after = fault.retry_after if isinstance(fault, ForgeFault) else None
                return Outcome(told=tuple(told), refused=tuple(refused), fault=str(fault), retry_after=after)
            else:
                told.append(item)
        return Outcome(told=tuple(told), refused=tuple(refused))

    def _send_one(self, name: str, sha: str, item: Item) -> None:
        if isinstance(item, Status):
            self._forges[name].set_status(sha, item)
        else:
            self._forges[name].put_comment(item)

    def _acknowledge(self, key: str, outcome: Outcome) -> None:
        """Saved onto the report as it is by now: what was told stays told, whatever is wanted since."""
        with self._turn:
            report, version = load_state(self._store, Kind.REPORT, key, Report)
            if report is not None:
                decision = advance(report, outcome, self._now(), secrets.randbelow(1001) / 1000)
                self._keep(report, decision.state, version, decision.because)

    def _rest(self, name: str, problem: str, retry_after: float | None = None) -> None:
        """The forge failed: it is left alone for a while, whatever else is to be told."""
        faults = self._pauses.get(name, Pause()).faults + 1
        wait = back_off(faults, secrets.randbelow(1001) / 1000, retry_after)
        self._pauses[name] = Pause(faults, self._now() + wait)
        self._say(f"{name} is tried again in {wait:.0f} s: {problem}")

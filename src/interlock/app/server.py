"""The control plane of one state folder: its parts wired by hand, and its threads."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from interlock.app.folder import StateFolder
from interlock.app.operating.credentials import Credentials
from interlock.app.operating.forges import Forges, watch_list
from interlock.app.operating.leftovers import collect_environments, collect_logs
from interlock.app.operating.outside import (
    certificates,
    fronts_of,
    receivers_of,
    refused,
    renew_certificates,
    telemetry_of,
)
from interlock.app.operating.reserve import Reserve
from interlock.app.operating.rounds import Rounds
from interlock.app.parts import PACKAGE, Parts, Remotes
from interlock.app.services import Health, Services
from interlock.app.settings import ServerSettings
from interlock.client.install import install_hook
from interlock.control.bell import Bell
from interlock.control.collecting import Collecting, Retention
from interlock.control.delivering.dataplane import Plane
from interlock.control.delivering.deliveries import Deliveries
from interlock.control.delivering.measuring import Measuring
from interlock.control.delivering.requests import Requests
from interlock.control.delivering.reverting import Reverting
from interlock.control.delivering.scaling import Scaling
from interlock.control.front.keys import Keys
from interlock.control.front.retiring import Retiring
from interlock.control.inbox import Inbox
from interlock.control.loop import Loop
from interlock.control.monitoring.alerting import Alerting
from interlock.control.monitoring.monitoring import Monitoring
from interlock.control.monitoring.retraining import Retraining
from interlock.control.people import People
from interlock.control.reporting import Reporting
from interlock.control.running.requests import RunRequests
from interlock.control.running.runs import SERVER
from interlock.control.running.triggers import Arrivals, Clockwork
from interlock.delivery.revision import Revision
from interlock.edges.front import front_log
from interlock.edges.proxy import EnvoyProxy
from interlock.edges.serving import Installed, LocalReplicas, ensure_supervise, stop_supervise
from interlock.edges.signing import LocalSigning
from interlock.edges.watch import ObjectWatch
from interlock.errors import InterlockError, ProxyFault, StoreFault
from interlock.pipeline.models.formats import serving_purpose
from interlock.ports import Store
from interlock.run.run import Run
from interlock.source.notice import Notice
from interlock.system.files import try_lock
from interlock.system.machine import find_cores, find_memory
from interlock.vocabulary import Digest, Json, Kind, Phase

ANSWER_SECONDS = 1.0
"""How long a push waits to be told what became of it."""
FORMER_RUNS = 20
"""Where the runs of a push are looked for that something else had seen before its hook told of it."""
EVENTS_EVERY = 0.2
REST_SECONDS = 0.05
"""Between two looks at what hooks told: in a flood each is for many calls, and leaves the disk to those that come."""
TICK_SECONDS = 1.0
"""How often schedules are looked at."""
TELL_SECONDS = 1.0
"""How often forges are told, where nothing rings."""
COLLECT_SECONDS = 3600.0
KEEP_BOOKS_SECONDS = 5.0
CERTIFICATES_EVERY = 5.0
"""How soon a certificate of a front that was renewed is taken."""
NOTICES_KEPT = 7 * 86400.0
"""Settled notices are kept so long, for people who ask whether a webhook came."""
END_SECONDS = 2.0
"""How long rounds of work that are under way may take once the server ends; what is cut short is taken up again."""
FOR_ALL = ("notices", "schedules", "books")
"""Rounds that every repository waits for; one that hangs makes the server unready."""
TOLD_KINDS = (
    Kind.REPOSITORY,
    Kind.PULL_REQUEST,
    Kind.RUN,
    Kind.VERSION,
    Kind.RELEASE,
    Kind.ROLLOUT,
    Kind.ENVIRONMENT,
    Kind.QUARANTINE,
    Kind.MONITOR,
    Kind.REVERT,
)
NUMBERS = re.compile(r"[0-9.]+")


class Server:
    """The control plane. Its end does not touch the data plane.

    ``services`` is what the outside may ask of it; ``url`` is how people reach it.
    """

    def __init__(
        self,
        state: Path,
        settings: ServerSettings,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        tell_request: Callable[[Mapping[str, Json]], None],
    ) -> None:
        self._settings = settings
        self._say = say
        self._bell, self._arrivals_bell = Bell(), Bell()
        self._over = threading.Event()
        self._rounds = Rounds(self._over, say)
        self._loop_passed: float | None = None
        credentials = Credentials(settings.repositories, environment, settings.prometheus, settings.alerts)
        self._telemetry = telemetry_of(settings, credentials)
        forges = self._forges = Forges(settings.repositories, credentials, time.time)
        self._parts = self._open_parts(state, forges)
        self._parts.store.check()
        self._reserve = Reserve(self._parts.folder.root)
        self._reserve.keep()
        self._repositories = watch_list(settings.repositories, self._parts.folder.mirrors)
        store = self._parts.store
        self._store_problem: str | None = None
        self._arrivals = Arrivals(store, self._parts.intake, say, time.monotonic)
        self._clockwork = Clockwork(store, self._parts.intake, ObjectWatch(), time.time)
        self._reporting = Reporting(store, self._repositories, forges.by_repository, settings.url or "", time.time, say)
        self._collecting = Collecting(
            store,
            self._parts.blobs,
            self._parts.environments,
            Retention(**settings.retention.model_dump()),
            time.time,
            collect_logs=lambda keep, before: collect_logs(self._parts.folder.execution / "logs", keep, before),
            collect_environments=lambda wanted, before: collect_environments(
                self._parts.environments, wanted, before, self._parts.folder.data
            ),
        )
        self._alerting = Alerting(store, receivers_of(settings, credentials), time.time)
        self._retraining = Retraining(store, self._parts.intake, self._repositories)
        self._inbox = Inbox(store, self._arrivals_bell.ring)
        self._people = People(store, time.time)
        self.services = Services(
            store=store,
            logs=self._parts.logs,
            inbox=self._inbox,
            runs=RunRequests(store, self._parts.intake, self._repositories, time.time, self._bell.ring),
            deliveries=Requests(store, time.time, settings.guarded),
            people=self._people,
            keys=Keys(store, time.time, self._bell.ring),
            retiring=Retiring(store, time.time, partial(front_log, self._parts.folder.data), self._bell.ring),
            secrets=self._parts.secrets,
            repositories=self._repositories,
            webhook_secrets=lambda name: credentials.webhook_secrets.get(name, ()),
            look=self._look_for_pusher,
            health=self._health,
            refused=partial(refused, self._parts.folder.data),
            certificates=partial(certificates, self._parts.folder.data),
            say=tell_request,
        )

    def _open_parts(self, state: Path, forges: Forges) -> Parts:
        settings, repositories = self._settings, self._settings.repositories
        return Parts.open(
            state,
            self._bell.ring,
            LocalSigning(StateFolder(state.resolve()).make().keys),
            settings.database,
            Remotes(settings.protocols, forges.authorization, forges.by_repository),
            {name: one.most_runs for name, one in repositories.items() if one.most_runs is not None},
            places={name: one.data for name, one in repositories.items()},
            sandbox_kind=settings.sandbox,
        )

    def run(self) -> None:
        """Until ``end``. ProxyFault where the environments' addresses cannot be had."""
        plane = self._open_data_plane()
        parts = self._parts
        asked_with = (parts.store, parts.executor, parts.blobs, self._telemetry, plane.endpoint)
        measuring = Measuring(*asked_with, time.time, self._bell.ring)
        deliveries = Deliveries(parts.store, parts.attempts, parts.sealing, plane, time.time, measuring.newest)
        reserve, store = self._reserve, self._parts.store
        monitoring = Monitoring(store, self._parts.blobs, plane, time.time)
        git, forges = parts.git, self._forges.by_repository
        reverting = Reverting(store, git, git.reverts, self._repositories, forges, time.time)
        loop = Loop(store, self._parts.runs, deliveries, plane, SERVER, self._say, reserve.give_up, monitoring.step)
        rounds = self._rounds
        for name, repository in self._repositories.items():
            if repository.url is None:
                self._say(f"repository {name}: {install_hook(Path(repository.git_directory), self._parts.folder.root)}")
            rounds.begin(f"repository {name}", self._settings.poll_every, partial(self._poll, name))
        rounds.begin("notices", self._settings.poll_every, self._take_notices, self._arrivals_bell, REST_SECONDS)
        rounds.begin("schedules", TICK_SECONDS, self._tick)
        rounds.begin("watched data", self._settings.poll_every, self._look_at_data)
        rounds.begin("reports", TELL_SECONDS, self._reporting.one_pass)
        rounds.begin("reverts", TELL_SECONDS, reverting.one_pass)
        rounds.begin("alerts", TELL_SECONDS, self._alerting.one_pass)
        rounds.begin("retraining", TICK_SECONDS, self._retrain)
        rounds.begin("collection", COLLECT_SECONDS, self._collect)
        rounds.begin("books", KEEP_BOOKS_SECONDS, self._keep_books)
        rounds.begin("events", EVENTS_EVERY, _EventTeller(self._parts.store, self._say).tell)
        self._say(f"ready: state in {self._parts.folder.root}, {len(self._repositories)} repositories watched")
        loop.run_until(self._has_ended, self._bell)
        rounds.end(END_SECONDS)

    def end(self) -> None:
        """Asks the server to end; what it decided is saved, what it serves stays."""
        self._over.set()
        self._bell.ring()

    def close(self) -> None:
        """Closes all parts, once nobody asks anything of them any more."""
        self._inbox.close()
        self._reporting.close()
        self._parts.close()

    def _has_ended(self) -> bool:
        self._loop_passed = time.monotonic()
        return self._over.is_set()

    def _open_data_plane(self) -> Plane:
        folder = self._parts.folder
        folder.data.mkdir(exist_ok=True, mode=0o700)
        environments = self._settings.environments
        listeners = {name: environment.listen for name, environment in environments.items()}
        proxy = EnvoyProxy(folder.data, listeners, fronts=fronts_of(self._settings))
        _start(folder.data, proxy)
        if any(one.tls for one in environments.values()):
            renew = partial(renew_certificates, proxy, folder.data, time.time)
            self._rounds.begin("certificates", CERTIFICATES_EVERY, renew)
        replicas = LocalReplicas(
            folder.data,
            self._parts.sandbox,
            self._place,
            self._serving_environment,
            PACKAGE / "inference",
            LocalSigning(folder.keys).public_key(),
        )
        scaling = Scaling(self._parts.store, time.monotonic, find_cores(), find_memory())
        return Plane(self._parts.store, replicas, proxy, scaling)

    def _poll(self, name: str) -> None:
        """Finds what no hook told of."""
        for line in self._tell_all(self._parts.intake.look(self._repositories[name])):
            self._say(line)

    def _take_notices(self) -> None:
        for line in self._tell_all(self._arrivals.settle_pending(list(self._repositories.values()))):
            self._say(line)

    def _tick(self) -> None:
        for line in self._tell_all(self._clockwork.tick(list(self._repositories.values()))):
            self._say(line)

    def _look_at_data(self) -> None:
        for line in self._tell_all(self._clockwork.look_at_data(list(self._repositories.values()))):
            self._say(line)

    def _retrain(self) -> None:
        for line in self._tell_all(self._retraining.one_pass()):
            self._say(line)

    def _tell_all(self, begun: Sequence[Run]) -> list[str]:
        if begun:
            self._bell.ring()
        return [f"run {run.number} of {run.commit.repository}: {run.because}" for run in begun]

    def _look_for_pusher(self, name: str, pushed: Mapping[str, str]) -> list[str]:
        """Looks at a repository for somebody who has just pushed and waits to hear what comes of it."""
        repository = self._repositories[name]
        try:
            begun = self._parts.intake.look(repository, [Notice(repository=name, source="git", kind="push")])
        except InterlockError as fault:
            return [f"repository {name}: {fault}"]
        self._bell.ring()
        return [line for run in begun or self._begun_before(name, pushed) for line in self._tell(run)]

    def _begun_before(self, name: str, pushed: Mapping[str, str]) -> list[Run]:
        """The runs of a push that a poll saw a moment before its hook told of it."""
        rows = self._parts.store.rows(Kind.RUN, repository=name, newest=FORMER_RUNS)
        runs = [Run.model_validate(row.state) for row in reversed(rows)]
        found = [run for run in runs if pushed.get(run.commit.ref) == run.commit.sha]
        return [run for run in found if run.occasion == found[-1].occasion]

    def _tell(self, run: Run) -> list[str]:
        """What became of a run within the time that a push can wait."""
        deadline = time.monotonic() + ANSWER_SECONDS
        row = self._parts.store.load(Kind.RUN, run.key)
        while row is not None and not Phase(row.phase).is_final and time.monotonic() < deadline:
            time.sleep(0.02)
            row = self._parts.store.load(Kind.RUN, run.key)
        now = run if row is None else Run.model_validate(row.state)
        told = [f"run {now.number} {now.phase}: {now.because}"]
        told += [f"  {problem}" for problem in now.problems]
        for name, stage_run in now.stages.items():
            told += [f"  {name}: {problem}" for problem in stage_run.problems if not problem.is_warning]
        if not now.phase.is_final:
            running = [name for name, stage_run in now.stages.items() if stage_run.phase is Phase.RUNNING]
            reused = sum(1 for stage_run in now.stages.values() if stage_run.reused)
            told[0] = f"run {now.number}: {', '.join(running) or 'queued'} of {len(now.stages)} stages, {reused} reused"
            told.append(f"  follow it with: interlock log {now.number} --follow")
        return told

    def _health(self) -> Health:
        age = None if self._loop_passed is None else time.monotonic() - self._loop_passed
        rounds = self._rounds.under_way()
        slowest = max(rounds.get(name, 0.0) for name in FOR_ALL)
        return Health(store_problem=self._store_problem, loop_age=age, rounds=rounds, slowest=slowest)

    def _collect(self) -> None:
        collected = self._collecting.one_pass()
        if collected.artifacts or collected.logs or collected.environments:
            self._say(f"collection: {collected.because}")

    def _keep_books(self) -> None:
        """Writes down what was only noted in memory; whether the store can be written is known from it."""
        try:
            self._parts.store.prove_writable()
            self._parts.store.forget_notices(time.time() - NOTICES_KEPT)
            self._people.flush_last_used()
            self._store_problem = None
            self._reserve.keep()
        except StoreFault as fault:
            self._store_problem = str(fault)
            raise

    def _place(self, digest: Digest, target: Path) -> None:
        self._parts.blobs.materialise(digest, str(target))

    def _serving_environment(self, revision: Revision) -> Installed:
        blobs = self._parts.blobs
        files = {path: blobs.read(digest) for path, digest in blobs.files(revision.lock).items()}
        purpose = serving_purpose(revision.format)
        environments = self._parts.environments
        environment = environments.ensure(revision.python, files, purpose, lambda _line: None)
        return Installed(environment, environments.contents_of(environment))


class _EventTeller:
    """Says each decision as it is saved; one that differs from the row's last only in its numbers is left out."""

    def __init__(self, store: Store, say: Callable[[str], None]) -> None:
        self._store = store
        self._say = say
        self._seen = store.last_event()
        self._told: dict[str, str] = {}

    def tell(self) -> None:
        """What was saved since the last time."""
        for event in self._store.events(after=self._seen):
            self._seen = event.number
            thing, shape = f"{event.kind}/{event.key}", f"{event.phase} {NUMBERS.sub('#', event.because)}"
            if event.kind in TOLD_KINDS and self._told.get(thing) != shape:
                self._say(f"{thing} {event.phase}: {event.because}")
            self._told[thing] = shape


def _start(data: Path, proxy: EnvoyProxy) -> None:
    """The data plane runs; one that was begun here and cannot take requests is ended again."""
    is_new = ensure_supervise(data)
    try:
        proxy.start()
    except InterlockError as fault:
        if is_new:
            stop_supervise(data)
        if not isinstance(fault, ProxyFault):
            raise
        remedy = "end who else listens there, or choose another listen of the environment in server.yaml"
        raise ProxyFault(f"{fault}; {remedy}") from fault


def stop(state: Path, *, data_plane: bool, patience: float = 30.0) -> list[str]:
    """Ends the server of a state folder, and with ``data_plane`` all that serves. Says what it ended."""
    folder = StateFolder(state.resolve())
    told = []
    holder = folder.lock.read_text().strip() if folder.lock.exists() else ""
    free = try_lock(folder.lock) if folder.root.exists() else None
    if free is not None:
        free.close()
    elif holder.isdigit():
        os.kill(int(holder), signal.SIGTERM)
        deadline = time.monotonic() + patience
        while (free := try_lock(folder.lock)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if free is not None:
            free.close()
        told.append(f"server (process {holder}) ended")
    if data_plane and folder.data.exists() and stop_supervise(folder.data, patience):
        told.append("data plane ended")
    return told or ["nothing was running"]

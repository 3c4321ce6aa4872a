"""Watches the stable revision of each environment beside its reference, and does what follows a breach."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from interlock.control.delivering.dataplane import Plane
from interlock.control.delivering.going_back import go_back
from interlock.control.rows import load_state, save_or_lose, write_state
from interlock.delivery.environment import Environment, scaled
from interlock.delivery.holding import Freeze
from interlock.delivery.monitoring.messages import messages_of
from interlock.delivery.monitoring.monitor import Monitor, advance, begin_monitor, evidence_of, summarise
from interlock.delivery.monitoring.questions import Question, questions_of, seconds_of
from interlock.delivery.monitoring.reference import Reference, read_reference
from interlock.delivery.monitoring.replaying import observation
from interlock.delivery.monitoring.tallies import Tally, counts_between, tally_of
from interlock.delivery.revision import Revision
from interlock.errors import ArtifactFault, Refused
from interlock.pipeline.canaries.plan import ACCURACY
from interlock.pipeline.monitoring.plan import MonitoringPlan
from interlock.ports import Blobs, Store
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Json, Kind, Write

LOOK_SECONDS = 10.0
"""The longest time between two looks."""
SAVE_SECONDS = 900.0
"""Evidence without a turn is saved so often; what came since is lost with the control plane, and is no evidence."""
MOST_TOLD = 12
"""Questions whose e-values are stored with a decision, those with the most evidence."""


@dataclass
class _Watching:
    """One monitor in memory, as it was last saved and as it is."""

    saved: Monitor | None
    version: int
    monitor: Monitor
    questions: tuple[Question, ...]
    widths: dict[str, int]
    repository: str | None
    saved_at: float
    tally: Tally | None = None


class Monitoring:
    """One look at one environment at a time; ``now`` is wall time."""

    def __init__(self, store: Store, blobs: Blobs, plane: Plane, now: Callable[[], float]) -> None:
        self._store = store
        self._blobs = blobs
        self._plane = plane
        self._now = now
        self._watching: dict[str, _Watching] = {}

    def step(self, key: str) -> bool:
        """Looks at the environment, where it is time for that; whether an alert turned or something was done."""
        environment, expected = load_state(self._store, Kind.ENVIRONMENT, key, Environment)
        if environment is None or environment.stable is None:
            return False
        now, watching = self._now(), self._watching.get(key)
        if watching is not None and watching.monitor.revision == environment.stable.key:
            every = min(LOOK_SECONDS, seconds_of("tick", watching.monitor.plan.period))
            if watching.tally is not None and now - watching.tally.at < every:
                return False
            if self._store.version(Kind.MONITOR, key) != watching.version:  # others have looked too
                watching = None
        else:
            watching = None
        watching = watching or self._begin(environment, environment.stable, now)
        self._watching[key] = watching
        self._look(environment, environment.stable, watching, now)
        return self._save(environment, expected, watching, now)

    def _begin(self, environment: Environment, stable: Revision, now: float) -> _Watching:
        """The monitor of the stable revision: the one that is stored, or a new one in its place."""
        saved, version = load_state(self._store, Kind.MONITOR, environment.key, Monitor)
        model, _ = load_state(self._store, Kind.VERSION, f"{stable.model}/{stable.version}", ModelVersion)
        plans = {plan.name: plan.monitoring for plan in model.deploy} if model is not None else {}
        plan = plans.get(environment.name, MonitoringPlan())
        reference, because = self._reference(stable, model)
        accuracy = model.metrics.get(ACCURACY) if model is not None else None
        questions = questions_of(plan, reference, accuracy, reference.rows if reference is not None else 0)
        if not plan.rules:
            because = "monitoring is off"
        elif not because and not any(question.rule.metric == ACCURACY for question in questions):
            because = "accuracy: no gate measured it on the holdout"
        monitor = begin_monitor(environment.key, stable.key, stable.title, plan, because, now)
        if saved is not None and saved.revision == stable.key:
            monitor = saved
        repository = model.repository if model is not None else None
        widths = {column.name: len(column.counts) for column in reference.columns} if reference is not None else {}
        return _Watching(saved, version, monitor, questions, widths, repository, now)

    def _reference(self, stable: Revision, model: ModelVersion | None) -> tuple[Reference | None, str]:
        """The reference, or why nothing is compared with one."""
        if stable.reference is None:
            return None, f"no reference: {model.reference_because if model else 'nothing is known of its version'}"
        try:
            return read_reference(json.loads(self._blobs.read(stable.reference))), ""
        except (ArtifactFault, ValueError, KeyError, TypeError) as problem:
            return None, f"its reference cannot be read: {problem}"

    def _look(self, environment: Environment, stable: Revision, watching: _Watching, now: float) -> None:
        plane = self._plane.observe(environment.key)
        if any(question.rule.metric == ACCURACY for question in watching.questions):
            plane = plane.model_copy(update={"labelled": self._plane.labelled(environment.key)})
        observed = self._plane.observed(environment.key) if stable.reference is not None else {}
        before = watching.tally
        after = tally_of(stable, scaled(environment, stable).replicas, plane, observed, now)
        if before is not None:
            counts = counts_between(watching.monitor.plan.rules, watching.widths, before, after)
            watching.monitor = advance(watching.monitor, watching.questions, counts, now).state
        watching.tally = after

    def _save(self, environment: Environment, expected: int, watching: _Watching, now: float) -> bool:
        """Saves what turned, with what is told and done of it. Who loses the swap begins from what the other saved."""
        monitor, writes = self._roll_back(environment, expected, watching.monitor, now)
        saved = watching.saved
        is_turn = saved is None or saved.revision != monitor.revision or saved.alerts != monitor.alerts
        if not is_turn and now - watching.saved_at < SAVE_SECONDS:
            return False
        messages = messages_of(saved, monitor, watching.version + 1, now)
        told = dict(list(evidence_of(monitor, watching.questions).items())[:MOST_TOLD])
        saves = [write_monitor(monitor, watching.version, watching.repository, told), *writes]
        saves += [
            write_state(
                Kind.ALERT,
                message.id,
                message,
                expected=0,
                phase=message.phase,
                because=f"{message.alert.key} {message.state}: {message.alert.because}",
                repository=watching.repository,
            )
            for message in messages
        ]
        if not save_or_lose(self._store, *saves):
            del self._watching[environment.key]
            return False
        watching.monitor = watching.saved = monitor
        watching.version, watching.saved_at = watching.version + 1, now
        return is_turn

    def _roll_back(
        self, environment: Environment, expected: int, monitor: Monitor, now: float
    ) -> tuple[Monitor, list[Write]]:
        """The way back, where an alert asks for it and no rollout is under way: an ordinary rollout, once."""
        asking = [alert for alert in monitor.alerts.values() if alert.on_breach == "rollback" and not alert.acted]
        if not asking or environment.rollout is not None:
            return monitor, []
        reason = f"{asking[0].key}: {asking[0].because}"
        freeze = Freeze(by="interlock", reason=f"rolled back: {reason}")
        frozen = environment.model_copy(update={"freeze": freeze})
        try:
            rollout, writes = go_back(self._store, frozen, expected, reason, "its monitor", now)
            acted = f"rolled back by rollout {rollout.number}"
        except Refused as refused:
            writes, acted = [], f"not rolled back: {refused.problem}"
        return act(monitor, [alert.key for alert in asking], acted), writes


def act(monitor: Monitor, keys: list[str], acted: str) -> Monitor:
    """The monitor where something was done about these alerts."""
    done = {key: monitor.alerts[key].model_copy(update={"acted": acted}) for key in keys}
    after = monitor.model_copy(update={"alerts": {**monitor.alerts, **done}})
    return after.model_copy(update={"because": summarise(after)})


def write_monitor(monitor: Monitor, version: int, repository: str | None, told: dict[str, Json]) -> Write:
    """The save of a monitor; ``told`` are e-values."""
    phase = "firing" if monitor.alerts else "watching"
    return write_state(
        Kind.MONITOR,
        monitor.environment,
        monitor,
        expected=version,
        phase=phase,
        because=monitor.because,
        observed={**told, **observation(monitor)},
        repository=repository,
    )

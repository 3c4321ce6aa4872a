"""Begins the runs that breaches ask for: of the ref that the model is from, as it is now."""

from __future__ import annotations

from collections.abc import Mapping

from interlock.control.monitoring.monitoring import act, write_monitor
from interlock.control.rows import load_state, read_state, write_run
from interlock.control.running.intake import Intake
from interlock.delivery.monitoring.monitor import Monitor
from interlock.errors import AlreadyExists, Refused, StaleWrite
from interlock.ports import Store
from interlock.registry.version import ModelVersion
from interlock.run.run import Run
from interlock.source.commit import Occasion
from interlock.source.repository import Watched
from interlock.vocabulary import Kind, Row


class Retraining:
    """Looks at all monitors; a run is begun once for each breach, whoever else looks at it too."""

    def __init__(self, store: Store, intake: Intake, repositories: Mapping[str, Watched]) -> None:
        self._store = store
        self._intake = intake
        self._repositories = repositories

    def one_pass(self) -> list[Run]:
        """The runs that were begun. GitFault where a repository cannot be asked; it is asked again."""
        return [run for row in self._store.rows(Kind.MONITOR, phases=("firing",)) for run in self._begin(row)]

    def _begin(self, row: Row) -> list[Run]:
        monitor = read_state(row, Monitor).model_copy(update={"turns": ()})  # stored with the look that saw them
        asking = [alert for alert in monitor.alerts.values() if alert.on_breach == "retrain" and not alert.acted]
        if not asking:
            return []
        since = min(alert.since for alert in asking)
        occasion = Occasion(kind="breach", detail=f"{monitor.environment} {since:.0f} {asking[0].key}")
        try:
            begun = self._runs(monitor, occasion)
            acted = f"run {begun[0].number} trains it anew"
        except Refused as refused:
            begun, acted = [], f"not trained anew: {refused.problem}"
        after = act(monitor, [alert.key for alert in asking], acted)
        try:
            self._store.save(write_monitor(after, row.version, row.repository, {}), *(write_run(run) for run in begun))
        except (StaleWrite, AlreadyExists):  # it has moved meanwhile: the next pass looks again
            return []
        return begun

    def _runs(self, monitor: Monitor, occasion: Occasion) -> list[Run]:
        """Refused where the model's ref is no more, or its repository is not watched."""
        model, _, number = monitor.title.rpartition(" v")
        version, _ = load_state(self._store, Kind.VERSION, f"{model}/{number}", ModelVersion)
        watched = self._repositories.get(version.repository) if version is not None else None
        if version is None or watched is None:
            raise Refused("its repository is not watched", monitor.environment, "name it in server.yaml")
        sha = self._intake.refs(watched).get(version.ref)
        if sha is None:
            raise Refused(f"{version.ref} is no more", version.repository, "train it from another ref")
        made, _ = load_state(self._store, Kind.RUN, version.run, Run)
        return self._intake.begin(watched, version.ref, sha, occasion, made.plan.project if made else None)

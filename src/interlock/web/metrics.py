"""Numbers about the server itself, in the text format of Prometheus."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping

from interlock.app.services import Services
from interlock.control.rows import read_state
from interlock.delivery.environment import Environment
from interlock.delivery.holding import frozen_because
from interlock.delivery.monitoring.messages import PENDING
from interlock.delivery.monitoring.monitor import Monitor
from interlock.delivery.rollout import Rollout, RolloutPhase
from interlock.ports import Store
from interlock.vocabulary import Kind, Phase

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of seconds."""
MOST_COUNTED = 1000
PAGE = 1000


class Metrics:
    """Counts what passes. Requests are recorded on the event loop; ``text`` may run on a thread."""

    def __init__(self, services: Services) -> None:
        self.store_faults = 0
        self._services = services
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BOUNDS) + 1))
        self._seconds: Counter[str] = Counter()
        self._runs = _Turns(services.store, Kind.RUN, {phase for phase in Phase if phase.is_final} - {Phase.HELD})
        self._rollouts = _Turns(services.store, Kind.ROLLOUT, {phase for phase in RolloutPhase if phase.is_final})
        self._counted_runs: Counter[str] = Counter({phase.value: 0 for phase in Phase})
        self._counted_rollouts: Counter[tuple[str, str]] = Counter()

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered. ``route`` is its pattern, not its path, so that there are few of them."""
        self._requests[method, route, status] += 1
        self._buckets[route][bisect_left(BOUNDS, seconds)] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]  # a counter adds fractions as well

    def text(self, followers: int) -> str:
        """All of them now."""
        self._count()
        store = self._services.store
        waiting = store.rows(Kind.RUN, phases=(Phase.QUEUED,), newest=MOST_COUNTED)
        running = store.rows(Kind.RUN, phases=(Phase.RUNNING,), newest=MOST_COUNTED)
        pending = store.pending(MOST_COUNTED)
        lines: list[str] = []
        _add(lines, "interlock_runs_total", "counter", "Runs that came into a phase.", _by("phase", self._counted_runs))
        _add(lines, "interlock_runs_queued", "gauge", "Runs that wait, at most 1000.", {"": len(waiting)})
        _add(lines, "interlock_runs_running", "gauge", "Runs under way, at most 1000.", {"": len(running)})
        _add(lines, "interlock_notices_pending", "gauge", "Hook calls not looked into.", {"": len(pending)})
        _add(lines, "interlock_followers", "gauge", "Streams that are followed.", {"": followers})
        _add(lines, "interlock_store_faults_total", "counter", "Faults of the store.", {"": self.store_faults})
        rounds = {name: round(seconds, 3) for name, seconds in self._services.health().rounds.items()}
        told = "How long the round of work under way has taken; 0 between two."
        _add(lines, "interlock_round_seconds", "gauge", told, _by("round", rounds))
        self._add_environments(lines)
        self._add_monitors(lines)
        refused = {
            f'{{environment="{name}",model="{model}",status="{status}"}}': count
            for (name, model, status), count in sorted(self._services.refused().items())
        }
        told = "Requests that the front refused: API keys, quotas, retired models."
        _add(lines, "interlock_front_refused_total", "counter", told, refused)
        ends = {name: round(until - time.time()) for name, until in sorted(self._services.certificates().items())}
        told = "How long the certificate that the front shows there holds."
        _add(lines, "interlock_certificate_left_seconds", "gauge", told, _by("environment", ends))
        named = {
            f'{{method="{method}",route="{route}",status="{status}"}}': count
            for (method, route, status), count in sorted(self._requests.items())
        }
        _add(lines, "interlock_requests_total", "counter", "Requests answered.", named)
        _add(lines, "interlock_request_seconds", "histogram", "How long answers took.", dict(self._histogram()))
        return "\n".join(lines) + "\n"

    def _count(self) -> None:
        self._counted_runs.update(phase for _, phase in self._runs.follow())
        for key, phase in self._rollouts.follow():
            rollout = self._services.store.load(Kind.ROLLOUT, key)
            if rollout is not None:
                self._counted_rollouts[str(rollout.state["environment"]), phase] += 1

    def _add_environments(self, lines: list[str]) -> None:
        rows = self._services.store.rows(Kind.ENVIRONMENT, newest=MOST_COUNTED)
        environments = [read_state(row, Environment) for row in rows]
        # A counter that is there before it grows: the first rollback is a growth as well.
        rollouts = {
            f'{{environment="{environment.key}",phase="{phase}"}}': self._counted_rollouts[environment.key, phase]
            for environment in environments
            for phase in RolloutPhase
        }
        _add(lines, "interlock_rollouts_total", "counter", "Rollouts that came into a phase.", rollouts)
        weights = {
            f'{{environment="{environment.key}",revision="{key}"}}': weight
            for environment in environments
            for key, weight in environment.weights.items()
        }
        _add(lines, "interlock_weight_percent", "gauge", "A revision's share of the traffic.", weights)
        troubled = {environment.key: int(bool(environment.trouble)) for environment in environments}
        told = "1 while replicas of the stable revision cannot live."
        _add(lines, "interlock_environment_troubled", "gauge", told, _by("environment", troubled))
        now = time.time()
        under_way = [
            read_state(row, Rollout)
            for row in self._services.store.rows(Kind.ROLLOUT, phases=(RolloutPhase.PROGRESSING,))
        ]
        left = {one.environment: round(one.since + one.probation - now) for one in under_way if one.is_on_probation}
        told = "What is left of its candidate's probation; below 0 where that is held for evidence."
        _add(lines, "interlock_probation_left_seconds", "gauge", told, _by("environment", left))
        frozen = {one.key: int(frozen_because(one.freeze, now) is not None) for one in environments}
        told = "1 while nothing goes forward there."
        _add(lines, "interlock_environment_frozen", "gauge", told, _by("environment", frozen))

    def _add_monitors(self, lines: list[str]) -> None:
        rows = self._services.store.rows(Kind.MONITOR, newest=MOST_COUNTED)
        monitors = [read_state(row, Monitor) for row in rows]
        firing = {
            f'{{environment="{monitor.environment}",metric="{rule.metric}"}}': sum(
                alert.metric == rule.metric for alert in monitor.alerts.values()
            )
            for monitor in monitors
            for rule in monitor.plan.rules
        }
        told = "Alerts of the stable revision that fire: columns, or 1 of a live metric."
        _add(lines, "interlock_monitor_firing", "gauge", told, firing)
        compared = {monitor.environment: int(not monitor.unwatched) for monitor in monitors}
        told = "1 while all that the stable revision is asked is compared with a reference."
        _add(lines, "interlock_monitor_compared", "gauge", told, _by("environment", compared))
        pending = self._services.store.rows(Kind.ALERT, phases=(PENDING,), newest=MOST_COUNTED)
        told = "Messages of alerts that a webhook has not taken, at most 1000."
        _add(lines, "interlock_alerts_pending", "gauge", told, {"": len(pending)})

    def _histogram(self) -> Iterator[tuple[str, float]]:
        for route, counts in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip((*BOUNDS, "+Inf"), counts, strict=True):
                total += count
                yield f'_bucket{{route="{route}",le="{bound}"}}', total
            yield f'_sum{{route="{route}"}}', round(self._seconds[route], 6)
            yield f'_count{{route="{route}"}}', total


class _Turns:
    """Follows the events of a kind since the server began: one turn for each phase that a row comes into."""

    def __init__(self, store: Store, kind: Kind, ends: Collection[str]) -> None:
        self._store = store
        self._kind = kind
        self._ends = ends
        self._seen = store.last_event()
        self._phases: dict[str, str] = {}

    def follow(self) -> Iterator[tuple[str, str]]:
        """Key and phase of each turn since the last time."""
        while events := self._store.events(self._kind, after=self._seen, most=PAGE):
            for event in events:
                self._seen = event.number
                is_turn = self._phases.get(event.key) != event.phase
                self._phases[event.key] = event.phase
                if event.phase in self._ends:
                    del self._phases[event.key]
                if is_turn:
                    yield event.key, event.phase


def _by(label: str, counts: Mapping[str, float]) -> dict[str, float]:
    return {f'{{{label}="{name}"}}': count for name, count in counts.items()}


def _add(lines: list[str], name: str, kind: str, told: str, values: Mapping[str, float]) -> None:
    lines += [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{labels} {value}" for labels, value in values.items()]

"""Numbers about the server itself, in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from interlock.app.services import Services
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
        self._seen = services.store.last_event()
        self._phases: dict[str, str] = {}
        self._runs: Counter[str] = Counter({phase.value: 0 for phase in Phase})

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered. ``route`` is its pattern, not its path, so that there are few of them."""
        self._requests[method, route, status] += 1
        self._buckets[route][bisect_left(BOUNDS, seconds)] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]  # a counter adds fractions as well

    def text(self, followers: int) -> str:
        """All of them now."""
        self._count_runs()
        store = self._services.store
        waiting = store.rows(Kind.RUN, phases=(Phase.QUEUED,), newest=MOST_COUNTED)
        running = store.rows(Kind.RUN, phases=(Phase.RUNNING,), newest=MOST_COUNTED)
        pending = store.pending(MOST_COUNTED)
        lines: list[str] = []
        _add(lines, "interlock_runs_total", "counter", "Runs that came into a phase.", _by("phase", self._runs))
        _add(lines, "interlock_runs_queued", "gauge", "Runs that wait, at most 1000.", {"": len(waiting)})
        _add(lines, "interlock_runs_running", "gauge", "Runs under way, at most 1000.", {"": len(running)})
        _add(lines, "interlock_notices_pending", "gauge", "Hook calls not looked into.", {"": len(pending)})
        _add(lines, "interlock_followers", "gauge", "Streams that are followed.", {"": followers})
        _add(lines, "interlock_store_faults_total", "counter", "Faults of the store.", {"": self.store_faults})
        rounds = {name: round(seconds, 3) for name, seconds in self._services.health().rounds.items()}
        told = "How long the round of work under way has taken; 0 between two."
        _add(lines, "interlock_round_seconds", "gauge", told, _by("round", rounds))
        named = {
            f'{{method="{method}",route="{route}",status="{status}"}}': count
            for (method, route, status), count in sorted(self._requests.items())
        }
        _add(lines, "interlock_requests_total", "counter", "Requests answered.", named)
        _add(lines, "interlock_request_seconds", "histogram", "How long answers took.", dict(self._histogram()))
        return "\n".join(lines) + "\n"

    def _count_runs(self) -> None:
        """Follows the runs' events since the last time: a run counts once for each phase it comes into."""
        while events := self._services.store.events(Kind.RUN, after=self._seen, most=PAGE):
            for event in events:
                self._seen = event.number
                if self._phases.get(event.key) != event.phase:
                    self._runs[event.phase] += 1
                self._phases[event.key] = event.phase
                if Phase(event.phase).is_final and event.phase != Phase.HELD:
                    del self._phases[event.key]

    def _histogram(self) -> Iterator[tuple[str, float]]:
        for route, counts in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip((*BOUNDS, "+Inf"), counts, strict=True):
                total += count
                yield f'_bucket{{route="{route}",le="{bound}"}}', total
            yield f'_sum{{route="{route}"}}', round(self._seconds[route], 6)
            yield f'_count{{route="{route}"}}', total


def _by(label: str, counts: Mapping[str, float]) -> dict[str, float]:
    return {f'{{{label}="{name}"}}': count for name, count in counts.items()}


def _add(lines: list[str], name: str, kind: str, told: str, values: Mapping[str, float]) -> None:
    lines += [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{labels} {value}" for labels, value in values.items()]

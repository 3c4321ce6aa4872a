"""An executor that runs nothing: outcomes are written down beforehand, for tests of what decides on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from interlock.run.stage import StageOutcome, StageRequest
from interlock.vocabulary import Phase

WELL = StageOutcome(phase=Phase.SUCCEEDED, because="as it was written down", exit_code=0)


class FakeExecutor:
    """Answers with the outcome that ``script`` has for the stage's name, and with success where it has none.

    Attempts finish at once, or, where ``on_demand`` is set, when ``finish`` is called. ``started`` keeps every request
    in order.
    """

    def __init__(self, script: Mapping[str, StageOutcome] | None = None, on_demand: bool = False) -> None:
        self.script = dict(script or {})
        self.started: list[StageRequest] = []
        self._on_demand = on_demand
        self._waiting: dict[str, tuple[StageRequest, Callable[[StageOutcome], None]]] = {}

    def start(self, request: StageRequest, finished: Callable[[StageOutcome], None]) -> None:
        """Begins the attempt, once."""
        if request.attempt in self._waiting:
            return
        self.started.append(request)
        self._waiting[request.attempt] = (request, finished)
        if not self._on_demand:
            self.finish(request.attempt)

    def running(self) -> frozenset[str]:
        """The attempts that were started and have not finished."""
        return frozenset(self._waiting)

    def stop(self, attempt: str, because: str) -> None:
        """Finishes the attempt as cancelled; an unknown one is fine."""
        if attempt in self._waiting:
            self.finish(attempt, StageOutcome(phase=Phase.CANCELLED, because=because))

    def run(self, request: StageRequest) -> StageOutcome:
        """The outcome at once, on demand or not."""
        self.started.append(request)
        return self.script.get(request.stage.name, WELL)

    def finish(self, attempt: str, outcome: StageOutcome | None = None) -> None:
        """Ends a started attempt with this outcome, or with the one written down."""
        request, finished = self._waiting[attempt]
        finished(outcome or self.script.get(request.stage.name, WELL))
        del self._waiting[attempt]

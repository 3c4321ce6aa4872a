"""What stages cost, remembered from one run to the next."""

from __future__ import annotations

from interlock.ports import Store
from interlock.run.run import Run
from interlock.run.scheduling.costs import SAMPLES, Cost, Sample, cost_of
from interlock.run.stage import StageOutcome
from interlock.vocabulary import Fact, Phase

SPACE = "cost"


class Costs:
    """Remembers executions that succeeded. Runs from outside are not remembered: they may say anything."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def facts_of(self, run: Run, stage: str, outcome: StageOutcome) -> list[Fact]:
        """To be remembered of an attempt of the stage."""
        if outcome.phase is not Phase.SUCCEEDED or run.scope:
            return []
        sample = Sample(seconds=outcome.seconds, cpu_seconds=outcome.cpu_seconds, peak_memory=outcome.peak_memory)
        return [Fact(SPACE, _key(run, stage), sample.model_dump(mode="json"))]

    def of(self, run: Run) -> dict[str, Cost]:
        """By name what the stages of the run's plan cost when they were last executed, if they ever were."""
        keys = {_key(run, stage.name): stage.name for stage in run.plan.stages}
        facts = self._store.recall_each(SPACE, list(keys), SAMPLES)
        found = {keys[key]: cost_of([Sample.model_validate(fact) for fact in of_key]) for key, of_key in facts.items()}
        return {name: cost for name, cost in found.items() if cost is not None}


def _key(run: Run, stage: str) -> str:
    return f"{run.commit.repository}:{run.plan.project}:{stage}"

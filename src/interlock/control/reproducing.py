"""Reproduces what a run made: executes it again, compares, and finds out why where the two differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from interlock.control.rows import load_state, read_state, write_run
from interlock.control.running.attempts import Attempt
from interlock.control.running.lookups import Lookups
from interlock.control.running.runs import request_for
from interlock.delivery.environment import Environment
from interlock.errors import Conflict, NotFound, Refused
from interlock.pipeline.plan import StagePlan
from interlock.pipeline.resolve import plan_digest
from interlock.ports import Blobs, Executor, Store
from interlock.registry.version import ModelVersion
from interlock.run.reproduction.comparison import (
    Reproduction,
    compare_runs,
    conclude,
    on_one_core,
    plan_to_reproduce,
    reproduce,
)
from interlock.run.reproduction.diagnosis import Execution, Setting, StageSeen, diagnose, next_execution
from interlock.run.reproduction.suspects import Suspect, suspects_in
from interlock.run.run import Run
from interlock.run.sameness import essence_of
from interlock.run.stage import StageOutcome
from interlock.source.commit import Occasion
from interlock.vocabulary import Digest, Kind, Phase

PRODUCTION = "production"
Say = Callable[[str], None]


class Reproducing:
    """Begins the run that reproduces another, and says what became of it. ``driver`` names who moves that run."""

    def __init__(self, store: Store, blobs: Blobs, executor: Executor, lookups: Lookups, driver: str) -> None:
        self._store = store
        self._blobs = blobs
        self._executor = executor
        self._lookups = lookups
        self._driver = driver

    def find(self, name: str) -> tuple[str, Run]:
        """What a name means (``flights/3``, ``flights@production``, ``flights``, ``run/12``): its title, and its run.

        A model alone is its version in production, or its newest one where none is there. NotFound, Refused.
        """
        kind, slash, number = name.partition("/")
        if kind == "run" and slash and number.isdigit():
            return f"run {number}", self._run(number)
        version = self._version(name)
        return version.title, self._run(version.run)

    def begin(self, title: str, original: Run) -> Run:
        """The run that executes every stage of it anew, saved.

        Conflict where there is nothing to compare with, or data that it used is not kept any more.
        """
        plan = plan_to_reproduce(original.plan)
        brought = [original.stages[stage.name].products for stage in plan.stages if stage.sources]
        for path, digest in (pair for products in brought for pair in products.items()):
            if not self._blobs.has(digest):
                remedy = "name a run whose data is kept, or raise `retention.artifacts`"
                raise Conflict(f"the data that it used is not kept any more: {path}", f"run {original.key}", remedy)
        number = self._store.number(Kind.RUN)
        occasion = Occasion(kind="reproduce", detail=title)
        run = reproduce(original, number, occasion, driver=self._driver, plan_digest=plan_digest(plan))
        self._store.save(write_run(run, f"reproduce|{run.key}"))
        return run

    def conclude(self, title: str, original: Run, again: Run, say: Say) -> Reproduction:
        """What became of it, once ``again`` has ended; the first stage that differs is executed to find out the cause.

        ``say`` hears of each execution before it begins, because it takes as long as the stage does.
        """
        told = conclude(title, original, again, compare_runs(original, again, self._blobs))
        return self._explain(told, original, again, say) if told.result == "different" and not told.cause else told

    def _explain(self, told: Reproduction, original: Run, again: Run, say: Say) -> Reproduction:
        stage = again.plan.stage(told.stage or "")
        say(f"{stage.name} made other bytes: {', '.join(told.files)}")
        seen = self._seen(original, again, stage)
        executions = 1
        while (setting := next_execution(seen)) is not None:
            executions += 1
            how = "once more, under the same settings" if setting == "same" else "on one core, with one thread"
            say(f"{stage.name} is executed {how}, to find out why")
            seen = _added(seen, setting, self._execute(again, stage, setting, executions))
        found = diagnose(seen)
        update = {
            "because": f"{told.because}: {found.because}",
            "cause": found.cause,
            "suspects": seen.suspects,
            "executions": executions,
        }
        return told.model_copy(update=update)

    def _seen(self, original: Run, again: Run, stage: StagePlan) -> StageSeen:
        first = original.stages[stage.name]
        before = self._outcome(first.reused or original.attempt_key(stage.name))
        after = self._outcome(again.attempt_key(stage.name))
        return StageSeen(
            uses_network=stage.network,
            same=(self._execution(again.stages[stage.name].products),),
            before=before.conditions if before else None,
            after=after.conditions if after else None,
            suspects=self._suspects(again, after.reads if after else ()),
        )

    def _execute(self, again: Run, stage: StagePlan, setting: Setting, number: int) -> Execution:
        request = request_for(again, stage if setting == "same" else on_one_core(stage))
        outcome = self._executor.run(request.model_copy(update={"attempt": f"{again.key}/{stage.name}/{number}"}))
        if outcome.phase is not Phase.SUCCEEDED:
            return Execution(problem=outcome.because)
        return self._execution(outcome.products)

    def _execution(self, products: Mapping[str, Digest]) -> Execution:
        return Execution(made=essence_of(products, self._blobs))

    def _suspects(self, run: Run, reads: tuple[str, ...]) -> tuple[Suspect, ...]:
        sources = [path for path in reads if path.endswith(".py")]
        return suspects_in(self._lookups.read_project(run.commit, run.plan.project, sources))

    def _outcome(self, attempt: str) -> StageOutcome | None:
        row = self._store.load(Kind.ATTEMPT, attempt)
        return read_state(row, Attempt).outcome if row else None

    def _run(self, number: str) -> Run:
        run, _ = load_state(self._store, Kind.RUN, number, Run)
        if run is None:
            raise NotFound(f"there is no run {number}", remedy="`interlock runs` lists them")
        return run

    def _version(self, name: str) -> ModelVersion:
        model, at, place = name.partition("@") if "@" in name else name.partition("/")
        if not model or (at and not place):
            raise Refused(
                f"not a model version: {name!r}", "", "write flights/3, flights@production, flights or run/12"
            )
        if at == "@" and not place.isdigit():
            number = self._stable(model, place)
            if number is None:
                raise NotFound(f"nothing is stable in {model}/{place}", remedy="`interlock status` shows what there is")
        elif at:
            number = place
        else:
            number = self._stable(model, PRODUCTION) or self._newest(model)
        version, _ = load_state(self._store, Kind.VERSION, f"{model}/{number}", ModelVersion)
        if version is None:
            raise NotFound(
                f"there is no model version {model}/{number}" if number else f"no version of {model} is registered",
                remedy="`interlock models` lists them; what `interlock run` made is named by its run: run/12",
            )
        return version

    def _stable(self, model: str, place: str) -> str | None:
        environment, _ = load_state(self._store, Kind.ENVIRONMENT, f"{model}/{place}", Environment)
        return str(environment.stable.version) if environment and environment.stable else None

    def _newest(self, model: str) -> str | None:
        rows = self._store.rows(Kind.VERSION, prefix=f"{model}/", newest=1)
        return rows[0].key.rpartition("/")[2] if rows else None


def _added(seen: StageSeen, setting: Setting, execution: Execution) -> StageSeen:
    more = (*(seen.same if setting == "same" else seen.single), execution)
    return seen.model_copy(update={setting: more})

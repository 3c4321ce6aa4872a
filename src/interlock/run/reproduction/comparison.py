"""The run that reproduces another one, and where the two differ first."""

from __future__ import annotations

import shlex
from typing import Literal

from interlock.errors import Conflict
from interlock.pipeline.plan import Plan, StagePlan
from interlock.run.reproduction.diagnosis import Cause
from interlock.run.reproduction.suspects import Suspect
from interlock.run.run import Run, StageRun, begin
from interlock.run.sameness import WHY_REWRITTEN, Kept, compare
from interlock.source.commit import Occasion
from interlock.vocabulary import Digest, Phase, Stored

ON_ONE_CORE = (
    "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    "os.execv('/bin/sh', ['/bin/sh', '-c', sys.argv[1]])"
)
"""Python that goes on as the shell command it was given, on one core, so that nothing counts more than one."""


class Difference(Stored):
    """The first stage in the order of the plan that did not make the same: its files that differ, or how it failed."""

    stage: str
    files: tuple[str, ...] = ()
    phase: Phase = Phase.SUCCEEDED
    because: str = ""


class Compared(Stored):
    """What came of comparing two runs; ``rewritten`` are files that are the same in other bytes."""

    difference: Difference | None = None
    rewritten: tuple[str, ...] = ()


class Reproduction(Stored):
    """What became of reproducing ``of`` (``flights v3``), which run ``original`` made, by run ``run``.

    ``result``: ``rewritten`` where all is the same but for ``files`` that hold the same in other bytes, ``unknown``
    where the reproduction could not be executed, for reasons that are not the model's. ``executions`` counts how often
    the stage that differs was executed to find out why.
    """

    of: str
    original: int
    run: int
    result: Literal["identical", "rewritten", "different", "unknown"]
    because: str
    products: dict[str, Digest] = {}
    stage: str | None = None
    files: tuple[str, ...] = ()
    cause: Cause | None = None
    suspects: tuple[Suspect, ...] = ()
    executions: int = 1


def reproduce(run: Run, number: int, occasion: Occasion, *, driver: str, plan_digest: Digest) -> Run:
    """The run that executes every stage of ``run`` anew, remembers its results for nobody, and registers nothing.

    Data that no commit holds is not fetched again: the run is given what ``run`` used. ``plan_digest`` is that of
    ``plan_to_reproduce``. Conflict where the run has not made all that its stages make.
    """
    where = f"run {run.number}"
    unmade = [stage.name for stage in _makers(run.plan) if run.stages[stage.name].phase is not Phase.SUCCEEDED]
    if unmade or not _makers(run.plan):
        because = f"{unmade[0]} did not succeed in it" if unmade else "no stage of it makes anything"
        raise Conflict(f"there is nothing to compare with: {because}", where, "name a run that succeeded")
    plan = plan_to_reproduce(run.plan)
    begun = begin(number, run.commit, occasion, plan, plan_digest, driver=driver, is_trusted=run.is_trusted)
    pinned = {stage.name: _pinned(run, stage.name) for stage in plan.stages if stage.sources}
    update = {
        "lock": run.lock,
        "fresh": tuple(stage.name for stage in plan.stages if stage.name not in pinned),
        "scope": f"reproduction {number}",
        "stages": {**begun.stages, **pinned},
    }
    return begun.model_copy(update=update)


def _pinned(run: Run, stage: str) -> StageRun:
    """The stage that brought data, with what it brought then."""
    before = run.stages[stage]
    because = f"the data that run {run.number} used"
    reused = before.reused or run.attempt_key(stage)
    return StageRun(phase=Phase.SUCCEEDED, because=because, reused=reused, products=before.products)


def plan_to_reproduce(plan: Plan) -> Plan:
    """What makes the products, and the checks before it: no measuring, no gates, no model, nowhere to deliver it.

    No stage checks its own determinism: the reproduction itself does.
    """
    stages = tuple(stage.model_copy(update={"determinism": None}) for stage in plan.stages if stage.kind != "measure")
    data = tuple(dataset.model_copy(update={"checks": ()}) for dataset in plan.data)  # accepted is other data now
    bare: dict[str, object] = {"gates": (), "model": None, "deploy": (), "concurrency": None}
    return plan.model_copy(update={"stages": stages, "data": data, **bare})


def compare_runs(original: Run, again: Run, kept: Kept) -> Compared:
    """Where the reproduction differs first, in the order of the plan."""
    rewritten: list[str] = []
    for stage in again.plan.stages:
        before, after = original.stages[stage.name], again.stages[stage.name]
        if after.phase is not Phase.SUCCEEDED:
            difference = Difference(stage=stage.name, phase=after.phase, because=after.because)
            return Compared(difference=difference, rewritten=tuple(rewritten))
        found = compare(before.products, after.products, kept)
        rewritten += found.rewritten
        if found.files:
            return Compared(difference=Difference(stage=stage.name, files=found.files), rewritten=tuple(rewritten))
    return Compared(rewritten=tuple(rewritten))


def conclude(of: str, original: Run, again: Run, compared: Compared) -> Reproduction:
    """What became of it, as far as comparing tells; why a stage made something else has to be found out."""
    told = Reproduction(of=of, original=original.number, run=again.number, result="identical", because="")
    difference = compared.difference
    if difference is None:
        made = {path: digest for stage in again.stages.values() for path, digest in stage.products.items()}
        told = told.model_copy(update={"products": made})
        if not compared.rewritten:
            return told.model_copy(update={"because": f"every product of {of} was made again, bit by bit the same"})
        because = f"{of} was made again; the same in other bytes: {', '.join(compared.rewritten)} ({WHY_REWRITTEN})"
        return told.model_copy(update={"result": "rewritten", "files": compared.rewritten, "because": because})
    told = told.model_copy(update={"result": "different", "stage": difference.stage, "files": difference.files})
    if difference.phase is Phase.SUCCEEDED:
        because = f"{difference.stage} is the first stage that differs, in {', '.join(difference.files)}"
        return told.model_copy(update={"because": because})
    because = f"{difference.stage} {difference.phase} this time: {difference.because}"
    is_ours = difference.phase is not Phase.FAILED
    update = {"result": "unknown" if is_ours else "different", "cause": Cause.FAILURE, "because": because}
    return told.model_copy(update=update)


def on_one_core(stage: StagePlan) -> StagePlan:
    """The same stage on one core, told to use one thread."""
    env = {name: value for name, value in stage.env.items() if not name.endswith("_NUM_THREADS")}
    command = f"exec python -c {shlex.quote(ON_ONE_CORE)} {shlex.quote(stage.command or '')}"
    resources = stage.resources.model_copy(update={"cpu": 1.0})
    return stage.model_copy(update={"env": env, "command": command, "resources": resources})


def _makers(plan: Plan) -> list[StagePlan]:
    return [stage for stage in plan.stages if stage.products]

"""Runs beside the usual way: refused as they begin, let go by a person, cancelled, and run again."""

from __future__ import annotations

import difflib

from interlock.errors import Conflict, NotFound
from interlock.pipeline.plan import Plan
from interlock.run.advance import stop
from interlock.run.run import Run, begin
from interlock.run.stage import Problem
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Decision, Digest, Phase


def refuse(
    number: int, commit: Commit, occasion: Occasion, problems: tuple[Problem, ...], *, driver: str, is_trusted: bool
) -> Run:
    """The run of a commit whose pipeline file cannot be planned: it ends as it begins, with every problem."""
    first = problems[0].message if problems else "it cannot be read"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Run(
        number=number,
        commit=commit,
        occasion=occasion,
        plan=Plan(),
        plan_digest=Digest(""),
        driver=driver,
        is_trusted=is_trusted,
        phase=Phase.FAILED,
        because=f"the pipeline file is refused: {first}{more}",
        problems=problems,
    )


def approve(run: Run, sha: str, who: str) -> Decision[Run]:
    """The run goes into the queue. Conflict where it is of another commit or does not wait for that.

    The approval is of this commit alone: a later one of the same pull request is another run with its own.
    """
    where = f"run {run.number}"
    if sha != run.commit.sha:
        raise Conflict(f"it is of commit {run.commit.sha}", where, "look at that commit and approve it by its whole id")
    if run.approved_by is not None:
        return Decision(state=run, because=run.because)
    if not run.needs_approval or run.phase is not Phase.HELD:
        raise Conflict(f"it does not wait for an approval: it is {run.phase}", where, "there is nothing to do")
    because = f"commit {sha[:10]} approved by {who}"
    update = {"needs_approval": False, "approved_by": who, "phase": Phase.QUEUED, "because": because}
    return Decision(state=run.model_copy(update=update), because=because)


def cancel(run: Run, because: str) -> Decision[Run]:
    """The run is to end: at once where it waits for an approval, else by its loop. Conflict where it has ended."""
    if run.phase is Phase.CANCELLED or run.wish is not None:
        return Decision(state=run, because=run.because)
    if run.needs_approval and run.phase is Phase.HELD:
        return stop(run, Phase.CANCELLED, because, because)
    if run.phase.is_final:
        raise Conflict(f"it has ended: {run.phase}, {run.because}", f"run {run.number}", "there is nothing to cancel")
    return Decision(state=run.model_copy(update={"wish": because}), because=because)


def run_again(run: Run, number: int, occasion: Occasion, from_stage: str | None, *, is_trusted: bool) -> Run:
    """Another run of the same commit and plan. From ``from_stage`` on everything is executed anew.

    NotFound where there is no such stage. Conflict where the run has not ended, or has no plan that could be executed.
    """
    where = f"run {run.number}"
    if run.needs_approval and run.phase is Phase.HELD:
        raise Conflict("it waits for an approval", where, "approve it, and it runs")
    if not run.phase.is_final:
        raise Conflict(f"it is still {run.phase}", where, "wait until it ends, or cancel it first")
    if not run.stages:
        raise Conflict("its pipeline file was refused, so there is no plan", where, "push a commit that mends the file")
    begun = begin(
        number,
        run.commit,
        occasion,
        run.plan,
        run.plan_digest,
        driver=run.driver,
        is_trusted=run.is_trusted and is_trusted,
        needs_approval=run.needs_approval,
    )
    names = ("pull_request", "scope", "approved_by", "lock", "guards", "data_guards", "model_guards", "problems")
    kept = {name: getattr(run, name) for name in names}
    fresh = stages_from(run.plan, from_stage, where) if from_stage else ()
    return begun.model_copy(update={**kept, "fresh": fresh, "reruns": (*run.reruns, run.number)})


def stages_from(plan: Plan, first: str, where: str) -> tuple[str, ...]:
    """The stage and all that need it, in the order of the plan. NotFound, with the nearest name."""
    names = [stage.name for stage in plan.stages]
    if first not in names:
        near = difflib.get_close_matches(first, names, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"its stages are {', '.join(names)}"
        raise NotFound(f"it has no stage {first!r}", where, remedy)
    found = {first}
    for stage in plan.stages:
        if found.intersection(stage.needs):
            found.add(stage.name)
    return tuple(name for name in names if name in found)

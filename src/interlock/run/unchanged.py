"""Whether a run would end the same way again as long as nothing that it was given has changed."""

from __future__ import annotations

from interlock.run.run import Run
from interlock.vocabulary import Phase


def would_repeat(run: Run) -> bool:
    """Whether nothing but the working tree, the options and the installation decides how such a run ends.

    Only what succeeded is ever taken for granted. A stage that may use the network or is given secrets depends on what
    nobody can see from here, and data whose age is checked grows old. Data that no commit holds is for the caller to
    look at.
    """
    return (
        run.phase is Phase.SUCCEEDED
        and all(stage_run.phase is Phase.SUCCEEDED for stage_run in run.stages.values())
        and not any(stage.network or stage.secrets for stage in run.plan.stages)
        and not any(check.name == "freshness" for data in run.plan.data for check in data.checks)
        and all(_is_in_the_project(path) for path in _given(run))
    )


def as_it_stands(run: Run) -> Run:
    """How a run is told that was not needed: every stage of ``run`` reused from it, and why."""
    reused = {
        name: stage_run.model_copy(
            update={
                "attempt": 0,
                "reused": stage_run.reused or run.attempt_key(name),
                "because": f"unchanged since run {run.number}",
                "differences": (),
                "seconds": 0.0,
            }
        )
        for name, stage_run in run.stages.items()
    }
    kept = "nothing they depend on has changed, and all they made is kept"
    because = f"0 of {len(run.stages)} stages ran, as run {run.number} stands: {kept}"
    return run.model_copy(update={"stages": reused, "because": because})


def _given(run: Run) -> list[str]:
    """Every path that the plan names as an input."""
    datasets = [path for data in run.plan.data for path in (data.path, data.schema_path) if path]
    return [*datasets, *(dep for stage in run.plan.stages for dep in stage.deps), run.plan.python.lock]


def _is_in_the_project(path: str) -> bool:
    return ":" not in path and not path.startswith("/") and ".." not in path.split("/") and not path.endswith(".dvc")

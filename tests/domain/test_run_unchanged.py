"""Which runs would end the same way again, and how one is told that was not needed."""

from __future__ import annotations

import pytest

from interlock.pipeline.plan import CheckPlan, DataPlan, Plan, PythonPlan, StagePlan
from interlock.run.run import Run, StageRun, begin
from interlock.run.unchanged import as_it_stands, would_repeat
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Phase

COMMIT = Commit(repository="flights", git_directory="/r", ref="worktree", sha="c0ffee", tree="t")
DIGEST = Digest("blake3:" + "ab" * 32)


def ended(stage: dict[str, object] | None = None, phase: Phase = Phase.SUCCEEDED, **plan: object) -> Run:
    train = StagePlan(**{"name": "train", "kind": "stage", "command": "true", "deps": ("data/",), **(stage or {})})
    run = begin(
        4, COMMIT, Occasion(kind="local"), Plan(stages=(train,), **plan), DIGEST, driver="local:1", is_trusted=False
    )
    done = StageRun(phase=Phase.SUCCEEDED, attempt=2, because="never ran before", differences=("new",), seconds=3.0)
    return run.model_copy(update={"phase": phase, "stages": {"train": done}})


def test_what_only_the_working_tree_decides_would_repeat() -> None:
    data = DataPlan(name="rows", path="data/rows.csv", schema_path="schemas/rows.yaml")
    assert would_repeat(ended(data=(data,), python=PythonPlan(lock="requirements.txt")))


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.SUCCEEDED])
def test_what_did_not_succeed_would_not_surely_repeat(phase: Phase) -> None:
    assert not would_repeat(ended(phase=phase))
    skipped = ended()
    stages = {"train": skipped.stages["train"].model_copy(update={"phase": phase})}
    assert not would_repeat(skipped.model_copy(update={"stages": stages}))


@pytest.mark.parametrize(
    "stage", [{"network": True}, {"secrets": ("TOKEN",)}, {"deps": ("s3://bucket/rows",)}, {"deps": ("data/a.dvc",)}]
)
def test_a_stage_that_sees_more_than_the_project_would_not_surely_repeat(stage: dict[str, object]) -> None:
    assert not would_repeat(ended(stage))


@pytest.mark.parametrize("path", ["/data/rows.csv", "../rows.csv", "data/../../rows.csv", "s3://bucket/rows.csv"])
@pytest.mark.parametrize("key", ["path", "schema_path"])
def test_data_that_is_not_in_the_project_would_not_surely_repeat(path: str, key: str) -> None:
    data = DataPlan(**{"name": "rows", "path": "rows.csv", key: path})
    assert not would_repeat(ended(data=(data,)))
    assert not would_repeat(ended(python=PythonPlan(lock=path)))


def test_data_whose_age_is_checked_would_not_surely_repeat() -> None:
    check = CheckPlan(name="freshness", is_written=True, limits={"max_age": 60.0}, column="at")
    assert not would_repeat(ended(data=(DataPlan(name="rows", path="rows.csv", checks=(check,)),)))


def test_a_run_that_was_not_needed_is_told_as_reused_with_its_reason() -> None:
    told = as_it_stands(ended())
    stage = told.stages["train"]
    assert (stage.attempt, stage.reused, stage.because) == (0, "4/train/2", "unchanged since run 4")
    assert (stage.phase, stage.seconds, stage.differences) == (Phase.SUCCEEDED, 0.0, ())
    assert told.because.startswith("0 of 1 stages ran, as run 4 stands")
    assert as_it_stands(told).stages["train"].reused == "4/train/2"

"""What people ask of runs, as tables of what a run is and what becomes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import Conflict, NotFound
from interlock.pipeline.plan import Plan, StagePlan
from interlock.run.requests import approve, cancel, refuse, run_again, stages_from
from interlock.run.run import Run, StageRun, begin
from interlock.run.stage import Problem
from interlock.source.commit import Commit, Occasion
from interlock.source.repository import PullRequest
from interlock.vocabulary import Digest, Phase

COMMIT = Commit(repository="small", git_directory="/g", ref="refs/heads/main", sha="a" * 40, tree="b" * 40)
PLAN = Plan(
    stages=(
        StagePlan(name="unit", kind="check", command="pytest"),
        StagePlan(name="features", kind="stage", command="f", needs=("unit",)),
        StagePlan(name="profile", kind="stage", command="p", needs=("unit",)),
        StagePlan(name="train", kind="stage", command="t", needs=("unit", "features")),
        StagePlan(name="evaluate", kind="stage", command="e", needs=("unit", "train", "profile")),
    )
)
RERUN = Occasion(kind="rerun", detail="7 8", by="ada")


def run_in(phase: Phase = Phase.QUEUED, *, needs_approval: bool = False, plan: Plan = PLAN) -> Run:
    begun = begin(
        7,
        COMMIT,
        Occasion(kind="push"),
        plan,
        Digest("d"),
        driver="server",
        is_trusted=True,
        needs_approval=needs_approval,
    )
    return begun.model_copy(update={"phase": phase})


def test_a_refused_pipeline_file_is_a_failed_run_with_every_problem() -> None:
    problems = (Problem(message="unknown key", path="interlock.yaml", line=3), Problem(message="no stage"))
    run = refuse(8, COMMIT, Occasion(kind="push"), problems, driver="server", is_trusted=True)
    assert run.phase is Phase.FAILED
    assert run.problems == problems
    assert "unknown key" in run.because
    assert "1 more" in run.because
    assert str(problems[0]) == "interlock.yaml:3: unknown key"
    assert str(problems[1]) == "no stage"
    alone = refuse(9, COMMIT, Occasion(kind="push"), (), driver="server", is_trusted=True)
    assert "cannot be read" in alone.because


def test_an_approved_run_goes_into_the_queue_and_says_who_let_it() -> None:
    decision = approve(run_in(Phase.HELD, needs_approval=True), COMMIT.sha, "ada")
    run = decision.state
    assert (run.phase, run.needs_approval, run.approved_by) == (Phase.QUEUED, False, "ada")
    assert run.because == decision.because == f"commit {COMMIT.sha[:10]} approved by ada"
    assert approve(run, COMMIT.sha, "bob").state == run


@pytest.mark.parametrize("sha", ["b" * 40, COMMIT.sha[:10], "", COMMIT.sha.upper(), COMMIT.sha + " "])
def test_only_the_very_commit_can_be_approved(sha: str) -> None:
    with pytest.raises(Conflict, match=COMMIT.sha):
        approve(run_in(Phase.HELD, needs_approval=True), sha, "ada")


@pytest.mark.parametrize(
    ("phase", "needs_approval"),
    [(Phase.QUEUED, False), (Phase.HELD, False), (Phase.CANCELLED, True), (Phase.SUCCEEDED, False)],
)
def test_what_does_not_wait_for_an_approval_is_a_conflict(phase: Phase, needs_approval: bool) -> None:
    with pytest.raises(Conflict, match=str(phase)):
        approve(run_in(phase, needs_approval=needs_approval), COMMIT.sha, "ada")


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.RUNNING])
def test_a_run_under_way_is_wished_away_once(phase: Phase) -> None:
    wished = cancel(run_in(phase), "cancelled by ada: no need").state
    assert (wished.phase, wished.wish) == (phase, "cancelled by ada: no need")
    assert cancel(wished, "cancelled by bob: me too").state == wished


def test_a_run_that_waits_for_an_approval_is_cancelled_at_once() -> None:
    ended = cancel(run_in(Phase.HELD, needs_approval=True), "cancelled by ada: spam").state
    assert (ended.phase, ended.because) == (Phase.CANCELLED, "cancelled by ada: spam")
    assert {stage.phase for stage in ended.stages.values()} == {Phase.SKIPPED}
    assert cancel(ended, "again").state == ended


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.ERRORED, Phase.HELD])
def test_what_has_ended_cannot_be_cancelled(phase: Phase) -> None:
    with pytest.raises(Conflict, match="has ended"):
        cancel(run_in(phase), "too late")


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.ERRORED, Phase.CANCELLED, Phase.HELD])
def test_whatever_has_ended_can_be_run_again_with_the_same_commit_and_plan(phase: Phase) -> None:
    before = run_in(phase).model_copy(update={"lock": Digest("blake3:l"), "wish": "cancelled"})
    run = run_again(before, 8, RERUN, None, is_trusted=True)
    assert (run.number, run.phase, run.occasion) == (8, Phase.QUEUED, RERUN)
    assert (run.commit, run.plan, run.plan_digest, run.lock) == (COMMIT, PLAN, before.plan_digest, before.lock)
    assert (run.fresh, run.reruns, run.wish) == ((), (7,), None)
    assert all(stage == StageRun() for stage in run.stages.values())
    ended = run.model_copy(update={"phase": Phase.FAILED})
    assert run_again(ended, 9, RERUN, None, is_trusted=True).reruns == (7, 8)


@pytest.mark.parametrize(("before", "now"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_rerun_is_trusted_only_if_the_run_was_and_its_ref_still_is(before: bool, now: bool) -> None:
    run = run_in(Phase.FAILED).model_copy(update={"is_trusted": before})
    assert run_again(run, 8, RERUN, None, is_trusted=now).is_trusted is (before and now)


def test_a_rerun_of_a_pull_request_stays_in_its_scope_and_needs_the_approval_that_it_never_got() -> None:
    pull = PullRequest(number=4, base="main")
    held = run_in(Phase.HELD, needs_approval=True).model_copy(update={"pull_request": pull, "scope": "pull/4@small"})
    with pytest.raises(Conflict, match="approval"):
        run_again(held, 8, RERUN, None, is_trusted=True)
    never = run_again(cancel(held, "spam").state, 8, RERUN, None, is_trusted=False)
    assert (never.phase, never.needs_approval, never.scope) == (Phase.HELD, True, "pull/4@small")
    approved = approve(held, COMMIT.sha, "ada").state.model_copy(update={"phase": Phase.FAILED})
    again = run_again(approved, 8, RERUN, None, is_trusted=False)
    assert (again.phase, again.pull_request, again.scope) == (Phase.QUEUED, pull, "pull/4@small")


def test_what_still_runs_or_was_refused_is_not_run_again() -> None:
    for phase in (Phase.QUEUED, Phase.RUNNING):
        with pytest.raises(Conflict, match=f"still {phase}"):
            run_again(run_in(phase), 8, RERUN, None, is_trusted=True)
    refused = refuse(7, COMMIT, Occasion(kind="push"), (), driver="server", is_trusted=True)
    with pytest.raises(Conflict, match="no plan"):
        run_again(refused, 8, RERUN, None, is_trusted=True)


@pytest.mark.parametrize(
    ("first", "fresh"),
    [
        ("unit", ("unit", "features", "profile", "train", "evaluate")),
        ("features", ("features", "train", "evaluate")),
        ("profile", ("profile", "evaluate")),
        ("evaluate", ("evaluate",)),
    ],
)
def test_from_a_stage_on_means_that_stage_and_all_that_need_it(first: str, fresh: tuple[str, ...]) -> None:
    assert run_again(run_in(Phase.SUCCEEDED), 8, RERUN, first, is_trusted=True).fresh == fresh


@pytest.mark.parametrize(("name", "hint"), [("trian", "train?"), ("zzz", "unit, features")])
def test_a_stage_that_is_not_there_is_told_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(NotFound, match=name) as told:
        run_again(run_in(Phase.SUCCEEDED), 8, RERUN, name, is_trusted=True)
    assert hint in told.value.remedy


@given(st.lists(st.sets(st.integers(0, 11), max_size=3), min_size=1, max_size=12), st.data())
def test_fresh_are_just_the_stages_to_which_a_way_leads(needs: list[set[int]], data: st.DataObject) -> None:
    """Walking needs backwards from a fresh stage one meets the first; from any other one never does."""
    edges = {place: {need for need in of if need < place} for place, of in enumerate(needs)}
    plan = Plan(
        stages=tuple(
            StagePlan(name=f"s{place}", kind="stage", command="c", needs=tuple(f"s{need}" for need in sorted(of)))
            for place, of in edges.items()
        )
    )
    first = data.draw(st.sampled_from(sorted(edges)))

    def leads_to(place: int) -> bool:
        return place == first or any(leads_to(need) for need in edges[place])

    assert stages_from(plan, f"s{first}", "run 1") == tuple(f"s{place}" for place in edges if leads_to(place))

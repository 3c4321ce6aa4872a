"""A forge and a real server: webhooks come in, statuses and a comment go back, and who is from outside gets nothing."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.conftest import free_port
from tests.production import version_of
from tests.revisions import revision
from tests.small_server import (
    HOOK_SECRET,
    SmallRepository,
    SmallServer,
    StandIn,
    executed,
    files_with,
    on_github,
    pull_request_of,
    push_of,
    wait_for,
)

from interlock.control.delivering.reverting import SPACE
from interlock.control.rows import write_state
from interlock.delivery.rollout import RolloutPhase, begin
from interlock.pipeline.plan import EnvironmentPlan
from interlock.run.run import Run
from interlock.vocabulary import Kind, Phase

pytestmark = pytest.mark.xdist_group("quiet servers")

GATED = """
version: 1
on: {push: {branches: ["**"]}, pull_request: {}}
checks: []
stages:
  train: {cmd: "cat score > metrics.json; echo trained > model", deps: [score], outs: [model], metrics: [metrics.json]}
gates: [{metric: accuracy, min: 0.5}]
"""
GUARDED = """
version: 1
on: {pull_request: {until: train}}
checks: [{name: allowed, cmd: "test -f allowed"}]
stages:
  train: {cmd: "env | sort; cat /proc/*/environ; mkdir model; env > model/seen", outs: [model/], secrets: [API_KEY]}
model: {name: guarded, path: model/, format: joblib}
deploy: {production: {strategy: rolling, replicas: 1}}
"""
QUICK = """
version: 1
on: {push: {branches: ["**"]}, pull_request: {}}
checks: []
stages:
  only: {cmd: "cat number > made", outs: [made]}
"""
CANARY = "canary-7f3b9d1e5a"


class Place:
    """Repositories, their forge, and the server between them. Polls are so rare that only webhooks tell of news."""

    def __init__(self, folder: Path) -> None:
        self.forge = StandIn()
        self.late_port = free_port()
        pipelines = {"gated": GATED, "guarded": GUARDED, "quick": QUICK, "late": QUICK, "mended": QUICK}
        self.repositories = {name: SmallRepository(folder, name, text) for name, text in pipelines.items()}
        addresses = dict.fromkeys(pipelines, self.forge.url) | {"late": f"http://127.0.0.1:{self.late_port}"}
        settings = {name: on_github(one, addresses[name]) for name, one in self.repositories.items()}
        settings["mended"]["propose_reverts"] = True
        self.server = SmallServer(folder, settings, poll_every=3600, url="https://ci.example.org")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="ij-") as folder:
        made = Place(Path(folder))
        try:
            made.server.start()
            yield made
        finally:
            made.server.end()
            made.forge.close()


def shown(forge: StandIn, run: Run, *contexts: tuple[str, str]) -> dict[str, tuple[str, str]]:
    """What the page of the run's commit shows, once it has these states by context."""

    def found() -> dict[str, tuple[str, str]] | None:
        statuses = forge.shown(run.commit.repository, run.commit.sha)
        states = {(name, state) for name, (state, _) in statuses.items()}
        return statuses if set(contexts) <= states else None

    try:
        return wait_for(found, f"{contexts} of run {run.number} at the forge")
    except AssertionError as late:
        raise AssertionError(f"{late}: {forge.shown(run.commit.repository, run.commit.sha)}") from late


def test_a_pull_request_from_first_push_to_merge(place: Place) -> None:
    # Given a repository whose main branch has passed its gate
    server, forge, repository = place.server, place.forge, place.repositories["gated"]
    repository.commit("good enough", score='{"accuracy": 0.9}')
    sha = repository.arrive()
    # When the forge calls: for a ping nothing happens, for a push a run begins
    assert server.hook("gated", "ping", {"zen": "Design for failure."}).status == 202
    assert server.hook("gated", "push", push_of(sha)).status == 202
    (first,) = server.until("gated", 1, Phase.SUCCEEDED)
    assert (first.commit.sha, first.occasion.kind) == (sha, "push")
    # Then the commit's page shows the run, its plan and its gate, with a link and a reason
    passed = ("interlock", "success"), ("interlock/plan", "success"), ("interlock/gate: accuracy min 0.5", "success")
    statuses = shown(forge, first, *passed)
    assert statuses["interlock/plan"][1].startswith("1 of 1 stages run")
    assert forge.statuses["gated", sha][-1]["target_url"] == "https://ci.example.org/api/v1/runs/1"
    assert forge.comments == {}

    # When a member's pull request forgets the metric
    repository.git("switch", "-qc", "change")
    repository.commit("forgets", score='{"loss": 0.1}')
    repository.arrive("refs/heads/change")
    head = repository.arrive("refs/pull/7/head")
    assert server.hook("gated", "pull_request", pull_request_of("gated", 7, head, "change")).status == 202
    runs = server.until("gated", 3, Phase.HELD)
    held = next(run for run in runs if run.pull_request is not None)
    # Then undecided is a failure that tells the way out, and there is one comment
    statuses = shown(forge, held, ("interlock", "failure"), ("interlock/gate: accuracy min 0.5", "failure"))
    assert "undecided" in statuses["interlock/gate: accuracy min 0.5"][1]
    assert "interlock explain" in statuses["interlock"][1]
    (comment,) = wait_for(lambda: forge.comments.get(("gated", 7)), "the comment")
    wait_for(lambda: "Way out" in comment["body"], "the way out in the comment")

    # When the next commit of it measures again
    repository.commit("measures", score='{"accuracy": 0.8}')
    head = repository.arrive("refs/pull/7/head")
    assert server.hook("gated", "pull_request", pull_request_of("gated", 7, head, "change")).status == 202
    runs = server.until("gated", 4, Phase.SUCCEEDED)
    shown(forge, runs[-1], *passed)
    # Then the same comment says so
    wait_for(lambda: head[:10] in comment["body"] and "passed" in comment["body"], "the update of the comment")
    assert "| **pass** |" in comment["body"]
    assert len(forge.comments["gated", 7]) == 1

    # When the green pull request is merged, and its branch is deleted
    repository.git("switch", "-q", "main")
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "change")
    merged = repository.arrive(sha=repository.git("rev-parse", "HEAD"))
    repository.delete("refs/heads/change")
    assert server.hook("gated", "push", push_of(merged)).status == 202
    closed = pull_request_of("gated", 7, head, "change", is_open=False)
    assert server.hook("gated", "pull_request", closed).status == 202
    assert server.hook("gated", "push", push_of("0" * 40, "refs/heads/change")).status == 202
    # Then nothing is executed again, the page says so, and the deleted branch has no run
    runs = server.until("gated", 5, Phase.SUCCEEDED)
    assert (runs[-1].commit.sha, executed(runs[-1])) == (merged, [])
    assert "0 of 1 stages" in shown(forge, runs[-1], *passed)["interlock/plan"][1]
    server.stays("gated", 5)
    assert forge.strangers == []


def test_a_pull_request_from_outside_waits_for_a_person_and_gets_nothing(place: Place) -> None:
    # Given a repository with a secret, whose stage names it
    server, forge, repository = place.server, place.forge, place.repositories["guarded"]
    server.interlock("secret", "set", "guarded", "API_KEY", typed=f"{CANARY}\n")
    sha = repository.arrive()
    server.hook("guarded", "push", push_of(sha))
    assert server.until("guarded", 1)[-1].phase is Phase.FAILED

    # When a stranger asks for a change that would pass
    repository.git("switch", "-qc", "theirs")
    head = repository.commit("lets itself in", allowed="yes")
    repository.arrive("refs/pull/3/head")
    server.hook("guarded", "pull_request", pull_request_of("guarded", 3, head, "theirs", is_fork=True))
    # Then it is held, and the forge is told who is waited for
    held = server.until("guarded", 2, Phase.HELD)[-1]
    assert executed(held) == []
    statuses = shown(forge, held, ("interlock", "pending"))
    assert f"interlock approve {held.number}" in statuses["interlock"][1]

    # When a maintainer lets this very commit go
    wrong = server.try_interlock("approve", held.number, "--commit", sha)
    assert wrong.returncode != 0
    server.interlock("approve", held.number, "--commit", head)
    run = server.until("guarded", 2, Phase.SUCCEEDED)[-1]
    # Then its stage ran without the secret, which is nowhere to be found, and nothing of it is delivered
    assert executed(run) == ["allowed", "train"]
    assert run.approved_by
    assert "API_KEY" not in server.stage_log(run, "train")
    assert files_with(CANARY, [server.state / "execution", server.state / "artifacts"]) == []
    assert run.plan.deploy == ()
    assert server.rows(Kind.VERSION) == []
    assert server.rows(Kind.RELEASE) == []

    # When another one wants the network
    repository.git("switch", "-qc", "wide", "main")
    reaching = repository.commit("phones home", interlock_yaml=GUARDED.replace("outs:", "network: true, outs:"))
    repository.arrive("refs/pull/4/head")
    server.hook("guarded", "pull_request", pull_request_of("guarded", 4, reaching, "wide", is_fork=True))
    # Then it is refused, and told why
    refused = server.until("guarded", 3, Phase.FAILED)[-1]
    assert executed(refused) == []
    assert any("may use the network" in str(problem) for problem in refused.problems)
    shown(forge, refused, ("interlock", "failure"))

    # When the stranger's change is taken over as it is
    repository.git("switch", "-q", "theirs")
    repository.arrive(sha=head)
    server.hook("guarded", "push", push_of(head))
    # Then it is executed: nothing that the stranger's run made is used
    trusted = server.until("guarded", 4, Phase.FAILED, Phase.SUCCEEDED, Phase.RUNNING)[-1]
    wait_for(lambda: server.runs("guarded")[-1].stages["train"].phase is Phase.SUCCEEDED, "the trusted training")
    trusted = server.runs("guarded")[-1]
    assert {"allowed", "train"} <= set(executed(trusted))
    assert "API_KEY=***" in server.stage_log(trusted, "train")
    assert files_with(CANARY, [server.state / "execution" / "logs"]) == []


def test_two_hundred_copies_of_a_webhook_are_one_run(place: Place) -> None:
    server, repository = place.server, place.repositories["quick"]
    repository.commit("one", number="1")
    first = repository.arrive()
    with ThreadPoolExecutor(20) as callers:
        answers = list(callers.map(lambda _: server.hook("quick", "push", push_of(first)), range(200)))
    assert {answer.status for answer in answers} == {202}
    server.until("quick", 1, Phase.SUCCEEDED)
    runs = server.stays("quick", 1)
    assert runs[0].commit.sha == first

    # two pushes whose calls come in the other order, with a late copy of the first: the newer commit is what stays
    repository.commit("two", number="2")
    second = repository.arrive()
    for sha in (second, first, second, first):
        assert server.hook("quick", "push", push_of(sha)).status == 202
    server.until("quick", 2, Phase.SUCCEEDED)
    runs = server.stays("quick", 2)
    assert [run.commit.sha for run in runs] == [first, second]
    forged = server.hook("quick", "push", push_of(first), secret=HOOK_SECRET.upper())
    assert forged.status == 401
    assert server.hook("nobody", "push", push_of(first)).status == 401


def test_what_a_forge_was_not_told_is_told_after_a_restart(place: Place) -> None:
    # Given a forge that cannot be reached, and a run that has ended
    server, repository = place.server, place.repositories["late"]
    repository.commit("one", number="1")
    sha = repository.arrive()
    server.hook("late", "push", push_of(sha))
    (run,) = server.until("late", 1, Phase.SUCCEEDED)
    wait_for(lambda: "late is tried again in" in server.log, "the first try")
    wait_for(lambda: is_all_told(place), "the end of what others are told")
    told = place.forge.writes.copy()
    # When the server is killed, and the forge is there when it comes back
    server.kill()
    late = StandIn(place.late_port)
    try:
        server.start()
        # Then the forge hears of the run, and no other forge of anything twice
        shown(late, run, ("interlock", "success"), ("interlock/plan", "success"))
        assert place.forge.writes == told
        assert len(server.runs("late")) == 1
    finally:
        late.close()


def is_all_told(place: Place) -> bool:
    """Whether the forge has acknowledged everything but what is told of ``late``."""
    reports = place.server.rows(Kind.REPORT)
    return {report.phase for report in reports if report.repository != "late"} <= {"told"}


def test_a_rollback_for_harm_ends_as_a_pull_request_that_takes_the_commit_back(place: Place) -> None:
    # Given two models of two commits
    server, forge, repository = place.server, place.forge, place.repositories["mended"]
    wait_for(lambda: server.store.recall(SPACE, "followed"), "the first look at what is rolled back")
    for number in (1, 2):
        repository.commit(f"number {number}", number=f"{number}\n")
        assert server.hook("mended", "push", push_of(repository.arrive())).status == 202
        run = server.until("mended", number, Phase.SUCCEEDED)[-1]
        version = version_of(run, number, model="mended")
        write = write_state(Kind.VERSION, version.key, version, expected=0, phase="registered", because="well")
        server.store.save(write)
    bad = repository.head
    # When the second was found to do harm in production
    names = {"environment": "mended/production", "model": "mended"}
    good_one, bad_one = (revision(number).model_copy(update=names) for number in (1, 2))
    begun = begin(901, bad_one, good_one, EnvironmentPlan(name="production"), release=901, now=1.0)
    ended = begun.model_copy(update={"phase": RolloutPhase.ROLLED_BACK, "harm": "9 errors in 10 requests"})
    for expected, state in enumerate((begun, ended)):
        write = write_state(Kind.ROLLOUT, state.key, state, expected=expected, phase=state.phase, because=state.harm)
        server.store.save(write)
    # Then there is one pull request, of a branch that has the number as it was
    (pull,) = wait_for(lambda: forge.pulls.get("mended"), "the pull request")
    branch = f"interlock/revert-rollout-901-{bad[:10]}"
    assert (pull["head"]["ref"], pull["base"]["ref"]) == (branch, "main")
    assert pull["title"] == "Revert mended v2: it was rolled back in mended/production"
    assert "9 errors in 10 requests" in pull["body"]
    repository.git("fetch", "-q", repository.bare, branch)
    assert repository.git("show", "FETCH_HEAD:number") == "1"
    assert repository.git("rev-parse", "FETCH_HEAD^") == bad
    # And people are told
    told = f"proposed as pull request 1, from {branch} into main"
    wait_for(lambda: told in server.interlock("explain", "rollout/901"), "the story of the rollout")
    assert f"revert/901 proposed: {told}" in server.log
    assert told in server.interlock("audit", "list")

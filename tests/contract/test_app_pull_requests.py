"""Pull requests over a real repository: which begin runs, whose word counts, and what one from outside cannot do."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.workshop import ADA, PIPELINE, Workshop

from interlock.control.rows import read_state
from interlock.edges.forge import MemoryForge
from interlock.edges.git import objects
from interlock.errors import ForgeFault, GitFault, InterlockError, Refused
from interlock.run.run import Run
from interlock.source.commit import Commit
from interlock.source.repository import PullRequest
from interlock.vocabulary import Kind, Phase

OPEN = "on: {pull_request: {}}\n" + PIPELINE
STAGED = """\
version: 1
on: {pull_request: {until: train}}
checks: []
stages:
  train: {cmd: python train.py, outs: [model/]}
  evaluate: {cmd: python evaluate.py, deps: [model/], metrics: [metrics.json]}
gates: [{metric: accuracy, min: 0.9}]
"""


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """A repository whose main branch takes pull requests and has had its first look."""
    made = Workshop(tmp_path, OPEN)
    made.commit("first")
    made.push()
    made.look()
    made.run_all()
    return made


def propose(shop: Workshop, number: int = 4, text: str = "x = 2\n", **files: str) -> str:
    """A commit that only the pull request's ref names."""
    shop.command("checkout", "-q", "-B", "topic", "origin/main")
    sha = shop.commit("proposed", train_py=text, **files)
    shop.push("-f", f"HEAD:refs/pull/{number}/head")
    return sha


def facts(shop: Workshop, number: int = 4) -> PullRequest:
    row = shop.store.load(Kind.PULL_REQUEST, f"small/{number}")
    assert row is not None
    assert row.repository == "small"
    return read_state(row, PullRequest)


def test_a_pull_request_runs_the_commit_that_its_ref_has_and_not_the_one_that_was_told(shop: Workshop) -> None:
    sha = propose(shop)
    (run,) = shop.look(shop.pull_request(4, is_fork=False, head="f" * 40))
    assert (run.commit.sha, run.commit.ref) == (sha, "refs/pull/4/head")
    assert run.occasion.kind == "pull_request"
    assert run.pull_request is not None
    assert run.pull_request.head == facts(shop).head == sha
    assert not run.is_trusted
    assert shop.look(shop.pull_request(4, is_fork=False)) == []
    assert shop.look() == []


def test_a_merge_request_is_found_where_gitlab_keeps_it(shop: Workshop) -> None:
    shop.set_up(forge="gitlab")
    propose(shop)
    shop.push("-f", "HEAD:refs/merge-requests/4/head")
    (run,) = shop.look(shop.pull_request(4))
    assert run.commit.ref == "refs/merge-requests/4/head"


def test_a_pull_request_without_a_ref_begins_nothing_and_is_found_once_the_ref_is_there(shop: Workshop) -> None:
    assert shop.look(shop.pull_request(4)) == []
    assert "no refs/pull/4/head" in shop.told(Kind.PULL_REQUEST)
    propose(shop)
    assert len(shop.look()) == 1  # no webhook tells of it any more


def test_each_commit_of_a_pull_request_runs_once_and_a_force_push_back_runs_again(shop: Workshop) -> None:
    first = propose(shop)
    second = propose(shop, text="x = 3\n")
    seen = []
    for sha in (first, second, first, first):
        shop.push("-f", f"{sha}:refs/pull/4/head")
        seen += [run.commit.sha for run in shop.look(shop.pull_request(4))]
    assert seen == [first, second, first]


@pytest.mark.parametrize("seed", range(10))
def test_notices_in_any_order_and_any_number_run_each_commit_once_and_end_with_the_newest(
    shop: Workshop, seed: int
) -> None:
    order = random.Random(seed)
    shas = [propose(shop, text=f"x = {number}\n") for number in (1, 2)]
    told = [shop.pull_request(4, head=sha) for sha in shas] * 3
    order.shuffle(told)
    moved = order.randrange(1, len(told))
    shop.push("-f", f"{shas[0]}:refs/pull/4/head")
    begun = [run for notice in told[:moved] for run in shop.look(notice)]
    shop.push("-f", f"{shas[1]}:refs/pull/4/head")
    begun += [run for notice in told[moved:] for run in shop.look(notice)]
    assert [run.commit.sha for run in begun] == shas
    assert facts(shop).head == shas[1]


def test_a_closed_pull_request_runs_no_more_and_reopened_it_runs_what_is_new(shop: Workshop) -> None:
    propose(shop)
    shop.look(shop.pull_request(4))
    assert shop.look(shop.pull_request(4, is_open=False)) == []
    row = shop.store.load(Kind.PULL_REQUEST, "small/4")
    assert row is not None
    assert row.phase == "closed"
    newer = propose(shop, text="x = 5\n")
    assert shop.look() == []
    assert shop.look(shop.pull_request(4, is_open=False)) == []
    assert [run.commit.sha for run in shop.look(shop.pull_request(4))] == [newer]


def test_a_members_pull_request_is_found_by_its_branch_when_its_webhook_is_lost(shop: Workshop) -> None:
    propose(shop)
    shop.push("-f", "HEAD:topic")
    other = shop.pull_request(9)
    shop.look(shop.pull_request(4, is_fork=False, head_branch="topic"))
    newer = propose(shop, text="x = 9\n")
    shop.push("-f", "HEAD:topic")
    assert [run.commit.sha for run in shop.look(other)] == [newer]  # a notice of something else


def test_a_change_of_its_base_is_judged_anew(shop: Workshop) -> None:
    propose(shop)
    shop.push("-f", "origin/main:refs/heads/release")
    shop.look(shop.pull_request(4))
    assert len(shop.look(shop.pull_request(4, base="release"))) == 1
    assert shop.look(shop.pull_request(4, base="nowhere", title="Other")) == []
    assert "no branch nowhere" in shop.told(Kind.PULL_REQUEST)


def test_what_is_not_run_says_why(shop: Workshop) -> None:
    propose(shop, interlock_yaml="on: {pull_request: {branches: ['**']}}\n" + PIPELINE)
    shop.command("commit", "-qm", "quiet [skip ci]", "--allow-empty")
    shop.push("-f", "HEAD:refs/pull/4/head")
    assert shop.look(shop.pull_request(4)) == []
    assert "[skip ci]" in shop.told(Kind.PULL_REQUEST)


def test_the_base_says_whether_and_how_far_and_the_change_cannot_soften_its_gates(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, STAGED)
    shop.commit("first", evaluate_py="y = 1\n")
    shop.push()
    shop.look()
    softer = STAGED.replace("min: 0.9", "min: 0.1").replace("until: train", "until: evaluate")
    propose(shop, interlock_yaml=softer, text="x = 7\n")
    (run,) = shop.look(shop.pull_request(4, is_fork=False))
    assert "evaluate" not in run.stages  # main says: until train
    shop.command("checkout", "-q", "-B", "main", "origin/main")
    shop.commit("whole", interlock_yaml=STAGED.replace("until: train", "until: evaluate"))
    shop.push()
    shop.look()
    propose(shop, 5, interlock_yaml=softer, text="x = 8\n")
    (run,) = shop.look(shop.pull_request(5))
    assert 0.9 in [gate.min for gate in run.plan.gates]


def test_a_base_without_pull_requests_runs_none_whatever_the_change_says(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    shop.commit("first")
    shop.push()
    shop.look()
    propose(shop, interlock_yaml=OPEN)
    assert shop.look(shop.pull_request(4)) == []
    assert "no on.pull_request" in shop.told(Kind.PULL_REQUEST)


def test_a_broken_file_in_a_pull_request_is_a_failed_run_and_a_new_project_goes_by_its_own_file(
    shop: Workshop,
) -> None:
    shop.write({"b/interlock.yaml": OPEN, "b/train.py": "", "b/requirements.txt": ""})
    shop.write({"c/interlock.yaml": "version: 1\nstagez: {}\n"})
    propose(shop, interlock_yaml="version: 1\nstagez: {}\n")
    begun = shop.look(shop.pull_request(4))
    assert {(run.plan.project, run.phase) for run in begun} == {("", Phase.FAILED), ("b", Phase.HELD)}
    assert all(run.scope == "pull/4@small" and run.pull_request for run in begun)
    assert "not run" in shop.told(Kind.PULL_REQUEST)  # c: nobody says that it is wanted


# --- from outside ---


def test_a_run_from_outside_is_held_until_a_maintainer_lets_its_commit_run(shop: Workshop) -> None:
    sha = propose(shop)
    (run,) = shop.look(shop.pull_request(4))
    assert (run.phase, run.needs_approval, run.scope) == (Phase.HELD, True, "pull/4@small")
    assert f"waits for a maintainer to approve commit {sha}" in run.because
    shop.loop.one_pass()
    assert shop.executor.started[-1].commit.sha != sha
    shop.requests.approve(ADA, run.number, sha)
    shop.loop.one_pass()
    assert shop.executor.running() == {f"{run.number}/train/1"}


def test_a_newer_commit_needs_its_own_approval_and_ends_the_wait_of_the_older(shop: Workshop) -> None:
    first = propose(shop)
    (older,) = shop.look(shop.pull_request(4))
    propose(shop, text="x = 3\n")
    (newer,) = shop.look(shop.pull_request(4))
    assert shop.run(older.number).phase is Phase.CANCELLED
    assert "moved on" in shop.run(older.number).because
    with pytest.raises(Exception, match=newer.commit.sha):
        shop.requests.approve(ADA, newer.number, first)
    assert shop.look(shop.pull_request(4, is_open=False)) == []
    assert shop.run(newer.number).phase is Phase.CANCELLED


def test_where_settings_let_them_run_they_run_at_once_and_where_they_refuse_they_do_not(shop: Workshop) -> None:
    shop.set_up(forks="run")
    propose(shop)
    (run,) = shop.look(shop.pull_request(4))
    assert (run.phase, run.scope) == (Phase.QUEUED, "pull/4@small")
    shop.set_up(forks="refuse")
    propose(shop, 5)
    assert shop.look(shop.pull_request(5)) == []
    assert "refuse pull requests from outside" in shop.told(Kind.PULL_REQUEST)
    assert len(shop.look(shop.pull_request(5, is_fork=False, base="main", title="x"))) == 0  # the same commit
    propose(shop, 6)
    assert len(shop.look(shop.pull_request(6, is_fork=False))) == 1


def test_a_stage_that_wants_the_network_is_refused_from_outside_only(shop: Workshop) -> None:
    shop.set_up(forks="run")
    text = OPEN.replace("outs: [model/]", "outs: [model/], network: true")
    propose(shop, interlock_yaml=text)
    (outside,) = shop.look(shop.pull_request(4))
    assert (outside.phase, outside.scope) == (Phase.FAILED, "pull/4@small")
    assert "train may use the network" in outside.because
    propose(shop, 5, text="x = 6\n", interlock_yaml=text)
    (member,) = shop.look(shop.pull_request(5, is_fork=False))
    assert member.phase is Phase.QUEUED


def test_data_that_no_commit_holds_is_refused_from_outside_only(shop: Workshop) -> None:
    shop.set_up(forks="run")
    text = OPEN + "data: {rows: {path: rows.csv, from: /srv/rows.csv}}\n"
    propose(shop, interlock_yaml=text)
    (outside,) = shop.look(shop.pull_request(4))
    assert (outside.phase, outside.scope) == (Phase.FAILED, "pull/4@small")
    assert (
        "it uses data that no commit holds (/srv/rows.csv), and a pull request from outside may not" in outside.because
    )
    propose(shop, 5, text="x = 6\n", interlock_yaml=text)
    (member,) = shop.look(shop.pull_request(5, is_fork=False))
    assert member.phase is Phase.QUEUED
    shop.runs.step(member.key)
    shop.run_all()
    (asked,) = [request for request in shop.executor.started if request.stage.sources]
    assert (asked.data_of, asked.secrets_of) == ("small", None)


SECRET = OPEN.replace("outs: [model/]", "outs: [model/], secrets: [TOKEN]")


def test_only_runs_of_trusted_refs_are_given_secrets(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, SECRET)
    shop.set_up(forks="run")
    shop.commit("first")
    shop.push()
    shop.look()
    shop.run_all()
    for number, is_fork in ((4, True), (5, False)):
        propose(shop, number, text=f"x = {number}\n")
        shop.look(shop.pull_request(number, is_fork=is_fork))
    shop.run_all()
    given = {request.commit.ref: request.secrets_of for request in shop.executor.started}
    assert given == {"refs/heads/main": "small", "refs/pull/4/head": None, "refs/pull/5/head": None}


def test_what_was_made_without_a_secret_is_no_result_of_a_run_that_has_it(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, SECRET)
    shop.commit("first")
    shop.push()
    shop.look()
    shop.run_all()
    propose(shop, 5)
    shop.look(shop.pull_request(5, is_fork=False))
    shop.run_all()
    shop.push("topic:main")
    (merged,) = shop.look()
    shop.run_all()
    assert shop.run(merged.number).stages["train"].attempt == 1


def outcome_of(shop: Workshop, run: Run) -> tuple[int, str | None]:
    stage = shop.run(run.number).stages["train"]
    return stage.attempt, stage.reused


def test_merging_a_members_green_pull_request_reuses_its_results(shop: Workshop) -> None:
    propose(shop)
    (proposed,) = shop.look(shop.pull_request(4, is_fork=False))
    shop.run_all()
    assert outcome_of(shop, proposed) == (1, None)
    shop.command("checkout", "-q", "-B", "main", "origin/main")
    shop.command("merge", "-q", "--no-ff", "-m", "merged", "topic")
    shop.push()
    (merged,) = shop.look()
    shop.run_all()
    assert outcome_of(shop, merged) == (0, f"{proposed.number}/train/1")
    assert merged.is_trusted


def test_results_from_outside_are_never_used_by_others_and_those_of_others_are_used_there(shop: Workshop) -> None:
    shop.set_up(forks="run")
    propose(shop)
    (outside,) = shop.look(shop.pull_request(4))
    shop.run_all()
    assert outcome_of(shop, outside) == (1, None)
    again = shop.requests.rerun(ADA, outside.number)
    shop.run_all()
    assert outcome_of(shop, again) == (0, f"{outside.number}/train/1")  # its own it may use
    for number, is_fork in ((5, True), (6, False)):
        propose(shop, number)
        (other,) = shop.look(shop.pull_request(number, is_fork=is_fork))
        shop.run_all()
        assert outcome_of(shop, other) == (1, None)
    propose(shop, 7)
    (later,) = shop.look(shop.pull_request(7))
    shop.run_all()
    assert outcome_of(shop, later) == (0, f"{other.number}/train/1")


@pytest.mark.parametrize("is_fork", [True, False])
def test_a_pull_request_registers_and_delivers_nothing(tmp_path: Path, is_fork: bool) -> None:
    text = OPEN + "model: {name: small, path: model/, format: skops}\ndeploy: {production: {strategy: rolling}}\n"
    shop = Workshop(tmp_path, text)
    shop.set_up(forks="run")
    shop.commit("first")
    shop.push()
    shop.look()
    propose(shop)
    (run,) = shop.look(shop.pull_request(4, is_fork=is_fork))
    shop.requests.cancel(ADA, 1, "only the pull request matters here")
    shop.run_all()
    assert shop.run(run.number).phase.is_final
    assert shop.store.rows(Kind.VERSION) == shop.store.rows(Kind.RELEASE) == []


def test_a_pull_request_that_cannot_be_read_holds_up_nothing_and_is_asked_for_again(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose(shop)
    propose(shop, 5, text="x = 5\n")
    fetch = shop.git.fetch

    def broken(url: str | None, git_directory: str, ref: str) -> str | None:
        if ref == "refs/pull/4/head":
            raise GitFault("the remote hung up")
        return fetch(url, git_directory, ref)

    monkeypatch.setattr(shop.git, "fetch", broken)
    (run,) = shop.look(shop.pull_request(4), shop.pull_request(5))
    assert run.commit.ref == "refs/pull/5/head"
    assert facts(shop).head == ""
    assert shop.look() == []
    before = len(shop.store.events())
    assert shop.look() == []
    assert len(shop.store.events()) == before  # it does not tell so at every look
    monkeypatch.undo()
    assert [run.commit.ref for run in shop.look()] == ["refs/pull/4/head"]


def test_a_pull_request_of_a_remote_is_fetched_into_the_mirror(tmp_path: Path) -> None:
    shop = Workshop(tmp_path, OPEN, url=True)
    shop.commit("first")
    shop.push()
    assert len(shop.look()) == 1
    sha = propose(shop)
    (run,) = shop.look(shop.pull_request(4, is_fork=False))
    assert run.commit.sha == sha
    assert run.commit.git_directory == str(tmp_path / "mirror.git")
    shop.run_all()
    assert shop.run(run.number).phase is Phase.SUCCEEDED


# --- found without a webhook ---


class Told:
    """What a forge lists of pull request 4; any head that is not given is that of its ref."""

    def __init__(self, shop: Workshop) -> None:
        self.shop, self.forge = shop, MemoryForge()
        shop.forges["small"] = self.forge

    def lists(self, number: int = 4, **more: object) -> None:
        facts: dict[str, object] = {"base": "main", "is_fork": False, "head_branch": "topic", "title": "Topic", **more}
        if "head" not in facts:
            facts["head"] = self.shop.command("ls-remote", "origin", f"refs/pull/{number}/head").split("\t")[0]
        self.forge.pulls = [pull for pull in self.forge.pulls if pull.number != number]
        self.forge.pulls.append(PullRequest.model_validate({"number": number, **facts}))


def test_one_that_was_opened_while_no_server_ran_is_found_by_the_first_poll(shop: Workshop) -> None:
    told = Told(shop)
    assert shop.look() == []
    sha = propose(shop)
    told.lists()
    shop.restart()
    (run,) = shop.look()
    assert (run.commit.sha, run.commit.ref, run.scope) == (sha, "refs/pull/4/head", "")
    assert run.phase is Phase.QUEUED  # a member's, as the forge says
    assert facts(shop).title == "Topic"
    assert shop.look() == shop.look(shop.pull_request(4, is_fork=False)) == []


def test_without_a_credential_its_ref_tells_of_it_and_it_counts_as_one_from_outside(shop: Workshop) -> None:
    shop.look()
    sha = propose(shop)
    shop.restart()
    (run,) = shop.look()
    assert (run.commit.sha, run.phase, run.scope) == (sha, Phase.HELD, "pull/4@small")
    assert facts(shop).is_found
    assert facts(shop).is_fork
    assert shop.look() == []
    newer = propose(shop, text="x = 3\n")
    assert [run.commit.sha for run in shop.look()] == [newer]
    assert shop.look(shop.pull_request(4)) == []  # told late that it is what it was taken for
    assert not facts(shop).is_found


@pytest.mark.parametrize("url", [False, True])
def test_one_that_turns_out_to_be_a_members_runs_as_that(tmp_path: Path, url: bool) -> None:
    shop = Workshop(tmp_path, OPEN, url=url)
    shop.commit("first")
    shop.push()
    shop.look()
    propose(shop)
    (guessed,) = shop.look()
    (run,) = shop.look(shop.pull_request(4, is_fork=False))
    assert (run.phase, run.scope) == (Phase.QUEUED, "")
    assert shop.run(guessed.number).phase is Phase.CANCELLED
    assert shop.look() == shop.look(shop.pull_request(4, is_fork=False)) == []


def test_a_lost_word_of_a_new_commit_of_the_end_and_of_a_new_beginning_is_made_up_for(shop: Workshop) -> None:
    told = Told(shop)
    shop.look()
    propose(shop)
    told.lists()
    assert len(shop.look()) == 1
    newer = propose(shop, text="x = 3\n")
    told.lists()
    assert [run.commit.sha for run in shop.look()] == [newer]
    told.lists(is_open=False)
    assert shop.look() == []
    assert not facts(shop).is_open
    told.lists()
    assert shop.look() == []
    assert facts(shop).is_open
    told.lists(base="nowhere")
    assert shop.look() == []
    assert "no branch nowhere" in shop.told(Kind.PULL_REQUEST)


@pytest.mark.parametrize("is_told", [True, False])
def test_those_that_were_there_before_anybody_looked_run_once_they_move(tmp_path: Path, is_told: bool) -> None:
    shop = Workshop(tmp_path, OPEN)
    shop.commit("first")
    shop.push()
    told = Told(shop) if is_told else None
    for number in (4, 5):
        propose(shop, number, text=f"x = {number}\n")
        if told:
            told.lists(number)
    assert [run.commit.ref for run in shop.look()] == ["refs/heads/main"]
    assert "2 pull requests are there already" in shop.told()
    assert shop.look() == []
    propose(shop, 5, text="x = 50\n")
    if told:
        told.lists(5)
    assert [run.commit.ref for run in shop.look()] == ["refs/pull/5/head"]


def test_what_refs_tell_is_not_taken_for_what_a_forge_told(shop: Workshop) -> None:
    told = Told(shop)
    propose(shop)
    told.lists(is_open=False)  # closed, and never seen
    assert shop.look() == []
    del shop.forges["small"]
    shop.restart()
    assert shop.look() == shop.look() == []
    shop.forges["small"] = told.forge
    shop.restart()
    assert shop.look() == []


def test_of_refs_without_a_forge_nothing_begins(shop: Workshop) -> None:
    shop.set_up(forge=None)
    shop.look()
    propose(shop)
    assert shop.look() == []


@pytest.mark.parametrize(
    "trouble", [ForgeFault("it is down"), Refused("it does not take this", "GET /pulls", "mend it")]
)
def test_a_forge_that_lists_nothing_is_told_of_once_and_branches_go_on(shop: Workshop, trouble: InterlockError) -> None:
    told = Told(shop)
    shop.look()
    propose(shop)
    told.lists()
    told.forge.problem = trouble
    shop.command("checkout", "-q", "-B", "main", "origin/main")
    shop.commit("second")
    shop.push()
    assert [run.commit.ref for run in shop.look()] == ["refs/heads/main"]
    assert "pull requests cannot be listed: " in shop.told()
    before = len(shop.store.events())
    assert shop.look() == []
    assert len(shop.store.events()) == before
    told.forge.problem = None
    assert [run.commit.ref for run in shop.look()] == ["refs/pull/4/head"]
    assert "listed again" in shop.told()


def test_a_forge_is_read_only_as_far_as_something_changed(shop: Workshop) -> None:
    told = Told(shop)
    sha = shop.command("rev-parse", "HEAD")
    read: list[int] = []
    for number in range(1, 301):
        told.lists(number, head=sha)

    def pull_requests() -> Iterator[PullRequest]:
        for pull in reversed(told.forge.pulls):
            read.append(pull.number)
            yield pull

    told.forge.pull_requests = pull_requests  # type: ignore[method-assign]
    shop.look()
    assert len(read) == 300
    read.clear()
    propose(shop, 280)
    told.lists(280)
    assert len(shop.look()) == 1
    assert 50 <= len(read) < 60


@pytest.mark.parametrize("seed", range(25))
def test_lost_late_and_doubled_words_run_each_commit_that_is_seen_once(shop: Workshop, seed: int) -> None:
    order = random.Random(seed)
    told = Told(shop)
    shop.look()
    begun: list[str] = []
    shas: list[str] = []
    for number in range(4):
        shas.append(propose(shop, text=f"x = {number}\n"))
        if order.random() < 0.7:
            told.lists()
        for _ in range(order.randrange(3)):
            notice = shop.pull_request(4, is_fork=False, head=order.choice(shas))
            begun += [run.commit.sha for run in (shop.look(notice) if order.random() < 0.5 else shop.look())]
    told.lists()
    begun += [run.commit.sha for run in shop.look()]
    assert begun == [sha for sha in shas if sha in begun]
    assert begun[-1] == facts(shop).head == shas[-1]


# --- what cannot be listed ---


def test_a_change_too_large_to_be_listed_counts_as_one_of_everything_and_holds_up_no_neighbour(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    filtered = "on: {push: {branches: ['**'], paths: [train.py]}, pull_request: {paths: [train.py]}}\n" + PIPELINE
    shop.write({f"generated/{number:040}": "x" for number in range(50)})
    wide = shop.commit("wide", interlock_yaml=filtered)
    shop.push("HEAD:main", "HEAD:refs/heads/wide")
    shop.look()
    shop.command("rm", "-rq", "generated")
    shop.commit("narrow")
    shop.push()
    shop.look()
    shop.command("checkout", "-q", "-B", "topic", wide)
    shop.command("rm", "-rq", "generated")
    shop.commit("proposed", train_py="x = 4\n")
    shop.push("-f", "HEAD:refs/pull/4/head", "HEAD:refs/heads/wide")
    propose(shop, 5, text="x = 5\n")
    monkeypatch.setattr(objects, "LIST_BYTES", 1000)
    begun = shop.look(shop.pull_request(4), shop.pull_request(5))
    assert {run.commit.ref for run in begun} == {"refs/heads/wide", "refs/pull/4/head", "refs/pull/5/head"}
    assert not any(run.problems for run in begun)
    assert shop.look() == []


def test_one_that_git_refuses_holds_up_no_neighbour(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal of one ref, whatever it is of, is told of that ref."""
    shas = {number: propose(shop, number, text=f"x = {number}\n") for number in (4, 5)}
    for branch, sha in (("one", shas[4]), ("other", shas[5])):
        shop.push("-f", f"{sha}:refs/heads/{branch}")
    commit = shop.git.commit

    def refusing(repository: str, git_directory: str, ref: str, revision: str = "") -> Commit:
        if revision == shas[4]:
            raise Refused("nobody reads this", ref, "make another")
        return commit(repository, git_directory, ref, revision)

    monkeypatch.setattr(shop.git, "commit", refusing)
    (run,) = shop.look(shop.pull_request(4), shop.pull_request(5))
    assert run.commit.ref == "refs/pull/5/head"
    assert set(shop.repository().unread) == {"refs/heads/one"}
    assert "one cannot be read: refs/heads/one: nobody reads this" in shop.told()
    monkeypatch.undo()
    assert [run.commit.ref for run in shop.look()] == ["refs/pull/4/head"]
    assert shop.repository().unread == {}

"""What somebody with a branch, a tag or a fork can do to be trusted, or to be taken for somebody who is."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.workshop import ADA, Workshop

from interlock.access.caller import Caller, Role
from interlock.control.reporting import Reporting
from interlock.control.rows import load_state, write_state
from interlock.edges.forge import MemoryForge
from interlock.errors import Conflict, Forbidden, NotFound
from interlock.source.repository import PullRequest
from interlock.vocabulary import Kind, Phase

GRACE = Caller(name="grace", role=Role.DEVELOPER)
OPEN = (
    "version: 1\nchecks: []\n"
    "on: {push: {branches: ['**'], tags: ['**']}, pull_request: {}}\n"
    "stages:\n  train: {cmd: python train.py, outs: [model/]}\n"
)
ODD = ("main2", "xmain", "Main", "pull/1/head", "refs/heads/main", "refs/tags/v1", "tags/v1", "heads/main")


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    made = Workshop(tmp_path, OPEN)
    made.set_up(forks="approve", trusted=("main", "refs/tags/v*"))
    made.commit("first")
    made.push()
    made.look()
    return made


def propose(shop: Workshop, number: int = 4, text: str = "x = 2\n") -> str:
    """A commit as the head of a pull request, from wherever."""
    shop.command("checkout", "-q", "-B", "topic", "origin/main")
    sha = shop.commit("theirs", train_py=text)
    shop.push("-f", f"HEAD:refs/pull/{number}/head")
    return sha


def test_no_name_of_a_ref_is_trusted_but_those_of_the_settings(shop: Workshop) -> None:
    shop.commit("second", train_py="x = 9\n")
    shop.push("HEAD:refs/tags/main", "HEAD:refs/tags/1v", "HEAD:refs/tags/v1", "HEAD:refs/tags/x/v1")
    shop.push(*(f"HEAD:refs/heads/{name}" for name in ODD))
    shop.push("HEAD:refs/pull/1/head", "HEAD:refs/merge-requests/1/head", "HEAD:refs/for/main")
    looked = shop.look()
    begun = {run.commit.ref: run.is_trusted for run in looked}
    assert {f"refs/heads/{name}" for name in ODD} < set(begun)
    assert {ref for ref, is_trusted in begun.items() if is_trusted} == {"refs/tags/v1"}
    odd = [run for run in looked if run.commit.ref.startswith(("refs/pull", "refs/merge", "refs/for"))]
    assert [run.commit.ref for run in odd] == ["refs/pull/1/head"], "a pull request that nobody told of"
    assert (odd[0].needs_approval, odd[0].scope) == (True, "pull/1@small"), "counts as one from outside"


def test_a_full_name_means_itself_though_a_branch_is_called_so(shop: Workshop) -> None:
    good = shop.command("rev-parse", "HEAD")
    shop.push("HEAD:refs/tags/v1")
    shop.commit("theirs", train_py="x = 9\n")
    shop.push("HEAD:refs/heads/refs/tags/v1", "HEAD:refs/heads/refs/heads/main")
    for ref in ("refs/tags/v1", "refs/heads/main"):
        run = shop.requests.trigger(GRACE, "small", ref)
        assert (run.commit.ref, run.commit.sha, run.is_trusted) == (ref, good, True)


@pytest.mark.parametrize(
    "ref", ["refs/pull/4/head", "pull/4/head", "refs/remotes/origin/main", "HEAD", "FETCH_HEAD", "main^", "main:x", "@"]
)
def test_only_branches_and_tags_can_be_asked_for(shop: Workshop, ref: str) -> None:
    propose(shop)
    with pytest.raises(NotFound):
        shop.requests.trigger(ADA, "small", ref)


def test_no_commit_is_asked_for_by_its_id(shop: Workshop) -> None:
    with pytest.raises(NotFound):
        shop.requests.trigger(ADA, "small", propose(shop))


def test_a_run_from_outside_stays_one_however_often_it_is_run_again(shop: Workshop) -> None:
    sha = propose(shop)
    (first,) = shop.look(shop.pull_request(4))
    with pytest.raises(Conflict, match="approval"):
        shop.requests.rerun(GRACE, first.number)
    shop.requests.cancel(GRACE, first.number, "to run it again")
    again = shop.requests.rerun(GRACE, first.number)
    assert (again.phase, again.needs_approval, again.is_trusted, again.scope) == (
        Phase.HELD,
        True,
        False,
        "pull/4@small",
    )
    with pytest.raises(Forbidden):
        shop.requests.approve(GRACE, again.number, sha)
    shop.loop.one_pass()
    assert all(request.commit.sha != sha for request in shop.executor.started)


@pytest.mark.parametrize("how", ["short", "upper case", "other", "branch", "empty"])
def test_an_approval_is_of_the_whole_id_and_nothing_else(shop: Workshop, how: str) -> None:
    sha = propose(shop)
    (run,) = shop.look(shop.pull_request(4))
    given = {"short": sha[:12], "upper case": sha.upper(), "other": "0" * 40, "branch": "topic", "empty": ""}[how]
    if given == sha:  # an id of digits alone
        return
    with pytest.raises(Conflict):
        shop.requests.approve(ADA, run.number, given)
    assert shop.run(run.number).phase is Phase.HELD


def test_an_approval_given_while_the_head_moves_lets_only_its_own_commit_run(shop: Workshop) -> None:
    seen = propose(shop)
    (older,) = shop.look(shop.pull_request(4))
    unseen = propose(shop, text="x = 'hostile'\n")
    shop.requests.approve(ADA, older.number, seen)  # the server has not looked since
    (newer,) = shop.look(shop.pull_request(4))
    assert (newer.commit.sha, newer.phase) == (unseen, Phase.HELD)
    shop.run_all()
    assert unseen not in {request.commit.sha for request in shop.executor.started}


def test_another_base_is_another_run_with_its_own_approval(shop: Workshop) -> None:
    sha = propose(shop)
    shop.command("push", "-q", "origin", "origin/main:refs/heads/lenient")
    shop.look()
    (first,) = shop.look(shop.pull_request(4, base="lenient"))
    shop.requests.approve(ADA, first.number, sha)
    (second,) = shop.look(shop.pull_request(4, base="main"))
    assert (second.phase, second.needs_approval, second.approved_by) == (Phase.HELD, True, None)


def test_a_fork_joins_no_concurrency_group_of_its_base(tmp_path: Path) -> None:
    grouped = OPEN + "concurrency: {group: deploy, cancel_superseded: true}\n"
    shop = Workshop(tmp_path, grouped)
    shop.set_up(forks="run")
    shop.commit("first")
    shop.push()
    (trusted,) = shop.look()
    shop.loop.one_pass()
    shop.command("checkout", "-q", "-B", "topic", "origin/main")
    shop.write({"new/interlock.yaml": grouped, "new/train.py": "x = 3\n", "new/requirements.txt": ""})
    shop.commit("theirs")
    shop.push("-f", "HEAD:refs/pull/4/head")
    begun = shop.look(shop.pull_request(4))
    assert {run.plan.project for run in begun} == {"", "new"}
    shop.loop.one_pass()
    assert shop.run(trusted.number).phase is Phase.RUNNING


# --- whose request a key stands for ---


def test_names_and_keys_that_run_together_are_told_apart(shop: Workshop) -> None:
    first = shop.requests.trigger(Caller(name="a", role=Role.DEVELOPER), "small", "main", "b|c")
    second = shop.requests.trigger(Caller(name="a|b", role=Role.DEVELOPER), "small", "main", "c")
    assert first.number != second.number


def test_a_key_is_one_callers_and_for_one_thing(shop: Workshop) -> None:
    shop.push("HEAD:refs/heads/other")
    own = shop.requests.trigger(GRACE, "small", "main", "key")
    assert shop.requests.trigger(ADA, "small", "main", "key").number != own.number
    with pytest.raises(Conflict):
        shop.requests.trigger(GRACE, "small", "other", "key")
    shop.requests.cancel(GRACE, own.number, "no more")
    shop.loop.one_pass()
    assert shop.requests.rerun(GRACE, own.number, key="key").number not in (own.number, 1)


def test_a_key_cannot_take_the_place_of_a_push_to_come(shop: Workshop) -> None:
    """The identity of a push, as it will be, made from a name and a key."""
    parts = json.dumps(["small", "refs/heads/main"]), "small|refs/heads/main"
    for place in parts:
        shop.requests.trigger(Caller(name=place, role=Role.DEVELOPER), "small", "main", place)
    sha = shop.commit("second", train_py="x = 3\n")
    shop.push()
    assert [run.commit.sha for run in shop.look()] == [sha]


# --- who has the word on a commit's page ---


class Page:
    """Runs of one commit, and what its page shows of them."""

    def __init__(self, shop: Workshop) -> None:
        self.shop, self.forge = shop, MemoryForge()
        self.reporting = Reporting(shop.store, {"small": shop.watched}, {"small": self.forge}, "", lambda: shop.now)

    def begin(self, number: int, phase: Phase, **more: Any) -> None:
        """A run of the same commit as run 1."""
        run = self.shop.run(1)
        commit = run.commit.model_copy(update={"ref": more.pop("ref", run.commit.ref)})
        made = run.model_copy(update={"number": number, "phase": phase, "commit": commit, "reruns": (), **more})
        _, version = load_state(self.shop.store, Kind.RUN, made.key, type(made))
        write = write_state(Kind.RUN, made.key, made, expected=version, phase=phase, because="so", repository="small")
        self.shop.store.save(write)

    def state(self) -> str:
        deadline = time.monotonic() + 30
        while self.reporting.one_pass():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        (shown,) = self.forge.statuses.values()
        return shown["interlock"].state


@pytest.mark.parametrize("kind", ["a branch of their own", "a pull request into a lenient branch"])
def test_gates_that_an_author_wrote_do_not_speak_for_those_of_the_base(shop: Workshop, kind: str) -> None:
    page = Page(shop)
    page.begin(11, Phase.FAILED, pull_request=PullRequest(number=4, base="main"), ref="refs/pull/4/head")
    soft: dict[str, Any] = {"ref": "refs/heads/topic", "is_trusted": False}
    if kind != "a branch of their own":
        soft = {"ref": "refs/pull/5/head", "pull_request": PullRequest(number=5, base="lenient"), "is_trusted": False}
    try:
        page.begin(12, Phase.SUCCEEDED, **soft)
        assert page.state() == "failure"
        page.begin(13, Phase.SUCCEEDED, pull_request=PullRequest(number=4, base="main"), ref="refs/pull/4/head")
        assert page.state() == "success"
        page.begin(14, Phase.FAILED, **soft)
        assert page.state() == "success"
    finally:
        page.reporting.close()

"""Reverting: from rollouts that ended to branches and pull requests, over real git, through faults and kills."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.production import version_of
from tests.revisions import revision

from interlock.access.audit import Deed
from interlock.control.delivering.reverting import Reverting
from interlock.control.rows import load_state, write_state
from interlock.delivery.rollout import RolloutPhase, begin
from interlock.edges.forge import MemoryForge
from interlock.edges.git import CommandGit
from interlock.edges.git.mirrors import Mirrors
from interlock.edges.git.remotes import Remotes
from interlock.edges.git.reverts import GitReverts
from interlock.edges.store import MemoryStore, SqlStore
from interlock.errors import ForgeFault, GitFault, InterlockError, Refused
from interlock.feedback.revert import Revert
from interlock.feedback.status import Proposal
from interlock.pipeline.plan import EnvironmentPlan, Plan
from interlock.run import run as runs
from interlock.source.commit import Commit, Occasion
from interlock.source.repository import Watched
from interlock.vocabulary import Digest, Kind, Phase

ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "someone@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}
HARM = "small v2 is wrong for @everyone, closes #1"


class Killed(BaseException):
    """The process is gone at this very point."""


class Mortal:
    """A part of the server, which may be killed before each of its acts, after ``left`` of them."""

    left = -1
    ACTS = ("save", "take_back", "publish", "put_pull_request")

    def __init__(self, part: Any) -> None:
        self._part = part

    def __getattr__(self, name: str) -> Any:
        done = getattr(self._part, name)
        if name not in self.ACTS:
            return done

        def act(*words: Any, **more: Any) -> Any:
            Mortal.left -= 1
            if Mortal.left == 0:
                raise Killed
            return done(*words, **more)

        return act


class Shut(GitReverts):
    """Its remotes take no push while there is a ``problem``."""

    problem: GitFault | None = None

    def publish(self, url: str | None, git_directory: str, sha: str, ref: str) -> None:
        """As ever, unless there is a problem."""
        if self.problem is not None:
            raise self.problem
        super().publish(url, git_directory, sha, ref)


class World:
    """A bare repository with a good and a bad commit, whose models were delivered, and a server that may be killed."""

    def __init__(self, store: MemoryStore | SqlStore, folder: Path, *, is_remote: bool, has_forge: bool = True) -> None:
        self.store, self.now = store, 1000.0
        self.origin = str(folder / "origin.git")
        self.forge = MemoryForge()
        self.forges = {"small": self.forge} if has_forge else {}
        self.git = CommandGit(folder / "state", protocols=["file"])
        self.reverts = Shut(Mirrors(Remotes(["file"], lambda _url: None, 30.0)))
        self.mirror = str(folder / "mirror.git") if is_remote else self.origin
        self.url = f"file://{self.origin}" if is_remote else None
        command = ["git", "init", "-q", "--bare", "--template=", "-b", "main", self.origin]
        subprocess.run(command, env=ENVIRONMENT, check=True)
        self.good = self.push(train="a\nb\nc\n")
        self.bad = self.push(self.good, train="a\nB\nc\n")
        self.reverting = self.begin()
        self.reverting.one_pass()  # what comes from now on is followed

    def push(self, *parents: str, **files: str) -> str:
        """The branch is moved to a new commit of just these files."""
        blobs = {name: self.ask("hash-object", "-w", "--stdin", content=content) for name, content in files.items()}
        tree = self.ask("mktree", content="".join(f"100644 blob {blob}\t{name}\n" for name, blob in blobs.items()))
        before = [word for parent in parents for word in ("-p", parent)]
        sha = self.ask("commit-tree", tree, *before, content="a change")
        self.ask("update-ref", "refs/heads/main", sha)
        return sha

    def begin(self, mortal: Callable[[Any], Any] = lambda part: part, **more: Any) -> Reverting:
        settings = {"propose_reverts": True, **more}
        watched = Watched(name="small", git_directory=self.mirror, url=self.url, **settings)
        self.reverting = Reverting(
            mortal(self.store),
            mortal(self.git),
            mortal(self.reverts),
            {"small": watched},
            {name: mortal(forge) for name, forge in self.forges.items()},
            lambda: self.now,
        )
        return self.reverting

    def version(self, number: int, sha: str) -> None:
        commit = Commit(repository="small", git_directory="/g", ref="refs/heads/main", sha=sha, tree=sha)
        plan, digest = Plan(), Digest("blake3:" + "0" * 64)
        run = runs.begin(number, commit, Occasion(kind="push"), plan, digest, driver="server", is_trusted=True)
        self.store.save(write_state(Kind.RUN, run.key, run, expected=0, phase=Phase.SUCCEEDED, because="well"))
        version = version_of(run, number)
        self.store.save(write_state(Kind.VERSION, version.key, version, expected=0, phase="registered", because="well"))

    def roll_back(self, number: int = 1, harm: str = HARM, phase: RolloutPhase = RolloutPhase.ROLLED_BACK) -> None:
        if not self.store.version(Kind.VERSION, "small/1"):
            self.version(1, self.good)
            self.version(2, self.bad)
        one, two = (
            revision(number).model_copy(update={"environment": "small/production", "model": "small"})
            for number in (1, 2)
        )
        begun = begin(number, two, one, EnvironmentPlan(name="production"), release=7, now=self.now)
        ended = begun.model_copy(update={"phase": phase, "harm": harm})
        for expected, state in enumerate((begun, ended)):
            write = write_state(Kind.ROLLOUT, begun.key, state, expected=expected, phase=state.phase, because="so")
            self.store.save(write)

    def revert(self, number: int = 1) -> Revert:
        revert, _ = load_state(self.store, Kind.REVERT, str(number), Revert)
        assert revert is not None
        return revert

    def branches(self) -> dict[str, str]:
        shown = self.ask("for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads/interlock")
        return dict(line.split() for line in shown.splitlines())

    def ask(self, *words: str, content: str = "") -> str:
        """What git says of the repository."""
        command = ["git", "--git-dir", self.origin, *words]
        ended = subprocess.run(command, env=ENVIRONMENT, input=content.encode(), check=True, capture_output=True)
        return ended.stdout.decode().strip()

    def deeds(self) -> list[Deed]:
        return [entry.deed for entry in self.store.audit()]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryStore | SqlStore]:
    if request.param == "memory":
        yield MemoryStore(lambda: 1000.0)
        return
    store = SqlStore(f"sqlite:///{tmp_path}/interlock.db", now=lambda: 1000.0)
    yield store
    store.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(MemoryStore(lambda: 1000.0), tmp_path, is_remote=True)


@pytest.mark.parametrize("is_remote", [True, False])
def test_what_did_harm_is_taken_back_in_a_branch_and_a_pull_request(
    store: MemoryStore | SqlStore, tmp_path: Path, is_remote: bool
) -> None:
    world = World(store, tmp_path, is_remote=is_remote)
    world.roll_back()
    world.reverting.one_pass()
    revert = world.revert()
    branch = f"interlock/revert-rollout-1-{world.bad[:10]}"
    assert world.branches() == {branch: revert.commits[0]}
    assert world.ask("show", f"{branch}:train") == "a\nb\nc"
    assert world.ask("rev-parse", f"{branch}^", "main").split() == [world.bad, world.bad]
    message = world.ask("log", "-1", "--format=%B", branch)
    (pull,) = world.forge.pulls
    (said,) = [one for one in world.forge.told if isinstance(one, Proposal)]
    assert (pull.number, pull.base, pull.head_branch) == (1, "main", branch)
    assert message == f"{said.title}\n\n{said.body}"
    assert "small v2 is wrong for \uff20everyone, closes \uff031" in message
    assert "@" not in message
    assert revert.because == f"proposed as pull request 1, from {branch} into main"
    (deed,) = world.deeds()
    assert (deed.who, deed.action, deed.thing) == ("interlock", "propose revert", "rollout/1")
    assert (deed.detail["branch"], deed.detail["pull_request"]) == (branch, 1)
    world.reverting.one_pass()
    world.begin().one_pass()
    assert len(world.forge.told) == 1


def test_without_a_forge_there_is_the_branch_alone(tmp_path: Path) -> None:
    world = World(MemoryStore(lambda: 1000.0), tmp_path, is_remote=True, has_forge=False)
    world.roll_back()
    world.reverting.one_pass()
    assert len(world.branches()) == 1
    assert world.revert().because.startswith("pushed as interlock/revert-rollout-1-")
    assert world.revert().phase == "proposed"


def test_nothing_is_done_where_nobody_asks_for_it_or_nobody_was_harmed(world: World) -> None:
    world.roll_back(1, harm="")
    world.roll_back(2, phase=RolloutPhase.SUPERSEDED)
    world.reverting.one_pass()
    world.begin(propose_reverts=False)
    world.roll_back(3)
    world.reverting.one_pass()
    assert world.store.rows(Kind.REVERT) == []
    world.begin().one_pass()  # what was rolled back before anybody asked stays as it is
    assert world.store.rows(Kind.REVERT) == []
    assert world.branches() == {}


def test_what_was_rolled_back_while_no_server_ran_is_proposed_once_one_runs(world: World) -> None:
    world.roll_back()
    world.begin().one_pass()
    assert world.revert().phase == "proposed"


def test_a_conflict_is_told_and_nothing_is_pushed(world: World) -> None:
    world.push(world.bad, train="a\nother\nc\n")
    world.roll_back()
    world.reverting.one_pass()
    revert = world.revert()
    assert revert.phase == "dropped"
    told = "nothing is taken back: later commits changed the same lines: train (take it back by hand)"
    assert revert.because == told
    assert [(deed.action, deed.detail["because"]) for deed in world.deeds()] == [("drop revert", told)]
    assert world.branches() == {}
    assert world.forge.told == []


def test_a_model_trained_anew_has_no_commit_to_take_back(world: World) -> None:
    world.version(1, world.bad)
    world.version(2, world.bad)
    world.roll_back()
    world.reverting.one_pass()
    assert "of one commit: what differs between them is not in the repository" in world.revert().because
    assert [(deed.action, deed.thing) for deed in world.deeds()] == [("drop revert", "rollout/1")]
    assert world.branches() == {}


def test_a_branch_of_its_name_that_is_not_ours_is_left_alone_and_never_proposed(world: World) -> None:
    branch = f"interlock/revert-rollout-1-{world.bad[:10]}"
    world.ask("update-ref", f"refs/heads/{branch}", world.good)
    world.roll_back()
    world.reverting.one_pass()
    assert "a branch" in world.revert().because
    assert "not Interlock's" in world.revert().because
    assert world.branches() == {branch: world.good}
    assert world.forge.told == []


def test_a_branch_that_is_gone_has_nothing_to_go_into(world: World) -> None:
    world.ask("update-ref", "-d", "refs/heads/main")
    world.roll_back()
    world.reverting.one_pass()
    assert world.revert().because == "nothing is taken back: small has no branch main any more"


def test_a_remote_that_is_down_is_tried_again_and_holds_up_nothing(world: World, tmp_path: Path) -> None:
    away = tmp_path / "away.git"
    Path(world.origin).rename(away)
    world.roll_back()
    world.reverting.one_pass()
    revert = world.revert()
    assert (revert.phase, revert.tries) == ("pending", 1)
    assert "tried again in 1 s: git " in revert.because
    world.reverting.one_pass()
    assert world.revert().tries == 1  # not before its time
    away.rename(world.origin)
    world.now = revert.next_try
    world.reverting.one_pass()
    assert world.revert().phase == "proposed"


FAULTS: list[tuple[InterlockError, float]] = [(ForgeFault("502"), 1.0), (ForgeFault("slow", 90.0), 90.0)]


@pytest.mark.parametrize(("problem", "wait"), [*FAULTS, (Refused("no rights"), 3600.0)])
def test_a_forge_that_does_not_take_it_is_asked_again(world: World, problem: InterlockError, wait: float) -> None:
    world.forge.problem = problem
    world.roll_back()
    world.reverting.one_pass()
    revert = world.revert()
    assert (revert.phase, revert.is_pushed) == ("pending", True)
    assert wait / 2 <= revert.next_try - world.now <= wait
    world.forge.problem, world.now = None, revert.next_try
    world.begin().one_pass()
    assert world.revert().pull_request == 1
    assert len(world.branches()) == 1


def test_a_retry_takes_the_branch_as_it_is_by_then(world: World) -> None:
    world.reverts.problem = GitFault("the remote takes no push")
    world.roll_back()
    world.reverting.one_pass()
    first = world.revert()
    assert (first.phase, len(first.commits), world.branches()) == ("pending", 1, {})
    later = world.push(world.bad, train="a\nB\nc\n", readme="later")
    world.reverts.problem, world.now = None, first.next_try
    world.reverting.one_pass()
    second = world.revert()
    assert (second.phase, second.commits[0], len(second.commits)) == ("proposed", first.commits[0], 2)
    assert world.ask("rev-parse", f"{second.branch}^") == later


def test_killed_at_any_act_there_is_one_branch_and_one_pull_request_in_the_end(tmp_path: Path) -> None:
    world = World(MemoryStore(lambda: 1000.0), tmp_path, is_remote=False)
    for number in range(1, 100):
        world.roll_back(number)
        Mortal.left, is_killed = number, False
        try:
            world.begin(Mortal).one_pass()
        except Killed:
            is_killed = True
        Mortal.left = -1
        world.begin().one_pass()
        assert world.revert(number).phase == "proposed", number
        proposed = {world.revert(each).branch for each in range(1, number + 1)}
        assert set(world.branches()) == proposed
        assert sorted(pull.head_branch for pull in world.forge.pulls) == sorted(proposed)
        assert len(world.deeds()) == number
        if not is_killed:
            break
    assert number > 8  # each of: begun, made twice, saved, pushed, saved, proposed, saved


def test_of_two_servers_one_proposes(world: World) -> None:
    first, second = world.begin(), world.begin()
    for server in (first, second):
        server.one_pass()
    world.roll_back()
    for server in (first, second, first, second):
        server.one_pass()
    assert len(world.branches()) == len(world.forge.pulls) == len(world.deeds()) == 1

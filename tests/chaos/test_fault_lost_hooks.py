"""A real server that nobody tells of anything: what was pushed and proposed is found by its polls all the same.

Row G3 of the fault matrix.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.small_server import SmallRepository, SmallServer, StandIn, on_github, pull_request_of, wait_for

from interlock.control.rows import read_state
from interlock.run.run import Run
from interlock.source.repository import PullRequest
from interlock.vocabulary import Kind, Phase

pytestmark = pytest.mark.xdist_group("faults")

POLL = 5.0
SLACK = 5.0
"""What a look itself may take beside that, on a machine that others use too."""
QUICK = """
version: 1
on: {push: {branches: ["**"], tags: ["v*"]}, pull_request: {}}
checks: []
stages:
  only: {cmd: "cat number > made", outs: [made]}
"""


class Place:
    """A repository whose forge lists its pull requests, and one without a credential for its forge."""

    def __init__(self, folder: Path) -> None:
        self.forge = StandIn()
        self.listed, self.unlisted = (SmallRepository(folder, name, QUICK) for name in ("listed", "unlisted"))
        settings = {"listed": on_github(self.listed, self.forge.url), "unlisted": on_github(self.unlisted)}
        self.server = SmallServer(folder, settings, poll_every=POLL)
        for repository in (self.listed, self.unlisted):
            repository.commit("numbered", number="0\n")
            repository.arrive()

    def push(self, repository: SmallRepository, number: int, ref: str = "refs/heads/main") -> str:
        """A new commit at this ref, and no hook told of it."""
        repository.git("checkout", "-q", "--detach", "main")
        repository.commit(f"number {number}", number=f"{number}\n")
        if ref == "refs/heads/main":
            repository.git("branch", "-f", "main", "HEAD")
        return repository.arrive(ref)

    def propose(self, repository: SmallRepository, number: int, *, is_fork: bool = False) -> str:
        """A pull request that the forge has, and no hook told of it."""
        sha = self.push(repository, 100 + number, f"refs/pull/{number}/head")
        payload = pull_request_of(repository.name, number, sha, f"topic-{number}", is_fork=is_fork)
        self.forge.pulls.setdefault(repository.name, []).insert(0, payload["pull_request"])
        return sha

    def run_of(self, repository: SmallRepository, sha: str) -> Run | None:
        """The one run of the commit."""
        runs = [run for run in self.server.runs(repository.name) if run.commit.sha == sha]
        assert len(runs) <= 1
        return runs[0] if runs else None

    def found(self, repository: SmallRepository, sha: str, since: float) -> Run:
        """The run of the commit; it was begun within one poll."""
        try:
            run = wait_for(lambda: self.run_of(repository, sha), f"the run of {sha[:10]} of {repository.name}")
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.server.log[-3000:]}") from late
        (row,) = [row for row in self.server.rows(Kind.RUN, repository.name) if row.key == run.key]
        assert row.created - since <= POLL + SLACK
        return run


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="ij-") as folder:
        made = Place(Path(folder))
        try:
            made.server.start()
            for repository in (made.listed, made.unlisted):
                made.server.until(repository.name, 1, Phase.SUCCEEDED)
            wait_for(lambda: made.server.log.count("watched: ") >= 2, "the first looks")
            yield made
        finally:
            made.server.end()
            made.forge.close()


def test_what_no_webhook_told_of_is_found_within_one_poll(place: Place) -> None:
    since = time.time()
    pushed = {repository.name: place.push(repository, 1) for repository in (place.listed, place.unlisted)}
    tagged = place.push(place.listed, 2, "refs/tags/v1")
    member, outside = place.propose(place.listed, 4), place.propose(place.listed, 5, is_fork=True)
    unknown = place.propose(place.unlisted, 4)
    for repository in (place.listed, place.unlisted):
        place.found(repository, pushed[repository.name], since)
    place.found(place.listed, tagged, since)
    of_member = place.found(place.listed, member, since)
    assert (of_member.scope, of_member.needs_approval) == ("", False)
    for repository, sha in ((place.listed, outside), (place.unlisted, unknown)):
        run = place.found(repository, sha, since)
        assert run.needs_approval
        assert run.scope.startswith("pull/")


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_what_happened_while_no_server_ran_is_found_once_one_does(place: Place, how: str) -> None:
    number = 10 if how == "kill" else 20
    place.found(place.listed, place.propose(place.listed, number), time.time())
    getattr(place.server, how)()
    place.forge.pulls["listed"][0]["state"] = "closed"
    pushed = {repository.name: place.push(repository, number) for repository in (place.listed, place.unlisted)}
    proposed = {one.name: place.propose(one, number + 1) for one in (place.listed, place.unlisted)}
    place.server.start()
    since = time.time()
    for repository in (place.listed, place.unlisted):
        place.found(repository, pushed[repository.name], since)
        place.found(repository, proposed[repository.name], since)

    def is_closed() -> bool:
        row = place.server.store.load(Kind.PULL_REQUEST, f"listed/{number}")
        return row is not None and not read_state(row, PullRequest).is_open

    wait_for(is_closed, "the end of a pull request that nobody told of", POLL + SLACK)
    listed, unlisted = ((one.name, len(place.server.runs(one.name))) for one in (place.listed, place.unlisted))
    place.server.stays(*listed, POLL + 1)
    place.server.stays(*unlisted, 0.1)  # it was looked at meanwhile too


def test_what_became_of_repositories_and_pull_requests_is_said(place: Place) -> None:
    sha = place.push(place.listed, 30)
    proposed = place.propose(place.listed, 31)
    number = place.found(place.listed, sha, time.time()).number
    place.found(place.listed, proposed, time.time())
    words = [
        f"repository/listed watched: main {sha[:10]}: run {number}",
        f"pull_request/listed/31 open: {proposed[:10]}: run",
    ]
    for told in words:
        wait_for(lambda told=told: told in place.server.log, told)  # type: ignore[misc]

"""A forge of dictionaries: the fake, for tests of what tells forges."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from interlock.errors import InterlockError, NotFound
from interlock.feedback.status import Comment, Proposal, Status
from interlock.source.repository import PullRequest


class MemoryForge:
    """The port ``Forge``. It shows ``statuses`` by commit and context, ``comments`` by pull request and mark.

    ``told`` is everything it was told, in order; ``pulls`` are what it lists. While ``problem`` is set, it raises that.
    None for ``commits`` is any.
    """

    def __init__(self, commits: Collection[str] | None = None) -> None:
        self.statuses: dict[str, dict[str, Status]] = {}
        self.comments: dict[int, dict[str, str]] = {}
        self.told: list[Status | Comment | Proposal] = []
        self.pulls: list[PullRequest] = []
        self.problem: InterlockError | None = None
        self._commits = commits

    def set_status(self, sha: str, status: Status) -> None:
        """The commit has this status. NotFound for a commit that is not there."""
        self._answer()
        if self._commits is not None and sha not in self._commits:
            raise NotFound(f"there is no commit {sha}", "forge", "push it")
        self.told.append(status)
        self.statuses.setdefault(sha, {})[status.context] = status

    def put_comment(self, comment: Comment) -> None:
        """The pull request has this comment."""
        self._answer()
        self.told.append(comment)
        self.comments.setdefault(comment.pull_request, {})[comment.mark] = f"{comment.mark}\n{comment.body}"

    def put_pull_request(self, proposal: Proposal) -> int:
        """The one from this branch, made if there is none."""
        self._answer()
        self.told.append(proposal)
        known = next((one.number for one in self.pulls if one.head_branch == proposal.branch and not one.is_fork), None)
        if known is not None:
            return known
        number = len(self.pulls) + 1
        names = {"title": proposal.title, "base": proposal.base, "head_branch": proposal.branch}
        self.pulls.append(PullRequest(number=number, is_fork=False, **names))
        return number

    def pull_requests(self) -> Iterator[PullRequest]:
        """What it was given, the last one first."""
        self._answer()
        return reversed(self.pulls)

    def _answer(self) -> None:
        if self.problem is not None:
            raise self.problem

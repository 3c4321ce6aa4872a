"""What pull requests a repository has, asked without any notice: how one is found whose webhook was lost.

Its forge is asked where there is a credential for it: it knows what each goes into and whose it is. Otherwise the refs
tell that there is one; it then counts as one from outside that goes into the default branch, until the forge says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from interlock.control.arriving.seen import MOST_PULLS, Look, Pulls
from interlock.errors import ForgeFault, GitFault, Refused
from interlock.ports import Forge, Git
from interlock.source.repository import PullRequest, Watched

QUIET = 50
"""A forge lists first what changed last: behind so many that did not change nothing is read."""
OPEN_ASKED = 10
"""Open pull requests, the newest, whose refs are asked for one by one where nothing lists them."""


class Listing:
    """Finds pull requests that are not as they were known. ``forges`` are those that can be asked, by repository."""

    def __init__(self, git: Git, forges: Mapping[str, Forge]) -> None:
        self._git = git
        self._forges = forges

    def news(self, look: Look, known: Mapping[int, PullRequest]) -> list[PullRequest]:
        """Those that changed, of the ``known`` ones and of others, by the newest first.

        Where they are listed for the first time the others are only remembered, in the look.
        """
        forge = self._forges.get(look.watched.name)
        asked = [pull for pull in known.values() if pull.is_open][:OPEN_ASKED]
        if look.watched.forge is None:
            return asked
        try:
            if forge is None:
                found = _compare(look, "refs", self._by_refs(look.watched, known), known)
            else:
                found = _compare(look, "forge", forge.pull_requests(), known)
        except (ForgeFault, GitFault, Refused) as trouble:
            if str(trouble) != look.unlisted:
                look.told.append(f"pull requests cannot be listed: {trouble}")
            look.unlisted = str(trouble)
            return asked if forge else []
        if look.unlisted:
            look.told.append("pull requests are listed again")
        look.unlisted = ""
        return found

    def _by_refs(self, watched: Watched, known: Mapping[int, PullRequest]) -> Iterable[PullRequest]:
        """Each as it is known, with the head that its ref has. Of one that was closed no ref tells that it is open."""
        refs = self._git.listing(watched.url, watched.git_directory, ref_of(watched, "*"))
        heads = {int(part): sha for ref, sha in refs.items() if (part := ref.split("/")[2]).isdecimal()}
        for number in sorted(heads, reverse=True)[:MOST_PULLS]:
            pull = known.get(number) or PullRequest(number=number, base=watched.default_branch, is_found=True)
            yield pull.model_copy(update={"head": heads[number]}) if pull.is_open else pull


def ref_of(watched: Watched, number: int | str) -> str:
    """Where the forge keeps the commit of a pull request."""
    return f"refs/merge-requests/{number}/head" if watched.forge == "gitlab" else f"refs/pull/{number}/head"


def _compare(look: Look, by: str, listed: Iterable[PullRequest], known: Mapping[int, PullRequest]) -> list[PullRequest]:
    """What is new of those listed; the look remembers what is there now."""
    before = look.pulls if look.pulls is not None and look.pulls.by == by else None
    heads = dict(before.heads) if before else {}
    news: list[PullRequest] = []
    quiet = 0
    for pull in islice(listed, MOST_PULLS):
        row = known.get(pull.number)
        is_unseen = before is not None and pull.is_open and before.lacks(pull)
        is_news = is_unseen if row is None else pull != row if pull.is_open else row.is_open
        news += [pull] if is_news else []
        quiet = 0 if is_news else quiet + 1
        heads[pull.number] = pull.head
        if by == "forge" and before is not None and quiet >= QUIET:
            break
    look.pulls = Pulls(by=by, heads=dict(sorted(heads.items())[-MOST_PULLS:]))
    if before is None and heads:
        look.told.append(f"{len(heads)} pull requests are there already: each runs once it has a new commit")
    return news

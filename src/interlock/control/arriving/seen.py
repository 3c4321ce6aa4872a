"""What is remembered of a repository between two looks, and what one look finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from interlock.control.arriving.planning import Planned
from interlock.errors import ArtifactFault, EnvironmentFault, GitFault, Refused
from interlock.run.run import Run
from interlock.source.commit import branch_of
from interlock.source.repository import PullRequest, Watched
from interlock.source.trust import is_trusted
from interlock.vocabulary import Stored, Write

MOST_REFS = 10_000
"""Branches and tags of one repository that are watched, the trusted ones first."""
MOST_PULLS = 1000
"""Pull requests of one repository that are thought of: the newest."""
TOLD = 20
"""Reasons that one event of a repository holds."""
UNREADABLE = (Refused, GitFault, ArtifactFault, EnvironmentFault)
"""What keeps one commit from being read and says nothing about others."""


class Clock(Stored):
    """What begins runs of one project without a push: a schedule that was looked at ``since``, and watched data.

    ``seen`` are the fingerprints of the data by place. A schedule or place that is new is only remembered at first.
    """

    schedule: tuple[str, ...] = ()
    time_zone: str = "UTC"
    since: float | None = None
    data: tuple[str, ...] = ()
    seen: dict[str, str] = {}


class Pulls(Stored):
    """Pull requests that were listed: their ``heads`` by number, and ``by`` what: their ``forge`` or ``refs``.

    The two list different ones, so what one listed is not compared with what the other does.
    """

    by: str
    heads: dict[int, str] = {}

    def lacks(self, pull: PullRequest) -> bool:
        """Whether it was opened or moved since. Below as many as are listed at most, all are older than that."""
        oldest = min(self.heads) if len(self.heads) >= MOST_PULLS else 0
        return pull.number > oldest and self.heads.get(pull.number) != pull.head


class Repository(Stored):
    """A configured repository: its refs as they were when runs were last begun for them.

    ``unread`` are refs whose commit could not be read, tried again at each look; ``clocks`` are those of the default
    branch by project, None before they were read. ``pulls`` are its pull requests, None before they were listed;
    ``unlisted`` is why they could not be.
    """

    name: str
    git_directory: str
    refs: dict[str, str] = {}
    unread: dict[str, str] = {}
    clocks: dict[str, Clock] | None = None
    pulls: Pulls | None = None
    unlisted: str = ""


@dataclass
class Look:
    """One look at a repository: what it was, what it is, and what follows. ``writes`` are saved with the runs."""

    watched: Watched
    before: Repository
    version: int
    refs: dict[str, str]
    pulls: Pulls | None
    unlisted: str
    unread: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    begun: list[Run] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    plans: dict[str, dict[str, Planned | Refused]] = field(default_factory=dict)

    @property
    def moved(self) -> dict[str, str]:
        """The refs that are not what they were, as they are now."""
        return {ref: sha for ref, sha in self.refs.items() if self.before.refs.get(ref) != sha}

    @property
    def because(self) -> str:
        """What was done and what was not, in one line."""
        more = [f"and {len(self.told) - TOLD} more"] if len(self.told) > TOLD else []
        return "; ".join([*self.told[:TOLD], *more]) or f"{len(self.refs)} refs are watched"


def most_important(refs: Mapping[str, str], watched: Watched) -> dict[str, str]:
    """The refs that are watched, where a repository has more than that: trusted ones, branches, tags, by name."""
    if len(refs) <= MOST_REFS:
        return dict(refs)
    ranked = sorted(refs, key=lambda ref: (not is_trusted(ref, watched), branch_of(ref) is None, ref))
    return {ref: refs[ref] for ref in ranked[:MOST_REFS]}


def short(ref: str) -> str:
    """The ref as people say it."""
    return branch_of(ref) or ref.replace("refs/tags/", "tag ")

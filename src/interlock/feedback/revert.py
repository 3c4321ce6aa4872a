"""A revert: a branch, and where there is a forge a pull request, that takes back in its repository what was found to do
harm in an environment. People decide whether it goes in.

``begin`` in one table; the first row that fits decides:

===================================================  ===========================================================
it was rolled back, and                              then
===================================================  ===========================================================
nothing served there before                          dropped: there is nothing to take it back to
what serves again is of another repository, folder   dropped: neither can be told apart from the other by commits
both are of one commit                               dropped: what differs is not in the repository (data, say)
otherwise                                            pending
===================================================  ===========================================================

``advance`` in one table; all rows that fit count:

===================================================  ===========================================================
seen                                                 then
===================================================  ===========================================================
nothing can be taken back cleanly                    dropped
a commit was made                                    remembered before it is pushed: a branch that holds it is ours
the branch is at the remote                          proposed where no forge is to be asked, else pending
the forge has the pull request                       proposed
the forge or the remote does not take it             tried again after an hour
they cannot be asked                                 tried again: 1 s, doubling to 10 min, at least what they ask
===================================================  ===========================================================
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from interlock.delivery.revision import Revision
from interlock.delivery.rollout import Rollout, RolloutPhase
from interlock.feedback.report import REFUSAL_SECONDS, back_off
from interlock.feedback.status import Proposal
from interlock.feedback.text import code, one_line
from interlock.source.commit import branch_of
from interlock.source.repository import REVERTS
from interlock.vocabulary import Decision, Stored

LONGEST_TITLE = 120
SHORT = 10
"""Digits of a commit's id, as people are shown it."""

_LOOK_ALIKES = str.maketrans({"@": "\uff20", "#": "\uff03", "!": "\uff01", "[": "\uff3b"})
_KEYS = re.compile(r"(?<=[A-Za-z]{2})-(?=\d)")


class RevertPhase(StrEnum):
    """Whether something is still to be done about it."""

    PENDING = "pending"
    PROPOSED = "proposed"
    DROPPED = "dropped"


class Origin(Stored):
    """Where a model version is from: its ``project`` is a folder of the repository, empty for the whole of it."""

    title: str
    repository: str
    ref: str
    commit: str
    project: str = ""

    @property
    def told(self) -> str:
        """It for people."""
        return f"{self.title} ({self.commit[:SHORT]})"


class Sides(NamedTuple):
    """What was rolled back, and what serves again; None where nothing does."""

    bad: Revision
    good: Revision | None


class Revert(Stored):
    """``harm`` is what was found, ``ended`` when the rollout was over (wall seconds), ``base`` the branch to mend.

    ``commits`` are all that were made, the newest last: any of them at the remote is ours. ``tries`` counts faults in a
    row; nothing is tried before ``next_try`` (wall seconds).
    """

    rollout: int
    environment: str
    bad: Origin
    good: Origin | None
    base: str
    harm: str
    ended: float
    commits: tuple[str, ...] = ()
    is_pushed: bool = False
    pull_request: int | None = None
    tries: int = 0
    next_try: float = 0.0
    phase: RevertPhase = RevertPhase.PENDING
    because: str = ""

    @property
    def key(self) -> str:
        """Its key in the store: that of its rollout."""
        return str(self.rollout)

    @property
    def is_over(self) -> bool:
        """Whether nothing is still to be done about it."""
        return self.phase is not RevertPhase.PENDING

    @property
    def branch(self) -> str:
        """The one branch that it can have; two servers of one repository do not have the same."""
        return f"{REVERTS}rollout-{self.rollout}-{self.bad.commit[:SHORT]}"


class Outcome(Stored):
    """What came of trying. ``has_forge``: a pull request is to follow the branch. ``retry_after`` in seconds."""

    dropped: str | None = None
    made: str | None = None
    is_pushed: bool = False
    has_forge: bool = False
    pull_request: int | None = None
    refused: str | None = None
    fault: str | None = None
    retry_after: float | None = None


def sides_of(rollout: Rollout) -> Sides | None:
    """What an ended rollout asks to take back; None unless what it found made a revision leave, and it has left."""
    if not rollout.harm:
        return None
    if rollout.phase is RolloutPhase.ROLLED_BACK and rollout.release is not None:
        return Sides(rollout.candidate, rollout.stable)
    if rollout.phase is RolloutPhase.PROMOTED and rollout.release is None and rollout.stable is not None:
        return Sides(rollout.stable, rollout.candidate)
    return None


def begin(rollout: Rollout, bad: Origin, good: Origin | None, default_branch: str, ended: float) -> Revert:
    """The revert of an ended rollout (the first table above)."""
    lost = _lost_because(rollout.environment, bad, good)
    return Revert(
        rollout=rollout.number,
        environment=rollout.environment,
        bad=bad,
        good=good,
        base=branch_of(bad.ref) or default_branch,
        harm=rollout.harm,
        ended=ended,
        phase=RevertPhase.PENDING if lost is None else RevertPhase.DROPPED,
        because=f"{bad.told} is to be taken back" if lost is None else f"nothing is taken back: {lost}",
    )


def _lost_because(environment: str, bad: Origin, good: Origin | None) -> str | None:
    if good is None:
        return f"nothing served in {environment} before {bad.told}"
    if (good.repository, good.project) != (bad.repository, bad.project):
        return f"{good.told} is of another repository or folder than {bad.told}"
    if good.commit == bad.commit:
        return f"{good.title} and {bad.told} are of one commit: what differs between them is not in the repository"
    return None


def advance(revert: Revert, outcome: Outcome, now: float, jitter: float) -> Decision[Revert]:
    """The revert after a try, and why (the second table above). ``jitter`` is at random from 0 to 1."""
    if outcome.dropped is not None:
        because = f"nothing is taken back: {outcome.dropped}"
        return _with(revert, because, phase=RevertPhase.DROPPED)
    if outcome.fault is not None:
        tries = revert.tries + 1
        wait = back_off(tries, jitter, outcome.retry_after)
        return _with(revert, f"tried again in {wait:.0f} s: {outcome.fault}", tries=tries, next_try=now + wait)
    if outcome.refused is not None:
        return _with(revert, f"tried again in an hour: {outcome.refused}", next_try=now + REFUSAL_SECONDS)
    if outcome.made is not None:
        return _with(revert, f"made as {outcome.made[:SHORT]}", commits=(*revert.commits, outcome.made))
    if outcome.pull_request is not None:
        told = f"proposed as pull request {outcome.pull_request}, from {revert.branch} into {revert.base}"
        return _with(revert, told, pull_request=outcome.pull_request, phase=RevertPhase.PROPOSED)
    phase = RevertPhase.PENDING if outcome.has_forge else RevertPhase.PROPOSED
    told = f"pushed as {revert.branch}, to go into {revert.base}"
    return _with(revert, told, is_pushed=True, tries=0, next_try=0.0, phase=phase)


def _with(revert: Revert, because: str, **changes: object) -> Decision[Revert]:
    return Decision(state=revert.model_copy(update={**changes, "because": because}), because=because)


def proposal(revert: Revert) -> Proposal:
    """What is proposed: the message of the commit, and the title and text of the pull request.

    Words of others stand in code spans, and nothing in them is a mention, a reference, a command or a word that keeps
    checks from running: of what a commit says forges read all, also what stands in a code span.
    """
    bad, good = revert.bad, revert.good
    assert good is not None
    span = f"{good.commit[:SHORT]}..{bad.commit[:SHORT]}"
    where, paths = (f" below {_quoted(bad.project)}", f" -- {bad.project}") if bad.project else ("", "")
    blocks = [
        f"Interlock rolled {bad.title} back in {revert.environment}, where {good.title} serves again.",
        f"Found: {_quoted(revert.harm, 1000)}",
        f"This takes back what came from {good.told} to {bad.told}{where}: {_quoted(f'git log {span}{paths}')}.",
        f"Why, decided again from what was seen: {code(f'interlock explain rollout/{revert.rollout}')}.",
    ]
    title = one_line(f"Revert {bad.title}: it was rolled back in {revert.environment}", LONGEST_TITLE)
    return Proposal(branch=revert.branch, base=revert.base, title=title, body="\n\n".join(blocks))


def _quoted(text: str, most: int = 300) -> str:
    """Words of others: what could be taken for a mention or a reference (``@ada``, ``#1``, ``GH-1``, an address) or
    for ``[skip ci]`` is shown as something that looks alike.
    """
    harmless = text.translate(_LOOK_ALIKES).replace("://", ":\u2215\u2215")
    return code(_KEYS.sub("\u2011", harmless), most)

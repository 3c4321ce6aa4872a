"""Proposes to take back in a repository what was found to do harm: a branch, and where there is a forge a pull request.

Follows what rollouts came to, beside the loop: no rollback waits for it. A commit is saved before it is pushed, so that
whatever is found at the remote is known to be ours or not, however often this process is killed in between.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from interlock.access.audit import Deed
from interlock.control.rows import load_state, save_or_lose, write_state
from interlock.delivery.revision import Revision
from interlock.delivery.rollout import Rollout, RolloutPhase
from interlock.errors import AlreadyExists, Fault, ForgeFault, Refused
from interlock.feedback.revert import Origin, Outcome, Revert, RevertPhase, advance, begin, proposal, sides_of
from interlock.ports import Forge, Git, Reverts, Store
from interlock.registry.version import ModelVersion
from interlock.run.run import Run
from interlock.source.commit import Takeback
from interlock.source.repository import Watched
from interlock.vocabulary import Event, Fact, Json, Kind, Write

SPACE = "reverting"
"""Of facts: up to which event rollouts were followed."""
ENDS = (RolloutPhase.ROLLED_BACK, RolloutPhase.PROMOTED)
BATCH = 500


class Reverting:
    """Reverts in those of ``repositories`` that ask for them; ``forges`` are those that can be told (both by name).

    ``now`` is wall time.
    """

    def __init__(
        self,
        store: Store,
        git: Git,
        reverts: Reverts,
        repositories: Mapping[str, Watched],
        forges: Mapping[str, Forge],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._git = git
        self._reverts = reverts
        self._repositories = {name: one for name, one in repositories.items() if one.propose_reverts}
        self._forges = forges
        self._now = now
        self._followed: int | None = None

    def one_pass(self) -> None:
        """Begins the reverts of rollouts that ended, and tries those that are due."""
        self._follow()
        for row in self._store.rows(Kind.REVERT, phases=(RevertPhase.PENDING,)):
            while self._moved(row.key):
                pass

    def _follow(self) -> None:
        if self._followed is None:
            noted = [fact for fact in self._store.recall(SPACE, "followed", 1) if isinstance(fact, int)]
            self._followed = noted[0] if noted else self._store.last_event()
            if not noted:  # what was rolled back before anybody asked for reverts is not proposed
                self._store.save(facts=[Fact(SPACE, "followed", self._followed)])
        while events := self._store.events(after=self._followed, most=BATCH):
            ended = {event.key: event for event in events if event.kind is Kind.ROLLOUT and event.phase in ENDS}
            begun = [revert for event in ended.values() for revert in self._begin(event)]
            if ended:
                writes, deeds = [_write(revert, 0) for revert in begun], [_deed(one) for one in begun if one.is_over]
                try:
                    self._store.save(*writes, audit=deeds, facts=[Fact(SPACE, "followed", events[-1].number)])
                except AlreadyExists:  # another control plane was first: what is missing of it is looked at again
                    return
            self._followed = events[-1].number

    def _begin(self, event: Event) -> list[Revert]:
        """The revert that an ended rollout leads to, where its repository asks for them and it has none."""
        rollout, _ = load_state(self._store, Kind.ROLLOUT, event.key, Rollout)
        sides = sides_of(rollout) if rollout is not None else None
        bad = self._origin(sides.bad) if sides is not None else None
        if rollout is None or sides is None or bad is None or bad.repository not in self._repositories:
            return []
        if self._store.version(Kind.REVERT, rollout.key):
            return []
        good = self._origin(sides.good) if sides.good is not None else None
        return [begin(rollout, bad, good, self._repositories[bad.repository].default_branch, event.at)]

    def _origin(self, revision: Revision) -> Origin | None:
        """Where a revision is from; None where nothing is known of its version or its run."""
        key = f"{revision.model}/{revision.version}"
        version, _ = load_state(self._store, Kind.VERSION, key, ModelVersion)
        run, _ = load_state(self._store, Kind.RUN, version.run, Run) if version is not None else (None, 0)
        if version is None or run is None:
            return None
        return Origin(
            title=version.title,
            repository=version.repository,
            ref=version.ref,
            commit=version.commit,
            project=run.plan.project,
        )

    def _moved(self, key: str) -> bool:
        """Takes the next step of a revert, and saves what came of it; whether another may follow at once."""
        revert, version = load_state(self._store, Kind.REVERT, key, Revert)
        watched = self._repositories.get(revert.bad.repository) if revert is not None else None
        if revert is None or watched is None or revert.is_over or self._now() < revert.next_try:
            return False
        try:
            outcome = self._step(revert, watched, self._forges.get(watched.name))
        except Refused as refused:
            outcome = Outcome(refused=str(refused))
        except Fault as fault:
            retry_after = fault.retry_after if isinstance(fault, ForgeFault) else None
            outcome = Outcome(fault=str(fault), retry_after=retry_after)
        after = advance(revert, outcome, self._now(), secrets.randbelow(1001) / 1000).state
        return save_or_lose(self._store, _write(after, version), audit=[_deed(after)] if after.is_over else [])

    def _step(self, revert: Revert, watched: Watched, forge: Forge | None) -> Outcome:
        """What there is of it is found out anew, so that each step may be the first after this process was killed."""
        if revert.is_pushed and forge is not None:
            return Outcome(pull_request=forge.put_pull_request(proposal(revert)))
        place, ref = (watched.url, watched.git_directory), f"refs/heads/{revert.branch}"
        there = self._git.listing(*place, ref).get(ref)
        if revert.is_pushed or there in revert.commits:
            return Outcome(is_pushed=True, has_forge=forge is not None)
        if there is not None:
            return Outcome(dropped=f"{watched.name} has a branch {revert.branch} that is not Interlock's")
        head = self._git.fetch(*place, f"refs/heads/{revert.base}")
        if head is None or revert.good is None:
            return Outcome(dropped=f"{watched.name} has no branch {revert.base} any more")
        told = proposal(revert)
        wanted = Takeback(
            head=head,
            bad=revert.bad.commit,
            good=revert.good.commit,
            project=revert.bad.project,
            message=f"{told.title}\n\n{told.body}\n",
            moment=revert.ended,
        )
        try:
            commit = self._reverts.take_back(watched.git_directory, wanted)
        except Refused as refused:
            return Outcome(dropped=str(refused))
        if commit not in revert.commits:
            return Outcome(made=commit)
        self._reverts.publish(*place, commit, ref)
        return Outcome(is_pushed=True, has_forge=forge is not None)


def _write(revert: Revert, expected: int) -> Write:
    return write_state(
        Kind.REVERT,
        revert.key,
        revert,
        expected=expected,
        phase=revert.phase,
        because=revert.because,
        repository=revert.bad.repository,
        ref=revert.bad.ref,
    )


def _deed(revert: Revert) -> Deed:
    """What came of it, for the audit log."""
    action = "propose revert" if revert.phase is RevertPhase.PROPOSED else "drop revert"
    detail: dict[str, Json] = {
        "because": revert.because,
        "branch": revert.branch,
        "commit": revert.commits[-1] if revert.commits else None,
        "pull_request": revert.pull_request,
    }
    return Deed(who="interlock", action=action, thing=f"rollout/{revert.rollout}", detail=detail)

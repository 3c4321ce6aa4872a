"""A release: one model version's way through the environments, one rollout in each, in order.

=============================================  =====================================================
seen                                           then
=============================================  =====================================================
a newer release of the model                   stopped (what it had begun is superseded)
its rollout here was a trial on copies         done: nothing goes on from there
its rollout here ended otherwise               stopped, with that rollout's reason
its rollout here was promoted                  the next environment, or done
people have not all approved of it yet         waiting
the version is not admitted here               stopped, with the condition that does not hold
the environment is busy with another rollout   waiting
the environment is frozen, its window shut,    waiting
or the machine has no room for the rollout
otherwise                                      a rollout begins here
=============================================  =====================================================
"""

from __future__ import annotations

from enum import StrEnum

from interlock.delivery.holding import Approval, people_of, unapproved_because
from interlock.delivery.rollout import Rollout, RolloutPhase
from interlock.errors import Conflict, Refused
from interlock.pipeline.plan import EnvironmentPlan
from interlock.registry.admission import Admission
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Decision, Stored, Verdict


class ReleasePhase(StrEnum):
    """Where a release is."""

    OPEN = "open"
    WAITING = "waiting"
    DONE = "done"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        """Whether nothing moves from here."""
        return self in (ReleasePhase.DONE, ReleasePhase.STOPPED)


class Release(Stored):
    """``run`` is the run that brought it; ``rollouts`` maps the name of each environment entered so far to the
    number of the rollout there; ``approvals`` are those given so far, each for one environment.
    """

    number: int
    model: str
    version: str
    title: str
    run: str
    environments: tuple[EnvironmentPlan, ...]
    rollouts: dict[str, int] = {}
    approvals: tuple[Approval, ...] = ()
    phase: ReleasePhase = ReleasePhase.OPEN
    because: str = ""

    @property
    def key(self) -> str:
        """Its key in the store."""
        return str(self.number)

    @property
    def here(self) -> EnvironmentPlan | None:
        """The environment it is in or enters next; None when it has been through all."""
        entered = [plan for plan in self.environments if plan.name in self.rollouts]
        if entered and len(entered) == len(self.environments):
            return None
        return self.environments[len(entered)]

    @property
    def unapproved(self) -> str | None:
        """What is missing of the approvals of the environment that comes next; None where nothing is."""
        here = self.here
        return (
            None
            if here is None
            else unapproved_because(here.approvals, self.approvals, here.name, f"release/{self.key}")
        )

    def environment_key(self, name: str) -> str:
        """``model/environment``."""
        return f"{self.model}/{name}"


class ReleaseSeen(Stored):
    """``rollout`` is how the rollout in the last environment entered stands; ``next_rollout`` the number a new one
    gets; ``held`` is why nothing may go forward there.
    """

    newer: int | None = None
    rollout: RolloutPhase | None = None
    rollout_because: str = ""
    admission: Admission | None = None
    busy_with: int | None = None
    held: str | None = None
    next_rollout: int | None = None


def begin(number: int, version: ModelVersion, run: str) -> Release:
    """The release of a version, brought by ``run``, before its first environment. It says what was overridden."""
    past = "" if version.judgement.verdict is Verdict.PASS else f"; {version.judgement.because}"
    return Release(
        number=number,
        model=version.model,
        version=version.key,
        title=version.title,
        run=run,
        environments=version.deploy,
        because=f"run {run} brings {version.title}{past}",
    )


def again(number: int, release: Release, rollout: Rollout, because: str) -> Release:
    """The release that begins a rollout of an earlier one anew; what that brought to environments before stays.

    Refused where the rollout is under way or was promoted.
    """
    where = f"rollout {rollout.number}"
    if not rollout.phase.is_final:
        raise Refused("it is under way", where, "abort it first, or let it end")
    if rollout.phase is RolloutPhase.PROMOTED:
        raise Refused(f"it was promoted: {rollout.because}", where, "interlock release begins it for all environments")
    passed = {name: entered for name, entered in release.rollouts.items() if entered < rollout.number}
    return Release(
        number=number,
        model=release.model,
        version=release.version,
        title=release.title,
        run=release.run,
        environments=release.environments,
        rollouts=passed,
        because=f"{where} of {release.title} anew: {because}",
    )


def approve(release: Release, by: str, reason: str) -> Decision[Release]:
    """The release with one approval more, for the environment that comes next.

    Conflict where it waits for none; of one person the first counts.
    """
    here = release.here
    if release.phase.is_final or here is None or release.unapproved is None:
        problem = f"it waits for no approval: {release.because}"
        raise Conflict(problem, f"release {release.number}", "there is nothing to do")
    if by in people_of(release.approvals, here.name):
        raise Conflict(f"{by} approved already", f"release {release.number}", "somebody else has to approve")
    given = (*release.approvals, Approval(by=by, reason=reason, of=here.name))
    because = f"approved by {by} for {release.environment_key(here.name)}: {reason}"
    return Decision(state=release.model_copy(update={"approvals": given, "because": because}), because=because)


def advance(release: Release, seen: ReleaseSeen) -> Decision[Release]:
    """The next state of the release, and why (the table above)."""
    if seen.newer is not None:
        return _to(release, ReleasePhase.STOPPED, f"superseded by release {seen.newer}")
    if seen.rollout not in (None, RolloutPhase.PROMOTED):
        return _stand(release, seen)
    here = release.here
    if here is None:
        return _to(release, ReleasePhase.DONE, f"{release.title} is promoted in every environment")
    if release.unapproved is not None:
        return _to(release, ReleasePhase.WAITING, f"{release.environment_key(here.name)}: {release.unapproved}")
    if seen.admission is not None and not seen.admission.is_admitted:
        return _to(release, ReleasePhase.STOPPED, seen.admission.because)
    if seen.busy_with is not None:
        because = f"{release.environment_key(here.name)} is busy with rollout {seen.busy_with}"
        return _to(release, ReleasePhase.WAITING, because)
    if seen.held is not None:
        return _to(release, ReleasePhase.WAITING, f"{release.environment_key(here.name)} is {seen.held}")
    if seen.admission is None or seen.next_rollout is None:
        return Decision(state=release, because="not yet asked whether it is admitted")
    state = release.model_copy(
        update={
            "phase": ReleasePhase.OPEN,
            "rollouts": {**release.rollouts, here.name: seen.next_rollout},
            "because": seen.admission.because,
        }
    )
    return Decision(state=state, because=f"rollout {seen.next_rollout} begins: {seen.admission.because}")


def _stand(release: Release, seen: ReleaseSeen) -> Decision[Release]:
    """Where a rollout that was not promoted leaves it."""
    if seen.rollout is RolloutPhase.PROGRESSING:
        return Decision(state=release, because="its rollout is under way")
    entered = release.environments[len(release.rollouts) - 1]
    if seen.rollout is RolloutPhase.CANCELLED and entered.strategy.kind == "shadow":
        return _to(release, ReleasePhase.DONE, f"{release.title} was on trial only: {seen.rollout_because}")
    return _to(release, ReleasePhase.STOPPED, f"the rollout was {seen.rollout}: {seen.rollout_because}")


def _to(release: Release, phase: ReleasePhase, because: str) -> Decision[Release]:
    return Decision(state=release.model_copy(update={"phase": phase, "because": because}), because=because)

"""The acts of the demo: what is pushed, and what has to become of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from interlock.cli.demo.repository import Clone
from interlock.cli.demo.watch import Journey
from interlock.delivery.release import ReleasePhase
from interlock.delivery.rollout import RolloutPhase
from interlock.pipeline.plan import StageKind
from interlock.run.stage import Problem
from interlock.vocabulary import Phase, Verdict

BROKEN_ROW = 1233
AT_ONCE_SECONDS = 1.0

Problems = Iterator[str]


@dataclass(frozen=True)
class Act:
    """One push. ``differs`` yields everything that did not come as it had to.

    ``is_taken_back``: the next push begins with a commit that reverts this one. ``is_server_killed``: the control
    plane is killed in the middle of the canary.
    """

    number: str
    title: str
    subject: str
    change: Callable[[Clone], None]
    differs: Callable[[Journey], Problems]
    is_taken_back: bool = False
    is_server_killed: bool = False
    is_in_fast_cut: bool = True


def delivered(journey: Journey) -> Problems:
    """The model is stable everywhere."""
    run, release = journey.run, journey.release
    if run.phase is not Phase.SUCCEEDED:
        yield f"the run is {run.phase}, not succeeded"
    if release is None or release.phase is not ReleasePhase.DONE:
        yield f"the release is {release.phase if release else 'missing'}, not done"
    if journey.production is None or journey.production.phase is not RolloutPhase.PROMOTED:
        yield "it was not promoted in production"


def delivered_by_canary(journey: Journey) -> Problems:
    """The model beat production on the same rows and came by weights."""
    yield from delivered(journey)
    if not any("against production" in gate for gate in _gates(journey, Verdict.PASS)):
        yield "no gate compared it with production"
    rollout = journey.production
    if rollout is not None and (rollout.stable is None or len(rollout.steps) < 2):
        yield "it came without a canary"


def nothing_to_do(journey: Journey) -> Problems:
    """No stage ran and nothing is delivered, and that was clear at once."""
    run = journey.run
    kinds: tuple[StageKind, ...] = ("check", "data", "stage", "measure")
    ran = [name for kind in kinds for name in journey.executed(kind)]
    if run.phase is not Phase.SUCCEEDED:
        yield f"the run is {run.phase}, not succeeded"
    if ran:
        yield f"stages ran: {', '.join(ran)}"
    if journey.release is not None:
        yield "something is delivered"
    if journey.run_seconds > AT_ONCE_SECONDS:
        yield f"the run took {journey.run_seconds:.2f} s, more than {AT_ONCE_SECONDS:g} s"


def stopped_early(kind: StageKind, path: str, told: str) -> Callable[[Journey], Problems]:
    """A stage of this kind failed before any training and named ``path`` and, somewhere, the text ``told``."""

    def differs(journey: Journey) -> Problems:
        run = journey.run
        failed = [stage.name for stage in run.plan.stages if run.stages[stage.name].phase is Phase.FAILED]
        right = [name for name in failed if run.plan.stage(name).kind == kind]
        if run.phase is not Phase.FAILED or not right:
            yield f"the run is {run.phase} ({', '.join(failed) or 'no stage'} failed), not stopped by a {kind}"
            return
        if trained := journey.executed("stage"):
            yield f"it was stopped only after {', '.join(trained)}"
        problems = [problem for name in right for problem in run.stages[name].problems]
        if not any(_names(problem, path, told) for problem in problems):
            yield f"no problem names {path} and {told!r}: {'; '.join(map(str, problems)) or 'none is told'}"

    return differs


def stopped_by_gate(journey: Journey) -> Problems:
    """The comparison with production failed."""
    if journey.run.phase is not Phase.FAILED:
        yield f"the run is {journey.run.phase}, not failed"
    if not any("against production" in gate for gate in _gates(journey, Verdict.FAIL)):
        yield "the comparison with production did not fail"
    if journey.release is not None:
        yield "something is delivered"


def rolled_back(journey: Journey) -> Problems:
    """Every offline gate passed, and production took it back by itself."""
    if journey.run.phase is not Phase.SUCCEEDED:
        yield f"the run is {journey.run.phase}, not succeeded"
    rollout = journey.production
    if rollout is None or rollout.phase is not RolloutPhase.ROLLED_BACK:
        yield f"in production it is {rollout.phase if rollout else 'missing'}, not rolled back"
    if journey.release is None or journey.release.phase is not ReleasePhase.STOPPED:
        yield "its release was not stopped"


def _gates(journey: Journey, verdict: Verdict) -> list[str]:
    judgement = journey.run.judgement
    return [result.gate for result in judgement.results if result.verdict is verdict] if judgement else []


def _names(problem: Problem, path: str, told: str) -> bool:
    return problem.path == path and problem.line is not None and told in str(problem)


def _patch(name: str) -> Callable[[Clone], None]:
    return lambda clone: clone.apply(name)


def _look_up_planes(clone: Clone) -> None:
    clone.apply("6-plane-lookup")
    clone.join_planes()


ACTS = (
    Act("1", "the first model", "Will it be late? A logistic regression", lambda _clone: None, delivered),
    Act("2", "a better model", "Gradient boosting", _patch("2-boosting"), delivered_by_canary),
    Act("3", "a change of the README", "README: whom to ask", _patch("3-readme"), nothing_to_do),
    Act(
        "4a",
        "a syntax error",
        "Tidy the estimators",
        _patch("4-syntax-error"),
        stopped_early("check", "src/train.py", ""),
        is_taken_back=True,
    ),
    Act(
        "4b",
        "a failing test of the features",
        "Leave broken sensors out",
        _patch("4-failing-test"),
        stopped_early("check", "tests/test_features.py", ""),
        is_taken_back=True,
        is_in_fast_cut=False,
    ),
    Act(
        "4c",
        "data that breaks its schema",
        "A new export of the training data",
        lambda clone: clone.break_a_distance(BROKEN_ROW),
        stopped_early("data", "data/train.csv", "distance"),
        is_taken_back=True,
        is_in_fast_cut=False,
    ),
    Act(
        "5",
        "a model worse than production",
        "Train faster: five small trees",
        _patch("5-faster-training"),
        stopped_by_gate,
        is_taken_back=True,
        is_in_fast_cut=False,
    ),
    Act(
        "6",
        "a model that misbehaves live",
        "Look the plane up in the register",
        _look_up_planes,
        rolled_back,
        is_taken_back=True,
    ),
    Act(
        "7",
        "kill -9 of the control plane during a canary",
        "More trees",
        _patch("7-more-trees"),
        delivered_by_canary,
        is_server_killed=True,
        is_in_fast_cut=False,
    ),
)

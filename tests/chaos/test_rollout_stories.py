"""Stories of external metrics, approvals, blue and green, golden requests, played by the loop; and mistakes in them.

What must hold is said in the words of the promise. Every test run plays two of them; ``make histories`` plays all, and
looks for every mistake.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.histories import Broken
from tests.plant import ADA, ANALYSIS, CANARY, Plant, Rules
from tests.planted import Mistake, rules_with

from interlock.access.caller import Caller, Role
from interlock.control.rows import load_state, read_state, write_state
from interlock.delivery.external.measured import COUNTED, Measured
from interlock.delivery.release import Release, ReleasePhase
from interlock.delivery.revision import CounterSeen
from interlock.delivery.rollout import OrderName, Rollout
from interlock.errors import Conflict, InterlockError
from interlock.pipeline.canaries.external import ExternalMetricPlan
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import CommandPlan, EnvironmentPlan, Plan
from interlock.run import run as runs
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Kind

KEEP, DEADLINE = 20, 60.0
QUEUE = ExternalMetricPlan(metric="queue", source="command", command="x", every=3.0, seconds=6.0, max=10.0)
COUNTS = ExternalMetricPlan(metric="bad", source="command", command="x", every=1.0, is_counted=True, margin=0.05)
BLUE_GREEN = StrategyPlan(
    kind="blue_green",
    steps=(StepPlan(checks=True), StepPlan(set_weight=100), StepPlan(keep=float(KEEP))),
    deadline=DEADLINE,
    analysis=AnalysisPlan(metrics=(AnalysisMetricPlan(metric="error_rate", max=0.1),), is_alone=True),
)
CHECK = CommandPlan(name="contract", command="pytest")


class Story:
    """One environment; its first version is stable, and the second on its way."""

    def __init__(
        self, folder: Path, rules: Rules | None, production: EnvironmentPlan, *before: EnvironmentPlan
    ) -> None:
        self.plant = plant = Plant(folder)
        for number in (1, 2):
            plant.register(number, golden=golden_of(number), deploy=(*before, production))
            commit = Commit(repository="small", git_directory="/g", ref="main", sha="a" * 40, tree="b")
            run = runs.begin(
                number, commit, Occasion(kind="push"), Plan(), Digest("p"), driver="server", is_trusted=True
            )
            plant.store.save(write_state(Kind.RUN, run.key, run, expected=0, phase=run.phase, because="test"))
        plant.loop, plant.requests = plant.begin(plant.store, plant.proxy, plant.replicas, rules)

    def arrive(self, *people: str) -> None:
        """The first version is stable, by the leave of these people, and the second is released."""
        self.plant.release(1)
        self.plant.turn(2)
        for name in people:
            self.approve(name, 1)
            self.plant.turn(8)
        self.plant.turn(8)
        holds(self.serves() == 1, "the first version did not come in")
        self.plant.release(2)

    def approve(self, name: str, release: int) -> None:
        try:
            self.plant.requests.approve(Caller(name=name, role=Role.MAINTAINER), release, "looked at")
        except Conflict as conflict:
            raise Broken("it went on without leave") from conflict

    def serves(self) -> int:
        """The version that is stable in production; 0: none."""
        stable = self.plant.environment("production").stable
        return stable.version if stable else 0

    def rollout(self) -> Rollout:
        found, _ = load_state(self.plant.store, Kind.ROLLOUT, self.plant.last(Kind.ROLLOUT).key, Rollout)
        assert found is not None
        return found

    def ends(self, version: int, otherwise: str, seconds: int = 90, rate: int = 50) -> None:
        """After so long this version serves, and nothing is under way."""
        self.plant.turn(seconds, rate)
        is_over = self.rollout().phase.is_final
        holds(is_over and self.serves() == version, f"{otherwise}: {self.rollout().because}")


def golden_of(version: int) -> Digest:
    return Digest(f"blake3:golden{version}")


def holds(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise Broken(otherwise)


def canary(*external: ExternalMetricPlan, steps: tuple[StepPlan, ...] = CANARY.steps) -> EnvironmentPlan:
    analysis = ANALYSIS.model_copy(update={"external": external})
    strategy = CANARY.model_copy(update={"analysis": analysis, "steps": steps, "deadline": DEADLINE})
    return EnvironmentPlan(name="production", replicas=1, strategy=strategy)


def value_of(plant: Plant, number: Callable[[float], float | None]) -> Callable[[object], dict[str, Measured]]:
    """A value that is asked every three seconds; None: the source has a problem."""

    def measure(_: object) -> dict[str, Measured]:
        at = plant.now - plant.now % 3
        found = number(at)
        return {"queue": Measured(at=at, value=found, problem="" if found is not None else "no series")}

    return measure


def limit_story(folder: Path, rules: Rules | None) -> None:
    """A value decides as its limit says; a look that is one of many decides nothing, and silence promotes nobody."""
    for name, number, version in (
        ("within", lambda _: 3.0, 2),
        ("a glitch", lambda at: 30.0 if at == 1017 else 3.0, 2),
        ("beyond", lambda _: 30.0, 1),
        ("unknown", lambda _: None, 1),
    ):
        story = Story(folder / name, rules, canary(QUEUE))
        story.plant.measure = value_of(story.plant, number)
        story.arrive()
        story.ends(version, f"a value that is {name} ends otherwise")
    story = Story(folder / "silence", rules, canary(QUEUE, steps=(*CANARY.steps, StepPlan(pause=30.0))))
    story.plant.measure = value_of(story.plant, lambda _: 3.0)
    story.arrive()
    story.plant.turn(15)
    last = story.plant.measure(None)
    story.plant.measure = lambda _: last
    story.ends(1, "a source that fell silent long ago promotes")


def counts_story(folder: Path, rules: Rules | None) -> None:
    """Good counts let a candidate through, bad ones take it back before the deadline would."""
    for name, every, version in (("good", 50, 2), ("bad", 2, 1)):
        story = Story(folder / name, rules, canary(COUNTS))
        plant = story.plant

        def measure(_: object, every: int = every, plant: Plant = plant) -> dict[str, Measured]:
            asked = int(plant.now) * 20
            counts = {
                "candidate": CounterSeen(epoch=COUNTED, requests=asked, errors=asked // every),
                "stable": CounterSeen(epoch=COUNTED, requests=asked, errors=asked // 50),
            }
            return {"bad": Measured(at=plant.now, counts=counts)}

        plant.measure = measure
        story.arrive()
        story.ends(version, f"{name} counts end otherwise", seconds=40)


def approval_story(folder: Path, rules: Rules | None) -> None:
    """Nothing enters an environment, or passes a step, without the leave of people for just that."""
    steps = (StepPlan(set_weight=20), StepPlan(approvals=2), *CANARY.steps[1:])
    production = canary(steps=steps).model_copy(update={"approvals": 1})
    story = Story(folder, rules, production, EnvironmentPlan(name="staging", replicas=1, approvals=1))
    story.arrive("mia", "mia")
    plant = story.plant
    plant.turn(10)
    rollouts = len(plant.phases(Kind.ROLLOUT))
    holds(rollouts == 2, "the second version entered staging without leave")
    story.approve("mia", 2)
    plant.turn(10)
    holds(story.rollout().environment == "small/staging", "leave for staging let it into production")
    story.approve("mia", 2)
    plant.turn(int(DEADLINE) + 20)
    holds(story.rollout().weight == 20, f"it does not wait at its step: {story.rollout().because}")
    number = story.rollout().number
    with suppress(InterlockError):
        plant.requests.steer(ADA, number, OrderName.PROMOTE, "it is urgent")
    plant.turn(10)
    for name in ("mia", "mia", "bob"):
        holds(story.rollout().weight == 20, "it passed its step without two people")
        try:
            plant.requests.steer(Caller(name=name, role=Role.MAINTAINER), number, OrderName.APPROVE, "looked at")
        except InterlockError:
            holds(name == "mia", "who had not approved yet may not")
        plant.turn(2 if name == "mia" else 0)
    story.ends(2, "with all approvals it does not go on", seconds=40)


def blue_green_story(folder: Path, rules: Rules | None) -> None:
    """All traffic or none; none before a check that asked; promoted after its time, with traffic that was seen."""
    environment = EnvironmentPlan(name="production", replicas=1, strategy=BLUE_GREEN, checks=(CHECK,))
    for name, asked, rate, version in (
        ("good", 5, 50, 2),
        ("nobody asked", 0, 50, 1),
        ("no traffic", 5000, 0, 1),
    ):
        story = Story(folder / name, rules, environment)
        story.arrive()
        plant, candidate, switched = story.plant, "small.production.r2", 0.0
        for second in range(90):
            if second == 1:
                plant.proxy.count(candidate, asked, 0)
            was = story.rollout()
            plant.turn(1, rate)
            now = story.rollout()
            holds(now.weight in (0, 100) or now.phase.is_final, f"{name}: it has {now.weight} %")
            if now.weight == 100 and was.weight == 0:
                switched = plant.now
                holds(asked > 0, f"{name}: traffic before anybody asked it anything")
                holds(
                    all(run.phase == "succeeded" for run in now.check_runs.values()), f"{name}: traffic before checks"
                )
            if now.phase == "promoted" and was.phase != now.phase and was.number == now.number and was.stable:
                holds(plant.now - switched >= KEEP, f"{name}: promoted after {plant.now - switched:g} s")
        story.ends(version, f"{name}: it ends otherwise", seconds=1)


def interface_story(folder: Path, rules: Rules | None) -> None:
    """No caller meets a candidate before both have answered the other's golden requests; the way back asks nobody."""
    refusal = "400, missing inputs: 'weather'"
    stable, candidate = "small.production.r1", "small.production.r2"
    for name, broken, version in (
        ("neither", {}, 2),
        ("the candidate", {(candidate, golden_of(1)): refusal}, 1),
        ("the way back", {(stable, golden_of(2)): refusal}, 1),
    ):
        story = Story(folder / name, rules, canary())
        plant = story.plant
        plant.replicas.broken = broken
        story.arrive()
        highest = 0
        for _ in range(40):
            plant.turn(1, 50)
            highest = max(highest, story.rollout().weight)
        ended = story.rollout()
        holds(story.serves() == version, f"{name} breaks callers: it ends otherwise: {ended.because}")
        if broken:
            holds(highest == 0, f"{name}: it got {highest} %")
            holds("'weather'" in ended.because, f"{name}: that is not told: {ended.because}")
            release = read_state(plant.last(Kind.RELEASE), Release)
            holds(release.phase is ReleasePhase.STOPPED, f"{name}: its release is {release.phase}")
            holds(not plant.store.rows(Kind.QUARANTINE), f"{name}: a digest is quarantined")
        else:
            plant.replicas.broken = {(stable, golden_of(2)): refusal, (candidate, golden_of(1)): refusal}
            plant.requests.roll_back(ADA, "small/production", "nobody likes it")
            story.ends(1, "the way back is closed", seconds=20)
    story = Story(folder / "nobody knows", rules, canary())
    story.plant.replicas.silent = {candidate}
    story.arrive()
    story.plant.turn(20)
    holds(story.rollout().weight == 0, "it got traffic while nobody knows what it answers")
    story.plant.replicas.silent = set()
    story.ends(2, "it does not go on", seconds=30)


STORIES = {
    "limit": limit_story,
    "counts": counts_story,
    "approval": approval_story,
    "blue_green": blue_green_story,
    "interface": interface_story,
}
INTERFACE = "delivery.looks.interface"
ADVANCE, LIMITS, ENGINE, HOLDING = (
    f"delivery.{name}" for name in ("advance", "external.limits", "analysis.engine", "holding")
)
MISTAKES = {
    "an unknown value is good enough": (
        "limit",
        Mistake(LIMITS, 'Verdict.UNDECIDED, f"is not known', 'Verdict.PASS, f"is not known'),
    ),
    "what is old is known": (
        "limit",
        Mistake(LIMITS, "or now - standing.at <= LATE * limit.every:", "or now - standing.at <= 1e9:"),
    ),
    "one look is enough": ("limit", Mistake(LIMITS, "if lasted < limit.seconds:", "if lasted < 0.0:")),
    "beyond is no harm": ("limit", Mistake(LIMITS, "standing.is_within else Verdict.FAIL", "True else Verdict.FAIL")),
    "limits are not heard": ("limit", Mistake(ENGINE, "if analysis.limits else result", "if False else result")),
    "a dry run is no dry run": ("limit", Mistake(LIMITS, "if limit.is_dry_run:", "if not limit.is_dry_run:")),
    "counts of elsewhere are not heard": (
        "counts",
        Mistake(ADVANCE, "found |= counted_between(analysis.rules, rollout.measured, measured)", "found |= {}"),
    ),
    "leave for one is leave for all": ("approval", Mistake(HOLDING, "given if one.of == of)", "given)")),
    "a step waits for nobody": (
        "approval",
        Mistake(ADVANCE, "held = rollout.unapproved(rollout.step) if held is None else held", "held = held"),
    ),
    "checks come after": (
        "blue_green",
        Mistake(ADVANCE, "_checks_before_traffic(rollout, seen) or _next_step", "_next_step"),
    ),
    "checks need ask nothing": ("blue_green", Mistake(ADVANCE, "counter.requests == 0", "counter.requests < 0")),
    "stable is not kept": ("blue_green", Mistake(ADVANCE, "step.pause or step.keep or 0.0", "step.pause or 0.0")),
    "time is proof enough": (
        "blue_green",
        Mistake(ADVANCE, "return _proof_waits_for(rollout) if blind", "return None if blind"),
    ),
    "the candidate is not asked": (
        "interface",
        Mistake(INTERFACE, "((stable, candidate), (candidate, stable))", "((stable, candidate),)"),
    ),
    "the way back is not asked": (
        "interface",
        Mistake(INTERFACE, "((stable, candidate), (candidate, stable))", "((candidate, stable),)"),
    ),
    "what is not known holds nobody up": (
        "interface",
        Mistake(ADVANCE, "if unknown is not None:", "if unknown == '':"),
    ),
    "a breach is no end": (
        "interface",
        Mistake(ADVANCE, "return None if broken is None else (RolloutPhase.CANCELLED, broken)", "return None"),
    ),
    "a breach is harm": (
        "interface",
        Mistake(ADVANCE, "(RolloutPhase.CANCELLED, broken)", "(RolloutPhase.ROLLED_BACK, broken)"),
    ),
    "the way back is asked too": ("interface", Mistake(INTERFACE, "or rollout.release is None or", "or")),
    "what was cancelled was a trial": (
        "interface",
        Mistake("delivery.release", 'and entered.strategy.kind == "shadow":', "and entered.strategy.kind:"),
    ),
}
EVERY = os.environ.get("MISTAKES") == "every"


@pytest.mark.parametrize("name", STORIES if EVERY else ("counts", "approval"))
def test_a_story_ends_as_it_must(tmp_path: Path, name: str) -> None:
    STORIES[name](tmp_path, None)


@pytest.mark.parametrize("name", MISTAKES if EVERY else ("leave for one is leave for all",))
def test_a_planted_mistake_breaks_a_story(tmp_path: Path, name: str) -> None:
    story, mistake = MISTAKES[name]
    with pytest.raises(Broken) as broken:
        STORIES[story](tmp_path, rules_with(mistake))
    print(broken.value)

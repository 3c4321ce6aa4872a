"""Random histories of the other ways to deliver: replicas that are replaced, blue and green, values of elsewhere and
approvals, all in one history, with the troubles of tests/histories.py and some of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.histories import (
    BAD_VERSIONS,
    CANARY,
    DEADLINE,
    MARGIN,
    PATIENCE,
    PRODUCTION,
    TROUBLES,
    History,
    Watch,
    Workshop,
    named,
)
from tests.plant import ADA, Plant, Rules

from interlock.access.caller import Caller, Role
from interlock.control.rows import write_state
from interlock.delivery.external.measured import Measured
from interlock.delivery.rollout import OrderName
from interlock.edges.store import MemoryStore
from interlock.pipeline.canaries.external import ExternalMetricPlan
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import CommandPlan, EnvironmentPlan, Plan, SurgePlan
from interlock.run import run as runs
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Kind

REPLICAS, KEEP_SECONDS, PEOPLE = 2, 6.0, 2
VALUE_EVERY, VALUE_SECONDS, VALUE_MOST = 2.0, 4.0, 10.0
OVERTAKEN_SECONDS = 12
"""What came in the last seconds a look may not have seen, where another control plane worked in the middle of it."""
RECREATED, SURGED, ELSEWHERE, BLUE_GREEN = (1,), (2,), (3, 4), (5, 6)
"""The versions by how production receives them: 3 and 5 are bad."""
ERRORS = AnalysisMetricPlan(metric="error_rate", margin=MARGIN, max=0.1)
VALUE = ExternalMetricPlan(
    metric="queue", source="command", command="x", every=VALUE_EVERY, seconds=VALUE_SECONDS, max=VALUE_MOST
)
JUDGED = StrategyPlan(
    kind="canary",
    steps=(*CANARY.steps[:2], StepPlan(approvals=PEOPLE), *CANARY.steps[2:]),
    deadline=DEADLINE,
    analysis=AnalysisPlan(metrics=(ERRORS,), external=(VALUE,)),
)
SWITCHED = StrategyPlan(
    kind="blue_green",
    steps=(StepPlan(checks=True), StepPlan(set_weight=100), StepPlan(keep=KEEP_SECONDS)),
    deadline=DEADLINE,
    analysis=AnalysisPlan(metrics=(ERRORS,), is_alone=True),
)
AT_ONCE = StrategyPlan(kind="rolling", deadline=DEADLINE)
PRODUCTIONS = {
    RECREATED: {"strategy": AT_ONCE, "surge": SurgePlan(max_surge=0, max_unavailable=REPLICAS)},
    SURGED: {"strategy": AT_ONCE, "surge": SurgePlan(max_surge=1, max_unavailable=0)},
    ELSEWHERE: {"strategy": JUDGED, "approvals": 1},
    BLUE_GREEN: {"strategy": SWITCHED, "checks": (CommandPlan(name="contract", command="pytest"),)},
}
BEGUN = ("replaced", "judged elsewhere", "blue and green", "approved", "refused for a value")
"""What must come about in histories of strategies, beside the ends of rollouts."""
LOOKED_AT = ("mia", "bob", "eve")


class StrategyWatch(Watch):
    """The promises of each strategy, in place of those of a canary with a probation."""

    _history: StrategyHistory

    def _begins(self, rollout: Any) -> None:
        super()._begins(rollout)
        if rollout["environment"] == PRODUCTION and rollout["stable"] and rollout["release"] is not None:
            self.ends["replaced"] += rollout["replacement"] is not None
            self.ends["judged elsewhere"] += _is_of(ELSEWHERE, rollout)
            self.ends["blue and green"] += _is_of(BLUE_GREEN, rollout)
        if rollout["environment"] == PRODUCTION and rollout["release"] is not None and _is_of(ELSEWHERE, rollout):
            leave = self._history.entered[rollout["release"]]
            self._holds(bool(leave), f"rollout {rollout['number']} enters without the leave of anybody")

    def _is_well(self, rollout: Any, known: Mapping[str, Any]) -> bool:
        if rollout["replacement"] is None:
            return super()._is_well(rollout, known)
        moved = round(rollout["weight"] * REPLICAS / 100)
        return sum(one.is_healthy for one in known.values()) >= moved

    def _earned(self, rollout: Any, before: int, weight: int, title: str) -> None:
        if _is_of(ELSEWHERE, rollout):
            super()._earned(rollout, before, weight, title)
            self.ends["approved"] += before == CANARY.steps[0].set_weight
            people = self._history.agreed.get(rollout["number"], set())
            self._holds(before != CANARY.steps[0].set_weight or len(people) >= PEOPLE, f"{title} passes by {people}")
            is_known = self._history.has_known_value()
            self._holds(weight < 100 or is_known, f"{title} gets all traffic by a value that nobody knows")
        elif _is_of(BLUE_GREEN, rollout):
            self._holds((before, weight) == (0, 100), f"{title} splits traffic: {before} %, {weight} %")
            is_checked = all(run["phase"] == "succeeded" for run in rollout["check_runs"].values())
            self._holds(is_checked, f"{title} gets traffic before its checks passed")
            was_asked = self._history.previewed[named(rollout["candidate"])] > 0
            self._holds(was_asked, f"{title} gets traffic, and nobody asked it anything before")
        elif _is_of(RECREATED, rollout):
            self._holds((before, weight) == (0, 100), f"{title} recreates, and gives {weight} % after {before} %")
            self._holds(not self._alive(rollout["stable"]), f"{title} recreates, and stable is still there")

    def _promoted(self, rollout: Any, was: Any) -> None:
        super()._promoted(rollout, was)
        if not _is_of(BLUE_GREEN, rollout) or rollout["stable"] is None or rollout["release"] is None:
            return
        if rollout["environment"] != PRODUCTION:
            return
        key, title = named(rollout["candidate"]), f"rollout {rollout['number']}"
        waited = self._history.unheld_since(PRODUCTION, self._gained[key], at_most=True)
        self._holds(waited >= KEEP_SECONDS, f"{title} kept stable for {waited:g} s only")
        fresh = self._history.served[key] - self._asked[key]
        self._holds(fresh > 0, f"{title} is promoted, and nobody asked it anything")
        self._holds(rollout["candidate"]["version"] not in BAD_VERSIONS, f"{title} is promoted, and is bad")

    def rested(self) -> None:
        super().rested()
        row = self._store.peek(Kind.ENVIRONMENT, PRODUCTION)
        if row is None or row.state["rollout"] is None or not row.state["stable"]:
            return
        rollout = self._row(Kind.ROLLOUT, str(row.state["rollout"])).state
        plan = rollout["replacement"]
        if plan is not None:
            there = len(self._alive(rollout["stable"])) + len(self._alive(rollout["candidate"]))
            most = REPLICAS + plan["max_surge"]
            self._holds(there <= most, f"rollout {rollout['number']}: {there} replicas, {most} have room")

    def _alive(self, revision: Any) -> list[str]:
        return [name for name in self._history.replicas.names(PRODUCTION) if name.startswith(f"{named(revision)}.")]

    def _is_gap(self, environment: Any) -> bool:
        """Only where replicas are all replaced at once."""
        return environment["candidate"] is not None and _is_recreated(environment["candidate"])

    def _is_gone(self, environment: Any) -> bool:
        return not environment["counts"].get(named(environment["stable"]), 1)

    def _has_probation(self, rollout: Any) -> bool:
        return False

    def _is_late(self, rollout: Any, grace: float, *, at_most: bool) -> bool:
        """While a step waits for people its clock stands, which is not measured here: that bounds one side only."""
        is_unbounded = _is_of(ELSEWHERE, rollout) and not at_most
        return not is_unbounded and super()._is_late(rollout, grace, at_most=at_most)

    def _has_reason(self, rollout: Any) -> None:
        """A value that was beyond its limit is a reason as well, and checks that asked the candidate nothing."""
        is_beyond = _is_of(ELSEWHERE, rollout) and self._history.was_beyond(rollout["started"])
        is_unasked = _is_of(BLUE_GREEN, rollout) and self._history.counted[named(rollout["candidate"])] == 0
        self.ends["refused for a value"] += is_beyond
        if not is_beyond and not is_unasked:
            super()._has_reason(rollout)


def _is_of(versions: Sequence[int], rollout: Any) -> bool:
    return rollout["candidate"]["version"] in versions


def _is_recreated(revision: Any) -> bool:
    return revision["surge"] is not None and revision["surge"]["max_unavailable"] >= REPLICAS


class StrategyHistory(History):
    """``answers`` are values by their moment, None for what is no number; ``entered`` who let a release in, ``agreed``
    to a rollout's step; ``previewed`` requests by revision of its testers.
    """

    watch: StrategyWatch

    def __init__(self, plant: Plant, seed: int, rules: Rules) -> None:
        self.answers: dict[float, float | None] = {}
        self.entered: Counter[int] = Counter()
        self.agreed: dict[int, set[str]] = {}
        self.previewed: Counter[str] = Counter()
        self._source, self._is_attended = "well", True
        super().__init__(plant, seed, rules)
        plant.measure = self._measure
        self.watch = self.store.watch = self.proxy.watch = self.replicas.watch = StrategyWatch(self)
        for version in plant.registered:
            run = _run_of(version.number)
            self.store.save(write_state(Kind.RUN, run.key, run, expected=0, phase=run.phase, because="test"))

    def is_window_open(self) -> bool:
        return True

    def troubles(self) -> Sequence[Callable[[Any], None]]:
        of_probation = (History.be_tried, History.lose_labels)
        return (*(one for one in TROUBLES if one not in of_probation), *OF_STRATEGIES)

    def change_source(self) -> None:
        """The value of elsewhere is beyond its limit, is no number, comes no more, is not there; or is well again."""
        self._source = self._chance.choice(["well", "beyond", "no number", "late", "missing"])

    def be_delivered(self) -> None:
        """All is well until a version is released; then its value may change, and people come, or do not."""
        self._mend()
        self.unfreeze()
        number = self._chance.choice([*SURGED, *ELSEWHERE * 2, *BLUE_GREEN])
        self._ask(lambda: self._requests.lift_quarantine(ADA, f"small/{number}", "mended"))
        self._release(number)
        self._is_attended = self._chance.random() < 0.7
        for _ in range(3 * PATIENCE):
            if self._chance.random() < 0.03:
                self.change_source()
            usual = self._source
            if self._chance.random() < 0.1:  # for one look only
                self._source = self._chance.choice(["beyond", "no number"])
            self._pass_time(1.0)
            self._work(self._chance.randrange(2))
            self._source = usual
        self._is_attended = False

    def has_known_value(self) -> bool:
        """Whether the value was well for long enough, by all answers or by those a look had that was overtaken."""
        most = OVERTAKEN_SECONDS if self.calls.rival else 0
        return any(self._was_well(self.now - ago) for ago in range(most + 1))

    def was_beyond(self, since: float) -> bool:
        """Whether it was beyond its limit since then."""
        return any(at >= since and value is not None and value > VALUE_MOST for at, value in self.answers.items())

    def _was_well(self, moment: float) -> bool:
        known = sorted(at for at in self.answers if at <= moment)
        if not known or moment - known[-1] > 3 * VALUE_EVERY:
            return False
        lately = [at for at in known if at > known[-1] - VALUE_SECONDS]
        return all(value is not None and value <= VALUE_MOST for value in map(self.answers.get, lately))

    def _measure(self, rollout: Any) -> dict[str, Measured]:
        at = self.now - self.now % VALUE_EVERY
        if self._source not in ("late", "missing"):
            self.answers.setdefault(at, {"well": 3.0, "beyond": 30.0}.get(self._source))
        if not self.answers or self._source == "missing":
            return {}
        at = max(self.answers)
        value = self.answers[at]
        return {"queue": Measured(at=at, value=value, problem="" if value is not None else "it is no number")}

    def _live(self, passes: int, trouble: float) -> None:
        self._is_attended = not trouble
        super()._live(passes, trouble)

    def _mend(self) -> None:
        super()._mend()
        self._source = "well"

    def _pass_time(self, seconds: float) -> None:
        super()._pass_time(seconds)
        if self._is_attended or self._chance.random() < 0.2:
            self._approve()
        if self._is_attended or self._chance.random() < 0.5:
            self._try_candidate()

    def _approve(self) -> None:
        """A person looks at what waits for people: releases before production, rollouts at their step."""
        person = Caller(name=self._chance.choice(LOOKED_AT), role=Role.MAINTAINER)
        for row in MemoryStore.rows(self.store, Kind.RELEASE, phases=("waiting",)):
            number = row.state["number"]
            if self._ask(lambda number=number: self._requests.approve(person, number, "looked at")):  # type: ignore[misc]
                self.entered[number] += 1
        for row in MemoryStore.rows(self.store, Kind.ROLLOUT, phases=("progressing",)):
            number = row.state["number"]
            order = (person, number, OrderName.APPROVE, "looked at")
            if self._ask(lambda order=order: self._requests.steer(*order)):  # type: ignore[misc]
                self.agreed.setdefault(number, set()).add(person.name)

    def _try_candidate(self) -> None:
        """Testers ask a green candidate that has no traffic yet."""
        row = self.store.peek(Kind.ENVIRONMENT, PRODUCTION)
        candidate = row.state["candidate"] if row else None
        key = named(candidate) if candidate and candidate["version"] in BLUE_GREEN else ""
        if self.proxy.known().get(key) and key not in self.proxy.weights(PRODUCTION):
            self.proxy.count(key, 5, 0, self._era)
            self.counted[key] += 5
            self.previewed[key] += 5


OF_STRATEGIES = (*[StrategyHistory.change_source] * 2, *[StrategyHistory.be_delivered] * 4)


def _run_of(number: int) -> runs.Run:
    commit = Commit(repository="small", git_directory="/g", ref="main", sha="a" * 40, tree="b")
    return runs.begin(number, commit, Occasion(kind="push"), Plan(), Digest("p"), driver="server", is_trusted=True)


class StrategyWorkshop(Workshop):
    """The versions that these histories deliver."""

    kind = StrategyHistory

    def deploy(self, number: int) -> tuple[EnvironmentPlan, ...]:
        """The environments of a version, production in its own way."""
        way = next(way for versions, way in PRODUCTIONS.items() if number in versions)
        production = EnvironmentPlan(name="production", requires=("staging",), replicas=REPLICAS)
        return EnvironmentPlan(name="staging", replicas=1), production.model_copy(update=way)

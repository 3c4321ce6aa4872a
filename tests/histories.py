"""Random histories of deliveries, and a watch that knows what must never happen in any of them.

Two control planes work on the same rows and the same data plane. Each may be killed, or overtaken by the other, at
every call that it makes; the data plane drifts, cannot be read or refuses; people ask for things in between. The
``Watch`` hears of every save and every act. It is written in the words of the promises and calls no rule: what it needs
to know of a rollout it reads from the stored rows, and the rest from the world that it made itself.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.plant import ADA, Plant, Rules

from interlock.access.audit import Deed
from interlock.delivery.revision import CounterSeen, PairsSeen, ReplicaSeen, Revision
from interlock.edges.proxy import FakeProxy
from interlock.edges.serving import FakeReplicas
from interlock.edges.store import MemoryStore
from interlock.errors import InterlockError, ProxyFault
from interlock.pipeline.canaries.plan import AnalysisMetricPlan, AnalysisPlan, MirrorPlan, StepPlan, StrategyPlan
from interlock.pipeline.plan import EnvironmentPlan, WindowPlan
from interlock.vocabulary import Fact, Kind, Row, Write

STAGING, PRODUCTION = "small/staging", "small/production"
WEIGHTS = (20, 50, 100)
ANALYSIS_SECONDS, PAUSE_SECONDS, DEADLINE, MARGIN = 4.0, 3.0, 60.0, 0.05
MIRROR_SECONDS, MIRROR_PERCENT = 4.0, 50
PROBATION_SECONDS, ON_PROBATION, LABEL_SECONDS = 6.0, 90, 2.0
"""A candidate has so much of the traffic while it is on probation; labels come so late."""
MANY_BAD_REQUESTS = 300
LEAST_REQUESTS = 60
"""Fewer requests cannot prove that a candidate is harmless: with none failed, 0.95 ** 60 is more than alpha."""
WINDOW_SECONDS, WINDOW_EVERY = 2400.0, 3600.0
CANARY = StrategyPlan(
    kind="canary",
    steps=(
        StepPlan(set_weight=20),
        StepPlan(analysis=ANALYSIS_SECONDS),
        StepPlan(set_weight=50),
        StepPlan(pause=PAUSE_SECONDS),
    ),
    deadline=DEADLINE,
    analysis=AnalysisPlan(
        metrics=(
            AnalysisMetricPlan(metric="error_rate", margin=MARGIN, max=0.1),
            AnalysisMetricPlan(metric="accuracy", margin=MARGIN, max=0.1, delay=LABEL_SECONDS),
        )
    ),
    probation=PROBATION_SECONDS,
    holdback=100 - ON_PROBATION,
)
DEPLOY = (
    EnvironmentPlan(name="staging", replicas=1),
    EnvironmentPlan(
        name="production",
        requires=("staging",),
        strategy=CANARY,
        windows=(WindowPlan(opens="0 * * * *", seconds=WINDOW_SECONDS),),
    ),
)
MIRRORED = CANARY.model_copy(
    update={"steps": (StepPlan(mirror=MirrorPlan(percent=MIRROR_PERCENT, seconds=MIRROR_SECONDS)), *CANARY.steps)}
)
VERSIONS, BAD_VERSIONS, BAD_SHARE, LAST = 6, (3, 5), 0.4, 6
MIRRORED_VERSIONS = (2, 5, 6)
"""Those whose canary begins with copies of requests."""
WRONG_VERSIONS = (4,)
"""Their answers are quick and well formed, and so often wrong as those of the bad ones fail: labels alone tell."""
FINAL = ("promoted", "rolled_back", "superseded", "cancelled")
SETTLING_PASSES = 400
PATIENCE = 10
"""Seconds that a person waits for what may come."""
SLOW_SHARE = 0.3
NOTHING = Row(kind=Kind.ENVIRONMENT, key="", version=0, phase="", state={}, place=0, created=0.0, updated=0.0)


def named(revision: Mapping[str, Any]) -> str:
    """What a stored revision is called in the proxy."""
    return f"{str(revision['environment']).replace('/', '.')}.r{revision['number']}"


def environment_of(revision_key: str) -> str:
    """Whose it is."""
    return revision_key.rpartition(".")[0].replace(".", "/")


class Killed(BaseException):
    """The process of a control plane has ended, between two of its calls."""


class Broken(AssertionError):
    """A promise does not hold."""


class Calls:
    """What may happen at a call of a control plane: it is killed, or it sleeps while the other one works."""

    def __init__(self, chance: random.Random, kill: float, rival: float) -> None:
        self.chance, self.kill, self.rival = chance, kill, rival
        self.let_the_other_work: Callable[[bool], None] = lambda _: None
        self.is_weighing: Callable[[str], bool] = lambda _: False
        """Whether an environment's weights are to be changed next."""
        self.told: Counter[str] = Counter()
        self._depth = 0

    def happen(self, *, is_weighing: bool = False) -> None:
        """At each call, before and after it. Where it is about to change weights it may well be asleep, and for long:
        what it does then was saved long ago.
        """
        drawn = self.chance.random()
        rival = 10 * self.rival if is_weighing else self.rival
        if drawn < self.kill:
            self.told["killed"] += 1
            raise Killed
        if drawn < self.kill + rival and self._depth == 0:
            self.told["overtaken"] += 1
            self._depth += 1
            self.let_the_other_work(is_weighing)
            self._depth -= 1


class WatchedStore(MemoryStore):
    """Tells the watch of every save."""

    def __init__(self, now: Callable[[], float], calls: Calls) -> None:
        super().__init__(now)
        self._calls = calls
        self.watch: Watch | None = None

    def load(self, kind: Kind, key: str) -> Row | None:
        self._calls.happen()
        return super().load(kind, key)

    def save(self, *writes: Write, audit: Sequence[Deed] = (), facts: Sequence[Fact] = ()) -> tuple[Row, ...]:
        self._calls.happen()
        before = {(write.kind, write.key): MemoryStore.load(self, write.kind, write.key) for write in writes}
        saved = super().save(*writes, audit=audit, facts=facts)
        if self.watch is not None:
            self.watch.saved(before, saved)
        self._calls.happen()
        return saved

    def peek(self, kind: Kind, key: str) -> Row | None:
        """The row, and nothing happens."""
        return MemoryStore.load(self, kind, key)


class WatchedProxy(FakeProxy):
    """A proxy that may be deaf, and tells the watch of every act."""

    def __init__(self, listeners: Mapping[str, str], calls: Calls) -> None:
        super().__init__(listeners)
        self._calls = calls
        self.slow: set[str] = set()
        """Replicas that are not healthy yet."""
        self.is_deaf = False
        self.watch: Watch | None = None

    def ensure_endpoints(
        self, revision_key: str, replicas: Sequence[str], draining: Collection[str], version: int
    ) -> None:
        self._before_act()
        if self.watch is not None:
            self.watch.endpoints(revision_key, replicas, draining)
        new = set(replicas) - set(self._endpoints.get(revision_key, {}))
        super().ensure_endpoints(revision_key, replicas, draining, version)
        for name in sorted(new):
            if self._calls.chance.random() < SLOW_SHARE:
                self.set_health(name, False)
                self.slow.add(name)
        self._calls.happen(is_weighing=self._calls.is_weighing(environment_of(revision_key)))

    def remove_endpoints(self, revision_key: str, version: int) -> None:
        self._before_act()
        if self.watch is not None:
            self.watch.endpoints(revision_key, (), ())
        super().remove_endpoints(revision_key, version)
        self._calls.happen()

    def ensure_weights(self, environment: str, weights: Mapping[str, int], version: int) -> None:
        self._before_act(is_weighing=True)
        before = dict(self._weights.get(environment, {}))
        super().ensure_weights(environment, weights, version)
        if self.watch is not None:
            self.watch.weighed(environment, before, weights)
        self._calls.happen()

    def ensure_mirrors(self, environment: str, copied: Mapping[str, int], version: int) -> None:
        self._before_act()
        before = self.copies(environment)
        super().ensure_mirrors(environment, copied, version)
        if self.watch is not None:
            self.watch.mirrored(environment, before, copied)
        self._calls.happen()

    def copies(self, environment: str) -> dict[str, int]:
        """Shares of requests that are copied, by who is given them."""
        return dict(self._mirrors.get(environment, {}))

    def weights(self, environment: str) -> dict[str, int]:
        """Shares above 0, as requests meet them."""
        return {key: share for key, share in self._weights.get(environment, {}).items() if share}

    def drift(self, environment: str, weights: Mapping[str, int]) -> None:
        """Somebody else changed the weights: the end of a lease, or a hand in the files. Copies end with it."""
        self._weights[environment] = dict(weights)
        self._mirrors.pop(environment, None)

    def forget(self, revision_key: str) -> None:
        """Somebody else removed endpoints that have no weight, and are given no copies."""
        if not any(shares.get(revision_key) for shares in (*self._weights.values(), *self._mirrors.values())):
            self._endpoints.pop(revision_key, None)

    def warm_up(self) -> None:
        """Some of the slow ones are healthy now."""
        for name in sorted(self.slow):
            is_known = name in self._endpoints.get(name.rpartition(".")[0], {})
            if not is_known or self._calls.chance.random() < SLOW_SHARE:
                self.slow.remove(name)
                if is_known:
                    self.set_health(name, True)

    def known(self) -> dict[str, dict[str, Any]]:
        """Endpoints by revision."""
        return self._endpoints

    def _before_act(self, *, is_weighing: bool = False) -> None:
        self._calls.happen(is_weighing=is_weighing)
        if self.is_deaf:
            raise ProxyFault("the proxy does not answer")


class WatchedReplicas(FakeReplicas):
    """Tells the watch of what is taken away."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self._calls = calls
        self.watch: Watch | None = None

    def ensure(self, revision: Revision, version: int) -> None:
        self._calls.happen()
        super().ensure(revision, version)
        self._calls.happen(is_weighing=self._calls.is_weighing(revision.environment))

    def remove(self, revision_key: str, version: int, beyond: int = 0) -> None:
        self._calls.happen()
        if self.watch is not None and beyond == 0:
            self.watch.removed(revision_key)
        super().remove(revision_key, version, beyond)

    def names(self, environment: str) -> list[str]:
        """Of all its replicas."""
        return list(self.observe(environment))

    def mend(self) -> None:
        """None is ill any more."""
        for environment in (STAGING, PRODUCTION):
            for name in self.names(environment):
                self.set_seen(name, ReplicaSeen(is_running=True, is_ready=True))


class Watch:
    """What must hold at every save and every act. ``now`` and the rest of the world are the history's own."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._store, self._proxy = history.store, history.proxy
        self._given_up: set[str] = set()
        self._giving_up: set[str] = set()
        self._begun: set[str] = set()
        self._before: Mapping[tuple[Kind, str], Row | None] = {}
        self._gained: dict[str, float] = {}
        self._asked: dict[str, int] = {}
        self._copied_since: dict[str, float] = {}
        self._on_probation: dict[str, float] = {}
        self.ends: Counter[str] = Counter()
        self.holds = 0

    # --- saves ---

    def saved(self, before: Mapping[tuple[Kind, str], Row | None], saved: Sequence[Row]) -> None:
        """Every row of one transaction, as it was and as it is."""
        self._before = before
        for row in saved:
            was = before[row.kind, row.key]
            if row.kind is Kind.ROLLOUT:
                self._rollout(row, was)
            elif row.kind is Kind.ENVIRONMENT:
                self._environment(row.state, was.state if was else None)
        self._one_rollout_each()

    def _rollout(self, row: Row, was: Row | None) -> None:
        rollout = row.state
        if was is None:
            self._begins(rollout)
            return
        self._holds(was.phase == "progressing", f"rollout {row.key} was {was.phase} and is {row.phase}: it ended twice")
        weight, weight_before = rollout["weight"], was.state["weight"]
        is_promoted = row.phase == "promoted"
        if weight > weight_before:
            self._gains(rollout, was.state)
        if weight == ON_PROBATION != weight_before:
            self._comes_on_probation(rollout, weight_before)
        if was.state["wish"] is not None:
            self._holds(row.phase == "rolled_back", f"a person wants rollout {row.key} back, and it is {row.phase}")
        if is_promoted:
            self._promoted(rollout, was.state)
        elif row.phase in FINAL:
            self._taken_back(rollout, row.phase, weight_before)
            if row.phase == "rolled_back" and was.state["wish"] is None:
                self._has_reason(rollout)
        if row.phase in FINAL:
            self.ends[row.phase] += 1
        elif rollout["release"] is None:
            self._holds(rollout["held_since"] is None, f"rollout {row.key}, the way back, is held")

    def _begins(self, rollout: Any) -> None:
        title, key = f"rollout {rollout['number']}", named(rollout["candidate"])
        self._holds(key not in self._begun, f"{title} is of {key}, as another one was")
        self._begun.add(key)
        blocked = self._is_blocked(rollout["candidate"]["model_digest"])
        self._holds(not blocked, f"{title} begins with a quarantined digest")
        if rollout["release"] is None:
            return
        self._may_go_forward(rollout, title)
        newest = max(row.state["number"] for row in MemoryStore.rows(self._store, Kind.RELEASE))
        self._holds(rollout["release"] == newest, f"{title} is of release {rollout['release']}, there is {newest}")
        release = self._row(Kind.RELEASE, str(rollout["release"])).state
        if rollout["environment"] == PRODUCTION:
            staged = self._row(Kind.ROLLOUT, str(release["rollouts"]["staging"]))
            is_same = staged.state["candidate"]["model_digest"] == rollout["candidate"]["model_digest"]
            self._holds(staged.phase == "promoted" and is_same, f"{title} brings what was not promoted in staging")

    def _gains(self, rollout: Any, was: Any) -> None:
        title = f"rollout {rollout['number']}"
        weight, key, environment = rollout["weight"], named(rollout["candidate"]), rollout["environment"]
        known = self._proxy.known().get(key, {})
        in_force = self._proxy.weights(environment).get(key, 0)
        self._holds(self._proxy.problem is None, f"{title} gains weight while the proxy cannot be read")
        self._holds(
            in_force == was["weight"], f"{title} gains weight at {in_force} %, its {was['weight']} % not yet there"
        )
        if was["weight"] in (0, ON_PROBATION):
            self._holds(self._is_well(rollout, known), f"{title} gets traffic, and its candidate is not healthy")
        if rollout["release"] is None:
            return
        self._may_go_forward(rollout, title)
        release = self._row(Kind.RELEASE, str(rollout["release"]))
        is_wanted = release.phase != "stopped" or was["weight"] == ON_PROBATION
        self._holds(is_wanted, f"{title} gains weight, its release was stopped")
        self._holds(key not in self._history.crashed, f"{title} gains weight while its replicas crash")
        if environment == PRODUCTION and rollout["stable"] is not None:
            self._earned(rollout, was["weight"], weight, title)
        self._gained[key] = self._history.now
        self._asked[key] = self._history.served[key]

    def _is_well(self, rollout: Any, known: Mapping[str, Any]) -> bool:
        """Whether the candidate may get its first traffic, by what the proxy knows of its replicas."""
        return len(known) >= rollout["candidate"]["replicas"] and all(one.is_healthy for one in known.values())

    def _earned(self, rollout: Any, before: int, weight: int, title: str) -> None:
        """Weights in the plan's order, after the plan's time, and all traffic only after enough harmless requests."""
        key = named(rollout["candidate"])
        if before == 0 and rollout["candidate"]["version"] in MIRRORED_VERSIONS:
            self._mirror_is_over(rollout, title)
        if before == ON_PROBATION:
            self._passes_probation(rollout, key, title)
            return
        expected = WEIGHTS[0] if before == 0 else WEIGHTS[WEIGHTS.index(before) + 1]
        self._holds(weight == expected, f"{title} goes from {before} % to {weight} %")
        served, is_bad = self._history.served[key], rollout["candidate"]["version"] in BAD_VERSIONS
        is_known = self._history.counted[key] >= MANY_BAD_REQUESTS
        self._holds(not (is_bad and is_known), f"{title} gains weight after so many failures")
        if before == 20:
            waited, fresh = (
                self._history.unheld_since(PRODUCTION, self._gained[key], at_most=True),
                served - self._asked[key],
            )
            self._holds(waited >= ANALYSIS_SECONDS, f"{title} was looked at for {waited:g} s only")
            self._holds(fresh > 0, f"{title} passes an analysis in which nobody asked it anything")
        if before == 50:
            waited = self._history.unheld_since(PRODUCTION, self._gained[key], at_most=True)
            self._holds(waited >= PAUSE_SECONDS, f"{title} paused for {waited:g} s only")
            evidence = served + self._history.copied[key]  # copies of its mirror are answered too
            self._holds(evidence >= LEAST_REQUESTS, f"{title} gets all traffic after {evidence} requests")
            self._holds(not is_bad, f"{title} gives a bad version all traffic")

    def _mirror_is_over(self, rollout: Any, title: str) -> None:
        """Copies for the plan's time, some of them answered, and none of them still given."""
        key = named(rollout["candidate"])
        self._holds(key in self._copied_since, f"{title} gets traffic, and nothing was ever copied to it")
        waited = self._history.unheld_since(PRODUCTION, self._copied_since[key], at_most=True)
        self._holds(waited >= MIRROR_SECONDS, f"{title} was given copies for {waited:g} s only")
        self._holds(self._history.copied[key] > 0, f"{title} gets traffic, and no copy was answered")
        still = self._proxy.copies(PRODUCTION)
        self._holds(not still, f"{title} gets traffic while copies go to {still}")
        is_bad = rollout["candidate"]["version"] in BAD_VERSIONS
        is_known = self._history.copied[key] >= MANY_BAD_REQUESTS
        self._holds(not (is_bad and is_known), f"{title} gets traffic after so many failures of copies")

    def _comes_on_probation(self, rollout: Any, before: int) -> None:
        """After all steps, beside a stable side that is still there."""
        key, title = named(rollout["candidate"]), f"rollout {rollout['number']}"
        self._holds(before == 100, f"{title} comes on probation from {before} %")
        self._holds(self._has_probation(rollout), f"{title} has no probation, and is on one")
        alive = {name.rpartition(".")[0] for name in self._history.replicas.names(rollout["environment"])}
        self._holds(named(rollout["stable"]) in alive, f"{title} is on probation, and nothing of stable is left")
        self.ends["on probation"] += 1
        self._on_probation[key] = self._history.now
        self._asked[key] = self._history.labelled[key]

    def _passes_probation(self, rollout: Any, key: str, title: str) -> None:
        """After its time, or for a release that waits for its place; in both cases by enough right answers."""
        waited = self._history.unheld_since(PRODUCTION, self._on_probation[key], at_most=True)
        waiting = [
            row.state["number"]
            for row in MemoryStore.rows(self._store, Kind.RELEASE, phases=("waiting",))
            if "staging" in row.state["rollouts"] and "production" not in row.state["rollouts"]
        ]
        self._holds(waited >= PROBATION_SECONDS or bool(waiting), f"{title} was on probation for {waited:g} s only")
        fresh = self._history.labelled[key] - self._asked[key]
        self._holds(fresh >= LEAST_REQUESTS, f"{title} passes its probation by {fresh} labels")
        is_bad = rollout["candidate"]["version"] in (*BAD_VERSIONS, *WRONG_VERSIONS)
        self._holds(not is_bad, f"{title} passes its probation, and is bad")

    def _has_probation(self, rollout: Any) -> bool:
        """Whether it has somebody to be compared with afterwards."""
        return rollout["environment"] == PRODUCTION and rollout["release"] is not None and bool(rollout["stable"])

    def _promoted(self, rollout: Any, was: Any) -> None:
        title, key, environment = f"rollout {rollout['number']}", named(rollout["candidate"]), rollout["environment"]
        share = ON_PROBATION if self._has_probation(rollout) else 100
        self._holds(was["weight"] == share, f"{title} is promoted from {was['weight']} %")
        wanted = {key: share} | ({named(rollout["stable"]): 100 - share} if share < 100 else {})
        self._holds(self._proxy.weights(environment) == wanted, f"{title} is promoted, and does not serve everything")
        if rollout["release"] is not None:
            self._may_go_forward(rollout, title)
        after = self._row(Kind.ENVIRONMENT, environment).state
        self._holds(after["stable"] == rollout["candidate"], f"{title} is promoted, and {environment} is not at it")
        stable, digest = rollout["stable"], rollout["candidate"]["model_digest"]
        if stable is not None and stable["model_digest"] != digest:
            self._holds(after["previous"] == stable, f"{title} leaves no way back")
        is_other = after["previous"] is None or after["previous"]["model_digest"] != digest
        self._holds(is_other, f"{title} leaves a way back to the same")

    def _taken_back(self, rollout: Any, phase: str, before: int) -> None:
        title, environment = f"rollout {rollout['number']}", rollout["environment"]
        self._giving_up.add(named(rollout["candidate"]))
        after = self._row(Kind.ENVIRONMENT, environment).state
        stable = rollout["stable"]
        key = named(stable) if stable else None
        self._holds(after["stable"] == stable, f"{title} is {phase}, and {environment} moved")
        self._holds(after["weights"] == ({key: 100} if key else {}), f"{title} is {phase}, not all traffic at stable")
        self._holds(rollout["weight"] == 0, f"{title} is {phase} at {rollout['weight']} %")
        if phase == "rolled_back":
            blocked = self._is_blocked(rollout["candidate"]["model_digest"])
            self._holds(blocked, f"{title} is rolled back, and its digest may come again")
        if before == ON_PROBATION:
            self._holds(phase == "rolled_back", f"{title} has passed all steps, and is {phase}")
            is_frozen = after["freeze"] is not None and after["freeze"]["until"] is None
            self._holds(is_frozen, f"{title} is rolled back on probation, and the next push may bring it again")
            self._history.frozen[environment] = float("inf")
            self.ends["rolled_back on probation"] += 1

    def _may_go_forward(self, rollout: Any, title: str) -> None:
        environment = self._store.peek(Kind.ENVIRONMENT, rollout["environment"])
        freeze = self._history.frozen.get(rollout["environment"], 0.0)
        self._holds(environment is not None, f"{title} has no environment")
        self._holds(self._history.now >= freeze, f"{title} goes forward in a frozen environment")
        if rollout["environment"] == PRODUCTION:
            self._holds(self._history.is_window_open(), f"{title} goes forward outside the windows")
        blocked = self._may_not_come(rollout["candidate"]["model_digest"])
        self._holds(not blocked, f"{title} goes forward with a quarantined digest")

    def _has_reason(self, rollout: Any) -> None:
        """Nobody asked for it: then the candidate did harm, or crashed, or may not come in, or its time was over."""
        key, candidate = named(rollout["candidate"]), rollout["candidate"]
        is_bad = candidate["version"] in BAD_VERSIONS and self._history.served[key] + self._history.copied[key] > 0
        is_wrong = candidate["version"] in WRONG_VERSIONS and key in self._on_probation
        is_late = self._is_late(rollout, 0.0, at_most=True)
        is_barred = self._is_barred(candidate["model_digest"], rollout)
        reasons = (is_bad, is_wrong, is_late, is_barred, key in self._history.crashed)
        self._holds(any(reasons), f"rollout {rollout['number']} is rolled back for nothing: {rollout['because']}")

    def _environment(self, after: Any, was: Any) -> None:
        shares = after["weights"]
        self._holds(sum(shares.values()) in (0, 100), f"{after['name']}: the weights are {shares}")
        self._holds(all(share > 0 for share in shares.values()), f"{after['name']}: the weights are {shares}")
        known = {named(one) for one in (after["stable"], after["candidate"]) if one}
        self._holds(set(shares) <= known, f"{after['name']}: traffic for {shares}, none of {known}")
        if after["stable"] is not None and not self._is_gap(after):
            self._holds(sum(shares.values()) == 100, f"{after['name']}: stable, and nobody serves")
        if was and was["stable"] and not after["stable"]:
            raise Broken(f"{after['name']} lost its stable revision")

    def _is_gap(self, environment: Any) -> bool:
        """Whether nobody has to serve there now."""
        return False

    def _one_rollout_each(self) -> None:
        """At most one rollout is under way in an environment, and the environment knows it."""
        for environment in (STAGING, PRODUCTION):
            row = self._store.peek(Kind.ENVIRONMENT, environment)
            under_way = [
                one.state["number"]
                for one in MemoryStore.rows(self._store, Kind.ROLLOUT, phases=("progressing",))
                if one.state["environment"] == environment
            ]
            known = [row.state["rollout"]] if row and row.state["rollout"] is not None else []
            self._holds(under_way == known, f"{environment} knows of rollout {known}, under way are {under_way}")

    # --- acts ---

    def weighed(self, environment: str, before: Mapping[str, int], weights: Mapping[str, int]) -> None:
        """The proxy was told these shares."""
        self._holds(sum(weights.values()) in (0, 100), f"the proxy is told {weights}")
        for key, share in weights.items():
            if share == 0:
                continue
            self._holds(key in self._proxy.known(), f"traffic is sent to {key}, which the proxy does not know")
            is_new = not before.get(key)
            is_well = any(one.is_healthy for one in self._proxy.known().get(key, {}).values())
            self._holds(not is_new or is_well, f"traffic is sent to {key}, of which nothing is healthy")
            gave_up = key in self._given_up and share > before.get(key, 0)
            self._holds(not gave_up, f"{key} was given up, and gets {share} % again")

    def mirrored(self, environment: str, before: Mapping[str, int], copied: Mapping[str, int]) -> None:
        """The proxy was told to copy these shares."""
        for key, share in copied.items():
            self._holds(share == MIRROR_PERCENT, f"{share} % are copied to {key}")
            self._holds(key not in self._proxy.weights(environment), f"{key} is given copies beside its traffic")
            is_well = any(one.is_healthy for one in self._proxy.known().get(key, {}).values())
            self._holds(is_well or key in before, f"{key} is given copies, and nothing of it is healthy")
            self._holds(key not in self._given_up or key in before, f"{key} was given up, and is given copies again")
            self._copied_since.setdefault(key, self._history.now)

    def endpoints(self, revision_key: str, replicas: Sequence[str], draining: Collection[str]) -> None:
        """The proxy is to know these replicas, those in ``draining`` get nothing new."""
        environment = environment_of(revision_key)
        shares = {**self._proxy.copies(environment), **self._proxy.weights(environment)}
        share = shares.get(revision_key, 0)
        left = set(replicas) - set(draining)
        self._holds(not share or bool(left), f"{revision_key} has {share} % and is left without endpoints")
        gone = set(self._proxy.known().get(revision_key, {})) - set(replicas)
        busy = [name for name in gone if self._proxy.known()[revision_key][name].active]
        self._holds(not busy, f"{busy} are forgotten with requests in flight")

    def removed(self, revision_key: str) -> None:
        """The replicas of a revision are ended."""
        self._holds(self._proxy.problem is None, f"{revision_key} is ended while the proxy cannot be read")
        self._holds(revision_key not in self._proxy.known(), f"{revision_key} is ended, and the proxy still knows it")

    # --- the end ---

    def settled(self) -> None:
        """After time without trouble everything has ended, and the world is as the rows say."""
        for kind, final in ((Kind.ROLLOUT, FINAL), (Kind.RELEASE, ("done", "stopped"))):
            for row in MemoryStore.rows(self._store, kind):
                self._holds(row.phase in final, f"{kind} {row.key} is still {row.phase}: {row.state['because']}")
        for environment in (STAGING, PRODUCTION):
            row = self._store.peek(Kind.ENVIRONMENT, environment)
            if row is None:
                continue
            stable = named(row.state["stable"]) if row.state["stable"] else None
            wanted = {stable: 100} if stable else {}
            self._holds(row.state["weights"] == wanted, f"{environment}: rows say {row.state['weights']}, not {wanted}")
            met = self._proxy.weights(environment)
            self._holds(met == wanted, f"{environment}: the proxy says {met}, the rows {wanted}")
            still = (self._proxy.copies(environment), row.state["mirrors"])
            self._holds(still == ({}, {}), f"{environment}: requests are still copied to {still}")
            mine = {key for key in self._proxy.known() if key.startswith(environment.replace("/", "."))}
            self._holds(mine == set(wanted), f"{environment}: the proxy knows {mine}, wanted are {set(wanted)}")
            alive = {name.rpartition(".")[0] for name in self._history.replicas.names(environment)}
            self._holds(alive == set(wanted), f"{environment}: replicas of {alive}, wanted are {set(wanted)}")
            self._holds(environment not in self._proxy.leases, f"{environment}: a lease is left over")

    def passed(self) -> None:
        """A control plane has worked without being killed: whoever was given up has lost its traffic by now.

        One that dies between what it saves and what it does leaves that to the next: until then one that slept since
        before may do what it decided.
        """
        self._given_up |= self._giving_up
        self._giving_up.clear()

    def rested(self) -> None:
        """After a pass in which nothing came between: deadlines and leases."""
        for row in MemoryStore.rows(self._store, Kind.ROLLOUT, phases=("progressing",)):
            rollout = row.state
            self._holds(not self._is_late(rollout, 1.0, at_most=False), f"rollout {row.key} outlives its deadline")
        for environment in (STAGING, PRODUCTION):
            state = (self._store.peek(Kind.ENVIRONMENT, environment) or NOTHING).state
            stable, candidate = state.get("stable"), state.get("candidate")
            given = {**self._proxy.copies(environment), **self._proxy.weights(environment)}
            if stable and candidate and given.get(named(candidate)) and not self._is_gone(state):
                lease = self._proxy.leases.get(environment)
                self._holds(lease == (named(candidate), named(stable)), f"{environment}: its lease is {lease}")

    def _is_gone(self, environment: Any) -> bool:
        """Whether nothing of stable is there to which traffic could go back at once."""
        return False

    def delivered(self, version: int) -> None:
        """A good version that was released without trouble is in every environment."""
        for environment in (STAGING, PRODUCTION):
            stable = self._row(Kind.ENVIRONMENT, environment).state["stable"]
            told = [row.state["because"] for row in MemoryStore.rows(self._store, Kind.ROLLOUT)][-1:]
            self._holds(stable is not None and stable["version"] == version, f"v{version} did not come in: {told}")

    def _is_late(self, rollout: Any, grace: float, *, at_most: bool) -> bool:
        """Whether a rollout's clock has gone beyond its deadline: that of its steps, or that after its probation."""
        if rollout["release"] is None:
            return bool(self._history.now - rollout["started"] > rollout["deadline"] + grace)
        began = self._on_probation.get(named(rollout["candidate"]))
        most = rollout["deadline"] + grace + (0.0 if began is None else PROBATION_SECONDS)
        moment = rollout["started"] if began is None else began
        return self._history.unheld_since(rollout["environment"], moment, at_most=at_most) > most

    def _row(self, kind: Kind, key: str) -> Row:
        row = self._store.peek(kind, key)
        assert row is not None, f"there is no {kind} {key}"
        return row

    def _is_barred(self, digest: str, rollout: Any) -> bool:
        """Whether the digest was quarantined before this rollout ended, which quarantines it too."""
        key = (Kind.QUARANTINE, digest)
        row = self._before[key] if key in self._before else self._store.peek(*key)
        return rollout["release"] is not None and row is not None and row.phase == "blocked"

    def _is_blocked(self, digest: str) -> bool:
        row = self._store.peek(Kind.QUARANTINE, digest)
        return row is not None and row.phase == "blocked"

    def _may_not_come(self, digest: str) -> bool:
        """Whether the digest was quarantined when this look at it began: a rival may do it in the middle of one."""
        row = self._store.peek(Kind.QUARANTINE, digest)
        return row is not None and row.phase == "blocked" and row.updated < self._history.now

    def _holds(self, is_so: bool, otherwise: str) -> None:
        self.holds += 1
        if not is_so:
            raise Broken(otherwise)


class History:
    """One random history. ``rules`` are the modules that decide; the same seed tells the same story of them."""

    def __init__(self, plant: Plant, seed: int, rules: Rules) -> None:
        self.seed, self._plant, self._rules = seed, plant, rules
        self._chance = random.Random(seed)
        self.calls = Calls(random.Random(seed + 1), kill=0.0, rival=0.0)
        plant.now = self.now = 36_000.0 + self._chance.choice([0.0, 0.0, WINDOW_SECONDS - 25.0, WINDOW_SECONDS + 5.0])
        self.store = WatchedStore(lambda: self.now, self.calls)
        self.proxy = WatchedProxy({"staging": "127.0.0.1:1", "production": "127.0.0.1:2"}, self.calls)
        self.replicas = WatchedReplicas(self.calls)
        self.served: Counter[str] = Counter()
        self.copied: Counter[str] = Counter()
        """Copies by revision that both sides have answered, as the logs of now tell."""
        self.frozen: dict[str, float] = {}
        self.crashed: set[str] = set()
        self.counted: Counter[str] = Counter()
        """Requests by revision that the proxy's counters of now tell of."""
        self.labelled: Counter[str] = Counter()
        self._wrong: Counter[str] = Counter()
        self._unlabelled: list[tuple[float, str, int, int]] = []
        self._has_labels = True
        self._held: dict[str, list[tuple[float, float, bool]]] = {STAGING: [], PRODUCTION: []}
        self._seen_held: set[str] = set()
        """Environments of which an undisturbed look has seen that they are held: a clock stands from then on."""
        self._rate = self._chance.choice([0, 20, 400, 400, 2000])
        self._epoch = 0
        self.watch = Watch(self)
        self.store.watch = self.proxy.watch = self.replicas.watch = self.watch
        self._minds = [self._begin(), self._begin()]
        self._requests = self._minds[0][1]
        self.calls.let_the_other_work = self._other
        self.calls.is_weighing = self._is_weighing
        for version in plant.registered:
            write = version.model_dump(mode="json")
            row = Write(kind=Kind.VERSION, key=version.key, expected=0, phase="registered", state=write, because="test")
            self.store.save(row)

    def tell(self) -> None:
        """The whole history, to its settled end. Broken where a promise does not hold."""
        self._release(1)
        self._live(12, trouble=0.0)
        self.calls.kill, self.calls.rival = self._chance.choice([(0.0, 0.0), (0.01, 0.0), (0.0, 0.01), (0.004, 0.008)])
        self._live(self._chance.randint(30, 110), trouble=self._chance.choice([0.1, 0.3, 0.5]))
        self._heal()
        self._settle()
        self._live(10, trouble=0.0)
        self.watch.settled()
        self._ask(lambda: self._requests.lift_quarantine(ADA, f"small/{LAST}", "mended"))
        self._wait_for_window()
        self._release(LAST)
        self._settle()
        self._live(10, trouble=0.0)
        self.watch.settled()
        self.watch.delivered(LAST)

    # --- time ---

    def is_window_open(self) -> bool:
        """Whether production may go forward by the clock."""
        return self.now % WINDOW_EVERY < WINDOW_SECONDS

    def unheld_since(self, environment: str, moment: float, *, at_most: bool) -> float:
        """Seconds since then in which the environment was not held. What was held for a part of the time between two
        looks counts as not held for ``at_most`` so many, else as held.
        """
        spans = [(start, end) for start, end, is_sure in self._held[environment] if is_sure or not at_most]
        return self.now - moment - sum(max(0.0, end - max(start, moment)) for start, end in spans)

    def _settle(self) -> None:
        """Until all is over; what froze by itself is unfrozen."""
        for _ in range(SETTLING_PASSES):
            if self._is_over():
                return
            if self.frozen:
                self.unfreeze()
            self._live(1, trouble=0.0)

    def _live(self, passes: int, trouble: float) -> None:
        for _ in range(passes):
            if self._chance.random() < trouble:
                self._chance.choice(self.troubles())(self)
            self._pass_time(self._chance.choice([1.0, 1.0, 1.0, 2.0, 3.0]) if trouble else 1.0)
            self._work(self._chance.randrange(2))

    def troubles(self) -> Sequence[Callable[[Any], None]]:
        """What may happen."""
        return TROUBLES

    def _pass_time(self, seconds: float) -> None:
        began, were_held = self.now, {name: self._is_held(name) for name in self._held}
        self.now = self._plant.now = self.now + seconds
        self.proxy.warm_up()
        for environment, was_held in were_held.items():
            if was_held or self._is_held(environment) or environment in self._seen_held:
                is_sure = was_held and self._is_held(environment) and environment in self._seen_held
                self._held[environment].append((began, self.now, is_sure))
            for key, share in self.proxy.weights(environment).items():
                asked = int(self._rate * seconds * share / 100)
                row = self.store.peek(Kind.ENVIRONMENT, environment)
                candidate = row.state["candidate"] if row else None
                version = candidate["version"] if candidate and named(candidate) == key else 0
                self.proxy.count(key, asked, int(asked * BAD_SHARE) if version in BAD_VERSIONS else 0, self._era)
                self.served[key] += asked
                self.counted[key] += asked
                if self._has_labels:
                    wrong = int(asked * BAD_SHARE) if version in WRONG_VERSIONS else 0
                    self._unlabelled.append((self.now + LABEL_SECONDS, key, asked, wrong))
            for key, share in self.proxy.copies(environment).items():
                self._answer_copies(environment, key, int(self._rate * seconds * share / 100))
        self._label()

    def _label(self) -> None:
        """What is old enough has its label now."""
        for _, key, asked, wrong in [one for one in self._unlabelled if one[0] <= self.now]:
            self.labelled[key] += asked
            self._wrong[key] += wrong
        self._unlabelled = [one for one in self._unlabelled if one[0] > self.now]
        self.replicas.truths[PRODUCTION] = {
            key: CounterSeen(epoch="labels", requests=count, errors=self._wrong[key])
            for key, count in self.labelled.items()
        }

    def _answer_copies(self, environment: str, key: str, copies: int) -> None:
        """Of a bad version a share of the copies fails, where stable answered."""
        row = self.store.peek(Kind.ENVIRONMENT, environment)
        candidate = row.state["candidate"] if row else None
        is_bad = bool(candidate) and named(candidate) == key and candidate["version"] in BAD_VERSIONS
        self.copied[key] += copies
        known = self.replicas.pairs.setdefault(environment, {})
        before = known.get(key, PairsSeen(epoch=self._era))
        before = before if before.epoch == self._era else PairsSeen(epoch=self._era)
        failed = before.failed + (int(copies * BAD_SHARE) if is_bad else 0)
        known[key] = before.model_copy(update={"pairs": before.pairs + copies, "failed": failed})

    @property
    def _era(self) -> str:
        return f"epoch {self._epoch}"

    def _is_held(self, environment: str) -> bool:
        is_shut = environment == PRODUCTION and not self.is_window_open()
        return is_shut or self.now < self.frozen.get(environment, 0.0)

    # --- control planes ---

    def _begin(self) -> Any:
        return self._plant.begin(self.store, self.proxy, self.replicas, self._rules)

    def _work(self, which: int) -> None:
        told = self.calls.told.total()
        try:
            self._minds[which][0].one_pass()
        except Killed:
            self._minds[which] = self._begin()
        else:
            self.watch.passed()
        if told == self.calls.told.total():
            self._seen_held = {environment for environment in self._held if self._is_held(environment)}
            if not self.proxy.is_deaf:
                self.watch.rested()

    def _other(self, is_long: bool) -> None:
        """The other control plane works once; or for a while, in which a person may want the way back."""
        if is_long and self._chance.random() < 0.5:
            self.roll_back()
        for _ in range(self._chance.randint(1, 3) if is_long else 1):
            if is_long:
                self._pass_time(1.0)
            try:
                self._minds[self._chance.randrange(2)][0].one_pass()
            except Killed:
                return
            self.watch.passed()

    def _is_weighing(self, environment: str) -> bool:
        row = self.store.peek(Kind.ENVIRONMENT, environment)
        return row is not None and row.state["weights"] != self.proxy.weights(environment)

    def _is_over(self) -> bool:
        rollouts = MemoryStore.rows(self.store, Kind.ROLLOUT, phases=("progressing",))
        return not rollouts and not MemoryStore.rows(self.store, Kind.RELEASE, phases=("open", "waiting"))

    # --- people ---

    def _ask(self, question: Callable[[], object]) -> bool:
        """A person's request, which may be refused; the person is not killed."""
        kill, rival = self.calls.kill, self.calls.rival
        self.calls.kill = self.calls.rival = 0.0
        try:
            question()
        except InterlockError:
            return False
        finally:
            self.calls.kill, self.calls.rival = kill, rival
        return True

    def _release(self, number: int) -> None:
        self._ask(lambda: self._requests.start_release(ADA, f"small/{number}", "a test asked"))

    def release_one(self) -> None:
        """Any version, good or bad, also one that was released before."""
        self._release(self._chance.randint(1, VERSIONS))

    def roll_back(self) -> None:
        """A person wants the way back; the environment is frozen from then on."""
        environment = self._chance.choice([STAGING, PRODUCTION])
        if self._ask(lambda: self._requests.roll_back(ADA, environment, "I do not like it")):
            self.frozen[environment] = float("inf")

    def regret(self) -> None:
        """A person wants the way back, and does not like what was before either."""
        environment = self._chance.choice([STAGING, PRODUCTION])
        for _ in range(2):
            if self._ask(lambda: self._requests.roll_back(ADA, environment, "I do not like it")):
                self.frozen[environment] = float("inf")
            for _ in range(PATIENCE):
                self._pass_time(1.0)
                self._work(0)

    def freeze(self) -> None:
        """Until a moment, or until somebody unfreezes it."""
        environment, seconds = self._chance.choice([STAGING, PRODUCTION]), self._chance.choice([5.0, 20.0, None])
        until = None if seconds is None else self.now + seconds
        if self._ask(lambda: self._requests.freeze(ADA, environment, "holidays", until)):
            self.frozen[environment] = float("inf") if until is None else until

    def unfreeze(self) -> None:
        """Every environment."""
        for environment in (STAGING, PRODUCTION):
            if self._ask(lambda name=environment: self._requests.unfreeze(ADA, name, "over")):  # type: ignore[misc]
                self.frozen.pop(environment, None)

    def lift(self) -> None:
        """A quarantined digest may come again."""
        self._ask(lambda: self._requests.lift_quarantine(ADA, f"small/{self._chance.randint(1, VERSIONS)}", "mended"))

    # --- the data plane ---

    def lose_labels(self) -> None:
        """What is answered from now on gets no label, or gets one again."""
        self._has_labels = not self._has_labels

    def unread(self) -> None:
        """The proxy cannot be read, or can be again."""
        self.proxy.problem = None if self.proxy.problem else "no answer"

    def deafen(self) -> None:
        """The proxy takes nothing, or takes it again."""
        self.proxy.is_deaf = not self.proxy.is_deaf

    def begin_anew(self) -> None:
        """The proxy's process is another one, its counters begin at nothing; so do those of pairs."""
        self._epoch += 1
        self.counted.clear()
        self.copied.clear()

    def lose_the_lease(self) -> None:
        """All traffic is at stable, as supervise does it."""
        row = self.store.peek(Kind.ENVIRONMENT, PRODUCTION)
        if row and row.state["stable"] and len(self.proxy.weights(PRODUCTION)) > 1:
            self.proxy.drift(PRODUCTION, {named(row.state["stable"]): 100})

    def lose_endpoints(self) -> None:
        """The proxy has forgotten a revision that had no traffic."""
        for key in list(self.proxy.known())[-1:]:
            self.proxy.forget(key)

    def fall_ill(self) -> None:
        """A replica is not healthy, has requests in flight, or is well again."""
        keys = [key for key, known in self.proxy.known().items() if known]
        if keys:
            key = self._chance.choice(keys)
            name = self._chance.choice(sorted(self.proxy.known()[key]))
            self.proxy.set_health(name, self._chance.random() < 0.6, self._chance.choice([0, 0, 2]))

    def crash(self) -> None:
        """The replicas of a revision, the candidate's or stable's, end again and again."""
        names = self.replicas.names(PRODUCTION)
        keys = sorted({name.rpartition(".")[0] for name in names}, key=lambda key: int(key.rpartition("r")[2])) or [""]
        key = self._chance.choice([keys[0], *keys[-1:] * 2])
        for name in [name for name in names if name.rpartition(".")[0] == key]:
            self.replicas.set_seen(name, ReplicaSeen(is_running=False, is_ready=False, restarts=4, problem="no memory"))
            self.crashed.add(name.rpartition(".")[0])

    def change_traffic(self) -> None:
        """More requests, fewer, or none."""
        self._rate = self._chance.choice([0, 20, 400, 2000])

    def go_on_holiday(self) -> None:
        """Production is frozen for longer than any deadline, and looked at now and then; if one comes, in a canary."""
        self.unfreeze()
        for _ in range(PATIENCE):
            if len(self.proxy.weights(PRODUCTION)) > 1:
                break
            self._pass_time(1.0)
            self._work(0)
        if self._ask(lambda: self._requests.freeze(ADA, PRODUCTION, "holidays")):
            self.frozen[PRODUCTION] = float("inf")
        for seconds in (1.0, 2.0 * DEADLINE, 1.0):
            self._pass_time(seconds)
            self._work(0)
        self.unfreeze()

    def be_tried(self) -> None:
        """All is well until a candidate is on probation, but that labels may never come; there it meets something."""
        self._mend()
        self._has_labels = self._chance.random() < 0.7
        self.unfreeze()
        self._wait_for_window()
        number = self._chance.choice([1, 2, LAST, *WRONG_VERSIONS])
        self._ask(lambda: self._requests.lift_quarantine(ADA, f"small/{number}", "mended"))
        self._release(number)
        for _ in range(3 * PATIENCE):
            if ON_PROBATION in self.proxy.weights(PRODUCTION).values():
                self._chance.choice(TRIALS)(self)
                break
            self._pass_time(1.0)
            self._work(0)
        for _ in range(int(PROBATION_SECONDS)):
            self._pass_time(1.0)
            self._work(0)

    def sicken(self) -> None:
        """A replica of the candidate on probation is not healthy."""
        for key, share in self.proxy.weights(PRODUCTION).items():
            if share == ON_PROBATION:
                self.proxy.set_health(min(self.proxy.known()[key]), False)

    def wait_elsewhere(self) -> None:
        """A newer release is there, and waits for staging."""
        if self._ask(lambda: self._requests.freeze(ADA, STAGING, "holidays")):
            self.frozen[STAGING] = float("inf")
        self.release_one()

    def sleep(self) -> None:
        """No control plane looks for a while."""
        self._pass_time(self._chance.choice([20.0, 70.0, 1500.0]))

    def _heal(self) -> None:
        """From here on nothing happens any more."""
        self.calls.kill = self.calls.rival = 0.0
        self._mend()
        for _ in range(2):  # what was dead a moment ago may go back, and that freezes
            self._work(0)
        self.unfreeze()
        self._wait_for_window()

    def _mend(self) -> None:
        """The data plane is well, and has traffic and labels."""
        self.proxy.problem, self.proxy.is_deaf, self._rate, self._has_labels = None, False, 400, True
        self.replicas.mend()
        self.crashed.clear()
        for known in self.proxy.known().values():
            for name, one in known.items():
                known[name] = one.model_copy(update={"is_healthy": True, "active": 0})

    def _wait_for_window(self) -> None:
        """Production's window is open, and stays so for as long as a rollout takes."""
        if self.now % WINDOW_EVERY > WINDOW_SECONDS - SETTLING_PASSES:
            self._pass_time(WINDOW_EVERY - self.now % WINDOW_EVERY)


TRIALS: tuple[Callable[[History], None], ...] = (
    History.sicken,
    History.wait_elsewhere,
    History.release_one,
    History.freeze,
    History.unread,
    History.lose_the_lease,
    History.lose_labels,
    History.roll_back,
)
TROUBLES: tuple[Callable[[History], None], ...] = (
    *[History.release_one] * 6,
    *[History.unfreeze] * 4,
    *[History.lift] * 2,
    *[History.unread] * 2,
    *[History.deafen] * 2,
    *[History.fall_ill] * 2,
    *[History.go_on_holiday] * 2,
    *[History.crash] * 2,
    History.roll_back,
    History.regret,
    History.freeze,
    History.begin_anew,
    *[History.be_tried] * 2,
    History.lose_labels,
    History.lose_the_lease,
    History.lose_endpoints,
    History.change_traffic,
    History.sleep,
)


class Workshop:
    """The versions that histories of this kind deliver: their bytes and signatures are made once."""

    kind: type[History] = History

    def __init__(self, folder: Path) -> None:
        self._plant = Plant(folder)
        for number in range(1, VERSIONS + 1):
            self._plant.registered.append(self._plant.register(number, deploy=self.deploy(number)))

    def deploy(self, number: int) -> tuple[EnvironmentPlan, ...]:
        """The environments of a version."""
        staging, production = DEPLOY
        strategy = MIRRORED if number in MIRRORED_VERSIONS else CANARY
        return staging, production.model_copy(update={"strategy": strategy})

    def tell(self, seed: int, rules: Rules | None = None) -> History:
        """The history of this seed; Broken, naming the seed, where a promise does not hold."""
        history = self.kind(self._plant, seed, rules or Rules())
        try:
            history.tell()
        except Broken as broken:
            raise Broken(f"{self.kind.__name__} {seed}, {history.now:g} s: {broken}") from broken
        return history

"""Replicas that are replaced where there is no room for two copies: the table, and what never happens on the way."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.revisions import revision

from interlock.delivery import advance as advancing
from interlock.delivery import replacing
from interlock.delivery.advance import advance
from interlock.delivery.environment import Act, Environment, desired, differences, enter, examine, follow, wished
from interlock.delivery.replacing import Replacement, ReplacementSeen, following, lack_of_room, waits_for
from interlock.delivery.revision import DataPlaneSeen, EndpointSeen, ReplicaSeen, Revision
from interlock.delivery.rollout import Rollout, RolloutPhase, RolloutSeen, begin
from interlock.pipeline.plan import EnvironmentPlan, SurgePlan

ALL = SurgePlan(max_surge=0, max_unavailable=64)


def replacement(replicas: int, surge: int, unavailable: int, stable: int, candidate: int, moved: int) -> Replacement:
    return Replacement(
        replicas=replicas,
        max_surge=surge,
        max_unavailable=unavailable,
        stable=stable,
        candidate=candidate,
        moved=moved,
    )


@pytest.mark.parametrize(
    ("now", "seen", "waits"),
    [
        ((3, 1, 0, 3, 0, 0), (3, 0, 0), None),
        ((3, 1, 0, 3, 1, 0), (3, 0, 0), "1 of 1 replicas of the candidate are starting"),
        ((3, 1, 0, 3, 1, 0), (3, 1, 0), None),
        ((3, 1, 0, 2, 1, 1), (3, 1, 0), "1 replicas of stable are leaving"),
        ((3, 1, 0, 2, 1, 1), (2, 1, 0), "weight 33 % is not yet in force (0 %)"),
        ((3, 1, 0, 2, 1, 1), (2, 1, 33), None),
        ((3, 1, 0, 2, 2, 1), (2, 2, 0), "weight 33 % is not yet in force (0 %)"),
        ((3, 1, 0, 2, 1, 1), (2, 0, 33), "1 of 1 replicas of the candidate are starting"),
        ((1, 0, 1, 0, 0, 0), (1, 0, 0), "1 replicas of stable are leaving"),
    ],
)
def test_what_the_next_move_waits_for(now: tuple[int, ...], seen: tuple[int, int, int], waits: str | None) -> None:
    assert waits_for(replacement(*now), ReplacementSeen(*seen)) == waits


@pytest.mark.parametrize(
    ("now", "then", "because"),
    [
        ((3, 1, 0, 3, 0, 0), (3, 1, 0), "1 more replicas of the candidate start"),
        ((3, 1, 0, 3, 1, 0), (2, 1, 1), "1 of 3 replicas are replaced, weight 33 %"),
        ((3, 2, 0, 1, 2, 2), (1, 3, 2), "1 more replicas of the candidate start"),
        ((3, 1, 0, 1, 3, 2), (0, 3, 3), "3 of 3 replicas are replaced, weight 100 %"),
        ((3, 0, 1, 3, 0, 0), (2, 0, 0), "1 replicas of stable make room"),
        ((3, 0, 1, 2, 0, 0), (2, 1, 0), "1 more replicas of the candidate start"),
        ((4, 1, 1, 4, 0, 0), (3, 0, 0), "1 replicas of stable make room"),
        ((4, 1, 1, 3, 0, 0), (3, 2, 0), "2 more replicas of the candidate start"),
        ((4, 1, 1, 3, 2, 0), (2, 2, 2), "2 of 4 replicas are replaced, weight 50 %"),
        ((2, 0, 2, 2, 0, 0), (0, 0, 0), "2 replicas of stable make room"),
        ((2, 0, 2, 0, 0, 0), (0, 2, 0), "2 more replicas of the candidate start"),
    ],
)
def test_the_next_move(now: tuple[int, ...], then: tuple[int, int, int], because: str) -> None:
    after, told = following(replacement(*now))
    assert (after.stable, after.candidate, after.moved) == then
    assert told == because


@pytest.mark.parametrize(
    ("surge", "told"),
    [
        (SurgePlan(max_surge=1, max_unavailable=0), "; its replicas are replaced with 1 more at a time"),
        (SurgePlan(max_surge=0, max_unavailable=1), "; its replicas are replaced with 0 more, 1 fewer at a time"),
        (ALL, "; its replicas are replaced all at once: nobody serves until the new ones are healthy"),
    ],
)
def test_how_it_goes_is_said_when_it_begins(surge: SurgePlan, told: str) -> None:
    assert rollout_of(3, surge).because.endswith(told)
    first = begin(1, revision(1).model_copy(update={"surge": surge}), None, PLAN, release=None, now=0.0)
    assert first.replacement is None  # there is nothing to replace


MIB = 2**20
ANEW = "strategy: recreate, with nobody serving meanwhile"
BIG = revision(2, 4).model_copy(update={"memory": 100 * MIB})


@pytest.mark.parametrize(
    ("surge", "left", "choice"),
    [
        (None, 760, None),
        (None, 759, "write replicas: {max_surge: 3} with strategy: rolling"),
        (None, 500, "write replicas: {max_surge: 1} with strategy: rolling"),
        (None, 499, f"write replicas: {{max_surge: 0, max_unavailable: 1}} with strategy: rolling, or {ANEW}"),
        (None, 399, "only 3 of them are held: write fewer replicas, or less memory for each"),
        (SurgePlan(max_surge=1, max_unavailable=0), 500, None),
        (SurgePlan(max_surge=1, max_unavailable=0), 499,
         f"write replicas: {{max_surge: 0, max_unavailable: 1}} with strategy: rolling, or {ANEW}"),
        (SurgePlan(max_surge=0, max_unavailable=1), 400, None),
        (ALL, 400, None),
        (ALL, 399, "only 3 of them are held: write fewer replicas, or less memory for each"),
    ],
)  # fmt: skip
def test_a_machine_that_does_not_hold_it_is_offered_what_it_holds(
    surge: SurgePlan | None, left: int, choice: str | None
) -> None:
    stable = revision(1, 4).model_copy(update={"memory_mb": 90.0})
    told = lack_of_room(stable, BIG.model_copy(update={"surge": surge}), 4, left * MIB)
    assert (told is None) == (choice is None)
    if told is not None and choice is not None:
        assert told.startswith("without room: this needs ")
        assert told.endswith(f"{left} MiB are left: {choice}")


def test_one_replica_can_only_be_made_anew_or_have_another_beside_it() -> None:
    alone = BIG.model_copy(update={"replicas": 1})
    told = lack_of_room(alone, alone, 1, 199 * MIB)
    assert told is not None
    assert told.endswith("are left: write strategy: recreate, with nobody serving meanwhile")
    assert lack_of_room(None, alone, 1, 100 * MIB) is None
    assert "those of" not in str(lack_of_room(None, alone, 1, 99 * MIB))
    assert lack_of_room(revision(1), revision(2), 2, 0.0) is None  # nothing is known of what they need


PLAN = EnvironmentPlan(name="production")
STABLE = revision(1)


def rollout_of(replicas: int, surge: SurgePlan) -> Rollout:
    stable = STABLE.model_copy(update={"replicas": replicas})
    candidate = revision(2, replicas).model_copy(update={"surge": surge})
    return begin(2, candidate, stable, PLAN, release=1, now=0.0, replicas=replicas)


class World:
    """Replicas and a proxy that make what the environment asks for, one act at a time, and count what there was."""

    def __init__(self, replicas: int, surge: SurgePlan) -> None:
        self.rollout = rollout_of(replicas, surge)
        stable = self.rollout.stable
        assert stable is not None
        before = Environment(name="production", model="flights", stable=stable, weights={stable.key: 100}, revisions=1)
        self.environment = enter(before, self.rollout)
        self.there = [stable.replica(index) for index in range(replicas)]
        self.ready = set(self.there)
        self.endpoints = {stable.key: dict.fromkeys(self.there, False)}
        """By revision the replicas that the proxy knows, and whether each is draining."""
        self.weights = {stable.key: 100}
        self.most = self.fewest = replicas
        self.now = 0.0

    def seen(self) -> DataPlaneSeen:
        return DataPlaneSeen(
            replicas={name: ReplicaSeen(is_running=True, is_ready=name in self.ready) for name in self.there},
            endpoints={
                key: {name: EndpointSeen(is_healthy=name in self.ready, is_draining=one) for name, one in names.items()}
                for key, names in self.endpoints.items()
            },
            weights=self.weights,
        )

    def decide(self, wish: str | None = None) -> None:
        self.now += 1.0
        rollout = self.rollout.model_copy(update={"wish": wish})
        self.rollout = advance(rollout, RolloutSeen(plane=self.seen()), self.now).state
        self.environment = examine(follow(self.environment, self.rollout), self.seen())

    def act(self, starts: bool) -> None:
        wanted = {one.key: one for one in (self.rollout.stable, self.rollout.candidate) if one is not None}
        for act in differences(self.environment, self.seen()):
            self._do(act, wanted)
        if starts:
            self.ready |= set(self.there)
        self.most = max(self.most, len(self.there))
        self.fewest = min(self.fewest, self.serving())

    def serving(self) -> int:
        return sum(
            name in self.ready and not is_draining
            for key, names in self.endpoints.items()
            if self.weights.get(key, 0) > 0
            for name, is_draining in names.items()
        )

    def is_settled(self, replicas: int) -> bool:
        return len(self.there) == replicas and len(self.endpoints) == 1 and sum(self.weights.values()) == 100

    def _do(self, act: Act, wanted: dict[str, Revision]) -> None:
        if act.name == "ensure_replicas":
            count = next(one.replicas for one in self.counted() if one.key == act.revision)
            new = [wanted[act.revision].replica(index) for index in range(count)]
            self.there += [name for name in new if name not in self.there]
        elif act.name in ("ensure_endpoints", "drain_endpoints"):
            self.endpoints[act.revision] = {name: name in act.draining for name in act.replicas}
        elif act.name == "ensure_weights":
            self.weights = dict(act.weights)
        elif act.name == "remove_endpoints":
            del self.endpoints[act.revision]
        elif act.name == "remove_replicas":
            gone = {
                name for name in self.there
                if name.rpartition(".")[0] == act.revision and int(name.rpartition(".")[2]) >= act.beyond
            }  # fmt: skip
            self.there = [name for name in self.there if name not in gone]
            self.ready -= gone

    def counted(self) -> tuple[Revision, ...]:

        return wished(self.environment, self.seen()).revisions


surges = st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(0, 6)).filter(lambda one: one[1] + one[2] > 0)


def play(replicas: int, surge: SurgePlan, back_at: int, starts: list[bool]) -> None:
    """One rollout, taken back at a turn, with replicas that are ready when ``starts`` says so."""
    world = World(replicas, surge)
    for turn in range(200):
        if not world.rollout.phase.is_final:
            world.decide("enough" if turn == back_at else None)
        world.act(starts[turn] if turn < len(starts) else True)
        is_taken_back = world.rollout.phase is RolloutPhase.ROLLED_BACK
        assert len(world.there) <= replicas + (max(1, surge.max_surge) if is_taken_back else surge.max_surge)
        assert is_taken_back or world.serving() >= replicas - surge.max_unavailable
        assert surge.max_unavailable >= replicas or world.serving() > 0
        if world.rollout.phase.is_final and world.is_settled(replicas):
            break
    stays = world.rollout.candidate if world.rollout.phase is RolloutPhase.PROMOTED else world.rollout.stable
    assert stays is not None
    assert world.rollout.phase.is_final
    assert world.there == [stays.replica(index) for index in range(replicas)]
    assert world.weights == {stays.key: 100}
    assert set(world.endpoints) == {stays.key}


surges = st.builds(SurgePlan, max_surge=st.integers(0, 3), max_unavailable=st.integers(0, 6)).filter(
    lambda surge: surge.max_surge + surge.max_unavailable > 0
)


@settings(max_examples=60)
@given(st.integers(1, 6), surges, st.integers(0, 60), st.lists(st.booleans(), max_size=60))
def test_never_more_than_the_machine_holds_and_never_fewer_than_may_serve(
    replicas: int, surge: SurgePlan, back_at: int, starts: list[bool]
) -> None:
    play(replicas, surge, back_at, starts)


MISTAKES = {
    "those that start are forgotten": (" - replacement.stable - replacement.candidate", " - replacement.stable"),
    "one more leaves": ("replacement.max_unavailable - moved)", "replacement.max_unavailable - moved - 1)"),
    "nobody waits for who leaves": ("if seen.stable > replacement.stable:", "if seen.stable < replacement.stable:"),
    "nobody waits for who starts": ("if missing > 0:", "if missing > 1:"),
    "stable leaves before the candidate serves": ("min(replacement.stable, all_ - moved)", "0"),
}


def play_slowly() -> None:
    for replicas, more, fewer in itertools.product((1, 2, 3), (0, 1, 2), (0, 1)):
        if more + fewer:
            surge = SurgePlan(max_surge=more, max_unavailable=fewer)
            play(replicas, surge, -1, [turn % 3 == 2 for turn in range(60)])


def test_a_grid_of_rollouts_with_replicas_that_start_slowly_keeps_every_promise() -> None:
    play_slowly()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_breaks_a_promise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = MISTAKES[name]
    text = Path(replacing.__file__).read_text()
    assert text.count(right) == 1
    rules = ModuleType(replacing.__name__)
    monkeypatch.setitem(sys.modules, rules.__name__, rules)
    exec(compile(text.replace(right, wrong), replacing.__file__, "exec"), rules.__dict__)
    for function in ("following", "waits_for"):
        monkeypatch.setattr(advancing, function, getattr(rules, function))
    with pytest.raises(AssertionError):
        play_slowly()


def test_while_all_are_made_anew_nobody_has_traffic_and_that_is_no_trouble() -> None:
    world = World(2, ALL)
    for _ in range(9):
        world.decide()
        world.act(starts=False)
    assert world.fewest == 0
    assert (world.weights, world.environment.is_dead) == ({}, False)
    assert [one.key for one in desired(world.environment).revisions] == [world.rollout.candidate.key]


def test_the_lease_ends_with_the_last_replica_that_traffic_could_go_back_to() -> None:
    world = World(2, SurgePlan(max_surge=1, max_unavailable=0))
    leased = []
    while not world.rollout.phase.is_final:
        world.decide()
        world.act(starts=True)
        leased.append((world.rollout.weight, desired(world.environment).leased is not None))
    assert set(leased) == {(0, False), (50, True), (100, False)}

"""What a person may ask of the delivery, who may, and what the audit log says of it."""

from __future__ import annotations

from typing import Any

import pytest

from interlock.access.caller import Caller, Role
from interlock.control.delivering.quarantine import quarantine
from interlock.control.delivering.requests import Requests
from interlock.control.people import local_caller
from interlock.control.rows import load_state, write_environment, write_state
from interlock.delivery import release as releases
from interlock.delivery.environment import Environment, enter
from interlock.delivery.holding import Freeze
from interlock.delivery.revision import Revision
from interlock.delivery.rollout import Order, OrderName, Rollout, RolloutPhase, begin
from interlock.edges.store import MemoryStore
from interlock.errors import AlreadyExists, Conflict, Forbidden, NotFound, Refused, StaleWrite
from interlock.gate.judgement import Judgement
from interlock.pipeline.plan import EnvironmentPlan
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Digest, Kind

ADA = local_caller("ada")
WHERE = "small/production"


def revision(number: int, version: int) -> Revision:
    return Revision(
        environment=WHERE,
        number=number,
        version=version,
        model="small",
        model_digest=Digest(f"blake3:{version:064x}"),
        lock=Digest("l"),
        format="skops",
    )


class World:
    def __init__(self) -> None:
        self.store = MemoryStore(lambda: 1000.0)
        self.requests = Requests(self.store, lambda: 1000.0)
        for number in (1, 2):
            self.register(number)
        environment = Environment(
            name="production", model="small", stable=revision(2, 2), previous=revision(1, 1), revisions=2
        )
        self.store.save(write_environment(environment, 0, "a test"))

    def register(self, number: int, **other: Any) -> None:
        version = ModelVersion(
            model="small",
            number=number,
            digest=Digest(f"blake3:{number:064x}"),
            lock=Digest("l"),
            format="skops",
            judgement=Judgement(),
            repository="demo",
            ref="refs/heads/main",
            commit="a" * 40,
            run=str(number),
            plan=Digest("p"),
            serving=Digest(f"s{number}"),
            signature=Digest("s"),
            provenance=Digest("p"),
            is_trusted=True,
            deploy=(EnvironmentPlan(name="staging"), EnvironmentPlan(name="production")),
            made=1.0,
        ).model_copy(update=other)
        self.store.save(write_state(Kind.VERSION, version.key, version, expected=0, phase="registered", because="test"))

    def deeds(self) -> list[tuple[str, str, str]]:
        return [(one.deed.who, one.deed.action, one.deed.thing) for one in self.store.audit()]


@pytest.fixture
def world() -> World:
    return World()


def test_a_release_is_begun_with_its_deed(world: World) -> None:
    release = world.requests.start_release(ADA, "small/1", "a demo")
    row = world.store.load(Kind.RELEASE, release.key)
    assert row is not None
    assert (row.repository, row.ref) == ("demo", "refs/heads/main")
    entry = world.store.audit()[-1]
    assert world.deeds() == [("local:ada", "start release", "version/small/1")]
    assert entry.deed.detail == {"release": release.key, "because": "a demo"}


def test_the_same_key_of_the_same_caller_begins_one_release(world: World) -> None:
    first = world.requests.start_release(ADA, "small/1", "a demo", "key-1")
    assert world.requests.start_release(ADA, "small/1", "again", "key-1") == first
    assert world.requests.start_release(ADA, "small/1", "again").key != first.key
    other = world.requests.start_release(local_caller("bob"), "small/1", "his own", "key-1")
    assert other.key != first.key
    assert len(world.store.rows(Kind.RELEASE)) == 3
    assert len(world.deeds()) == 3
    with pytest.raises(Conflict, match="began a release of small v1"):
        world.requests.start_release(ADA, "small/2", "another", "key-1")


def test_two_with_one_key_at_once_begin_one_release(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    find, began = world.store.find, []

    def nothing_yet(kind: Kind, identity: str) -> None:
        monkeypatch.setattr(world.store, "find", find)
        began.append(world.requests.start_release(ADA, "small/1", "the other thread", "key-1"))

    monkeypatch.setattr(world.store, "find", nothing_yet)
    assert [world.requests.start_release(ADA, "small/1", "this thread", "key-1")] == began
    assert len(world.store.rows(Kind.RELEASE)) == 1


def test_a_release_that_exists_for_another_reason_is_no_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.requests.start_release(ADA, "small/1", "a demo")
    monkeypatch.setattr(world.store, "number", lambda _: 1)
    with pytest.raises(AlreadyExists):
        world.requests.start_release(ADA, "small/1", "a demo", "key-1")


@pytest.mark.parametrize(
    ("caller", "why"),
    [
        (Caller(name="bob", role=Role.MAINTAINER), "it takes the role operator; bob is maintainer"),
        (Caller(name="bob", role=Role.OPERATOR, repositories=("other",)), "is for other"),
        (Caller(name="bob", role=Role.OPERATOR, environments=("small/staging",)), "is for small/staging"),
    ],
)
def test_who_may_not_changes_nothing(world: World, caller: Caller, why: str) -> None:
    begin_rollout(world)
    world.store.save(quarantine(world.store, revision(3, 1), "it was bad"))
    before = [row for kind in Kind for row in world.store.rows(kind)]
    for asked in (
        lambda: world.requests.start_release(caller, "small/1", "please"),
        lambda: world.requests.roll_back(caller, WHERE, "please"),
        lambda: world.requests.freeze(caller, WHERE, "please"),
        lambda: world.requests.unfreeze(caller, WHERE, "please"),
        lambda: world.requests.lift_quarantine(caller, "small/1", "please"),
        lambda: world.requests.retry(caller, 1, "please"),
        *(lambda name=name: world.requests.steer(caller, 1, name, "please") for name in OrderName if name != "approve"),
    ):
        with pytest.raises(Forbidden, match=why):
            asked()
    assert [row for kind in Kind for row in world.store.rows(kind)] == before
    assert world.deeds() == []


def test_an_operator_of_the_place_may(world: World) -> None:
    caller = Caller(
        name="op", role=Role.OPERATOR, repositories=("demo",), environments=("small/staging", "small/production")
    )
    world.requests.start_release(caller, "small/1", "please")
    assert "brings small/production back to small v1" in world.requests.roll_back(caller, WHERE, "odd numbers")
    world.requests.lift_quarantine(caller, "small/2", "it was the network")
    assert world.deeds() == [
        ("op", "start release", "version/small/1"),
        ("op", "roll back", "environment/small/production"),
        ("op", "lift quarantine", "version/small/2"),
    ]


def freeze_of(world: World) -> Freeze | None:
    environment, _ = load_state(world.store, Kind.ENVIRONMENT, WHERE, Environment)
    assert environment is not None
    return environment.freeze


def test_a_freeze_is_kept_with_its_deed_until_it_is_lifted(world: World) -> None:
    told = world.requests.freeze(ADA, WHERE, "holidays", until=5000.0)
    assert told == "small/production is frozen by local:ada until 1970-01-01 01:23 UTC: holidays"
    assert freeze_of(world) == Freeze(by="local:ada", reason="holidays", until=5000.0)
    world.requests.freeze(ADA, WHERE, "more holidays")
    assert freeze_of(world) == Freeze(by="local:ada", reason="more holidays")
    assert world.requests.unfreeze(ADA, WHERE, "over") == "small/production may go forward again"
    assert freeze_of(world) is None
    with pytest.raises(Refused, match="not frozen"):
        world.requests.unfreeze(ADA, WHERE, "over")
    with pytest.raises(Refused, match="that moment has passed"):
        world.requests.freeze(ADA, WHERE, "holidays", until=1000.0)
    with pytest.raises(NotFound):
        world.requests.freeze(ADA, "small/nowhere", "holidays")
    assert [(entry.deed.action, entry.deed.detail) for entry in world.store.audit()] == [
        ("freeze", {"reason": "holidays", "until": 5000.0}),
        ("freeze", {"reason": "more holidays", "until": None}),
        ("unfreeze", {"reason": "over", "until": None}),
    ]


def test_a_rollback_by_hand_leaves_the_environment_frozen(world: World) -> None:
    world.requests.roll_back(ADA, WHERE, "odd numbers")
    assert freeze_of(world) == Freeze(by="local:ada", reason="rolled back: odd numbers")
    world.requests.unfreeze(ADA, WHERE, "go on")
    world.requests.roll_back(ADA, WHERE, "and now forth")  # the one under way
    assert freeze_of(world) == Freeze(by="local:ada", reason="rolled back: and now forth")


def test_a_freeze_that_loses_the_swap_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    save, left = world.store.save, [2]

    def contested(*writes: Any, **more: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise StaleWrite("another was first")
        return save(*writes, **more)

    monkeypatch.setattr(world.store, "save", contested)
    world.requests.freeze(ADA, WHERE, "holidays")
    assert freeze_of(world) is not None
    left[0] = 99
    with pytest.raises(StaleWrite, match="moved by others all the time"):
        world.requests.unfreeze(ADA, WHERE, "over")


def test_a_rollout_under_way_is_rolled_back_with_a_deed(world: World) -> None:
    world.requests.roll_back(ADA, WHERE, "odd numbers")
    assert "is rolled back" in world.requests.roll_back(ADA, WHERE, "and now forth")
    assert [entry.deed.detail for entry in world.store.audit()] == [
        {"rollout": 1, "reason": "odd numbers"},
        {"rollout": 1, "reason": "and now forth"},
    ]


def test_a_roll_back_sent_again_says_what_was_done_and_does_no_more(world: World) -> None:
    """Without a key the second one would end the first, or go back to what was left."""
    first = world.requests.roll_back(ADA, WHERE, "odd numbers", "k")
    under_way = world.requests.roll_back(ADA, WHERE, "odder numbers", "l")
    assert "is rolled back" in under_way
    deeds, events = world.deeds(), world.store.last_event()
    assert world.requests.roll_back(ADA, WHERE, "odd numbers", "k") == first
    assert world.requests.roll_back(ADA, WHERE, "odder numbers", "l") == under_way
    assert (world.deeds(), world.store.last_event()) == (deeds, events)
    with pytest.raises(Conflict, match="rolled small/production back"):
        world.requests.roll_back(ADA, "small/staging", "odd numbers", "k")
    other = Caller(name="bob", role=Role.OPERATOR)
    assert world.requests.roll_back(other, WHERE, "mine", "k") != first  # a key is its caller's own


def test_a_roll_back_sent_twice_at_once_is_done_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    save, others = world.store.save, list[str]()

    def late(*writes: Any, **more: Any) -> Any:
        if not others:
            others.append("")
            others[0] = world.requests.roll_back(ADA, WHERE, "odd numbers", "k")
        return save(*writes, **more)

    monkeypatch.setattr(world.store, "save", late)
    assert world.requests.roll_back(ADA, WHERE, "odd numbers", "k") == others[0]
    assert len(world.store.rows(Kind.ROLLOUT)) == len(world.deeds()) == 1


def test_a_roll_back_that_loses_the_swap_is_tried_again_and_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, lost = world.store.save, []

    def lose_once(*writes: Any, **more: Any) -> Any:
        if not lost:
            lost.append(1)
            raise StaleWrite("somebody was first")
        return save(*writes, **more)

    monkeypatch.setattr(world.store, "save", lose_once)
    world.requests.roll_back(ADA, WHERE, "odd numbers")
    assert len(world.deeds()) == 1

    def lose(*_: Any, **__: Any) -> Any:
        raise StaleWrite("somebody was first")

    monkeypatch.setattr(world.store, "save", lose)
    with pytest.raises(StaleWrite, match="moved by others all the time"):
        world.requests.roll_back(ADA, WHERE, "again")


def begin_rollout(world: World) -> None:
    """Of version 3 beside version 2, under way in production."""
    world.register(3)
    environment, expected = load_state(world.store, Kind.ENVIRONMENT, WHERE, Environment)
    assert environment is not None
    plan = EnvironmentPlan(name="production")
    rollout = begin(1, revision(3, 3), environment.stable, plan, release=1, now=1000.0)
    row = world.store.load(Kind.VERSION, "small/3")
    assert row is not None
    release = releases.begin(world.store.number(Kind.RELEASE), ModelVersion.model_validate(row.state), "3")
    release = release.model_copy(update={"rollouts": {"staging": 0, "production": 1}})
    world.store.save(
        write_state(Kind.RELEASE, release.key, release, expected=0, phase=release.phase, because="begun"),
        write_state(Kind.ROLLOUT, "1", rollout, expected=0, phase=rollout.phase, because="begun"),
        write_environment(enter(environment, rollout), expected, "begun"),
    )


def rollout_of(world: World) -> Rollout:
    rollout, _ = load_state(world.store, Kind.ROLLOUT, "1", Rollout)
    assert rollout is not None
    return rollout


def test_a_rollout_is_steered_with_its_deeds(world: World) -> None:
    begin_rollout(world)
    told = world.requests.steer(ADA, 1, OrderName.PAUSE, "lunch")
    assert told == "rollout 1 of small v3 is paused by local:ada until it is resumed: lunch"
    assert rollout_of(world).pause == Order(name=OrderName.PAUSE, by="local:ada", reason="lunch")
    assert freeze_of(world) is None
    with pytest.raises(Refused, match="it is paused by local:ada"):
        world.requests.steer(ADA, 1, OrderName.PAUSE, "lunch")
    assert "is resumed by local:ada: back" in world.requests.steer(ADA, 1, OrderName.RESUME, "back")
    assert rollout_of(world).pause is None
    assert "is promoted past its further steps" in world.requests.steer(ADA, 1, OrderName.PROMOTE, "it is urgent")
    assert [(entry.deed.action, entry.deed.thing, entry.deed.detail) for entry in world.store.audit()] == [
        ("pause", "rollout/1", {"reason": "lunch"}),
        ("resume", "rollout/1", {"reason": "back"}),
        ("promote", "rollout/1", {"reason": "it is urgent"}),
    ]
    assert [event.observed["order"]["reason"] for event in world.store.events(Kind.ROLLOUT, "1")[1:]] == [
        "lunch",
        "back",
        "it is urgent",
    ]
    with pytest.raises(NotFound, match="no rollout 7"):
        world.requests.steer(ADA, 7, OrderName.PAUSE, "lunch")


def test_an_abort_is_the_rollback_of_this_rollout_and_of_nothing_else(world: World) -> None:
    begin_rollout(world)
    aborted = world.requests.steer(ADA, 1, OrderName.ABORT, "odd numbers")
    assert aborted == "rollout 1 of small v3 is rolled back by a person: odd numbers"
    assert freeze_of(world) == Freeze(by="local:ada", reason="rolled back: odd numbers")
    by_abort, freeze = rollout_of(world), freeze_of(world)
    assert world.requests.roll_back(ADA, WHERE, "odd numbers") == aborted
    assert (rollout_of(world), freeze_of(world)) == (by_abort, freeze)
    assert [(entry.deed.action, entry.deed.detail) for entry in world.store.audit()] == [
        ("roll back", {"rollout": 1, "reason": "odd numbers"})
    ] * 2
    ended = by_abort.model_copy(update={"phase": RolloutPhase.PROMOTED})
    _, expected = load_state(world.store, Kind.ROLLOUT, "1", Rollout)
    world.store.save(write_state(Kind.ROLLOUT, "1", ended, expected=expected, phase="promoted", because="x"))
    for name in OrderName:
        with pytest.raises(Refused, match="has ended, promoted"):
            world.requests.steer(ADA, 1, name, "odd numbers")


def end_rollout(world: World, phase: RolloutPhase) -> None:
    rollout, expected = load_state(world.store, Kind.ROLLOUT, "1", Rollout)
    assert rollout is not None
    ended = rollout.model_copy(update={"phase": phase, "because": "it ended"})
    world.store.save(write_state(Kind.ROLLOUT, "1", ended, expected=expected, phase=phase, because="it ended"))


def test_a_rollout_that_was_superseded_is_begun_anew_where_it_was(world: World) -> None:
    begin_rollout(world)
    with pytest.raises(Refused, match="it is under way"):
        world.requests.retry(ADA, 1, "again")
    end_rollout(world, RolloutPhase.SUPERSEDED)
    release = world.requests.retry(ADA, 1, "the newer one was bad")
    row = world.store.load(Kind.RELEASE, release.key)
    assert row is not None
    assert (row.phase, row.repository, row.state["because"]) == (
        "open",
        "demo",
        "rollout 1 of small v3 anew: the newer one was bad",
    )
    assert release.here is not None
    assert (release.version, release.here.name, release.rollouts) == ("small/3", "production", {"staging": 0})
    assert world.deeds() == [("local:ada", "retry", "rollout/1")]
    end_rollout(world, RolloutPhase.PROMOTED)
    with pytest.raises(Refused, match="it was promoted"):
        world.requests.retry(ADA, 1, "again")


def test_a_quarantined_rollout_is_begun_anew_only_with_a_reason_to_lift_it(world: World) -> None:
    begin_rollout(world)
    end_rollout(world, RolloutPhase.ROLLED_BACK)
    world.store.save(quarantine(world.store, revision(3, 3), "deadline of 60 s passed"))
    with pytest.raises(Refused, match="small v3 is quarantined: deadline of 60 s passed"):
        world.requests.retry(ADA, 1, "there is traffic now")
    assert len(world.store.rows(Kind.RELEASE)) == 1
    begun = world.requests.retry(ADA, 1, "there is traffic now", "nothing was wrong with it", "k")
    assert world.requests.retry(ADA, 1, "there is traffic now", "nothing was wrong with it", "k") == begun
    assert [row.phase for row in world.store.rows(Kind.QUARANTINE)] == ["lifted"]
    assert world.deeds() == [
        ("local:ada", "retry", "rollout/1"),
        ("local:ada", "lift quarantine", "version/small/3"),
    ]


def test_what_no_release_brought_is_not_begun_anew(world: World) -> None:
    world.requests.roll_back(ADA, WHERE, "odd numbers")
    for number in (1, 9):
        with pytest.raises(NotFound, match=f"no release brought a rollout {number}"):
            world.requests.retry(ADA, number, "again")


def test_an_order_that_loses_the_swap_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_rollout(world)
    save, left = world.store.save, [2]

    def contested(*writes: Any, **more: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise StaleWrite("another was first")
        return save(*writes, **more)

    monkeypatch.setattr(world.store, "save", contested)
    world.requests.steer(ADA, 1, OrderName.PAUSE, "lunch")
    assert rollout_of(world).pause is not None
    left[0] = 99
    with pytest.raises(StaleWrite, match="moved by others all the time"):
        world.requests.steer(ADA, 1, OrderName.RESUME, "back")


def test_what_is_not_there_is_told(world: World) -> None:
    world.register(3, deploy=())
    with pytest.raises(NotFound, match="no model version"):
        world.requests.start_release(ADA, "small/9", "x", "key")
    with pytest.raises(Refused, match="no deploy section"):
        world.requests.start_release(ADA, "small/3", "x")
    with pytest.raises(NotFound, match="no environment"):
        world.requests.roll_back(ADA, "small/nowhere", "x")
    for key in ("small/1", "small/9"):
        with pytest.raises(NotFound, match="not quarantined"):
            world.requests.lift_quarantine(ADA, key, "x")

"""The control plane watches what serves: over rows, with fakes of what serves; what it stores, does and tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.watched import WHERE, World

from interlock.control.delivering.quarantine import blocked_because
from interlock.control.monitoring.monitoring import SAVE_SECONDS
from interlock.control.monitoring.retraining import Retraining
from interlock.control.rows import load_state, write_environment
from interlock.delivery.environment import Environment
from interlock.delivery.monitoring.messages import TOLD
from interlock.delivery.monitoring.replaying import replay_turns
from interlock.edges.store import SqlStore
from interlock.vocabulary import Kind, canonical

WELL = {"input.x": (0, 0, *[30] * 10), "output.prediction": (0, 0, 150, 150)}
BROKEN = {"input.x": (300, 0, *[0] * 10), "output.prediction": (0, 0, 150, 150)}


@pytest.fixture
def world() -> World:
    return World()


def test_a_breach_is_told_once_and_again_when_it_is_over(world: World) -> None:
    world.deliver()
    world.look(WELL, 5)
    assert world.messages() == []
    assert world.look(BROKEN, 20)
    assert list(world.monitor().alerts) == ["missing of input.x"]
    (message,) = world.messages()
    assert (message.state, message.title, message.environment) == ("firing", "small v2", WHERE)
    assert "are missing" in message.alert.because
    event = world.store.events(Kind.MONITOR, WHERE)[-1]
    assert event.phase == "firing"
    found, needed = event.observed["missing of input.x"]  # type: ignore[misc,union-attr]
    assert found >= needed > 100.0  # type: ignore[operator]
    world.look(WELL, 10)
    assert [one.state for one in world.messages()] == ["firing", "resolved"]
    assert world.environment().rollout is None
    again = replay_turns(world.store.events(Kind.MONITOR, WHERE))
    assert str(again) == "2 decisions follow from the stored observations"


def test_nothing_is_looked_at_before_its_time_and_quiet_is_seldom_saved(world: World) -> None:
    world.deliver()
    world.look(WELL, 5)
    first = world.store.version(Kind.MONITOR, WHERE)
    world.monitoring.step(WHERE)
    world.look(WELL, int(SAVE_SECONDS / 60))
    assert world.store.version(Kind.MONITOR, WHERE) == first + 1


def test_an_environment_that_serves_nothing_is_not_watched(world: World) -> None:
    world.store.save(write_environment(Environment(name="production", model="small"), 0, "new"))
    assert not world.monitoring.step(WHERE)
    assert not world.monitoring.step("none/production")
    assert world.store.load(Kind.MONITOR, WHERE) is None


def test_a_version_without_a_reference_is_told_of(world: World) -> None:
    world.deliver(reference=None)
    world.look({})
    assert world.monitor().because == (
        "small v2: nothing is found; not monitored: no reference: an earlier release of Interlock made it"
    )


@pytest.mark.parametrize("reference", [[], {"rows": 1, "columns": [{}]}])
def test_a_reference_that_cannot_be_read_is_told_of(world: World, reference: object) -> None:
    world.deliver(reference=reference)
    world.look(WELL, 3)
    assert "its reference cannot be read" in world.monitor().unwatched


def test_errors_of_what_serves_are_told_of_too(world: World) -> None:
    world.deliver()
    world.proxy.ensure_endpoints(world.stable.key, [world.stable.replica(0)], (), 1)
    for _ in range(20):
        world.proxy.count(world.stable.key, 100, 60)
        world.look(WELL)
    assert list(world.monitor().alerts) == ["error_rate"]
    assert "60 % of the requests fail" in world.monitor().because


def test_a_breach_that_rolls_back_is_an_ordinary_rollout_and_leaves_the_environment_frozen(world: World) -> None:
    world.deliver("rollback")
    world.look(WELL, 3)
    world.look(BROKEN, 20)
    environment = world.environment()
    assert (environment.rollout, environment.candidate and environment.candidate.version) == (1, 1)
    assert environment.freeze is not None
    assert environment.freeze.reason.startswith("rolled back: missing of input.x: ")
    assert "rolled back by its monitor" in str(blocked_because(world.store, world.stable.model_digest))
    (alert,) = world.monitor().alerts.values()
    assert alert.acted == "rolled back by rollout 1"
    assert [message.document["acted"] for message in world.messages()] == ["rolled back by rollout 1"]
    assert len(world.store.rows(Kind.ROLLOUT)) == 1


def test_a_breach_with_nothing_to_go_back_to_says_so(world: World) -> None:
    world.deliver("rollback", has_previous=False)
    world.look(WELL, 3)
    world.look(BROKEN, 20)
    (alert,) = world.monitor().alerts.values()
    assert alert.acted == "not rolled back: there is no previous revision to go back to"
    assert world.environment().rollout is None


def test_while_a_rollout_is_under_way_a_breach_waits(world: World) -> None:
    world.deliver("rollback")
    world.look(WELL, 3)
    environment, version = load_state(world.store, Kind.ENVIRONMENT, WHERE, Environment)
    assert environment is not None
    world.store.save(write_environment(environment.model_copy(update={"rollout": 7}), version, "a rollout"))
    world.look(BROKEN, 20)
    assert [alert.acted for alert in world.monitor().alerts.values()] == [""]
    world.store.save(write_environment(environment, version + 1, "it ended"))
    assert world.look(BROKEN)
    assert [alert.acted for alert in world.monitor().alerts.values()] == ["rolled back by rollout 1"]
    assert len(world.messages()) == 1


def test_another_revision_is_watched_anew_and_the_alerts_of_the_former_are_over(world: World) -> None:
    world.deliver()
    world.look(WELL, 3)
    world.look(BROKEN, 20)
    environment, version = load_state(world.store, Kind.ENVIRONMENT, WHERE, Environment)
    assert environment is not None
    world.stable = world.revision(3, reference=world.stable.reference)
    world.store.save(write_environment(environment.model_copy(update={"stable": world.stable}), version, "promoted"))
    assert world.look(WELL)
    assert (world.monitor().revision, world.monitor().alerts) == (world.stable.key, {})
    assert [(one.state, one.title) for one in world.messages()] == [("firing", "small v2"), ("resolved", "small v2")]


def test_a_control_plane_that_comes_back_goes_on_and_tells_nothing_twice(world: World) -> None:
    world.deliver()
    world.look(WELL, 3)
    world.look(BROKEN, 20)
    world.live()
    world.look(BROKEN, 20)
    assert len(world.messages()) == 1
    assert list(world.monitor().alerts) == ["missing of input.x"]


def test_two_control_planes_tell_of_a_breach_once(world: World) -> None:
    world.deliver("rollback")
    first = world.monitoring
    world.live()
    for _ in range(30):
        world.look(BROKEN)
        first.step(WHERE)
    assert len(world.messages()) == 1
    assert len(world.store.rows(Kind.ROLLOUT)) == 1


def test_a_message_is_sent_until_it_is_taken(world: World) -> None:
    world.deliver()
    world.look(WELL, 3)
    world.look(BROKEN, 20)
    world.receivers.broken = {"oncall"}
    assert world.alerting.one_pass() == 1
    assert world.alerting.one_pass() == 0  # not yet due
    world.now += 5.0
    world.receivers.broken = set()
    assert world.alerting.one_pass() == 1
    ((identity, body),) = world.receivers.taken["oncall"]
    (message,) = world.messages()
    assert (identity, message.phase) == (message.id, TOLD)
    assert json.loads(body) == message.document
    world.now += 1000.0
    assert world.alerting.one_pass() == 0


def test_what_was_sent_but_not_marked_comes_again_with_its_id(tmp_path: Path) -> None:
    """As after kill -9 between the two, with the store on the disk."""
    store = SqlStore(f"sqlite:///{tmp_path / 'interlock.db'}", lambda: 0.0)
    world = World(store)
    world.deliver()
    world.look(WELL, 3)
    world.look(BROKEN, 20)
    (message,) = world.messages()
    world.receivers.send("oncall", message.id, canonical(message.document))
    store.close()
    reopened = SqlStore(f"sqlite:///{tmp_path / 'interlock.db'}", lambda: 0.0)
    world.store = reopened
    world.live()
    assert world.alerting.one_pass() == 1
    (first, again) = world.receivers.taken["oncall"]
    assert first == again
    reopened.close()


def test_a_breach_that_retrains_where_its_repository_is_not_watched_says_so(world: World) -> None:
    world.deliver("retrain")
    world.look(WELL, 3)
    world.look(BROKEN, 20)
    retraining = Retraining(world.store, None, {})  # type: ignore[arg-type]  # it is never asked
    assert retraining.one_pass() == []
    assert [alert.acted for alert in world.monitor().alerts.values()] == [
        "not trained anew: its repository is not watched"
    ]
    assert retraining.one_pass() == []
    assert not world.look(BROKEN)
    assert len(world.messages()) == 1

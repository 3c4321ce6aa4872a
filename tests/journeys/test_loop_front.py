"""What the loop tells the front, with fakes where the world would be."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.plant import ADA, Plant

from interlock.access.caller import Caller, Role
from interlock.control.front.keys import Keys
from interlock.control.front.retiring import Retiring
from interlock.control.people import verify_audit
from interlock.errors import Forbidden, NotFound, Refused, StaleWrite
from interlock.vocabulary import Kind


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def test_the_front_hears_of_keys_at_the_next_pass(plant: Plant) -> None:
    keys = Keys(plant.store, lambda: plant.now)
    key, _ = keys.create(ADA, "batch", ["small"])
    keys.create(ADA, "other")
    plant.loop.one_pass()
    assert [one.name for one in plant.proxy.grants] == ["batch", "other"]
    keys.revoke(ADA, key.key)
    plant.loop.one_pass()
    assert [one.name for one in plant.proxy.grants] == ["other"]
    assert plant.faults == []


def test_one_who_slept_brings_no_revoked_key_back(plant: Plant) -> None:
    keys = Keys(plant.store, lambda: plant.now)
    key, _ = keys.create(ADA, "batch")
    plant.loop.one_pass()
    late, version = plant.proxy.grants, plant.store.last_event()
    keys.revoke(ADA, key.key)
    plant.loop.one_pass()
    with pytest.raises(StaleWrite):
        plant.proxy.allow_keys(late, version)
    assert plant.proxy.grants == []


def retiring(plant: Plant) -> Retiring:
    line = {"path": "/v2/models/small/infer", "listener": "production", "time": "2027-01-01", "key": "batch"}
    return Retiring(plant.store, lambda: plant.now, lambda: [line])


def test_a_retired_model_is_answered_410_frees_its_replicas_and_keeps_its_evidence(plant: Plant) -> None:
    plant.register(1)
    plant.deliver(1)
    stable = plant.environment("production").stable
    kept = {kind: [row.key for row in plant.store.rows(kind)] for kind in (Kind.VERSION, Kind.RELEASE, Kind.ROLLOUT)}
    (caller,) = retiring(plant).callers(ADA, "small")
    assert (caller.who, caller.environment) == ("batch", "small/production")
    told = retiring(plant).retire(ADA, "small", "nobody asks it")
    assert told == "small is retired in small/staging, small/production"
    plant.turn(6)
    for name in ("staging", "production"):
        seen = plant.proxy.observe(f"small/{name}")
        assert (seen.is_retired, seen.weights, seen.endpoints) == (True, {}, {})
        assert plant.replicas.observe(f"small/{name}") == {}
    assert {kind: [row.key for row in plant.store.rows(kind)] for kind in kept} == kept
    assert plant.environment("production").because == "retired by ada: nobody asks it"
    with pytest.raises(Refused, match="retired already"):
        retiring(plant).retire(ADA, "small", "again")
    # A control plane that begins anew finds it so, and so does every later pass.
    plant.loop, _ = plant.begin(plant.store, plant.proxy, plant.replicas)
    plant.turn(3)
    assert plant.proxy.observe("small/production").is_retired
    assert "small is restored in" in retiring(plant).restore(ADA, "small", "somebody does")
    plant.turn(6)
    seen = plant.proxy.observe("small/production")
    assert (seen.is_retired, seen.weights) == (False, {stable.key: 100})
    assert [entry.deed.action for entry in plant.store.audit()][-2:] == ["retire", "restore"]
    assert verify_audit(plant.store) is None
    assert plant.faults == []
    with pytest.raises(Refused, match="not retired"):
        retiring(plant).restore(ADA, "small", "again")


def test_no_release_brings_a_retired_model_back(plant: Plant) -> None:
    plant.register(1)
    plant.deliver(1)
    plant.register(2)
    plant.release(2)  # as a push does: it is under way when the model is taken away
    retiring(plant).retire(ADA, "small", "nobody asks it")
    plant.turn(10)
    assert plant.phases(Kind.RELEASE)[-1] == "stopped"
    assert "small is retired by ada" in plant.last(Kind.RELEASE).state["because"]
    assert len(plant.store.rows(Kind.ROLLOUT)) == 2
    with pytest.raises(Refused, match=r"retired by ada at .*: nobody asks it"):
        plant.release(2)
    with pytest.raises(Refused, match="retired by ada"):
        plant.requests.roll_back(ADA, "small/production", "please")
    retiring(plant).restore(ADA, "small", "it is wanted")
    plant.release(2)
    plant.turn(60)
    assert plant.environment("production").stable.version == 2


def test_a_model_is_not_taken_away_under_a_rollout(plant: Plant) -> None:
    plant.register(1)
    plant.release(1)
    while plant.store.rows(Kind.ROLLOUT) == []:
        plant.turn()
    with pytest.raises(Refused, match="rollout 1 is under way"):
        retiring(plant).retire(ADA, "small", "now")
    with pytest.raises(NotFound, match="no environment of large"):
        retiring(plant).retire(ADA, "large", "now")


def test_only_an_operator_of_all_of_it_takes_a_model_away(plant: Plant) -> None:
    plant.register(1)
    plant.deliver(1)
    for caller in (
        Caller(name="eve", role=Role.MAINTAINER),
        Caller(name="bob", role=Role.OPERATOR, environments=("small/staging",)),
        Caller(name="sue", role=Role.OPERATOR, repositories=("another",)),
    ):
        with pytest.raises(Forbidden):
            retiring(plant).retire(caller, "small", "mine")
        with pytest.raises(Forbidden):
            retiring(plant).callers(caller, "small")
    mine = Caller(name="joe", role=Role.OPERATOR, repositories=("small",))
    assert "is retired" in retiring(plant).retire(mine, "small", "mine")


def test_the_loop_that_saves_at_the_same_moment_does_not_undo_it(plant: Plant) -> None:
    plant.register(1)
    plant.deliver(1)
    rows = plant.store.rows

    def rival(kind: Kind, **more: object) -> object:
        found = rows(kind, **more)
        plant.store.rows = rows
        plant.requests.freeze(ADA, "small/production", "at this moment")
        return found

    plant.store.rows = rival
    assert "is retired" in retiring(plant).retire(ADA, "small", "nobody asks it")
    assert plant.environment("production").retirement.by == "ada"
    assert plant.environment("production").freeze.reason == "at this moment"

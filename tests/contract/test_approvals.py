"""Approvals of people: who may, what is kept of it, and a release and a rollout that go on because of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.plant import ADA, CANARY, Plant

from interlock.access.caller import Caller, Role
from interlock.control.delivering.requests import Requests
from interlock.control.people import local_caller
from interlock.control.rows import load_state, write_state
from interlock.delivery.release import Release
from interlock.delivery.rollout import OrderName, Rollout
from interlock.errors import Conflict, Forbidden, NotFound, Refused
from interlock.pipeline.canaries.plan import StepPlan
from interlock.pipeline.plan import EnvironmentPlan, Plan
from interlock.run import run as runs
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Kind

MIA, BOB = (Caller(name=name, role=Role.MAINTAINER) for name in ("mia", "bob"))
STEPS = (StepPlan(set_weight=20), StepPlan(approvals=2), *CANARY.steps[1:])
DEPLOY = (
    EnvironmentPlan(
        name="production",
        approvals=2,
        replicas=1,
        strategy=CANARY.model_copy(update={"steps": STEPS, "deadline": 60.0}),
    ),
)


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    made = Plant(tmp_path)
    for number in (1, 2):
        made.register(number, deploy=DEPLOY)
        commit = Commit(
            repository="small", git_directory="/g", ref="main", sha="a" * 40, tree="b", author="Mia <mia@example.org>"
        )
        run = runs.begin(
            number, commit, Occasion(kind="person", by="bob"), Plan(), Digest("p"), driver="server", is_trusted=True
        )
        made.store.save(write_state(Kind.RUN, run.key, run, expected=0, phase=run.phase, because="test"))
    return made


def release(plant: Plant, number: int) -> Release:
    found, _ = load_state(plant.store, Kind.RELEASE, str(number), Release)
    assert found is not None
    return found


def rollout(plant: Plant) -> Rollout:
    found, _ = load_state(plant.store, Kind.ROLLOUT, plant.last(Kind.ROLLOUT).key, Rollout)
    assert found is not None
    return found


def test_a_model_comes_into_production_with_the_leave_of_two_at_both_doors(plant: Plant) -> None:
    plant.release(1)
    plant.turn(3)
    assert (plant.phases(Kind.RELEASE), plant.phases(Kind.ROLLOUT)) == (["waiting"], [])
    told = plant.requests.approve(MIA, 1, "looked at its errors")
    assert told == "release 1 is approved by mia for small/production: looked at its errors"
    plant.turn(3)
    with pytest.raises(Conflict, match="mia approved already"):
        plant.requests.approve(MIA, 1, "again")
    plant.loop, plant.requests = plant.begin(plant.store, plant.proxy, plant.replicas)  # a new life of the server
    assert "1 of 2 of the approvals it waits for were given (mia)" in release(plant, 1).because
    plant.requests.approve(BOB, 1, "me too")
    plant.turn(20)
    assert plant.environment("production").stable.version == 1  # the first has nothing to be compared with
    plant.release(2)
    plant.turn(3)
    for caller in (MIA, BOB):
        plant.requests.approve(caller, 2, "looked at")
    plant.turn(90)  # longer than the deadline
    assert (rollout(plant).weight, rollout(plant).phase) == (20, "progressing")
    for caller in (BOB, MIA):
        plant.requests.steer(caller, rollout(plant).number, OrderName.APPROVE, "it answers well")
    plant.turn(40)
    assert plant.environment("production").stable.version == 2
    deeds = [(one.deed.who, one.deed.thing) for one in plant.store.audit() if one.deed.action == "approve"]
    assert deeds == [(name, "release/1") for name in ("mia", "bob")] + [
        *[(name, "release/2") for name in ("mia", "bob")],
        *[(name, "rollout/2") for name in ("bob", "mia")],
    ]


def test_a_newer_release_takes_the_place_of_one_that_waits(plant: Plant) -> None:
    plant.release(1)
    plant.turn(2)
    plant.release(2)
    plant.turn(2)
    assert plant.phases(Kind.RELEASE) == ["stopped", "waiting"]
    with pytest.raises(Conflict, match="it waits for no approval: superseded by release 2"):
        plant.requests.approve(MIA, 1, "late")


@pytest.mark.parametrize(
    "caller",
    [
        Caller(name="dev", role=Role.DEVELOPER),
        Caller(name="mia", role=Role.MAINTAINER, repositories=("large",)),
        Caller(name="mia", role=Role.MAINTAINER, environments=("small/staging",)),
    ],
)
def test_who_may_not_approve(plant: Plant, caller: Caller) -> None:
    plant.release(1)
    plant.turn(2)
    before = release(plant, 1)
    with pytest.raises(Forbidden):
        plant.requests.approve(caller, 1, "please")
    assert release(plant, 1) == before
    with pytest.raises(NotFound, match="there is no release 9"):
        plant.requests.approve(caller, 9, "please")


def test_whose_own_work_it_is_does_not_approve_where_the_settings_say_so(plant: Plant) -> None:
    guarded = Requests(plant.store, lambda: plant.now, ["production"])
    plant.release(1)
    plant.turn(2)
    for caller in (MIA, local_caller("mia"), BOB):
        with pytest.raises(Forbidden, match="wrote or asked for small v1, and may not approve it"):
            guarded.approve(caller, 1, "please")
    elsewhere = Requests(plant.store, lambda: plant.now, ["staging"])
    elsewhere.approve(MIA, 1, "nobody minds here")
    guarded.approve(ADA, 1, "I read it")
    plant.turn(20)
    assert plant.environment("production").stable.version == 1
    plant.release(2)
    plant.turn(2)
    for name in ("eve", "ada"):
        guarded.approve(Caller(name=name, role=Role.MAINTAINER), 2, "looked at")
    plant.turn(8)
    number = rollout(plant).number
    with pytest.raises(Forbidden, match="wrote or asked for small v2"):
        guarded.steer(MIA, number, OrderName.APPROVE, "please")
    assert "approved by ada" in guarded.steer(ADA, number, OrderName.APPROVE, "it answers well")
    with pytest.raises(Refused, match="ada approved already"):
        guarded.steer(ADA, number, OrderName.APPROVE, "again")


def test_two_who_approve_at_one_moment_both_count(plant: Plant) -> None:
    plant.release(1)
    plant.turn(2)
    plant.store.rival_of = Kind.RELEASE
    plant.requests.approve(MIA, 1, "looked at")
    plant.requests.approve(BOB, 1, "looked at")
    assert [one.by for one in release(plant, 1).approvals] == ["mia", "bob"]

"""An update on a machine that does not hold two copies: told before traffic, then done as the file chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.plant import Plant

from interlock.delivery.looks.replaying import replay
from interlock.delivery.rollout import Rollout
from interlock.pipeline.plan import EnvironmentPlan, SurgePlan
from interlock.vocabulary import Kind

GIB = 2**30
"""The plant's machine has 8 of them, of which replicas may take four fifths."""


def deploy(memory: int, **more: Any) -> tuple[EnvironmentPlan, ...]:
    return (EnvironmentPlan(name="production", replicas=2, memory=memory, **more),)


def test_a_release_waits_before_traffic_and_says_what_can_be_written(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.register(1, deploy=deploy(2 * GIB))
    plant.deliver(1)  # nothing stands beside the first
    plant.register(2, deploy=deploy(2 * GIB))
    plant.release(2)
    plant.turn(20)
    assert plant.phases(Kind.ROLLOUT) == ["promoted"]
    assert plant.last(Kind.RELEASE).phase == "waiting"
    assert plant.last(Kind.RELEASE).state["because"] == (
        "small/production is without room: this needs 8192 MiB for 2 replicas of small v2 and those of small v1 that "
        "stand beside them, and 6554 MiB are left: write replicas: {max_surge: 1} with strategy: rolling"
    )
    plant.register(3, deploy=deploy(2 * GIB, surge=SurgePlan(max_surge=1, max_unavailable=0)))
    plant.release(3)
    most, weights = 0, set()
    for _ in range(40):
        plant.turn()
        most = max(most, len(plant.replicas.observe("small/production")))
        weights.add(tuple(sorted(plant.proxy.observe("small/production").weights.values())))
    assert plant.environment("production").stable.version == 3
    assert most == 3
    assert {weight for weight in weights if 0 not in weight} == {(100,), (50, 50)}
    row = plant.last(Kind.ROLLOUT)
    again = replay(Rollout.model_validate(row.state), plant.store.events(Kind.ROLLOUT, row.key))
    assert (again.differences, again.unknown) == ((), 0)
    assert again.decisions > 4
    assert plant.faults == []


def test_what_other_environments_take_is_not_there(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.register(1, deploy=deploy(GIB))
    plant.deliver(1)
    plant.register(1, model="other", deploy=deploy(3 * GIB // 2))
    plant.release(1, model="other")
    plant.turn(20)
    plant.register(2, deploy=deploy(GIB))
    plant.release(2)
    plant.turn(20)
    assert "and 3482 MiB are left" in plant.last(Kind.RELEASE).state["because"]


def test_all_at_once_leaves_a_gap_that_the_rollout_says(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.register(1, deploy=deploy(3 * GIB))
    plant.deliver(1)
    plant.register(2, deploy=deploy(3 * GIB, surge=SurgePlan(max_surge=0, max_unavailable=64)))
    plant.release(2)
    shares = []
    for _ in range(40):
        plant.turn()
        shares.append(dict(plant.proxy.observe("small/production").weights))
    assert {} in shares
    assert plant.environment("production").stable.version == 2
    begun = next(event for event in plant.store.events() if "nobody serves until" in event.because)
    assert begun.kind in (Kind.ROLLOUT, Kind.ENVIRONMENT)
    assert plant.faults == []

"""What the loop tells the front, with fakes where the world would be."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.plant import ADA, Plant

from interlock.control.front.keys import Keys
from interlock.errors import StaleWrite


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

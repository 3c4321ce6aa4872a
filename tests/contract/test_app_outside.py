"""What look-ups, seals and requests make of data that no commit holds, and of what is read over the network."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract import test_app_lookups as lookups
from tests.contract import test_app_sealing as sealing

from interlock.pipeline.outside.refresh import with_version
from interlock.pipeline.plan import RefreshPlan, StagePlan
from interlock.run.run import StageRun
from interlock.run.stage import StageOutcome
from interlock.vocabulary import Digest, Phase

QUERY = lookups.TRAIN.model_copy(update={"network": True, "refresh": RefreshPlan(after=3600.0)})
FETCH = StagePlan(name="fetch", kind="data", builtin="fetch", outs=("t.csv",), sources={"t.csv": "s3://b/t.csv"})


@pytest.fixture
def world(tmp_path: Path) -> lookups.World:
    return lookups.World(tmp_path)


def at(world: lookups.World, now: float) -> lookups.World:
    """What was executed was so at second 1; now it is this second."""
    world.lookups._now = lambda: now
    return world


def test_a_query_is_reused_while_it_is_young_and_nothing_else_changed(world: lookups.World) -> None:
    world.succeed(world.run(lookups.FILES, QUERY), "train", reads=["train.py"])
    assert at(world, 3600.0).because(world.run({}, QUERY)) == ""
    found = world.lookups.look_up(world.run({}, QUERY), QUERY, None)
    assert found.because == "reused from run 1, read 60.0m ago (refresh: 1h)"
    assert at(world, 3601.0).because(world.run({}, QUERY)) == ("what it read over the network is 1h old (refresh: 1h)")
    assert (
        at(world, 2.0).because(world.run({"train.py": "import helper, os\n"}, QUERY)) == "train.py: the imports changed"
    )
    other = QUERY.model_copy(update={"command": "python train.py --all"})
    assert (
        at(world, 2.0).because(world.run(lookups.FILES, other)) == "command: python train.py -> python train.py --all"
    )


def test_how_long_it_may_be_reused_is_no_part_of_its_key(world: lookups.World) -> None:
    world.succeed(world.run(lookups.FILES, QUERY), "train", reads=["train.py"])
    longer = QUERY.model_copy(update={"refresh": RefreshPlan(after=7200.0)})
    assert at(world, 5000.0).because(world.run({}, longer)) == ""
    always = QUERY.model_copy(update={"refresh": None})
    assert "cannot be seen" in at(world, 2.0).because(world.run({}, always))


def test_a_query_whose_command_tells_a_version_depends_on_it(world: lookups.World) -> None:
    asking, query = with_version(QUERY.model_copy(update={"refresh": RefreshPlan(command="ask")}))
    path = asking.products[0]

    def asked(version: bytes) -> str:
        run = world.run(lookups.FILES, asking, query)
        assert "cannot be seen" in world.because(run, "train.version")
        told = world.succeed(run, "train.version", products={path: world.blobs.put_bytes(version)})
        because = world.because(told, "train")
        world.succeed(told, "train", reads=["train.py"])
        return because

    assert asked(b"v1") == "never ran before"
    assert at(world, 1e9) is world
    assert asked(b"v1") == ""
    assert asked(b"v2") == f"{path} (from train.version) changed"


def test_data_is_looked_at_in_each_run_and_an_odd_look_makes_nobody_flaky(world: lookups.World) -> None:
    run = world.run(lookups.FILES, FETCH)
    assert world.because(run, "fetch") == "it looks at where the data lives"
    outcome = StageOutcome(phase=Phase.FAILED, because="it is not there")
    assert world.lookups.facts_of(run, FETCH, outcome, 1.0) == []
    again = world.succeed(run, "fetch", products={"t.csv": world.blobs.put_bytes(b"1")})
    assert world.because(again, "fetch") == "it looks at where the data lives"
    assert world.lookups.contradiction(again, FETCH, Phase.SUCCEEDED) is None
    assert world.lookups.inputs_of(run, FETCH, None).settings == {"sources": {"t.csv": "s3://b/t.csv"}}


# --- seals ---


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[sealing.World]:
    made = sealing.World(tmp_path / "state")
    yield made
    made.store.close()


def with_data(world: sealing.World, content: bytes, version: bytes) -> sealing.Run:
    run = world.run()
    asking, _ = with_version(QUERY.model_copy(update={"refresh": RefreshPlan(command="ask")}))
    fetched = StageRun(phase=Phase.SUCCEEDED, attempt=1, products={"t.csv": world.blobs.put_bytes(content)})
    asked = StageRun(phase=Phase.SUCCEEDED, attempt=1, products={asking.products[0]: world.blobs.put_bytes(version)})
    plan = run.plan.model_copy(update={"stages": (FETCH, asking, *run.plan.stages)})
    stages = {"fetch": fetched, asking.name: asked, **run.stages}
    return run.model_copy(update={"plan": plan, "stages": stages})


def test_provenance_names_the_data_with_its_digest(sealed: sealing.World) -> None:
    run = with_data(sealed, b"1,2\n", b"v1")
    envelope = json.loads(sealed.blobs.read(sealed.version(run).provenance))
    statement = json.loads(base64.b64decode(envelope["payload"]))
    digest = Digest(run.stages["fetch"].products["t.csv"]).removeprefix("blake3:")
    assert statement["predicate"]["buildDefinition"]["resolvedDependencies"][1:] == [
        {"uri": "s3://b/t.csv", "name": "t.csv", "digest": {"blake3": digest}}
    ]


def test_the_same_model_of_other_data_serves_alike(sealed: sealing.World) -> None:
    plain = sealed.sealing.serving(sealed.run())
    assert sealed.sealing.serving(with_data(sealed, b"1", b"v1")) == plain
    assert sealed.sealing.serving(with_data(sealed, b"2", b"v2")) == plain

"""What a release meets on its way: bytes that rot, versions that are swapped, rivals, no traffic, and no way back."""

from pathlib import Path
from typing import Any

import pytest
from tests.plant import ADA, DEPLOY, Plant

from interlock.control.delivering.quarantine import quarantine
from interlock.delivery.revision import ReplicaSeen
from interlock.delivery.rollout import Rollout
from interlock.edges.serving import FakeReplicas
from interlock.errors import NotFound, Refused
from interlock.gate.judgement import GateResult, Judgement
from interlock.pipeline.plan import WindowPlan
from interlock.vocabulary import Digest, Kind, Verdict


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


# --- O1, D1, D2: what may come in ---


def test_a_version_comes_in_as_the_bytes_that_were_signed_in_every_environment(plant: Plant) -> None:
    version = plant.register(1)
    plant.deliver(1)
    assert {plant.environment(name).stable.model_digest for name in ("staging", "production")} == {version.digest}


def test_a_flipped_byte_in_a_stored_model_stops_the_release_and_says_so(plant: Plant) -> None:
    plant.register(1)
    plant.deliver(1)
    version = plant.register(2)
    (digest,) = plant.blobs.files(version.digest).values()
    content = bytearray(plant.place(digest).read_bytes())
    content[7] ^= 1
    plant.place(digest).chmod(0o644)
    plant.place(digest).write_bytes(content)
    plant.release(2)
    plant.turn(3)
    assert plant.last(Kind.RELEASE).phase == "stopped"
    assert "torn" in plant.last(Kind.RELEASE).state["because"]
    assert plant.environment("production").stable.version == 1
    assert len(plant.store.rows(Kind.ROLLOUT)) == 2


def test_bytes_that_rot_after_staging_do_not_reach_production(plant: Plant) -> None:
    version = plant.register(1)
    plant.release(1)
    while plant.phases(Kind.ROLLOUT) != ["promoted"]:
        plant.turn()
        assert plant.now < 1100
    (digest,) = plant.blobs.files(version.digest).values()
    plant.place(digest).unlink()
    plant.turn(5)
    assert plant.phases(Kind.RELEASE) == ["stopped"]
    assert "missing" in plant.last(Kind.RELEASE).state["because"]
    assert plant.phases(Kind.ROLLOUT) == ["promoted"]
    assert plant.environment("staging").stable.version == 1


def test_a_version_that_is_swapped_after_staging_does_not_reach_production(plant: Plant) -> None:
    version = plant.register(1)
    other = plant.register(2)  # signed, trusted, gated: but it was never in staging
    plant.release(1)
    while plant.phases(Kind.ROLLOUT) != ["promoted"]:
        plant.turn()
    swapped = plant.attest(version.model_copy(update={"digest": other.digest, "signature": other.signature}))
    plant.write_version(swapped, 1)
    plant.turn(10)
    assert plant.phases(Kind.RELEASE) == ["stopped"]
    assert "not promoted in staging" in plant.last(Kind.RELEASE).state["because"]
    assert plant.phases(Kind.ROLLOUT) == ["promoted"]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"is_trusted": False, "ref": "refs/heads/feature"}, "refs/heads/feature is not trusted"),
        ({"judgement": Judgement(results=(GateResult(gate="g", verdict=Verdict.FAIL, because="0.4"),))}, "fail"),
        (
            {"judgement": Judgement(results=(GateResult(gate="g", verdict=Verdict.UNDECIDED, because="?"),))},
            "undecided",
        ),
        ({"signature": Digest("blake3:" + "0" * 64)}, "signature"),
        ({"digest": Digest("blake3:" + "0" * 64)}, "missing"),
        ({"digest": Digest("../../etc/passwd")}, "signature"),
    ],
)
def test_a_version_that_is_not_fit_is_stopped_before_any_rollout(
    plant: Plant, change: dict[str, Any], word: str
) -> None:
    plant.register(1, **change)
    plant.release(1)
    plant.turn(3)
    assert plant.phases(Kind.RELEASE) == ["stopped"]
    assert word in plant.last(Kind.RELEASE).state["because"]
    assert plant.store.rows(Kind.ROLLOUT) == []


def test_outside_its_windows_an_environment_stands_still_and_still_goes_back(plant: Plant) -> None:
    staging, production = DEPLOY
    window = WindowPlan(opens="30 0 * * *", seconds=60.0)  # from 1800 s to 1860 s of the clock here
    deploy = (staging, production.model_copy(update={"windows": (window,)}))
    plant.register(1)
    plant.deliver(1)
    plant.register(2, deploy=deploy)
    plant.release(2)
    plant.turn(50)
    assert plant.environment("staging").stable.version == 2
    assert plant.phases(Kind.RELEASE)[-1] == "waiting"
    assert "production is outside its windows until 1970-01-01 00:30 UTC" in plant.last(Kind.RELEASE).state["because"]
    plant.now = 1850.0
    plant.turn(9)
    weights = plant.proxy.observe("small/production").weights
    assert set(weights) == {"small.production.r1", "small.production.r2"}
    plant.turn(600)  # far beyond the deadline
    assert plant.proxy.observe("small/production").weights == weights
    assert plant.phases(Kind.ROLLOUT)[-1] == "progressing"
    plant.requests.roll_back(ADA, "small/production", "no")
    plant.turn(5)
    assert plant.proxy.observe("small/production").weights == {"small.production.r1": 100}


# --- D3: rivals ---


def test_a_release_waits_for_an_environment_that_is_busy_and_then_goes_in(plant: Plant) -> None:
    for number in (1, 2):
        plant.register(number)
        plant.deliver(number)
    plant.proxy.problem = "not now"
    plant.requests.roll_back(ADA, "small/staging", "odd numbers")
    plant.register(3)
    plant.release(3)
    plant.turn(5)
    assert plant.last(Kind.RELEASE).phase == "waiting"
    assert "busy with rollout" in plant.last(Kind.RELEASE).state["because"]
    assert plant.phases(Kind.ROLLOUT).count("progressing") == 1
    plant.proxy.problem = None
    plant.turn(10)
    assert "frozen by" in plant.last(Kind.RELEASE).state["because"]  # by the rollback
    plant.requests.unfreeze(ADA, "small/staging", "mended")
    plant.turn(60)
    assert plant.phases(Kind.RELEASE)[-1] == "done"
    assert plant.environment("production").stable.version == 3


def test_of_ten_releases_at_once_the_newest_wins_and_no_environment_has_two_rollouts(plant: Plant) -> None:
    plant.register(1)
    plant.deliver(1)
    for number in range(2, 12):
        plant.register(number)
        plant.release(number)
        plant.turn()
        progressing = [row for row in plant.store.rows(Kind.ROLLOUT) if row.phase == "progressing"]
        environments = [row.state["environment"] for row in progressing]
        assert len(environments) == len(set(environments))
        for row in progressing:
            assert plant.environment(str(row.state["environment"]).partition("/")[2]).rollout == row.state["number"]
    plant.turn(60)
    assert plant.phases(Kind.RELEASE) == ["done", *["stopped"] * 9, "done"]
    assert plant.environment("production").stable.version == 11
    assert set(plant.proxy.observe("small/production").endpoints) == {plant.environment("production").stable.key}


def test_two_models_in_one_production_do_not_wait_for_each_other(plant: Plant) -> None:
    for model in ("small", "other"):
        plant.register(1, model)
        plant.release(1, model)
    for _ in range(40):
        plant.turn(1)
        plant.turn(1, model="other")
    assert plant.phases(Kind.RELEASE) == ["done", "done"]
    assert {plant.environment("production", model).stable.model for model in ("small", "other")} == {"small", "other"}


# --- D4: the way back ---


def test_the_first_version_has_no_way_back_and_production_is_untouched(plant: Plant) -> None:
    plant.register(1)
    plant.deliver(1)
    before = plant.environment("production")
    with pytest.raises(Refused, match="no previous revision") as refused:
        plant.requests.roll_back(ADA, "small/production", "odd numbers")
    assert refused.value.remedy
    plant.turn(5)
    assert plant.environment("production") == before
    assert len(plant.store.rows(Kind.ROLLOUT)) == 2


def test_a_first_rollout_that_is_taken_back_leaves_an_environment_that_says_why_it_is_empty(plant: Plant) -> None:
    plant.replicas = FakeReplicas(is_ready_at_once=False)
    plant.register(1)
    plant.release(1)
    plant.turn(3)
    plant.requests.roll_back(ADA, "small/staging", "not this one")
    plant.turn(5)
    staging = plant.environment("staging")
    assert (staging.stable, staging.candidate, staging.weights) == (None, None, {})
    assert "not this one" in staging.because
    assert plant.store.load(Kind.ENVIRONMENT, "small/staging").phase == "empty"
    assert plant.phases(Kind.RELEASE) == ["stopped"]


def test_a_rollback_in_the_middle_of_a_canary_ends_it_and_stable_has_everything(plant: Plant) -> None:
    plant.register(1)
    plant.deliver(1)
    plant.register(2)
    plant.release(2)
    while plant.proxy.observe("small/production").weights.get("small.production.r2", 0) != 20:
        plant.turn()
        assert plant.now < 1200
    told = plant.requests.roll_back(ADA, "small/production", "I do not like it")
    assert "small v2" in told
    plant.turn(10)
    assert plant.phases(Kind.ROLLOUT)[-1] == "rolled_back"
    assert "I do not like it" in plant.last(Kind.ROLLOUT).state["because"]
    assert plant.proxy.observe("small/production").weights == {"small.production.r1": 100}
    assert plant.phases(Kind.QUARANTINE) == ["blocked"]


def test_a_rollback_to_a_version_whose_bytes_are_gone_leaves_stable_serving(plant: Plant) -> None:
    for number in (1, 2):
        plant.register(number)
        plant.deliver(number)
    (digest,) = plant.blobs.files(plant.environment("production").previous.model_digest).values()
    plant.place(digest).unlink()

    def never(revision: Any, version: int) -> None:
        if revision.version == 1:
            raise Refused("the artifact is missing")

    ensure, plant.replicas.ensure = plant.replicas.ensure, never  # type: ignore[method-assign]
    plant.requests.roll_back(ADA, "small/production", "odd numbers")
    plant.turn(30)
    assert plant.environment("production").stable.version == 2
    assert plant.proxy.observe("small/production").weights == {"small.production.r2": 100}
    assert any("missing" in fault for fault in plant.faults)
    plant.now += 3 * 3600
    plant.turn(5)
    assert plant.phases(Kind.ROLLOUT)[-1] == "rolled_back"
    assert plant.environment("production").stable.version == 2
    plant.replicas.ensure = ensure  # type: ignore[method-assign]


@pytest.mark.parametrize("rival", [Kind.ENVIRONMENT, Kind.ROLLOUT])
@pytest.mark.parametrize("is_under_way", [True, False])
def test_a_persons_rollback_does_not_lose_to_a_loop_that_saves_at_the_same_time(
    plant: Plant, rival: Kind, is_under_way: bool
) -> None:
    for number in (1, 2):
        plant.register(number)
        plant.deliver(number)
    if is_under_way:
        plant.register(3)
        plant.release(3)
        while plant.environment("production").rollout is None:
            plant.turn()
            assert plant.now < 1300
    plant.store.rival_of = rival
    plant.requests.roll_back(ADA, "small/production", "now")
    plant.store.rival_of = None
    plant.turn(30)
    assert plant.environment("production").stable.version == (2 if is_under_way else 1)


def crash(plant: Plant, number: int) -> None:
    """All replicas of production's revision of this version end again and again."""
    for index in range(2):
        dead = ReplicaSeen(is_running=False, is_ready=False, restarts=4, problem="no memory")
        plant.replicas.set_seen(f"small.production.r{number}.{index}", dead)


def test_a_revision_that_cannot_live_any_more_is_rolled_back_by_itself(plant: Plant) -> None:
    for number in (1, 2):
        plant.register(number)
        plant.deliver(number)
    crash(plant, 2)
    plant.turn(20)
    production = plant.environment("production")
    assert (production.stable.version, production.trouble, production.is_dead) == (1, "", False)
    assert "2 of 2 replicas cannot live" in plant.last(Kind.QUARANTINE).state["because"]
    assert plant.proxy.observe("small/production").weights == {production.stable.key: 100}


def test_a_revision_that_cannot_live_and_has_nothing_before_it_is_told(plant: Plant) -> None:
    plant.register(1)
    plant.deliver(1)
    crash(plant, 1)
    plant.turn(5)
    production = plant.environment("production")
    assert production.stable.version == 1
    assert "no memory" in production.trouble
    assert plant.phases(Kind.ROLLOUT) == ["promoted", "promoted"]


def test_what_is_quarantined_starts_no_more_unless_nothing_else_could_serve(plant: Plant) -> None:
    for number in (1, 2):
        plant.register(number)
        plant.deliver(number)
    plant.store.save(quarantine(plant.store, plant.environment("production").stable, "odd numbers"))
    plant.turn()
    second = plant.environment("production").stable.model_digest
    assert plant.replicas.forbidden == {second: "odd numbers"}
    crash(plant, 2)
    plant.turn(20)
    production = plant.environment("production")
    assert (production.stable.version, production.freeze) == (1, None)  # the quarantine keeps it from coming again
    assert set(plant.replicas.forbidden) == {second}
    plant.store.save(quarantine(plant.store, production.stable, "odd numbers too"))
    plant.turn()
    assert plant.replicas.forbidden == {}  # in staging 2 serves, and in production 1; neither has another


def test_a_rollback_on_a_full_disk_is_saved_with_the_space_that_is_kept_for_it(plant: Plant) -> None:
    plant.register(1)
    plant.deliver(1)
    plant.register(2)
    plant.release(2)
    while not plant.environment("production").weights.get("small.production.r2"):
        plant.turn()
    plant.store.is_full = True
    plant.turn(20, candidate_errors=0.5)
    assert plant.phases(Kind.ROLLOUT)[-1] == "rolled_back"
    assert plant.proxy.observe("small/production").weights.get("small.production.r2", 0) == 0
    assert any("reserved space was given up" in fault for fault in plant.faults)


def test_the_previous_revision_is_not_gone_back_to_while_it_is_quarantined(plant: Plant) -> None:
    for number in (1, 2):
        plant.register(number)
        plant.deliver(number)
    plant.store.save(quarantine(plant.store, plant.environment("production").previous, "bad data"))
    crash(plant, 2)
    plant.turn(5)
    assert plant.environment("production").stable.version == 2
    assert plant.environment("production").is_dead


def test_where_the_previous_revision_is_bad_too_the_good_one_before_it_serves_again(plant: Plant) -> None:
    for number in (1, 2, 3):
        plant.register(number)
        plant.deliver(number)
    plant.store.save(quarantine(plant.store, plant.environment("production").previous, "bad data"))
    crash(plant, 3)
    plant.turn(20)
    production = plant.environment("production")
    assert (production.stable.version, production.is_dead) == (1, False)
    assert plant.proxy.observe("small/production").weights == {production.stable.key: 100}
    with pytest.raises(Refused, match="quarantined"):  # of three, two were bad
        plant.requests.roll_back(ADA, "small/production", "this one neither")


def test_who_asks_for_the_way_back_twice_gets_it_once(plant: Plant) -> None:
    for number in (1, 2):
        plant.register(number)
        plant.deliver(number)
    plant.requests.roll_back(ADA, "small/production", "odd numbers")
    told = plant.requests.roll_back(ADA, "small/production", "odd numbers, I said")
    assert "is rolled back" in told  # the second ends the first's rollout: the person sees which
    plant.turn(20)
    assert plant.environment("production").stable.version == 2
    assert plant.environment("production").rollout is None


# --- D5: no evidence ---


@pytest.mark.parametrize("rate", [0, 1])
def test_a_canary_without_enough_traffic_is_held_and_then_rolled_back_with_the_reason(plant: Plant, rate: int) -> None:
    plant.register(1)
    plant.deliver(1)
    plant.register(2)
    plant.release(2)
    for _ in range(55):
        plant.turn(rate=rate)
        assert plant.environment("production").stable.version == 1
    assert plant.phases(Kind.ROLLOUT)[-1] == "progressing"
    plant.turn(20, rate=rate)
    rollout = plant.last(Kind.ROLLOUT)
    assert rollout.phase == "rolled_back"
    assert "deadline of 60 s passed" in rollout.state["because"]
    assert plant.phases(Kind.RELEASE)[-1] == "stopped"
    assert plant.proxy.observe("small/production").weights == {"small.production.r1": 100}


def test_a_metrics_source_that_dies_in_the_middle_never_promotes(plant: Plant) -> None:
    plant.register(1)
    plant.deliver(1)
    plant.register(2)
    plant.release(2)
    plant.turn(12)
    plant.proxy.problem = "the proxy cannot be reached"
    plant.turn(70)
    assert plant.last(Kind.ROLLOUT).phase == "rolled_back"
    assert "cannot be" in plant.last(Kind.ROLLOUT).state["because"]
    plant.proxy.problem = None
    plant.turn(5)
    assert plant.environment("production").stable.version == 1
    assert plant.proxy.observe("small/production").weights == {"small.production.r1": 100}


# --- requests that make no sense ---


def test_what_is_not_there_cannot_be_released_rolled_back_or_lifted(plant: Plant) -> None:
    plant.register(1, deploy=())
    with pytest.raises(NotFound, match="small/7"):
        plant.requests.start_release(ADA, "small/7", "x")
    with pytest.raises(Refused, match="no deploy section"):
        plant.requests.start_release(ADA, "small/1", "x")
    with pytest.raises(NotFound, match="small/nowhere"):
        plant.requests.roll_back(ADA, "small/nowhere", "x")
    for key in ("small/1", "small/7"):
        with pytest.raises(NotFound, match="not quarantined"):
            plant.requests.lift_quarantine(ADA, key, "x")
    assert plant.store.rows(Kind.RELEASE) == []


def test_a_quarantine_is_lifted_with_a_reason_that_stays(plant: Plant) -> None:
    plant.register(1)
    plant.deliver(1)
    plant.register(2)
    plant.release(2)
    plant.turn(40, candidate_errors=0.3)
    assert plant.phases(Kind.QUARANTINE) == ["blocked"]
    plant.requests.lift_quarantine(ADA, "small/2", "it was the network")
    key = plant.last(Kind.QUARANTINE).key
    reasons = [event.because for event in plant.store.events(Kind.QUARANTINE, key)]
    assert reasons[-1] == "lifted by a person: it was the network"
    plant.deliver(2)
    rollout = Rollout.model_validate(plant.last(Kind.ROLLOUT).state)
    assert rollout.phase == "promoted"

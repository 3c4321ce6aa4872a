"""Versions that somebody tampered with, at every door, while production serves: none comes in.

D1 of the fault matrix. Who tampers may write to the database and the store of artifacts, and has not the signing key.
Doors: the release that a run begins, and the one that a person asks for (the API and the command line alike). A third
door is the replica's own, which loads nothing but the bytes that were admitted (test_serving.py).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.plant import ADA
from tests.rollout_lives import PACE, PRODUCTION, RolloutLives

from interlock.control.delivering.quarantine import quarantine
from interlock.control.rows import write_state
from interlock.delivery import release as releases
from interlock.delivery.revision import Revision
from interlock.edges.signing import LocalSigning
from interlock.registry.attestation import OLDEST_SECONDS, attest_provenance, attest_summary
from interlock.registry.version import ModelVersion
from interlock.system.sockets import free_port
from interlock.vocabulary import Kind, Verdict

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("servers")]

LEAST_REQUESTS = 500
Tamper = Callable[[RolloutLives, ModelVersion], ModelVersion]


class Tampering(NamedTuple):
    """What is done to a version, and the words of its refusal."""

    tamper: Tamper
    refusal: str


def _file(lives: RolloutLives, version: ModelVersion) -> Path:
    """Where the store keeps the model's one file."""
    (digest,) = lives.parts.plant.blobs.files(version.digest).values()
    place = lives.parts.plant.place(digest)
    place.chmod(0o644)
    return place


def flip_a_bit(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    content = bytearray(_file(lives, version).read_bytes())
    content[7] ^= 1
    _file(lives, version).write_bytes(content)
    return version


def add_a_file(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    blobs = lives.parts.plant.blobs
    files = {name: blobs.read(digest) for name, digest in blobs.files(version.digest).items()}
    return version.model_copy(update={"digest": blobs.put_files({**files, "extra.py": b"import os\n"})})


def link_a_file(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    place = _file(lives, version)
    aside = place.with_name("aside")
    aside.write_bytes(b"other bytes")
    place.unlink()
    place.symlink_to(aside)
    return version


def lose_a_file(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    _file(lives, version).unlink()
    return version


def sign_with_another_key(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    plant = lives.parts.plant
    theirs = LocalSigning(plant.folder / "other keys")
    signature = plant.blobs.put_bytes(theirs.sign(str(plant.folder / f"small-{version.number}")))
    return plant.attest(version.model_copy(update={"signature": signature}), signing=theirs)


def attest_with_another_key(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    plant = lives.parts.plant
    return plant.attest(version, signing=LocalSigning(plant.folder / "other keys"))


def sign_nothing(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    return version.model_copy(update={"signature": lives.parts.plant.blobs.put_bytes(b"{}")})


def take_the_summary_away(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    return version.model_copy(update={"summary": None})


def _summarised(lives: RolloutLives, version: ModelVersion, of: ModelVersion, ago: float = 0.0) -> ModelVersion:
    """The version with a summary by our key, of another version or of an older moment."""
    plant = lives.parts.plant
    statement = attest_summary(of.claim, Verdict.PASS, of.provenance, time.time() * PACE - ago)
    return version.model_copy(update={"summary": plant.blobs.put_bytes(plant.signing.attest(statement))})


def take_an_old_summary(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    return _summarised(lives, version, version, OLDEST_SECONDS + 86400.0)


def take_a_failed_summary(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    return lives.parts.plant.attest(version, Verdict.FAIL)


def take_the_summary_of_another(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    return version.model_copy(update={"summary": lives.good.summary})


def come_from_another_repository(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    made = lives.parts.plant.attest(version.model_copy(update={"repository": "another"}))
    return made.model_copy(update={"repository": version.repository})


def come_from_another_ref(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    made = lives.parts.plant.attest(version.model_copy(update={"ref": "refs/heads/feature"}))
    return made.model_copy(update={"ref": version.ref})


def be_made_with_another_parameter(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    plant = lives.parts.plant
    statement = attest_provenance(version.claim, "test", "", 0.0, {}, ())
    statement["predicate"]["buildDefinition"]["externalParameters"]["debug"] = "1"  # type: ignore[call-overload, index]
    provenance = plant.blobs.put_bytes(plant.signing.attest(statement))
    changed = version.model_copy(update={"provenance": provenance})
    return _summarised(lives, changed, changed)


def change_the_policy(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    """It is delivered in another way than its file said."""
    (production,) = version.deploy
    return version.model_copy(update={"deploy": (production.model_copy(update={"replicas": 2}),)})


def come_again(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    """An older version, with all that was signed of it, as if it were the newest."""
    return lives.good.model_copy(update={"number": version.number})


def swap_the_bytes(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    """Another model with a good signature of its own in this one's place."""
    other = lives.good
    return version.model_copy(update={"digest": other.digest, "signature": other.signature})


def be_in_staging_only(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    (production,) = version.deploy
    deploy = (production.model_copy(update={"requires": ("staging",)}),)
    return lives.parts.plant.attest(version.model_copy(update={"deploy": deploy}))


def be_revoked(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    revision = Revision(
        environment=PRODUCTION,
        number=99,
        version=version.number,
        model=version.model,
        model_digest=version.digest,
        lock=version.lock,
        format=version.format,
    )
    lives.parts.store.save(quarantine(lives.parts.store, revision, "it did harm elsewhere"))
    return version


TAMPERINGS = {
    "a bit is flipped": Tampering(flip_a_bit, "signature does not hold"),
    "a file is added": Tampering(add_a_file, "signature does not hold"),
    "a file is a link": Tampering(link_a_file, "signature does not hold"),
    "a file is missing": Tampering(lose_a_file, "signature does not hold"),
    "another key signed it": Tampering(sign_with_another_key, "signature does not hold"),
    "another key attested it": Tampering(attest_with_another_key, "provenance does not hold: it is not signed by this"),
    "nobody signed it": Tampering(sign_nothing, "signature does not hold"),
    "its summary is gone": Tampering(take_the_summary_away, "summary does not hold: it has none"),
    "its summary is old": Tampering(take_an_old_summary, "summary does not hold: it is 31 days old"),
    "its summary says no": Tampering(take_a_failed_summary, "summary does not hold: it says FAILED"),
    "its summary is another's": Tampering(take_the_summary_of_another, "summary does not hold: it is of {"),
    "it was made in another repository": Tampering(
        come_from_another_repository, "made in repository another, not small"
    ),
    "it was made of another ref": Tampering(
        come_from_another_ref, "made of ref refs/heads/feature, not refs/heads/main"
    ),
    "it was made with an unknown parameter": Tampering(be_made_with_another_parameter, "not known: debug"),
    "its policy is another one": Tampering(change_the_policy, "by another policy"),
    "it is an older one again": Tampering(come_again, "it is small v1 under another number"),
    "its bytes are swapped": Tampering(swap_the_bytes, "provenance does not hold: it is of {"),
    "it was in staging only": Tampering(be_in_staging_only, "was not promoted in staging"),
    "it was revoked": Tampering(be_revoked, "its digest is quarantined: it did harm elsewhere"),
}


def by_a_run(lives: RolloutLives, version: ModelVersion) -> str:
    """As a run does that has registered it."""
    store = lives.parts.store
    release = releases.begin(store.number(Kind.RELEASE), version, version.run)
    write = write_state(Kind.RELEASE, release.key, release, expected=0, phase=release.phase, because=release.because)
    store.save(write)
    return release.key


def by_a_person(lives: RolloutLives, version: ModelVersion) -> str:
    """As the API and the command line do."""
    return lives.parts.requests.start_release(ADA, version.key, "a test asked").key


DOORS = {"a run": by_a_run, "a person": by_a_person}


@pytest.fixture(scope="module")
def lives() -> Iterator[RolloutLives]:
    with tempfile.TemporaryDirectory(prefix="ij-") as folder:
        made = RolloutLives(Path(folder), free_port())
        try:
            made.good = made.next_version()
            made.parts.plant.write_version(made.good, 0, made.parts.store)
            life = made.begin()
            assert made.settle(made.ask_for(made.good)) == "done"
            made.end(life)
            yield made
        finally:
            made.close()


@pytest.mark.parametrize("door", DOORS)
def test_nothing_that_was_tampered_with_comes_in_and_production_serves_on(
    lives: RolloutLives, traffic: Callable[..., object], door: str
) -> None:
    load = traffic(lives.url, 500.0)
    wrong = []
    for name, (tamper, refusal) in TAMPERINGS.items():
        version = tamper(lives, lives.next_version())
        lives.parts.plant.write_version(version, 0, lives.parts.store)
        before = [row.key for row in lives.parts.store.rows(Kind.ROLLOUT)]
        release = DOORS[door](lives, version)
        lives.parts.loop.one_pass()
        row = lives.parts.store.load(Kind.RELEASE, release)
        assert row is not None
        deed = lives.parts.store.audit()[-1].deed
        is_refused = row.phase == "stopped" and refusal in str(row.state["because"])
        is_told = (deed.action, deed.thing) == ("refuse admission", f"version/{version.key}")
        has_begun = [one.key for one in lives.parts.store.rows(Kind.ROLLOUT)] != before
        if not is_refused or not is_told or has_begun:
            wrong.append(f"{name}: {row.phase}, {row.state['because']}; {deed}")
    while sum(load.served.values()) < LEAST_REQUESTS:
        time.sleep(0.05)
    load.stop()
    assert wrong == []
    assert load.failures == []
    assert set(load.served) == {"small.production.r1"}
    print(f"{len(TAMPERINGS)} of {len(TAMPERINGS)} refused at the door of {door}, {dict(load.served)}")

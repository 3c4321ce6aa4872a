"""Versions that somebody tampered with, at every door, while production serves: none comes in.

D1 of the fault matrix. Who tampers may write to the database, to the store of artifacts and to the copies that replicas
load, and has not the signing key. Doors: the release that a run begins; the one that a person asks for (the API and the
command line alike); and the start of a replica, which looks again at bytes, statement and quarantine, and needs no
control plane for it. Envoy, supervise, sandbox and model server are real.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.plant import ADA
from tests.rollout_lives import PACE, PRODUCTION, RolloutLives

from interlock.control.delivering.quarantine import quarantine
from interlock.control.rows import load_state, write_environment, write_state
from interlock.delivery import release as releases
from interlock.delivery.environment import Environment
from interlock.delivery.revision import Revision
from interlock.edges.signing import LocalSigning
from interlock.registry.attestation import OLDEST_SECONDS, attest_provenance, attest_summary
from interlock.registry.version import ModelVersion
from interlock.system.sockets import free_port
from interlock.vocabulary import Kind, Verdict

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("servers")]

MODEL = """class Doubled:
    def predict(self, inputs):
        return inputs["x"].sum(axis=1) * 2
"""
LEAST_REQUESTS = 350
PATIENCE_SECONDS = 30.0
Tamper = Callable[[RolloutLives, ModelVersion], ModelVersion]


class AtStart(NamedTuple):
    """What is done to that of which production's replicas are started, and the words of a start that refuses."""

    tamper: Callable[[RolloutLives], None]
    refusal: str


class Tampering(NamedTuple):
    """What is done to a version, and the words of its refusal; ``at_start`` is the same for a version that serves.

    Where a start does not look at such things ``at_start`` is the reason: they count when a version first comes in, and
    what has served since must be able to start again.
    """

    tamper: Tamper
    refusal: str
    at_start: AtStart | str


def _file(lives: RolloutLives, version: ModelVersion) -> Path:
    """Where the store keeps the model's one file."""
    (digest,) = lives.parts.plant.blobs.files(version.digest).values()
    return _writable(lives.parts.plant.place(digest))


def _copy(lives: RolloutLives) -> Path:
    """The file that replicas of the version in production load."""
    return _writable(_copies(lives) / lives.good.digest.replace(":", "-") / "model.py")


def _copies(lives: RolloutLives) -> Path:
    return lives.state / "data" / "models"


def _writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)


def _link(path: Path) -> None:
    aside = path.with_name("aside")
    aside.write_bytes(b"other bytes")
    path.unlink()
    path.symlink_to(aside)


def flip_a_bit(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    _flip_a_bit(_file(lives, version))
    return version


def add_a_file(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    blobs = lives.parts.plant.blobs
    files = {name: blobs.read(digest) for name, digest in blobs.files(version.digest).items()}
    return version.model_copy(update={"digest": blobs.put_files({**files, "extra.py": b"import os\n"})})


def link_a_file(lives: RolloutLives, version: ModelVersion) -> ModelVersion:
    _link(_file(lives, version))
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
    return version.model_copy(update={"deploy": (production.model_copy(update={"replicas": 9}),)})


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


def add_a_file_to_the_copy(lives: RolloutLives) -> None:
    _copy(lives).with_name("extra.py").write_bytes(b"import os\n")


def exchange_the_key(lives: RolloutLives) -> None:
    plant = lives.parts.plant
    theirs = LocalSigning(plant.folder / "other keys").public_key()
    shutil.copyfile(theirs, plant.folder / "keys" / "signing-key.pub.pem")


def exchange_the_statement(tamper: Tamper) -> Callable[[RolloutLives], None]:
    """That of the version in production becomes one by another key, or one by ours that says something else."""

    def exchange(lives: RolloutLives) -> None:
        other = tamper(lives, lives.good).provenance
        copy = _copies(lives) / lives.good.provenance.replace(":", "-")
        _writable(copy).write_bytes(lives.parts.plant.blobs.read(other))

    return exchange


def empty_the_statement(lives: RolloutLives) -> None:
    _writable(_copies(lives) / lives.good.provenance.replace(":", "-")).write_bytes(b"{}")


def swap_the_copy(lives: RolloutLives) -> None:
    shutil.copyfile(_file(lives, lives.older), _copy(lives))


def bring_the_older_one(lives: RolloutLives) -> None:
    """Its bytes and all that was signed of it."""
    swap_the_copy(lives)
    exchange_the_statement(lambda lives, _: lives.older)(lives)


def revoke(lives: RolloutLives) -> None:
    lives.parts.replicas.forbid({lives.good.digest: "it did harm elsewhere"}, lives.parts.store.last_event())


OTHER_BYTES = "not the admitted"
GATED_ONCE = "gates are judged, and their summary read, when a version first comes in: a restart depends on neither"
AGED = "the age of a summary counts when a version first comes in: what serves for longer must be able to start again"
ASKED_ONCE = "gates and delivery are compared with the policy when a version first comes in"
PROMOTED_ONCE = "where it was promoted before is asked of the ledger of rollouts, which a replica does not have"

TAMPERINGS = {
    "a bit is flipped": Tampering(
        flip_a_bit, "signature does not hold", AtStart(lambda lives: _flip_a_bit(_copy(lives)), OTHER_BYTES)
    ),
    "a file is added": Tampering(add_a_file, "signature does not hold", AtStart(add_a_file_to_the_copy, OTHER_BYTES)),
    "a file is a link": Tampering(
        link_a_file, "signature does not hold", AtStart(lambda lives: _link(_copy(lives)), OTHER_BYTES)
    ),
    "a file is missing": Tampering(
        lose_a_file, "signature does not hold", AtStart(lambda lives: _copy(lives).unlink(), OTHER_BYTES)
    ),
    "another key signed it": Tampering(
        sign_with_another_key, "signature does not hold", AtStart(exchange_the_key, "the signature does not hold")
    ),
    "another key attested it": Tampering(
        attest_with_another_key,
        "provenance does not hold: it is not signed by this",
        AtStart(exchange_the_statement(attest_with_another_key), OTHER_BYTES),
    ),
    "nobody signed it": Tampering(sign_nothing, "signature does not hold", AtStart(empty_the_statement, OTHER_BYTES)),
    "its summary is gone": Tampering(take_the_summary_away, "summary does not hold: it has none", GATED_ONCE),
    "its summary is old": Tampering(take_an_old_summary, "summary does not hold: it is 31 days old", AGED),
    "its summary says no": Tampering(take_a_failed_summary, "summary does not hold: it says FAILED", GATED_ONCE),
    "its summary is another's": Tampering(take_the_summary_of_another, "summary does not hold: it is of {", GATED_ONCE),
    "it was made in another repository": Tampering(
        come_from_another_repository,
        "made in repository another, not small",
        AtStart(exchange_the_statement(come_from_another_repository), OTHER_BYTES),
    ),
    "it was made of another ref": Tampering(
        come_from_another_ref,
        "made of ref refs/heads/feature, not refs/heads/main",
        AtStart(exchange_the_statement(come_from_another_ref), OTHER_BYTES),
    ),
    "it was made with an unknown parameter": Tampering(
        be_made_with_another_parameter,
        "not known: debug",
        AtStart(exchange_the_statement(be_made_with_another_parameter), OTHER_BYTES),
    ),
    "its policy is another one": Tampering(change_the_policy, "by another policy", ASKED_ONCE),
    "it is an older one again": Tampering(
        come_again, "it is small v2 under another number", AtStart(bring_the_older_one, OTHER_BYTES)
    ),
    "its bytes are swapped": Tampering(
        swap_the_bytes, "provenance does not hold: it is of {", AtStart(swap_the_copy, OTHER_BYTES)
    ),
    "it was in staging only": Tampering(be_in_staging_only, "was not promoted in staging", PROMOTED_ONCE),
    "it was revoked": Tampering(
        be_revoked,
        "its digest is quarantined: it did harm elsewhere",
        AtStart(revoke, "is quarantined: it did harm elsewhere"),
    ),
}
AT_START = {name: row.at_start for name, row in TAMPERINGS.items() if isinstance(row.at_start, AtStart)}


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
        made = RolloutLives(Path(folder), free_port(), MODEL)
        try:
            made.older, made.good = made.next_version(), made.next_version()
            made.parts.plant.write_version(made.good, 0, made.parts.store)
            release = made.ask_for(made.good)
            made.deliver_here(release)
            assert made.settle(release) == "done"
            yield made
        finally:
            made.close()


@pytest.mark.parametrize("door", DOORS)
def test_nothing_that_was_tampered_with_comes_in_and_production_serves_on(
    lives: RolloutLives, traffic: Callable[..., object], door: str
) -> None:
    load = traffic(lives.url, 200.0)
    wrong = []
    for name, (tamper, refusal, _) in TAMPERINGS.items():
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
    assert wrong == []
    serves_on(lives, load, f"{len(TAMPERINGS)} of {len(TAMPERINGS)} refused at the door of {door}")


def serves_on(lives: RolloutLives, load: Any, told: str) -> None:
    """Production has answered all the while, and answers with the digest that it had."""
    assert digest_served(lives) == lives.good.digest
    while sum(load.served.values()) < LEAST_REQUESTS:
        time.sleep(0.05)
    load.stop()
    assert load.failures == []
    assert set(load.served) == {"small.production.r1"}
    print(f"{told}, {dict(load.served)}")


def digest_served(lives: RolloutLives) -> str:
    """The digest of the model that answers in production."""
    body = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 2.0]}]}
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        lives.url, json.dumps(body).encode(), timeout=20
    ) as answer:
        digest: str = json.load(answer)["parameters"]["digest"]
    return digest


class Replica:
    """One of production's, beside those that serve. ``said`` is what it has told since it was stopped."""

    def __init__(self, lives: RolloutLives, index: int) -> None:
        environment, self._version = load_state(lives.parts.store, Kind.ENVIRONMENT, PRODUCTION, Environment)
        assert environment is not None
        assert environment.stable is not None
        self.revision, self._index, self._lives = environment.stable, index, lives
        self._name = self.revision.replica(index)
        self._log, self._status = (
            lives.state / "data" / place for place in (f"logs/{self._name}.log", f"status/{self._name}.json")
        )
        self._passed = 0

    @property
    def said(self) -> str:
        return self._log.read_text()[self._passed :] if self._log.exists() else ""

    def stop(self) -> None:
        """As when the load falls."""
        self._lives.parts.replicas.remove(self.revision.key, self._version, self._index)
        self._until(lambda: not self._status.exists(), "gone")
        self._passed += len(self.said)

    def start(self) -> None:
        """As when the load grows."""
        self._lives.parts.replicas.ensure(self.revision, self._version)

    def has_refused(self, words: str) -> bool:
        """Whether it did so, and has never been ready."""
        self._until(lambda: words in self.said, f"told: {words}", is_sure=False)
        return words in self.said and not self._is_ready()

    def serves(self) -> None:
        self._until(self._is_ready, "ready")

    def _is_ready(self) -> bool:
        seen = self._lives.parts.replicas.observe(PRODUCTION).get(self._name)
        return seen is not None and seen.is_ready

    def _until(self, holds: Callable[[], bool], what: str, *, is_sure: bool = True) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not holds() and time.monotonic() < until:
            time.sleep(0.05)
        assert holds() or not is_sure, f"{self._name} is not {what}: {self.said[-2000:]}"


@contextmanager
def as_it_was_afterwards(lives: RolloutLives) -> Iterator[None]:
    """All that a replica is started from."""
    kept = lives.state / "kept"
    shutil.copytree(_copies(lives), kept)
    yield
    shutil.rmtree(_copies(lives))
    kept.rename(_copies(lives))
    lives.parts.plant.signing.public_key()  # writes the right one
    lives.parts.replicas.forbid({}, lives.parts.store.last_event())


def test_no_replica_starts_from_what_was_tampered_with_and_production_serves_on(
    lives: RolloutLives, traffic: Callable[..., object]
) -> None:
    load = traffic(lives.url, 60.0)
    second, wrong = Replica(lives, 1), []
    for name, (tamper, refusal) in AT_START.items():
        second.stop()
        with as_it_was_afterwards(lives):
            tamper(lives)
            second.start()
            if not second.has_refused(refusal):
                wrong.append(f"{name}: {second.said}")
            second.stop()
    second.start()
    second.serves()
    assert wrong == []
    serves_on(lives, load, f"{len(AT_START)} of {len(AT_START)} refused at the start of a replica")


def other_model(lives: RolloutLives) -> dict[str, Any]:
    return {"model_digest": lives.older.digest}


def other_model_without_a_statement(lives: RolloutLives) -> dict[str, Any]:
    return {"model_digest": lives.older.digest, "provenance": None}


def other_lock(lives: RolloutLives) -> dict[str, Any]:
    return {"lock": lives.parts.plant.blobs.put_files({"requirements.txt": b"other==1"})}


def statement_by_another_key(lives: RolloutLives) -> dict[str, Any]:
    return {"provenance": attest_with_another_key(lives, lives.good).provenance}


IN_THE_ROW = {
    other_model: "the signed statement is about model",
    other_model_without_a_statement: "the signed statement is about model",
    other_lock: "the signed statement is about model",
    statement_by_another_key: "the signature does not hold",
}


def test_what_an_environment_is_made_to_desire_does_not_start_either(
    lives: RolloutLives, traffic: Callable[..., object]
) -> None:
    load = traffic(lives.url, 200.0)
    third, store = Replica(lives, 2), lives.parts.store
    environment = lives.environment()
    assert environment is not None
    for change, refusal in IN_THE_ROW.items():
        stable = third.revision.model_copy(update={**change(lives), "replicas": 3})
        tampered = environment.model_copy(update={"stable": stable})
        store.save(write_environment(tampered, store.version(Kind.ENVIRONMENT, PRODUCTION), "tampered with"))
        lives.parts.loop.one_pass()
        assert third.has_refused(refusal), f"{change.__name__}: {third.said}"
        store.save(write_environment(environment, store.version(Kind.ENVIRONMENT, PRODUCTION), "as it was"))
        third = Replica(lives, 2)
        third.stop()
    lives.parts.loop.one_pass()
    serves_on(lives, load, f"{len(IN_THE_ROW)} of {len(IN_THE_ROW)} rows refused at the start of a replica")

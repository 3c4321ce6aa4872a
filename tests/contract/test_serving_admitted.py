"""What is admitted is looked at again at each start of a replica: whatever was changed on the disk meanwhile."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from tests.contract.test_serving import PROGRAM, eventually

from interlock.delivery.revision import Revision
from interlock.edges.sandbox import BubblewrapSandbox
from interlock.edges.serving import Installed, LocalReplicas, ensure_supervise, stop_supervise
from interlock.edges.signing import LocalSigning
from interlock.errors import StaleWrite
from interlock.system.admitted.contents import COMPLETE, digest_contents
from interlock.system.sockets import http_over
from interlock.vocabulary import Digest, Json

MODEL, GOLDEN = b"good", b'{"requests": []}'
FIRST, SECOND = "flights.production.r1.0", "flights.production.r1.1"


def digest_of(content: bytes) -> Digest:
    return Digest(f"blake3:{blake3(content).hexdigest()}")


LOCK = digest_of(b"the lock")


def statement(model: Digest, lock: Digest) -> dict[str, Json]:
    algorithm, _, value = model.partition(":")
    definition: Json = {"internalParameters": {"lock": lock}}
    return {
        "subject": [{"name": "flights", "digest": {algorithm: value}}],
        "predicate": {"buildDefinition": definition},
    }


class Production:
    """Two replicas of a signed version, and the artifacts and packages that they are made of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path / "data"
        self.folder.mkdir()
        self.signing = LocalSigning(path / "keys")
        self.environment = path / "environment"
        self._install()
        envelope = self.signing.attest(statement(digest_of(MODEL), LOCK))
        self.artifacts = {digest_of(content): content for content in (MODEL, GOLDEN, envelope)}
        self.revision = Revision(
            environment="flights/production",
            number=1,
            version=7,
            model="flights",
            model_digest=digest_of(MODEL),
            lock=LOCK,
            format="skops",
            golden=digest_of(GOLDEN),
            provenance=digest_of(envelope),
        )
        (path / "inference").mkdir()
        (path / "inference" / "__main__.py").write_text(PROGRAM)
        self.replicas = LocalReplicas(
            self.folder,
            BubblewrapSandbox(),
            self._place,
            lambda _revision: Installed(str(self.environment), self.contents),
            path / "inference",
            self.signing.public_key(),
        )

    def _install(self) -> None:
        packages = self.environment / "lib" / "packages"
        packages.mkdir(parents=True)
        (packages / "one.py").write_text("ONE = 1\n")
        (self.environment / "bin").mkdir()
        (self.environment / "bin" / "python").symlink_to(sys.executable)
        (self.environment / COMPLETE).write_text("{}")
        self.contents = digest_contents(str(self.environment))

    def _place(self, artifact: Digest, target: Path) -> None:
        target.write_bytes(self.artifacts[artifact])

    def ensure(self) -> None:
        self.replicas.ensure(self.revision, 1)

    def are_ready(self) -> bool:
        seen = self.replicas.observe("flights/production")
        return set(seen) == {FIRST, SECOND} and all(one.is_ready for one in seen.values())

    def status(self, name: str = FIRST) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / "status" / f"{name}.json").read_bytes())
        return found

    def copy(self, artifact: Digest | None) -> Path:
        assert artifact is not None
        return self.folder / "models" / artifact.replace(":", "-")

    def kill(self) -> None:
        pid = self.status()["pid"]
        assert isinstance(pid, int)
        os.kill(pid, signal.SIGKILL)

    def refusal(self) -> tuple[object, str]:
        """The exit code and the last words of a replica that was killed and is not started again."""
        self.kill()
        eventually(lambda: self.status().get("exit") not in (None, -signal.SIGKILL), "it does not start")
        eventually(lambda: self.replicas.observe("flights/production")[FIRST].problem is not None, "it is told")
        problem = self.replicas.observe("flights/production")[FIRST].problem
        assert http_over(self.folder / "s" / SECOND, "http", "GET", "/v2/health/ready").status == 200
        return self.status()["exit"], problem or ""


@pytest.fixture
def production(tmp_path: Path) -> Iterator[Production]:
    production = Production(tmp_path)
    ensure_supervise(production.folder)
    try:
        production.ensure()
        eventually(production.are_ready, "both are ready")
        yield production
    finally:
        stop_supervise(production.folder)


def change(path: Path, text: str) -> None:
    path.chmod(0o644)
    path.write_text(text)


def other_key(production: Production) -> None:
    change(
        production.path / "keys" / "signing-key.pub.pem", LocalSigning(production.path / "x").public_key().read_text()
    )


TAMPERINGS: dict[str, tuple[Callable[[Production], object], int, str]] = {
    "a package": (lambda one: change(one.environment / "lib/packages/one.py", "ONE = 2\n"), 6, "what was installed"),
    "a package more": (lambda one: (one.environment / "lib/sitecustomize.py").write_text(""), 6, "what was installed"),
    "a package less": (lambda one: (one.environment / "lib/packages/one.py").unlink(), 6, "what was installed"),
    "golden requests": (lambda one: change(one.copy(one.revision.golden), "{}"), 3, "not the admitted"),
    "the statement": (lambda one: change(one.copy(one.revision.provenance), "{}"), 3, "not the admitted"),
    "the key": (other_key, 8, "the signature does not hold"),
    "quarantine": (lambda one: one.replicas.forbid({digest_of(MODEL): "it failed"}, 1), 7, "v7 is quarantined: it"),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_what_was_changed_is_found_at_the_next_start_and_the_others_serve_on(production: Production, what: str) -> None:
    tamper, code, told = TAMPERINGS[what]
    tamper(production)
    found, problem = production.refusal()
    assert found == code
    assert told in problem


def test_copies_are_made_again_from_the_store_and_a_removed_environment_too(production: Production) -> None:
    change(production.copy(production.revision.golden), "{}")
    change(production.copy(production.revision.provenance), "{}")
    production.refusal()
    production.ensure()
    eventually(production.are_ready, "it is ready again")
    assert production.copy(production.revision.golden).read_bytes() == GOLDEN


def test_who_is_not_quarantined_any_more_starts_again(production: Production) -> None:
    production.replicas.forbid({digest_of(MODEL): "it failed"}, 3)
    production.refusal()
    with pytest.raises(StaleWrite):
        production.replicas.forbid({}, 2)
    (production.folder / "quarantined.json").write_text("[]")
    production.replicas.forbid({digest_of(b"another"): "it failed too"}, 4)
    eventually(production.are_ready, "it is ready again")


def envelope_of(production: Production, said: dict[str, Json], **changes: object) -> bytes:
    envelope = json.loads(production.signing.attest(said)) | changes
    return json.dumps(envelope).encode()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda one: envelope_of(one, statement(digest_of(b"another"), LOCK)), "is about model blake3:"),
        (lambda one: envelope_of(one, statement(digest_of(MODEL), digest_of(b"other"))), "is about model blake3:"),
        (lambda one: envelope_of(one, {"subject": []}), "no signed statement"),
        (lambda one: envelope_of(one, statement(digest_of(MODEL), LOCK), signatures=[]), "no signed statement"),
        (
            lambda one: envelope_of(
                one, {}, payload=base64.b64encode(json.dumps(statement(digest_of(MODEL), LOCK)).encode()).decode()
            ),
            "the signature does not hold",
        ),
        (lambda _one: b"[1]", "no signed statement"),
        (lambda _one: b"{", "cannot be relied on"),
    ],
)
def test_a_statement_about_something_else_admits_nothing(
    tmp_path: Path, make: Callable[[Production], bytes], told: str
) -> None:
    production = Production(tmp_path)
    envelope = tmp_path / "envelope"
    envelope.write_bytes(make(production))
    command = [sys.executable, "-P", "-m", "interlock.system.admitted", "--version", "flights v7"]
    command += ["--model", digest_of(MODEL), "--lock", LOCK, "--quarantined", str(tmp_path / "none")]
    command += ["--statement", str(envelope), "--key", str(production.signing.public_key()), "--", "/bin/true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 8
    assert told in done.stderr


def test_the_digest_of_an_environment_is_about_names_contents_rights_and_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_text("1")
    (tmp_path / "link").symlink_to("a/one")
    found = [digest_contents(str(tmp_path))]
    (tmp_path / "a" / "one").chmod(0o755)
    found.append(digest_contents(str(tmp_path)))
    (tmp_path / "a" / "one").rename(tmp_path / "a" / "two")
    found.append(digest_contents(str(tmp_path)))
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("a/two")
    found.append(digest_contents(str(tmp_path)))
    assert len(set(found)) == 4
    (tmp_path / COMPLETE).write_text("when it was built does not count")
    os.utime(tmp_path / "a" / "two", (time.time() - 1000, 1))
    assert digest_contents(str(tmp_path)) == found[-1]

"""Real replicas asked each other's golden requests, before any caller meets one of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract.test_serving import eventually

from interlock.delivery.revision import Revision
from interlock.edges.blobs import LocalBlobs
from interlock.edges.sandbox import BubblewrapSandbox
from interlock.edges.serving import Installed, LocalReplicas, ensure_supervise, stop_supervise
from interlock.edges.serving.local import several_of
from interlock.edges.signing import LocalSigning
from interlock.errors import ServingFault
from interlock.system.sockets import http_over
from interlock.vocabulary import Digest, Json

ENVIRONMENT = "flights/production"
MODEL = """
class Model:
    def predict(self, inputs):
        return sum(inputs[name] for name in {names!r}) + {number}
"""
SOURCE = Path(sys.modules["interlock"].__file__ or "").parent
LOCK = Digest(f"blake3:{'e' * 64}")
INPUTS = {1: ("delay",), 2: ("delay", "weather"), 3: ("delay", "weather"), 4: ("weather",)}
"""By version what its model sums up. The second has a default for the weather."""


def asked(*names: str) -> Json:
    inputs: list[Json] = [{"name": name, "datatype": "FP64", "shape": [1], "data": [1.0]} for name in names]
    return {"inputs": inputs}


def golden_document(number: int) -> dict[str, Json]:
    if number == 2:
        return {"requests": [asked("delay", "weather"), asked("delay")], "defaults": {"weather": 20.0}}
    return {"requests": [asked(*INPUTS[number])]}


class Versions:
    """One replica of each version."""

    def __init__(self, path: Path) -> None:
        self.folder, self.blobs = path / "data", LocalBlobs(path / "artifacts")
        self.folder.mkdir()
        signing = LocalSigning(path / "keys")
        self.revisions = {number: self._revision(number, signing) for number in INPUTS}
        self.replicas = LocalReplicas(
            self.folder,
            BubblewrapSandbox(),
            lambda digest, target: self.blobs.materialise(digest, str(target)),
            lambda _revision: Installed(sys.prefix, None),
            SOURCE / "inference",
            signing.public_key(),
        )

    def _revision(self, number: int, signing: LocalSigning) -> Revision:
        model = self.blobs.put_files({"model.py": MODEL.format(names=INPUTS[number], number=number).encode()})
        subject: Json = [{"digest": {"blake3": model.removeprefix("blake3:")}}]
        predicate: Json = {"buildDefinition": {"internalParameters": {"lock": LOCK}}}
        return Revision(
            environment=ENVIRONMENT,
            number=number,
            version=number,
            model="flights",
            model_digest=model,
            lock=LOCK,
            format="python",
            replicas=1,
            golden=self.blobs.put_bytes(json.dumps(golden_document(number)).encode()),
            provenance=self.blobs.put_bytes(signing.attest({"subject": subject, "predicate": predicate})),
        )

    def unanswered(self, asked: int, of: int) -> str:
        golden = self.revisions[of].golden
        assert golden is not None
        return self.replicas.unanswered(self.revisions[asked], golden)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Versions]:
    versions = Versions(tmp_path_factory.mktemp("rehearsal"))
    ensure_supervise(versions.folder)
    try:
        for revision in versions.revisions.values():
            versions.replicas.ensure(revision, 1)
        eventually(
            lambda: all(one.is_ready for one in versions.replicas.observe(ENVIRONMENT).values()), "all are ready", 60.0
        )
        yield versions
    finally:
        stop_supervise(versions.folder)


@pytest.mark.parametrize(
    ("asked", "of", "expected"),
    [
        (2, 1, ""),  # what is left out has a default
        (1, 2, ""),  # what it does not know is ignored
        (3, 1, '400, {"error":"missing inputs: \'weather\'"}'),
        (1, 3, ""),
        (1, 4, '400, {"error":"missing inputs: \'delay\'"}'),  # no way back: callers leave out what it needs
        (4, 1, '400, {"error":"missing inputs: \'weather\'"}'),
        (3, 2, '400, {"error":"missing inputs: \'weather\'"}'),  # the second form that it knows
    ],
)
def test_who_answers_whose_golden_requests(versions: Versions, asked: int, of: int, expected: str) -> None:
    assert versions.unanswered(asked, of) == expected


def test_a_rehearsal_leaves_no_trace(versions: Versions) -> None:
    assert versions.unanswered(2, 1) == ""
    place = versions.folder / "s" / versions.revisions[2].replica(0)
    stats = json.loads(http_over(place, "http", "GET", "/interlock/stats").body)
    assert (stats["requests"], stats["errors"], stats["golden_checked"]) == (0, 0, 2)
    logs = list((versions.folder / "predictions").rglob("*"))
    assert [path for path in logs if path.is_file() and path.stat().st_size] == []


def test_who_has_no_replica_cannot_say(versions: Versions) -> None:
    absent = versions.revisions[1].model_copy(update={"number": 9})
    golden = versions.revisions[2].golden
    assert golden is not None
    with pytest.raises(ServingFault, match="no replica of flights v1 is ready"):
        versions.replicas.unanswered(absent, golden)
    with pytest.raises(ServingFault, match="cannot be read"):
        versions.replicas.unanswered(versions.revisions[1], versions.blobs.put_bytes(b"no golden requests"))


def test_of_many_requests_each_form_is_asked() -> None:
    requests = [asked("delay")] * 40 + [asked("delay", "weather")] + [asked("delay")] * 10
    found = several_of(requests)
    assert len(found) == 16
    assert found.count(asked("delay", "weather")) == 1
    assert several_of(requests[:3]) == requests[:3]

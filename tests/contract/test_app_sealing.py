"""The seal of a good run, with the real key and real artifacts: what it covers, and that nothing else passes for it."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.plant import NoEnvironments

from interlock.app.pulling import export_attestations, pull
from interlock.control.rows import write_state
from interlock.control.running.attempts import Attempt
from interlock.control.running.lookups import Lookups
from interlock.control.running.sealing import Sealing, materialise_folder
from interlock.edges.blobs import LocalBlobs
from interlock.edges.git import CommandGit
from interlock.edges.signing import LocalSigning
from interlock.edges.store import SqlStore
from interlock.errors import ArtifactFault, SignatureInvalid
from interlock.gate.judgement import Judgement
from interlock.pipeline.plan import EnvironmentPlan, GatePlan, ModelPlan, Plan, StagePlan
from interlock.registry.version import ModelVersion
from interlock.run import run as runs
from interlock.run.conditions import Conditions
from interlock.run.run import Run, StageRun
from interlock.run.stage import StageOutcome
from interlock.source.commit import Commit, Occasion
from interlock.vocabulary import Digest, Kind, Phase, Write

COMMIT = Commit(repository="small", git_directory="/none.git", ref="refs/heads/main", sha="a" * 40, tree="b" * 40)
FILES = {"model.skops": b"weights" * 1000, "code/helper.py": b"x = 1\n"}


class World:
    """A state folder's store, artifacts and key, and the sealing over them."""

    def __init__(self, state: Path) -> None:
        self.state = state
        state.mkdir(exist_ok=True)
        self.store = SqlStore(f"sqlite:///{state / 'interlock.db'}", lambda: 0.0)
        self.blobs = LocalBlobs(state / "artifacts")
        self.signing = LocalSigning(state / "keys")
        git = CommandGit(state / "snapshots")
        lookups = Lookups(self.store, git, self.blobs, NoEnvironments(), platform="p", program="q")
        self.sealing = Sealing(self.store, self.blobs, self.signing, lookups, builder="interlock/namespace")

    def run(self, files: Mapping[str, bytes] | bytes | None = None, number: int = 1, **plan: Any) -> Run:
        """A run whose model is made and whose gates have passed."""
        content = FILES if files is None else files
        model = self.blobs.put_bytes(content) if isinstance(content, bytes) else self.blobs.put_files(content)
        train = StagePlan(name="train", kind="stage", command="python train.py", outs=("model/",))
        made = {"model": ModelPlan(name="small", path="model/", format="skops"), "stages": (train,), **plan}
        begun = runs.begin(
            number, COMMIT, Occasion(kind="push"), Plan(**made), Digest("d"), driver="server", is_trusted=True
        )
        stage = StageRun(phase=Phase.SUCCEEDED, attempt=1, products={"model": model}, sandbox="namespace", key="k")
        return begun.model_copy(
            update={
                "stages": {"train": stage},
                "lock": self.blobs.put_files({"requirements.txt": b""}),
                "judgement": Judgement(results=()),
            }
        )

    def version(self, run: Run) -> ModelVersion:
        self.sealing.seal(run, 5.0)
        sealed = self.sealing.find(run)
        assert sealed is not None
        return self.sealing.version(run, sealed, 6.0)

    def place(self, digest: Digest, sort: str = "files") -> Path:
        digits = digest.removeprefix("blake3:")
        return self.state / "artifacts" / sort / digits[:2] / digits[2:]

    def flip(self, digest: Digest, sort: str = "files", at: int = 3) -> None:
        """One bit of a stored object is another now."""
        path = self.place(digest, sort)
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.chmod(0o644)
        path.write_bytes(content)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "state")
    yield made
    made.store.close()


def test_a_sealed_version_holds_and_tells_where_it_comes_from(world: World) -> None:
    run = world.run(deploy=(EnvironmentPlan(name="production"),))
    assert world.sealing.find(run) is None
    version = world.version(run)
    assert (version.title, version.number, version.run, version.commit) == ("small v1", 1, "1", COMMIT.sha)
    assert version.is_trusted
    assert version.deploy == run.plan.deploy
    assert world.sealing.problem_with(version) is None


def test_sealing_again_after_a_crash_gives_a_seal_that_holds(world: World) -> None:
    run = world.run()
    first = world.version(run)
    world.sealing.seal(run, 7.0)
    second = world.version(run)
    for version in (first, second):
        assert world.sealing.problem_with(version) is None


def test_a_model_that_is_one_file_is_sealed_too(world: World) -> None:
    version = world.version(world.run(b"weights"))
    assert world.sealing.problem_with(version) is None


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_flipped_bit_in_any_file_of_the_model_is_found(world: World, name: str) -> None:
    version = world.version(world.run())
    world.flip(world.blobs.files(version.digest)[name])
    problem = world.sealing.problem_with(version)
    assert problem is not None
    assert "torn" in problem


def test_a_flipped_bit_in_the_list_of_files_is_found(world: World) -> None:
    version = world.version(world.run())
    world.flip(version.digest, "folders")
    assert "torn" in str(world.sealing.problem_with(version))


def test_a_flipped_bit_in_the_signature_is_found(world: World) -> None:
    version = world.version(world.run())
    world.flip(version.signature, at=40)
    assert "torn" in str(world.sealing.problem_with(version))


@pytest.mark.parametrize("what", ["digest", "signature"])
def test_a_lost_artifact_is_a_problem_and_no_crash(world: World, what: str) -> None:
    version = world.version(world.run(b"weights"))
    world.place(getattr(version, what)).unlink()
    assert "missing" in str(world.sealing.problem_with(version))


def test_the_signature_of_another_model_does_not_hold_for_this_one(world: World) -> None:
    one = world.version(world.run())
    other = world.version(world.run({**FILES, "model.skops": b"other"}, number=2))
    swapped = one.model_copy(update={"digest": other.digest})
    assert world.sealing.problem_with(swapped) is not None
    assert world.sealing.problem_with(one) is None
    assert world.sealing.problem_with(other) is None


def test_a_signature_by_another_installations_key_does_not_hold(world: World, tmp_path: Path) -> None:
    version = world.version(world.run())
    other = World(tmp_path / "other")
    theirs = other.version(other.run())
    world.blobs.put_bytes(other.blobs.read(theirs.signature))
    assert world.sealing.problem_with(version.model_copy(update={"signature": theirs.signature})) is not None
    other.store.close()


def test_provenance_says_commit_plan_stages_and_builder(world: World) -> None:
    run = world.run()
    conditions = Conditions(system="Linux x86_64", cores=2, threads=1, python="3.12.1", packages={"six": "1.17.0"})
    outcome = StageOutcome(phase=Phase.SUCCEEDED, because="done", conditions=conditions, is_deterministic=True)
    attempt = Attempt(owner="test", outcome=outcome)
    world.store.save(write_state(Kind.ATTEMPT, "1/train/1", attempt, expected=0, phase="finished", because="a test"))
    version = world.version(run)
    envelope = json.loads(world.blobs.read(version.provenance))
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["subject"] == [{"name": "small", "digest": {"blake3": version.digest.removeprefix("blake3:")}}]
    built = statement["predicate"]["buildDefinition"]
    assert built["resolvedDependencies"] == [{"uri": "small", "digest": {"gitCommit": COMMIT.sha}}]
    assert built["externalParameters"] == {"ref": "refs/heads/main", "plan": "d", "project": ""}
    assert built["internalParameters"]["stages"] == {
        "train": {
            "key": "k",
            "attempt": "1/train/1",
            "sandbox": "namespace",
            "conditions": conditions.model_dump(mode="json"),
            "deterministic": True,
        }
    }
    assert statement["predicate"]["runDetails"]["builder"] == {"id": "interlock/namespace"}


def test_versions_serve_alike_only_if_nothing_that_is_delivered_differs(world: World) -> None:
    run = world.run()
    serving = world.sealing.serving(run)
    assert serving == world.sealing.serving(world.run(number=2))
    gate = GatePlan(metric="accuracy", min=0.5)
    others = [
        world.run({**FILES, "model.skops": b"other"}),
        world.run(gates=(gate,)),
        world.run(deploy=(EnvironmentPlan(name="production"),)),
        world.run(model=ModelPlan(name="small", path="model/", format="joblib")),
        run.model_copy(update={"lock": world.blobs.put_files({"requirements.txt": b"numpy==2\n"})}),
    ]
    digests = [world.sealing.serving(other) for other in others]
    assert len({serving, *digests}) == 6


def test_what_a_seal_attests_holds_for_its_version_and_for_no_other(world: World) -> None:
    version = world.version(world.run())
    assert world.sealing.provenance_problem(version) is None
    assert world.sealing.summary_problem(version, 6.0, is_first=True) is None
    other = world.version(world.run({**FILES, "model.skops": b"other"}, number=2))
    for name in ("provenance", "summary"):
        taken = version.model_copy(update={name: getattr(other, name)})
        problems = world.sealing.provenance_problem(taken), world.sealing.summary_problem(taken, 6.0, is_first=True)
        assert any(problems), name
    world.flip(version.summary or version.digest, at=40)
    assert "torn" in str(world.sealing.summary_problem(version, 6.0, is_first=False))
    world.place(version.provenance).unlink()
    assert "missing" in str(world.sealing.provenance_problem(version))


def test_a_version_is_too_old_where_it_is_new_and_not_where_it_was(world: World) -> None:
    version = world.version(world.run())
    assert "days old" in str(world.sealing.summary_problem(version, 1e8, is_first=True))
    assert world.sealing.summary_problem(version, 1e8, is_first=False) is None


def test_a_version_of_an_earlier_release_has_to_be_sealed_anew(world: World) -> None:
    version = world.version(world.run()).model_copy(update={"summary": None})
    assert world.sealing.summary_problem(version, 6.0, is_first=True) == "it has none; run its commit again"


def test_what_is_signed_of_a_version_is_exported_for_other_tools(world: World, tmp_path: Path) -> None:
    version = world.version(world.run())
    pull(world.state, version, tmp_path / "model")
    aim = tmp_path / "signed"
    names = export_attestations(world.state, version, aim)
    assert names == sorted(path.name for path in aim.iterdir())
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(tmp_path / "model"), "--no-ignore-git-paths"]
    more = ["--signature", str(aim / "model.sig"), "--public_key", str(aim / "signing-key.pub.pem")]
    assert subprocess.run([*command, *more], capture_output=True, check=False).returncode == 0
    key = serialization.load_pem_public_key((aim / "signing-key.pub.pem").read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    for name, kind in (("provenance", "provenance/v1"), ("summary", "verification_summary/v1")):
        envelope = json.loads((aim / f"{name}.dsse.json").read_bytes())
        payload, sort = base64.b64decode(envelope["payload"]), envelope["payloadType"]
        framed = f"DSSEv1 {len(sort)} {sort} {len(payload)} ".encode() + payload  # the specification of DSSE
        key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), framed, ec.ECDSA(hashes.SHA256()))
        assert json.loads(payload)["predicateType"] == f"https://slsa.dev/{kind}"


def test_what_is_not_signed_is_not_exported(world: World, tmp_path: Path) -> None:
    version = world.version(world.run())
    changed = version.model_copy(update={"provenance": world.blobs.put_bytes(b"{}")})
    with pytest.raises(SignatureInvalid):
        export_attestations(world.state, changed, tmp_path / "signed")
    assert not (tmp_path / "signed").exists()


def test_a_run_without_a_model_has_nothing_to_seal(world: World) -> None:
    run = world.run(model=None)
    assert world.sealing.serving(run) is None
    world.sealing.seal(run, 5.0)
    assert world.sealing.find(run) is None


def test_numbers_of_versions_go_on(world: World) -> None:
    for number in (1, 2, 3):
        version = world.version(world.run(number=number))
        assert version.number == number
        write = Write(
            kind=Kind.VERSION,
            key=version.key,
            expected=0,
            phase="registered",
            state=version.model_dump(mode="json"),
            because="registered",
        )
        world.store.save(write)


# --- pulling ---


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_version_is_pulled_with_just_the_files_that_were_signed(world: World, tmp_path: Path) -> None:
    version = world.version(world.run())
    pull(world.state, version, tmp_path / "pulled")
    assert content_of(tmp_path / "pulled") == FILES


def test_an_empty_folder_is_filled(world: World, tmp_path: Path) -> None:
    (tmp_path / "pulled").mkdir()
    pull(world.state, world.version(world.run(b"weights")), tmp_path / "pulled")
    assert content_of(tmp_path / "pulled") == {"model": b"weights"}


def tamper_with_a_file(world: World, version: ModelVersion) -> ModelVersion:
    world.flip(world.blobs.files(version.digest)["code/helper.py"])
    return version


def lose_a_file(world: World, version: ModelVersion) -> ModelVersion:
    world.place(world.blobs.files(version.digest)["code/helper.py"]).unlink()
    return version


def tamper_with_the_manifest(world: World, version: ModelVersion) -> ModelVersion:
    world.flip(version.digest, "folders")
    return version


def swap_the_model(world: World, version: ModelVersion) -> ModelVersion:
    other = world.blobs.put_files({**FILES, "more.py": b"import os\n"})
    return version.model_copy(update={"digest": other})


def spoil_the_signature(world: World, version: ModelVersion) -> ModelVersion:
    return version.model_copy(update={"signature": world.blobs.put_bytes(b"{}")})


def lose_the_key(world: World, version: ModelVersion) -> ModelVersion:
    for path in (world.state / "keys").iterdir():
        path.unlink()
    return version


@pytest.mark.parametrize(
    "tamper",
    [
        tamper_with_a_file,
        lose_a_file,
        tamper_with_the_manifest,
        swap_the_model,
        spoil_the_signature,
        lose_the_key,
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_what_is_not_what_was_signed_is_not_pulled_and_leaves_nothing(
    world: World, tmp_path: Path, tamper: Callable[[World, ModelVersion], ModelVersion], is_there: bool
) -> None:
    version = tamper(world, world.version(world.run()))
    aim = tmp_path / "pulled"
    if is_there:
        aim.mkdir()
    with pytest.raises((SignatureInvalid, ArtifactFault)):
        pull(world.state, version, aim)
    assert not aim.exists()


def test_a_folder_with_something_in_it_is_left_as_it_is(world: World, tmp_path: Path) -> None:
    version = world.version(world.run())
    aim = tmp_path / "pulled"
    aim.mkdir()
    (aim / "mine").write_text("mine")
    with pytest.raises(OSError, match="not empty"):
        pull(world.state, version, aim)
    assert content_of(aim) == {"mine": b"mine"}


def test_an_artifact_that_is_one_file_becomes_a_folder_of_one(world: World, tmp_path: Path) -> None:
    materialise_folder(world.blobs, world.blobs.put_bytes(b"weights"), tmp_path / "deep" / "folder")
    assert content_of(tmp_path / "deep" / "folder") == {"model": b"weights"}


def measured(world: World, reference: dict[str, Any]) -> Run:
    """A run whose model was measured as served, and where that left this of a reference."""
    report = world.blobs.put_bytes(json.dumps({"candidate": {"reference": reference}}).encode())
    train = StagePlan(name="train", kind="stage", command="python train.py", outs=("model/",))
    run = world.run(stages=(train, StagePlan(name="served", kind="measure", builtin="served")))
    served = StageRun(phase=Phase.SUCCEEDED, attempt=1, report=report, key="s")
    return run.model_copy(update={"stages": {**run.stages, "served": served}})


def test_a_version_has_the_reference_that_its_provenance_names(world: World) -> None:
    version = world.version(measured(world, {"rows": 100, "columns": []}))
    assert version.reference is not None
    assert json.loads(world.blobs.read(version.reference)) == {"rows": 100, "columns": []}
    assert world.sealing.provenance_problem(version) is None
    other = version.model_copy(update={"reference": world.blobs.put_bytes(b"{}")})
    assert "with reference" in str(world.sealing.provenance_problem(other))
    assert "with reference" in str(world.sealing.provenance_problem(version.model_copy(update={"reference": None})))


def test_a_version_without_a_reference_tells_why(world: World) -> None:
    because = "golden row 3 is no row of the holdout"
    version = world.version(measured(world, {"because": because}))
    assert (version.reference, version.reference_because) == (None, because)
    assert world.sealing.provenance_problem(version) is None
    assert world.version(world.run()).reference_because == "the model was not measured as served"

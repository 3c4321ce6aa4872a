"""What every keeper of artifacts does: the one on a disk and the one in memory alike."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from blake3 import blake3

from interlock.edges.blobs import LocalBlobs, MemoryBlobs
from interlock.errors import ArtifactFault, NotFound, Refused
from interlock.ports import Blobs, KnownFile
from interlock.vocabulary import Digest

ODD_NAMES = ["with space", "new\nline", "-dash", "é/ü", "back\\slash", "*", '"', ".hidden", "..twodots"]
NOWHERE = Digest(f"blake3:{'0' * 64}")


@pytest.fixture(params=["local", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return MemoryBlobs() if request.param == "memory" else LocalBlobs(tmp_path / "artifacts")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    return made


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("content", [b"", b"a", bytes(range(256)) * 10_000])
def test_a_files_digest_is_that_of_its_bytes(blobs: Blobs, tmp_path: Path, content: bytes) -> None:
    digest = blobs.put_bytes(content)
    assert digest == f"blake3:{blake3(content).hexdigest()}"
    (tmp_path / "file").write_bytes(content)
    assert blobs.put(str(tmp_path / "file")) == digest
    assert blobs.read(digest) == content
    assert blobs.files(digest) == {"": digest}
    assert blobs.has(digest)


def test_a_folder_comes_back_as_it_was(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    files = {"model.skops": b"weights", "deep/er/vocabulary.txt": b"words", "empty": b""}
    digest = blobs.put(str(write(folder, files)))
    assert blobs.has(digest)
    assert blobs.files(digest) == {path: f"blake3:{blake3(content).hexdigest()}" for path, content in files.items()}
    assert {path: blobs.read(one) for path, one in blobs.files(digest).items()} == files
    blobs.materialise(digest, str(tmp_path / "new" / "place"))
    assert content_of(tmp_path / "new" / "place") == files


def test_equal_folders_have_one_digest_and_different_ones_another(blobs: Blobs, tmp_path: Path) -> None:
    files = {"a": b"1", "b/c": b"2"}
    digest = blobs.put(str(write(tmp_path / "one", files)))
    assert blobs.put(str(write(tmp_path / "two", dict(reversed(files.items()))))) == digest == blobs.put_files(files)
    others = [{"a": b"1"}, files | {"a": b"2"}, files | {"d": b""}, {"a": b"1", "b/d": b"2"}, {"a": b"2", "b/c": b"1"}]
    digests = {blobs.put_files(other) for other in others}
    assert len(digests) == len(others)
    assert digest not in digests


def test_an_empty_folder(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    digest = blobs.put(str(folder))
    assert digest == blobs.put_files({}) != blobs.put_bytes(b"")
    assert blobs.has(digest)
    assert blobs.files(digest) == {}
    blobs.materialise(digest, str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_no_file_passes_for_a_folder(blobs: Blobs, tmp_path: Path) -> None:
    inner = blobs.put_bytes(b"1")
    manifest = b'{"files":{"a":["' + inner.encode() + b'",false]}}'
    folder, file = blobs.put_files({"a": b"1"}), blobs.put_bytes(manifest)
    assert folder == f"blake3:{blake3(manifest, derive_key_context='interlock artifact folder 1').hexdigest()}"
    assert folder != file
    assert blobs.files(file) == {"": file}
    with pytest.raises(ArtifactFault):
        blobs.read(folder)


def test_who_may_execute_is_part_of_a_folder(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    write(folder, {"run.sh": b"echo", "data": b"1"})
    plain = blobs.put(str(folder))
    (folder / "run.sh").chmod(0o750)
    executable = blobs.put(str(folder))
    assert plain != executable
    assert blobs.files(plain) == blobs.files(executable)
    blobs.materialise(executable, str(tmp_path / "out"))
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "out").iterdir()}
    assert modes["run.sh"] & stat.S_IXUSR
    assert not modes["data"] & stat.S_IXUSR
    assert modes["data"] & stat.S_IWUSR


def test_odd_names(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    files = {name: name.encode() for name in ODD_NAMES}
    digest = blobs.put(str(write(folder, files)))
    assert digest == blobs.put_files(files)
    blobs.materialise(digest, str(tmp_path / "out"))
    assert content_of(tmp_path / "out") == files


def test_a_name_that_is_not_utf8_is_refused(blobs: Blobs, folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).touch()
    with pytest.raises(Refused, match="caf"):
        blobs.put(str(folder))


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", ".", "nul\0"])
def test_paths_that_are_not_in_the_folder_are_refused(blobs: Blobs, path: str) -> None:
    with pytest.raises(Refused):
        blobs.put_files({path: b""})


def test_a_path_cannot_be_a_file_and_a_folder(blobs: Blobs) -> None:
    with pytest.raises(Refused):
        blobs.put_files({"a": b"", "a/b": b""})


def test_a_link_to_a_file_within_is_that_file(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    write(folder, {"checkpoints/best": b"weights"})
    (folder / "model").symlink_to("checkpoints/best")
    (folder / "again").symlink_to(folder / "model")
    digest = blobs.put(str(folder))
    blobs.materialise(digest, str(tmp_path / "out"))
    assert content_of(tmp_path / "out") == dict.fromkeys(["checkpoints/best", "model", "again"], b"weights")
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize("aim", ["/etc/passwd", "../secret", "inner/up", "nothing", "inner", ".", "itself"])
def test_other_links_are_refused(blobs: Blobs, folder: Path, tmp_path: Path, aim: str) -> None:
    write(tmp_path, {"secret": b"secret", "model/inner/file": b"1"})
    (folder / "inner" / "up").symlink_to("../../secret")
    with pytest.raises(Refused) as refusal:
        blobs.put(str(folder))
    assert refusal.value.where == str(folder / "inner" / "up")
    (folder / "inner" / "up").unlink()
    (folder / "itself").symlink_to(aim if aim != "inner/up" else "inner/../../secret")
    with pytest.raises(Refused) as refusal:
        blobs.put(str(folder))
    assert refusal.value.where == str(folder / "itself")


def test_what_is_no_file_is_refused(blobs: Blobs, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(Refused, match="pipe"):
        blobs.put(str(folder))
    with pytest.raises(Refused):
        blobs.put(str(folder / "pipe"))
    (folder / "pipe").unlink()
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(Refused, match="socket"):
            blobs.put(str(folder))
    with pytest.raises(Refused):
        blobs.put("/dev/null")


def test_nothing_cannot_be_stored(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        blobs.put(str(tmp_path / "nothing"))


def test_what_is_missing_is_a_fault(blobs: Blobs, tmp_path: Path) -> None:
    assert not blobs.has(NOWHERE)
    with pytest.raises(ArtifactFault, match="missing"):
        blobs.read(NOWHERE)
    with pytest.raises(ArtifactFault, match="missing"):
        blobs.files(NOWHERE)
    with pytest.raises(ArtifactFault, match="missing"):
        blobs.materialise(NOWHERE, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "digest", ["", "blake3:", "blake3:" + "A" * 64, "sha256:" + "0" * 64, "blake3:../../" + "0" * 58]
)
def test_what_is_no_digest_is_a_fault(blobs: Blobs, digest: str) -> None:
    with pytest.raises(ArtifactFault, match="no digest"):
        blobs.read(Digest(digest))
    assert not blobs.has(Digest(digest))


def test_a_materialised_artifact_is_a_private_copy(blobs: Blobs, tmp_path: Path) -> None:
    for digest in (blobs.put_bytes(b"weights"), blobs.put_files({"a": b"weights"})):
        one, two = tmp_path / f"{digest}.1", tmp_path / f"{digest}.2"
        blobs.materialise(digest, str(one))
        file = one / "a" if one.is_dir() else one
        file.write_bytes(b"overwritten")
        blobs.materialise(digest, str(two))
        assert (two / "a" if two.is_dir() else two).read_bytes() == b"weights"


def test_nothing_is_overwritten(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nothing")
    for digest in (blobs.put_bytes(b"1"), blobs.put_files({"a": b"1"})):
        for name in ("file", "folder", "dangling"):
            with pytest.raises(ArtifactFault, match="exists"):
                blobs.materialise(digest, str(tmp_path / name))
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert list((tmp_path / "folder").iterdir()) == []


# --- files whose digests are known ---


def known(place: Path, *, is_executable: bool = False) -> KnownFile:
    return KnownFile(str(place), Digest(f"blake3:{blake3(place.read_bytes()).hexdigest()}"), is_executable)


def test_known_files_become_the_folder_that_they_would_be_stored_as(blobs: Blobs, folder: Path) -> None:
    files = {f"deep/{number}": b"%d" % (number % 7) for number in range(1100)} | {"run": b"x", "empty": b""}
    write(folder, files)
    (folder / "run").chmod(0o755)
    stored = blobs.put_known({path: known(folder / path, is_executable=path == "run") for path in files})
    assert blobs.has(stored)
    assert blobs.files(stored) == {path: f"blake3:{blake3(content).hexdigest()}" for path, content in files.items()}
    assert stored == blobs.put(str(folder))


def test_a_known_file_alone(blobs: Blobs, folder: Path) -> None:
    write(folder, {"a": b"content"})
    assert blobs.read(blobs.put_known({"": known(folder / "a")})) == b"content"


def test_a_known_file_that_is_kept_already_is_not_read(blobs: Blobs, folder: Path) -> None:
    digest = blobs.put_bytes(b"content")
    gone = KnownFile(str(folder / "nowhere"), digest)
    assert blobs.put_known({"": gone}) == digest
    assert blobs.files(blobs.put_known({"a": gone})) == {"a": digest}


def test_a_known_file_that_has_changed_is_a_fault_and_leaves_nothing(blobs: Blobs, folder: Path) -> None:
    write(folder, {"a": b"before"})
    before = known(folder / "a")
    write(folder, {"a": b"after!"})
    for files in ({"": before}, {"a": before, "b": before}):
        with pytest.raises(ArtifactFault, match="has changed"):
            blobs.put_known(files)
    assert not blobs.has(before.digest)


def test_large_files_may_be_left_where_they_lie(blobs: Blobs, folder: Path, tmp_path: Path) -> None:
    large, program = write(folder, {"sub/a": b"x" * 1000, "b": b"x" * 999, "program": b"x" * 1000}), folder / "program"
    program.chmod(0o755)
    for number, (digest, name) in enumerate([(blobs.put(str(large)), "sub/a"), (blobs.put(str(large / "sub/a")), "")]):
        target = tmp_path / str(number)
        lying = blobs.materialise(digest, str(target), shown_from=1000)
        assert lying.keys() <= {name}
        assert Path(lying.get(name, target / name)).read_bytes() == b"x" * 1000
        assert (target / name).stat().st_size == (0 if lying else 1000)
    assert (tmp_path / "0" / "b").stat().st_size == 999
    assert (tmp_path / "0" / "program").stat().st_size == 1000
    assert blobs.materialise(blobs.put(str(large / "b")), str(tmp_path / "2"), shown_from=1000) == {}
    with pytest.raises(ArtifactFault):
        blobs.materialise(NOWHERE, str(tmp_path / "3"), shown_from=0)

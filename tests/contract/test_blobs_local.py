"""What only artifacts on a disk can show: torn content, sudden death, several writers, files larger than memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from interlock.edges.blobs import LocalBlobs
from interlock.edges.blobs.local import MOST_SHOWN
from interlock.errors import ArtifactFault
from interlock.vocabulary import Digest

STORING = """
import sys
from interlock.edges.blobs import LocalBlobs
blobs = LocalBlobs(sys.argv[1])
number = 0
while True:
    print(blobs.put_files({"a": b"%d" % number * 50_000, "b": b"same"}), flush=True)
    number += 1
"""

LARGE = """
import resource, sys
from interlock.edges.blobs import LocalBlobs
blobs = LocalBlobs(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
digest = blobs.put(sys.argv[2])
blobs.materialise(digest, sys.argv[3])
print(digest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


def objects(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def file_of(place: Path, digest: Digest, sort: str = "files") -> Path:
    digits = digest.removeprefix("blake3:")
    return place / sort / digits[:2] / digits[2:]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def test_every_object_lies_under_its_digest_once_and_read_only(place: Path) -> None:
    blobs = LocalBlobs(place)
    first = blobs.put_files({"a": b"1", "b": b"1", "c": b"2"})
    second = blobs.put_files({"d": b"2"})
    one, two = blobs.put_bytes(b"1"), blobs.put_bytes(b"2")
    expected = {file_of(place, one), file_of(place, two)}
    expected |= {file_of(place, digest, "folders") for digest in (first, second)}
    assert {place / path for path in objects(place)} == expected
    assert {path.stat().st_mode & 0o777 for path in expected} == {0o444}


def test_without_durability_what_the_disk_lost_is_told_and_made_again(place: Path) -> None:
    blobs = LocalBlobs(place, is_durable=False)
    digest = blobs.put_files({"a": b"12", "b": b"3"})
    assert blobs.files(digest).keys() == {"a", "b"}
    lost = file_of(place, blobs.files(digest)["a"])
    lost.chmod(0o644)
    lost.write_bytes(b"")  # as a power cut leaves a file that was renamed and not yet written
    with pytest.raises(ArtifactFault, match="torn"):
        blobs.materialise(digest, str(place.parent / "target"))
    assert not blobs.has(digest)
    assert blobs.put_files({"a": b"12", "b": b"3"}) == digest
    assert blobs.has(digest)


def test_what_was_stored_is_there_after_a_restart(place: Path) -> None:
    digest = LocalBlobs(place).put_files({"a": b"1"})
    blobs = LocalBlobs(place)
    assert blobs.has(digest)
    assert {path: blobs.read(one) for path, one in blobs.files(digest).items()} == {"a": b"1"}


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "emptied"])
def test_a_torn_file_is_never_given_out(place: Path, tmp_path: Path, damage: str) -> None:
    blobs = LocalBlobs(place)
    content = os.urandom(3_000_000)
    folder = blobs.put_files({"good": b"good", "weights": content})
    digest = blobs.files(folder)["weights"]
    attempts: list[Callable[[LocalBlobs, Digest, str], object]] = [
        lambda blobs, _, __: blobs.read(digest),
        lambda blobs, _, target: blobs.materialise(digest, target),
        lambda blobs, folder, target: blobs.materialise(folder, target),
    ]
    for attempt in attempts:
        torn = file_of(place, digest)
        torn.chmod(0o644)
        if damage == "flipped":
            flip_a_bit(torn)
        else:
            torn.write_bytes({"cut": content[:-1], "longer": content + b"\0", "emptied": b""}[damage])
        with pytest.raises(ArtifactFault, match="torn"):
            attempt(blobs, folder, str(tmp_path / "out"))
        assert not (tmp_path / "out").exists()
        assert not blobs.has(folder)
        assert blobs.put_files({"good": b"good", "weights": content}) == folder
        assert blobs.read(digest) == content


def test_a_torn_manifest_is_never_believed(place: Path, tmp_path: Path) -> None:
    blobs = LocalBlobs(place)
    folder = blobs.put_files({"a": b"1"})
    flip_a_bit(file_of(place, folder, "folders"))
    with pytest.raises(ArtifactFault, match="torn"):
        blobs.files(folder)
    assert not blobs.has(folder)
    assert blobs.put_files({"a": b"1"}) == folder
    flip_a_bit(file_of(place, folder, "folders"))
    assert not blobs.has(folder)


def test_a_folder_with_a_lost_file_is_not_there(place: Path, tmp_path: Path) -> None:
    blobs = LocalBlobs(place)
    folder = blobs.put_files({"a": b"1", "b": b"2"})
    file_of(place, blobs.files(folder)["b"]).unlink()
    assert not blobs.has(folder)
    with pytest.raises(ArtifactFault, match="missing"):
        blobs.materialise(folder, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_many_writers_of_one_digest(place: Path) -> None:
    content = os.urandom(2_000_000)
    expected = f"blake3:{blake3(content).hexdigest()}"
    digests: list[str] = []
    gate = threading.Barrier(8)

    def store() -> None:
        gate.wait()
        digests.append(LocalBlobs(place).put_bytes(content))

    threads = [threading.Thread(target=store) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == [expected] * 8
    assert list(objects(place).values()) == [content]


@pytest.mark.parametrize("stored_before_death", [1, 9])
def test_a_killed_writer_leaves_whole_artifacts_only(place: Path, stored_before_death: int) -> None:
    writer = subprocess.Popen([sys.executable, "-c", STORING, str(place)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    answered = [Digest(writer.stdout.readline().strip()) for _ in range(stored_before_death)]
    writer.send_signal(signal.SIGKILL)
    answered += [Digest(line.strip()) for line in writer.stdout.read().splitlines() if len(line) == len(answered[0])]
    writer.stdout.close()
    writer.wait()
    blobs = LocalBlobs(place)
    for digest in answered:
        assert blobs.has(digest)
        assert [len(blobs.read(one)) for one in blobs.files(digest).values()][1] == 4
    for path in (place / "files").rglob("*"):
        if path.is_file():
            assert f"{path.parent.name}{path.name}" == blake3(path.read_bytes()).hexdigest()


def test_what_a_dead_writer_left_is_removed_after_a_day(place: Path) -> None:
    blobs = LocalBlobs(place)
    old, young = place / "incoming" / "old", place / "incoming" / "young"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    digest = blobs.put_bytes(b"1")
    assert LocalBlobs(place).has(digest)
    assert not old.exists()
    assert young.exists()


def test_a_failed_put_leaves_nothing(place: Path, tmp_path: Path) -> None:
    blobs = LocalBlobs(place)
    (place / "files").rmdir()
    (place / "files").write_text("in the way")
    with pytest.raises(ArtifactFault):
        blobs.put_bytes(b"1")
    assert list((place / "incoming").iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactFault):
        LocalBlobs(tmp_path / "file" / "artifacts")


def test_a_large_file_is_never_in_memory_as_a_whole(place: Path, tmp_path: Path) -> None:
    size = 64 << 20
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(size)
    command = [sys.executable, "-c", LARGE, str(place), str(large), str(tmp_path / "out")]
    digest, grown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(grown) * 1024 < size // 2
    assert (tmp_path / "out").stat().st_size == size
    assert LocalBlobs(place).files(Digest(digest)) == {"": digest}


def test_a_large_file_that_is_torn_is_set_aside_and_not_shown(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    digest = blobs.put_bytes(b"x" * 1000)
    lying = blobs.materialise(digest, str(tmp_path / "first"), shown_from=1)
    place = Path(lying[""])
    place.chmod(0o600)
    place.write_bytes(b"y" * 1000)
    with pytest.raises(ArtifactFault, match="torn"):
        blobs.materialise(digest, str(tmp_path / "second"), shown_from=1)
    assert not (tmp_path / "second").exists()
    assert not blobs.has(digest)
    assert blobs.put_bytes(b"x" * 1000) == digest
    assert blobs.materialise(digest, str(tmp_path / "second"), shown_from=1) == lying


def test_of_a_folder_the_large_files_are_shown_and_not_more_than_a_sandbox_can_mount(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    files = {f"large/{number}": b"x" * 1000 + bytes([number]) for number in range(MOST_SHOWN + 1)}
    lying = blobs.materialise(blobs.put_files(files | {"small": b"s"}), str(tmp_path / "out"), shown_from=1000)
    assert len(lying) == MOST_SHOWN
    for name, content in files.items():
        copied = (tmp_path / "out" / name).read_bytes()
        assert (copied == b"" and Path(lying[name]).read_bytes() == content) if name in lying else copied == content
    assert (tmp_path / "out" / "small").read_bytes() == b"s"

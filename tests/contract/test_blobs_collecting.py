"""What is taken away and what never is, beside writers and readers, and whenever the collection is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.edges.blobs import LocalBlobs, MemoryBlobs
from interlock.errors import ArtifactFault
from interlock.ports import Blobs
from interlock.vocabulary import Digest

HOUR = 3600.0
LATER = 1e12
"""A moment before which everything was used."""


def nothing(_: Digest) -> bool:
    return False


@pytest.fixture(params=["local", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return MemoryBlobs() if request.param == "memory" else LocalBlobs(tmp_path / "artifacts")


def objects(place: Path) -> dict[str, int]:
    return {str(path.relative_to(place)): path.stat().st_size for path in place.rglob("*") if path.is_file()}


def age(place: Path, seconds: float = HOUR) -> None:
    """Everything was used so long ago."""
    then = time.time() - seconds
    for path in place.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


# --- real and fake alike ---


def test_what_nobody_wants_goes_and_what_is_wanted_stays(blobs: Blobs) -> None:
    kept, gone = blobs.put_files({"a": b"1", "shared": b"22"}), blobs.put_files({"b": b"333", "shared": b"22"})
    lone, lost = blobs.put_bytes(b"4444"), blobs.put_bytes(b"55555")
    count, size = blobs.collect({kept, lone}.__contains__, LATER)
    assert blobs.has(kept)
    assert blobs.has(lone)
    assert [blobs.has(digest) for digest in (gone, lost, blobs.put_files({}))] == [False, False, True]
    manifest = len(b'{"files":{"b":["","shared":["",false],false]}}') + 2 * 71
    assert (count, size) == (3, 3 + 5 + manifest)  # the folder's manifest, its own file, and the lone one
    assert {path: blobs.read(one) for path, one in blobs.files(kept).items()} == {"a": b"1", "shared": b"22"}


def test_what_was_used_lately_stays_whole(blobs: Blobs) -> None:
    folder, file = blobs.put_files({"a": b"1"}), blobs.put_bytes(b"2")
    assert blobs.collect(nothing, time.time() - HOUR) == (0, 0)
    assert blobs.has(folder)
    assert blobs.has(file)
    assert blobs.collect(nothing, LATER)[0] == 3
    assert blobs.collect(nothing, LATER) == (0, 0)
    assert not blobs.has(folder)


def test_what_went_can_be_stored_again(blobs: Blobs, tmp_path: Path) -> None:
    for _ in range(2):
        digest = blobs.put_files({"a": b"1", "b/c": b"2"})
        blobs.materialise(digest, str(tmp_path / "out"))
        assert (tmp_path / "out" / "b" / "c").read_bytes() == b"2"
        (tmp_path / "out").rename(tmp_path / f"out-{time.monotonic_ns()}")
        blobs.collect(nothing, LATER)
        with pytest.raises(ArtifactFault, match="missing"):
            blobs.files(digest)


def test_a_wanted_file_stays_although_its_folder_goes(blobs: Blobs) -> None:
    folder = blobs.put_files({"a": b"1", "b": b"2"})
    file = blobs.files(folder)["a"]
    blobs.collect({file}.__contains__, LATER)
    assert blobs.read(file) == b"1"
    assert not blobs.has(folder)


@pytest.mark.parametrize("use", ["put", "put_bytes", "put_files", "has"])
def test_what_is_used_again_is_young_again(tmp_path: Path, use: str) -> None:
    times = [1000.0]
    memory, local = MemoryBlobs(lambda: times[0]), LocalBlobs(tmp_path / "artifacts")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"1")
    keepers: tuple[Blobs, ...] = (memory, local)
    for blobs in keepers:
        digest = blobs.put_bytes(b"1") if use == "put_bytes" else blobs.put_files({"a": b"1"})
        age(tmp_path / "artifacts")
        times[0] = 2000.0
        uses: dict[str, Callable[[], object]] = {
            "put": lambda: blobs.put(str(tmp_path / "folder")),  # noqa: B023
            "put_bytes": lambda: blobs.put_bytes(b"1"),  # noqa: B023
            "put_files": lambda: blobs.put_files({"a": b"1"}),  # noqa: B023
            "has": lambda: blobs.has(digest),  # noqa: B023
        }
        uses[use]()
        before = 1500.0 if blobs is memory else time.time() - HOUR / 2
        assert blobs.collect(nothing, before) == (0, 0)
        assert blobs.has(digest)


CONTENTS = st.sampled_from([b"", b"1", b"22", b"333", b"4444"])
FOLDERS = st.dictionaries(st.sampled_from(["a", "b", "c/d"]), CONTENTS, max_size=3)


@given(
    folders=st.lists(st.tuples(FOLDERS, st.booleans(), st.booleans()), max_size=5),
    files=st.lists(st.tuples(CONTENTS, st.booleans(), st.booleans()), max_size=3),
)
@settings(max_examples=40)
def test_of_any_store_the_wanted_stays_and_the_old_rest_goes(
    folders: list[tuple[dict[str, bytes], bool, bool]], files: list[tuple[bytes, bool, bool]]
) -> None:
    """Each is (content, is it wanted, is it old); what is stored twice is wanted or young if either is."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        blobs = LocalBlobs(place)
        contents: dict[Digest, dict[str, bytes]] = {}
        wanted: set[Digest] = set()
        young: set[Digest] = set()
        for old in (True, False):  # the old ones were stored first
            for content, is_wanted, is_old in [*folders, *(({"": content}, *rest) for content, *rest in files)]:
                if is_old is not old:
                    continue
                digest = blobs.put_bytes(content[""]) if "" in content else blobs.put_files(content)
                contents[digest] = content
                wanted |= {digest} if is_wanted else set()
                young |= set() if is_old else {digest}
            if old:
                age(place)
        before = sum(objects(place).values())
        count, size = blobs.collect(wanted.__contains__, time.time() - HOUR / 2)
        assert size == before - sum(objects(place).values())
        stays = wanted | young
        for digest, content in contents.items():
            if digest in stays:
                assert {path: blobs.read(one) for path, one in blobs.files(digest).items()} == content
        needed = {content for digest in stays for content in contents[digest].values()}
        left = {place.joinpath(name).read_bytes() for name in objects(place) if name.startswith("files/")}
        assert left == needed
        assert len([name for name in objects(place) if name.startswith("folders/")]) == len(
            [digest for digest in stays if "" not in contents[digest]]
        )
        assert (count == 0) == (size == 0) or b"" in {c for one in contents.values() for c in one.values()}


# --- on a disk ---


def test_what_the_dead_left_behind_goes_too(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    torn = tmp_path / "files" / "ab" / ("c" * 62 + ".torn")
    torn.parent.mkdir()
    torn.write_bytes(b"123")
    (tmp_path / "incoming" / "tmpx").write_bytes(b"4567")
    assert blobs.collect(nothing, time.time() - HOUR) == (0, 0)
    age(tmp_path, 2 * HOUR)
    assert blobs.collect(nothing, time.time() - HOUR) == (2, 7)
    assert objects(tmp_path) == {}


def test_a_torn_manifest_does_not_stop_the_collection(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    torn, whole = blobs.put_files({"a": b"1"}), blobs.put_files({"b": b"2"})
    digits = torn.removeprefix("blake3:")
    path = tmp_path / "folders" / digits[:2] / digits[2:]
    path.chmod(0o644)
    path.write_bytes(b"{}")
    blobs.collect(lambda _: True, LATER)
    assert not blobs.has(torn)
    assert blobs.has(whole)


COLLECTING = """
import os, signal, sys
from interlock.edges.blobs import LocalBlobs

place, wanted, moment, is_after = sys.argv[1], set(sys.argv[2].split()), int(sys.argv[3]), sys.argv[4] == "after"
unlink, seen = os.unlink, []

def counted(path, **named):
    seen.append(path)
    if len(seen) == moment and not is_after:
        os.kill(os.getpid(), signal.SIGKILL)
    unlink(path, **named)
    if len(seen) == moment:
        os.kill(os.getpid(), signal.SIGKILL)

os.unlink = counted
print(LocalBlobs(place).collect(wanted.__contains__, 1e12)[0])
"""


@pytest.mark.parametrize("is_after", ["before", "after"])
def test_killed_at_any_removal_every_folder_that_is_there_is_whole(tmp_path: Path, is_after: str) -> None:
    moment, returned = 1, -int(signal.SIGKILL)
    while returned:
        place = tmp_path / str(moment)
        blobs = LocalBlobs(place)
        kept = blobs.put_files({"a": b"1", "shared": b"2"})
        others = [blobs.put_files({"x": b"%d" % number, "shared": b"2", "y": b"y"}) for number in range(2)]
        command = [sys.executable, "-c", COLLECTING, str(place), kept, str(moment), is_after]
        ended = subprocess.run(command, capture_output=True, check=False)
        returned = ended.returncode
        assert returned in (0, -signal.SIGKILL), ended.stderr
        for digest in (kept, *others):
            try:
                files = blobs.files(digest)
            except ArtifactFault:
                assert digest != kept
            else:
                assert all(blobs.read(one) for one in files.values())
        again = LocalBlobs(place)
        again.collect({kept}.__contains__, LATER)  # what was left is found again
        assert len(objects(place)) == 3
        assert again.has(kept)
        moment += 1
    assert moment > 5


ALWAYS = """
import sys, time
from interlock.edges.blobs import LocalBlobs
print("begun", flush=True)
while True:
    LocalBlobs(sys.argv[1]).collect(lambda digest: False, time.time() - 1800)
"""


def test_whatever_is_stored_while_it_is_being_collected_is_there_afterwards(tmp_path: Path) -> None:
    place = tmp_path / "artifacts"
    blobs = LocalBlobs(place)
    contents = [{"shared": b"0", f"own{number}": b"%d" % number * 1000} for number in range(8)]
    stored: list[Digest] = []

    def store(part: int) -> None:
        own = LocalBlobs(place)
        stored.extend([own.put_files(content) for content in contents[part::2]])

    command = [sys.executable, "-c", ALWAYS, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as collector:
        assert collector.stdout is not None
        collector.stdout.readline()
        for _ in range(30):
            with suppress(FileNotFoundError):
                age(place)
            stored.clear()
            threads = [threading.Thread(target=store, args=(part,)) for part in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(stored) == 8
            for digest in stored:
                assert blobs.has(digest)
                assert all(blobs.read(one) for one in blobs.files(digest).values())
        assert collector.poll() is None
        collector.kill()


def test_a_reader_gets_all_of_it_or_a_fault(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "artifacts")
    content = {f"f{number}": b"%d" % number * 5000 for number in range(10)}
    for attempt in range(10):
        digest = blobs.put_files(content)
        age(tmp_path / "artifacts")
        collector = threading.Thread(target=blobs.collect, args=(nothing, time.time() - HOUR / 2))
        collector.start()
        target = tmp_path / f"out{attempt}"
        try:
            blobs.materialise(digest, str(target))
        except ArtifactFault:
            assert not target.exists()
        else:
            assert {path.name: path.read_bytes() for path in target.iterdir()} == content
        collector.join()

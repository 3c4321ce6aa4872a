"""Data of this machine that no commit holds: looked at in each run, read once, and kept as it was."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from blake3 import blake3
from tests.datasets import World

from interlock.edges.data import Fetched
from interlock.edges.data.files import FilePlace, is_settled
from interlock.errors import DataFault, Forbidden, NotFound, Refused, SeveralRefused


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def settle() -> None:
    time.sleep(0.03)


TRAIN = {"data/train.csv": "data/train.csv"}
FOLDER = {"images": "data"}
TEXT = b"1,2\n"


def test_a_file_is_read_once_and_kept_as_it_was(world: World) -> None:
    file = world.data / "train.csv"
    file.write_bytes(b"1,2\n")
    first = world.fetch(TRAIN)
    assert world.content(first.products["data/train.csv"]) == {"": b"1,2\n"}
    assert first.because == "1 dataset: 1 read, 0 as before"
    assert world.said == ["data/train.csv: 1 files read, 4 bytes"]
    again = world.fetch(TRAIN)
    assert again == Fetched(first.products, "1 dataset as before: nothing was read")
    file.write_bytes(b"1,3\n")
    changed = world.fetch(TRAIN)
    assert world.content(changed.products["data/train.csv"]) == {"": b"1,3\n"}
    assert world.content(first.products["data/train.csv"]) == {"": b"1,2\n"}


def test_what_is_unchanged_is_not_read(world: World) -> None:
    """A file's first read after a change of it sets its access time."""
    file = world.data / "train.csv"
    file.write_bytes(b"1,2\n")
    world.fetch(TRAIN)
    os.utime(file, ns=(0, file.stat().st_mtime_ns))
    world.fetch(TRAIN)  # its time of change is another now
    assert file.stat().st_atime_ns > 0
    os.utime(file, ns=(0, file.stat().st_mtime_ns))
    world.fetch(TRAIN)
    read = file.stat().st_atime_ns
    for _ in range(3):
        world.fetch(TRAIN)
    assert file.stat().st_atime_ns == read


@pytest.mark.parametrize("how", ["in place", "replaced", "same size and time", "shorter"])
def test_every_change_is_seen(world: World, how: str) -> None:
    file = world.data / "train.csv"
    file.write_bytes(b"1,2\n")
    first = world.fetch(TRAIN)
    times = file.stat()
    if how == "replaced":
        (world.data / "new").write_bytes(b"9,9\n")
        (world.data / "new").replace(file)
    else:
        file.write_bytes(b"9" if how == "shorter" else b"9,9\n")
    if how == "same size and time":
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert file.stat().st_mtime_ns == times.st_mtime_ns
    assert world.fetch(TRAIN).products != first.products


def test_changes_in_quick_succession_are_all_seen(world: World) -> None:
    """Within one tick of the clock a file can change and keep size and times: such a one is not trusted."""
    file = world.data / "train.csv"
    for number in range(30):
        file.write_bytes(b"%02d\n" % number)
        assert world.content(world.fetch(TRAIN).products["data/train.csv"]) == {"": b"%02d\n" % number}


def test_a_time_that_does_not_pass_is_not_trusted(world: World) -> None:
    file = world.data / "train.csv"
    file.write_bytes(b"1")
    changed = file.stat().st_ctime_ns
    assert not is_settled(file.stat(), changed)
    assert not is_settled(file.stat(), changed + 5_000_000)
    assert is_settled(file.stat(), changed + 3_000_000_000)


def test_a_file_touched_is_read_and_not_stored_again(world: World) -> None:
    file = world.data / "train.csv"
    file.write_bytes(b"1,2\n")
    first = world.fetch(TRAIN)
    stored = {path: path.stat().st_ino for path in (world.folder / "artifacts" / "files").rglob("*")}
    settle()
    os.utime(file)
    again = world.fetch(TRAIN)
    assert again.products == first.products
    assert again.because == "1 dataset: 1 read, 0 as before"
    assert {path: path.stat().st_ino for path in (world.folder / "artifacts" / "files").rglob("*")} == stored


# --- folders ---


def test_of_a_folder_only_what_changed_is_read(world: World) -> None:
    for number in range(120):
        (world.data / f"{number}.png").write_bytes(b"%d" % number)
    (world.data / "deep").mkdir()
    (world.data / "deep" / "x").write_bytes(b"x")
    first = world.fetch(FOLDER)
    assert len(world.content(first.products["images"])) == 121
    (world.data / "7.png").write_bytes(b"seven")
    (world.data / "8.png").unlink()
    (world.data / "new.png").write_bytes(b"n")
    settle()
    changed = world.fetch(FOLDER)
    assert world.said == ["images: 2 files read, 6 bytes"]
    content = world.content(changed.products["images"])
    assert (content["7.png"], content["new.png"], content["deep/x"]) == (b"seven", b"n", b"x")
    assert "8.png" not in content
    assert changed.products == world.fetch(FOLDER).products


def test_the_digest_is_that_of_the_same_folder_stored_as_a_product(world: World) -> None:
    """So that what a stage made and what was fetched are the same artifact."""
    (world.data / "run.sh").write_bytes(b"#!/bin/sh\n")
    (world.data / "run.sh").chmod(0o755)
    (world.data / "a").write_bytes(b"a")
    assert world.fetch(FOLDER).products["images"] == world.blobs.put(str(world.data))
    (world.data / "run.sh").chmod(0o644)
    assert world.fetch(FOLDER).products["images"] == world.blobs.put(str(world.data))


def test_a_link_counts_as_the_file_that_it_leads_to(world: World) -> None:
    elsewhere = world.folder / "cache"
    elsewhere.write_bytes(b"1")
    (world.data / "train.csv").symlink_to(elsewhere)
    assert world.content(world.fetch(FOLDER).products["images"]) == {"train.csv": b"1"}
    assert world.content(world.fetch(TRAIN).products["data/train.csv"]) == {"": b"1"}
    elsewhere.write_bytes(b"2")
    assert world.content(world.fetch(FOLDER).products["images"]) == {"train.csv": b"2"}


@pytest.mark.parametrize("what", ["pipe", "link to a folder", "dangling link", "circle", "nothing", "missing"])
def test_what_is_no_data_is_refused_and_never_waited_for(world: World, what: str) -> None:
    place = world.data / "odd"
    if what == "pipe":
        os.mkfifo(place)
    elif what == "link to a folder":
        place.symlink_to(world.folder)
    elif what == "dangling link":
        place.symlink_to("nowhere")
    elif what == "circle":
        place.symlink_to("odd")
    sources = {"images": "data/none"} if what == "missing" else FOLDER
    with pytest.raises(Refused) as refused:
        world.fetch(sources)
    assert refused.value.remedy


def test_a_pipe_itself_is_no_data(world: World) -> None:
    os.mkfifo(world.data / "train.csv")
    with pytest.raises(Refused, match="neither a file nor a folder"):
        world.fetch(TRAIN)


def test_all_that_is_missing_is_told_at_once(world: World) -> None:
    with pytest.raises(SeveralRefused) as refused:
        world.fetch({"a": "data/a", "b": "data/b"})
    assert [type(one) for one in refused.value.refusals] == [NotFound, NotFound]


# --- faults ---


def test_a_file_that_changes_while_it_is_read_is_read_again(world: World) -> None:
    file = world.data / "train.csv"
    file.write_bytes(b"old" * 4_000_000)
    calls = 0

    def change_once() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # after the first piece
            file.write_bytes(b"new" * 4_000_000)

    world.pause = change_once
    found = world.fetch(TRAIN)
    assert world.content(found.products["data/train.csv"]) == {"": b"new" * 4_000_000}


def test_a_file_that_never_rests_is_a_fault_and_leaves_nothing(world: World) -> None:
    file = world.data / "train.csv"
    file.write_bytes(b"x" * 100)

    def change() -> None:
        with file.open("ab") as more:
            more.write(b"y")

    world.pause = change
    with pytest.raises(DataFault, match="changes while it is read"):
        world.fetch(TRAIN)
    world.pause = lambda: None
    assert world.content(world.fetch(TRAIN).products["data/train.csv"])[""].startswith(b"xxx")


def test_a_file_that_is_cut_short_while_it_is_read_ends_nobody(world: World) -> None:
    """A mapped file would end this process with SIGBUS."""
    file = world.data / "train.csv"
    file.write_bytes(b"x" * 40_000_000)
    is_cut = threading.Event()

    def cut() -> None:
        if not is_cut.is_set():
            is_cut.set()
            return
        if file.stat().st_size > 10:
            os.truncate(file, 10)

    world.pause = cut
    assert world.content(world.fetch(TRAIN).products["data/train.csv"]) == {"": b"x" * 10}


def test_a_file_that_disappears_while_it_is_read_is_a_fault(world: World) -> None:
    for name in "abc":
        (world.data / name).write_bytes(b"x")
    world.pause = lambda: (world.data / "b").unlink(missing_ok=True)
    with pytest.raises(DataFault, match="it was there a moment ago"):
        world.fetch(FOLDER)
    world.pause = lambda: None
    assert set(world.content(world.fetch(FOLDER).products["images"])) == {"a", "c"}


def test_it_can_be_told_to_end(world: World) -> None:
    for number in range(300):
        (world.data / str(number)).write_bytes(b"x")

    class Enough(Exception):
        pass

    def enough() -> None:
        raise Enough

    world.pause = enough
    with pytest.raises(Enough):
        world.fetch(FOLDER)
    assert threading.active_count() < 20


@pytest.mark.parametrize("what", ["file", "part", "whole"])
@pytest.mark.parametrize("how", ["gone", "torn"])
def test_a_snapshot_that_is_lost_is_fetched_again(world: World, what: str, how: str) -> None:
    (world.data / "train.csv").write_bytes(TEXT)
    (world.data / "b").write_bytes(b"2")
    sources = TRAIN if what == "file" else FOLDER
    first = world.fetch(sources)
    sort = "folders" if what == "whole" else "files"
    whole = next(iter(first.products.values()))
    digest = whole if what == "whole" else f"blake3:{blake3(TEXT).hexdigest()}"
    stored = world.folder / "artifacts" / sort / digest[7:9] / digest[9:]
    stored.chmod(0o600)
    if how == "gone":
        stored.unlink()
    else:
        stored.write_bytes(b"torn")
        with pytest.raises(Exception, match="torn"):  # whoever uses it finds out, and sets it aside
            world.blobs.materialise(whole, str(world.folder / "out"))
    assert world.fetch(sources).products == first.products
    assert TEXT in world.content(whole).values()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"[1, 2, 3, 4]", b'[99, "blake3:", [], []]', b"\xff"])
def test_memory_that_is_torn_is_forgotten(world: World, content: bytes) -> None:
    (world.data / "train.csv").write_bytes(b"1")
    first = world.fetch(TRAIN)
    for memory in (world.folder / "places").glob("*.json"):
        memory.write_bytes(content)
    assert world.fetch(TRAIN).products == first.products
    assert world.fetch(TRAIN).because == "1 dataset as before: nothing was read"


# --- what is known without reading ---


def test_what_would_be_fetched_is_known_without_reading(world: World) -> None:
    file = world.data / "train.csv"
    file.write_bytes(b"1")
    assert world.datasets.recall(world.request(TRAIN)) == Fetched({}, "data/train.csv was never read")
    found = world.fetch(TRAIN)
    assert world.datasets.recall(world.request(TRAIN)).products == found.products
    file.write_bytes(b"2")
    assert world.datasets.recall(world.request(TRAIN)) == Fetched({}, "data/train.csv changed")
    file.unlink()
    with pytest.raises(NotFound):
        world.datasets.recall(world.request(TRAIN))


# --- who may read what ---


@pytest.fixture
def server(world: World) -> World:
    """A server that lets the repository ``small`` read one folder."""
    world.places = {"small": (str(world.data),), "other": (str(world.folder),)}
    (world.data / "train.csv").write_bytes(b"1")
    (world.folder / "secret").write_bytes(b"s3cret")
    (world.folder / "data2").mkdir()
    (world.folder / "data2" / "x").write_bytes(b"2")
    return world


def test_a_repository_reads_what_its_settings_list(server: World) -> None:
    assert server.fetch({"t.csv": str(server.data / "train.csv")}).products
    assert server.fetch({"all": str(server.data)}).products
    assert server.fetch({"x": str(server.folder / "data2" / "x")}, data_of="other").products


@pytest.mark.parametrize("place", ["secret", "data2/x", "", "data/../secret", "data/link", "data/folder/secret"])
def test_a_repository_reads_nothing_else(server: World, place: str) -> None:
    (server.data / "link").symlink_to(server.folder / "secret")
    (server.data / "folder").symlink_to(server.folder)
    with pytest.raises(Forbidden, match=r"server.yaml: repositories\.small\.data"):
        server.fetch({"x": f"{server.folder}/{place}"})


def test_no_link_in_a_folder_leads_out_of_what_is_listed(server: World) -> None:
    (server.data / "link").symlink_to(server.folder / "secret")
    with pytest.raises(Forbidden):
        server.fetch({"all": str(server.data)})


def test_nobody_without_a_list_and_no_pull_request_from_outside_reads_anything(server: World) -> None:
    sources = {"t.csv": str(server.data / "train.csv")}
    with pytest.raises(Forbidden):
        server.fetch(sources, data_of="third")
    server.fetch(sources)
    with pytest.raises(Forbidden, match="a pull request from outside may not read"):
        server.fetch(sources, data_of=None)


def test_a_server_has_no_working_tree(server: World) -> None:
    with pytest.raises(Refused, match="this is a run of a commit"):
        server.fetch(TRAIN)


def test_what_a_killed_process_left_half_brought_goes_after_a_day(world: World) -> None:
    (world.data / "train.csv").write_bytes(b"1")
    world.fetch(TRAIN)
    old, young = world.folder / "places" / "incoming-old", world.folder / "places" / "incoming-young"
    for left in (old, young):
        left.mkdir()
    os.utime(old, (0, 0))
    world.fetch(TRAIN)
    assert not old.exists()
    assert young.exists()


def test_a_walk_sees_names_that_are_no_utf_8(world: World) -> None:
    Path(os.fsdecode(os.fsencode(world.data) + b"/caf\xe9")).touch()
    assert len(FilePlace(str(world.data), lambda _: None).look()) == 1
    with pytest.raises(Refused, match="not UTF-8"):
        world.fetch(FOLDER)

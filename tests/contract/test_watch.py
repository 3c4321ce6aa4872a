"""Watched places: files of this machine, a real S3 server, and the fake, all alike."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import from_url
from tests.object_store import free_ports

from interlock.edges.watch import MemoryWatch, ObjectWatch
from interlock.edges.watch.listing import Entry, fingerprint_of
from interlock.errors import Refused, WatchFault
from interlock.ports import Watch

pytestmark = pytest.mark.xdist_group("s3")


class Place(Protocol):
    """Somewhere to put data, and who watches it."""

    watch: Watch
    location: str

    def put(self, name: str, content: bytes) -> None: ...

    def remove(self, name: str) -> None: ...


class LocalPlace:
    def __init__(self, folder: Path) -> None:
        self.watch, self.location, self._folder = ObjectWatch(), str(folder), folder

    def put(self, name: str, content: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink()


class MemoryPlace:
    def __init__(self) -> None:
        self.watch, self.location = MemoryWatch(), "s3://bucket/data"

    def put(self, name: str, content: bytes) -> None:
        self.watch.put(f"{self.location}/{name}", content)

    def remove(self, name: str) -> None:
        self.watch.remove(f"{self.location}/{name}")


class ObjectPlace:
    def __init__(self, location: str) -> None:
        self.watch, self.location = ObjectWatch(), location
        self._store = from_url(location)

    def put(self, name: str, content: bytes) -> None:
        obstore.put(self._store, name, content)

    def remove(self, name: str) -> None:
        obstore.delete(self._store, name)


@pytest.fixture(params=["local", "s3", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return LocalPlace(tmp_path / "data")
    if request.param == "memory":
        return MemoryPlace()
    request.getfixturevalue("s3")
    return ObjectPlace(f"s3://watched/{tmp_path.name}/data")


def test_every_change_is_seen_and_nothing_else(place: Place) -> None:
    place.put("train.csv", b"1,2\n")
    place.put("deep/er/holdout.csv", b"3\n")
    first = place.watch.fingerprint(place.location)
    assert place.watch.fingerprint(place.location) == first == place.watch.fingerprint(f"{place.location}/")
    seen = [first]
    for name, content in (("train.csv", b"1,3\n"), ("train.csv", b"1,3\n5,6\n"), ("new.csv", b"x"), ("empty", b"")):
        time.sleep(0.02)  # file systems tell times in ticks
        place.put(name, content)
        seen.append(place.watch.fingerprint(place.location))
    place.remove("deep/er/holdout.csv")
    seen.append(place.watch.fingerprint(place.location))
    assert len(set(seen)) == len(seen)


def test_a_lone_file_is_a_place_too_and_its_neighbours_are_not(place: Place) -> None:
    place.put("train.csv", b"1")
    place.put("train.csv.old", b"1")
    place.put("train", b"1")
    location = f"{place.location}/train.csv"
    first = place.watch.fingerprint(location)
    place.put("train.csv.old", b"22")
    place.put("other", b"1")
    assert place.watch.fingerprint(location) == first
    place.put("train.csv", b"22")
    assert place.watch.fingerprint(location) != first


def test_a_prefix_ends_with_a_name(place: Place) -> None:
    place.put("day1/a", b"1")
    place.put("day10/a", b"1")
    first = place.watch.fingerprint(f"{place.location}/day1")
    place.put("day10/a", b"22")
    assert place.watch.fingerprint(f"{place.location}/day1") == first


def test_what_is_gone_is_a_fault_and_no_change(place: Place) -> None:
    for name in ("", "/never"):
        with pytest.raises(WatchFault, match=r"there is nothing; create it|NoSuchBucket"):
            place.watch.fingerprint(place.location + name)
    place.put("a", b"1")
    first = place.watch.fingerprint(place.location)
    place.remove("a")
    with pytest.raises(WatchFault, match="there is nothing"):
        place.watch.fingerprint(place.location)
    place.put("b", b"1")
    assert place.watch.fingerprint(place.location) != first


def test_odd_names(place: Place) -> None:
    for name in ("with space", "é", "a+b", "100%", "x=1&y"):
        place.put(f"{name}/file", b"1")
        assert place.watch.fingerprint(f"{place.location}/{name}")
    assert place.watch.fingerprint(place.location)


# --- files of this machine ---


def test_a_file_that_was_written_again_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes(b"1")
    watch = ObjectWatch()
    first = watch.fingerprint(str(file))
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert watch.fingerprint(str(file)) != first


def test_no_link_leads_further_and_no_pipe_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a").write_bytes(b"1")
    data = tmp_path / "data"
    data.mkdir()
    os.mkfifo(data / "pipe")
    (data / "link").symlink_to(tmp_path / "outside")
    (data / "circle").symlink_to(data)
    (data / "dangling").symlink_to("nowhere")
    Path(os.fsdecode(os.fsencode(data) + b"/caf\xe9")).touch()
    watch = ObjectWatch()
    first = watch.fingerprint(str(data))
    (tmp_path / "outside" / "a").write_bytes(b"22")
    assert watch.fingerprint(str(data)) == first
    (tmp_path / "current").symlink_to(tmp_path / "outside")  # the place itself may be one
    before = watch.fingerprint(str(tmp_path / "current"))
    (tmp_path / "outside" / "b").write_bytes(b"1")
    assert watch.fingerprint(str(tmp_path / "current")) != before


@pytest.mark.skipif(os.getuid() == 0, reason="root may list everything")
def test_a_folder_that_may_not_be_listed_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "data" / "closed").mkdir(parents=True)
    (tmp_path / "data" / "closed").chmod(0)
    with pytest.raises(WatchFault, match="let the server's user read it"):
        ObjectWatch().fingerprint(str(tmp_path / "data"))
    (tmp_path / "data" / "closed").chmod(0o700)


@pytest.mark.parametrize("name", ["a" * 300, "file/below"])
def test_a_path_that_leads_nowhere_is_a_fault(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WatchFault):
        ObjectWatch().fingerprint(str(tmp_path / name))


@pytest.mark.parametrize(
    "location",
    ["", "data", "./data", "~/data", "file:///etc", "memory://x", "http://host/x", "s3:/x", "s3://", "S3://b/x"],
)
def test_other_places_are_refused(location: str) -> None:
    with pytest.raises(Refused, match="absolute path"):
        ObjectWatch().fingerprint(location)


# --- object stores ---


def test_more_objects_than_one_page(s3: str) -> None:
    place = ObjectPlace("s3://watched/many")
    for number in range(1100):
        place.put(f"part-{number}", b"1")
    first = place.watch.fingerprint(place.location)
    place.put("part-1099", b"2")
    assert place.watch.fingerprint(place.location) != first


def test_the_same_content_again_is_no_change(s3: str) -> None:
    place = ObjectPlace("s3://watched/again")
    place.put("a", b"1")
    first = place.watch.fingerprint(place.location)
    time.sleep(1.1)  # S3 tells seconds
    place.put("a", b"1")
    assert place.watch.fingerprint(place.location) == first


def test_a_whole_bucket_is_a_place(s3: str) -> None:
    ObjectPlace("s3://whole").put("a/b", b"1")
    first = ObjectWatch().fingerprint("s3://whole")
    ObjectPlace("s3://whole").put("a/b", b"2")
    assert ObjectWatch().fingerprint("s3://whole/") != first


def test_what_the_store_says_is_told_with_what_to_do(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WatchFault, match=r"NoSuchBucket: .*check the address"):
        ObjectWatch().fingerprint("s3://nowhere/data/")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(WatchFault, match=r"AWS_\.\.\. of the server's environment") as fault:
        ObjectWatch().fingerprint("s3://watched/data")
    assert "another-secret" not in str(fault.value)
    assert "Debug source" not in str(fault.value)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_store_that_is_not_there_is_a_fault(scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    settings = {
        "AWS_ENDPOINT": nobody,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ALLOW_HTTP": "true",
        "GOOGLE_SERVICE_ACCOUNT_KEY": "no key",
        "AZURE_STORAGE_ENDPOINT": nobody,
        "AZURE_STORAGE_ACCOUNT_NAME": "name",
        "AZURE_STORAGE_ACCOUNT_KEY": "a2V5",
        "AZURE_ALLOW_HTTP": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WatchFault, match="check the address"):
        ObjectWatch().fingerprint(f"{scheme}://somewhere/data/below")


# --- fingerprints ---

NAMES = st.text(min_size=1, max_size=5)
ENTRIES = st.lists(
    st.builds(Entry, NAMES, st.integers(0, 9), NAMES), min_size=1, max_size=6, unique_by=lambda one: one.name
)


@given(one=ENTRIES, other=ENTRIES, seed=st.randoms(use_true_random=False))
def test_a_fingerprint_is_that_of_a_set(one: list[Entry], other: list[Entry], seed: object) -> None:
    shuffled = sorted(one, key=lambda _: seed.random())  # type: ignore[attr-defined]
    assert fingerprint_of("x", one) == fingerprint_of("x", shuffled)
    assert (fingerprint_of("x", one) == fingerprint_of("x", other)) == (set(one) == set(other))


def test_half_a_million_files_are_enough() -> None:
    endless = (Entry(str(number), 0, "") for number in range(10_000_000))
    with pytest.raises(WatchFault, match="more than 500000 files"):
        fingerprint_of("/data", endless)

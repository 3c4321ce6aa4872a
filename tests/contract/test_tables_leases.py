"""What becomes of a lease that nobody renewed, and of one that cannot be read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.supervise.files import read_object, record, rotate, try_locked, write_atomically
from interlock.supervise.leases import expire

STABLE, CANDIDATE = "flights.production.r1", "flights.production.r2"
LEASE = {"expires": 30.0, "file": "envoy/rds.json", "lock": "envoy/lock", "candidate": CANDIDATE, "stable": STABLE}
NOW = 1_700_000_000.0


def route(name: str, weights: dict[str, int]) -> dict[str, Any]:
    clusters = [{"name": cluster, "weight": weight} for cluster, weight in weights.items()]
    return {"name": name, "route": {"timeout": "15s", "weighted_clusters": {"clusters": clusters}}}


def document(*routes: dict[str, Any]) -> dict[str, Any]:
    alive = {"match": {"path": "/v2/health/live"}, "direct_response": {"status": 200}}
    return {"version_info": "before", "resources": [{"virtual_hosts": [{"routes": [alive, *routes]}]}]}


def weights_in(folder: Path) -> list[dict[str, int]]:
    routes = read_object(folder / "envoy/rds.json")["resources"][0]["virtual_hosts"][0]["routes"]
    split = [one["route"]["weighted_clusters"]["clusters"] for one in routes if "route" in one]
    return [{cluster["name"]: cluster["weight"] for cluster in clusters} for clusters in split]


def keep_lease(folder: Path, lease: object, age: float, name: str = "flights.production.json") -> Path:
    path = folder / "leases" / name
    path.write_text(lease if isinstance(lease, str) else json.dumps(lease))
    os.utime(path, (NOW - age, NOW - age))
    return path


def told(folder: Path) -> list[dict[str, Any]]:
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def make_folder(folder: Path) -> Path:
    (folder / "leases").mkdir()
    (folder / "envoy").mkdir()
    write_atomically(folder / "envoy/rds.json", document(route("flights", {STABLE: 75, CANDIDATE: 25})))
    return folder


@pytest.fixture
def plane(tmp_path: Path) -> Path:
    return make_folder(tmp_path)


@pytest.mark.parametrize(
    ("age", "ends"), [(0, False), (29.0, False), (30.0, False), (30.5, True), (10_000, True), (-60, False)]
)
def test_a_lease_ends_once_it_is_older_than_it_says(plane: Path, age: float, ends: bool) -> None:
    path = keep_lease(plane, LEASE, age)
    expire(plane, NOW)
    assert path.exists() is not ends
    assert weights_in(plane) == [{STABLE: 100, CANDIDATE: 0} if ends else {STABLE: 75, CANDIDATE: 25}]
    assert (read_object(plane / "envoy/rds.json")["version_info"] != "before") is ends


def test_what_was_done_is_told_with_its_reason(plane: Path) -> None:
    keep_lease(plane, LEASE, 31)
    expire(plane, NOW)
    (event,) = told(plane)
    assert (event["name"], event["event"]) == ("flights.production", "lease")
    assert event["because"] == (
        f"no control plane renewed the lease for 30 s: 25 of weight moved from {CANDIDATE} to {STABLE}"
    )


def test_a_second_look_finds_nothing_to_do(plane: Path) -> None:
    keep_lease(plane, LEASE, 31)
    expire(plane, NOW)
    before = (plane / "envoy/rds.json").read_bytes()
    expire(plane, NOW + 1000)
    assert (plane / "envoy/rds.json").read_bytes() == before
    assert len(told(plane)) == 1


def test_a_route_file_in_use_is_left_for_the_next_look(plane: Path) -> None:
    path = keep_lease(plane, LEASE, 31)
    with try_locked(plane / "envoy/lock") as is_ours:
        assert is_ours
        expire(plane, NOW)
        assert path.exists()
        assert weights_in(plane) == [{STABLE: 75, CANDIDATE: 25}]
    expire(plane, NOW)
    assert weights_in(plane) == [{STABLE: 100, CANDIDATE: 0}]


@pytest.mark.parametrize(
    "weights",
    [
        {"other.production.r1": 90, "other.production.r2": 10},
        {CANDIDATE: 100},
        {STABLE: 100},
        {STABLE: 100, CANDIDATE: 0},
    ],
    ids=["another model", "no stable beside it", "the candidate is gone", "nothing to move"],
)
def test_where_there_is_nothing_to_move_the_routes_stay_and_the_lease_goes(
    plane: Path, weights: dict[str, int]
) -> None:
    write_atomically(plane / "envoy/rds.json", document(route("m", weights)))
    before = (plane / "envoy/rds.json").read_bytes()
    path = keep_lease(plane, LEASE, 31)
    expire(plane, NOW)
    assert (plane / "envoy/rds.json").read_bytes() == before
    assert not path.exists()
    assert "0 of weight moved" in told(plane)[0]["because"]


@given(share=st.integers(1, 100), other=st.integers(0, 100))
def test_no_weight_is_lost_and_no_other_model_is_touched(
    tmp_path_factory: pytest.TempPathFactory, share: int, other: int
) -> None:
    folder = make_folder(tmp_path_factory.mktemp("plane"))
    beside = {"late.production.r1": 100 - other, "late.production.r2": other}
    routes = document(route("flights", {STABLE: 100 - share, CANDIDATE: share}), route("late", beside))
    write_atomically(folder / "envoy/rds.json", routes)
    keep_lease(folder, LEASE, 31)
    expire(folder, NOW)
    assert weights_in(folder) == [{STABLE: 100, CANDIDATE: 0}, beside]


@pytest.mark.parametrize(
    "lease",
    [
        "{",
        "[]",
        "null",
        "{}",
        {**LEASE, "expires": "soon"},
        {**LEASE, "expires": None},
        {name: value for name, value in LEASE.items() if name != "stable"},
        {name: value for name, value in LEASE.items() if name != "file"},
        {name: value for name, value in LEASE.items() if name != "lock"},
        {**LEASE, "file": 3},
    ],
    ids=["torn", "list", "null", "empty", "word", "none", "no stable", "no file", "no lock", "no path"],
)
def test_a_lease_that_makes_no_sense_is_set_aside_and_stops_no_other(plane: Path, lease: object) -> None:
    broken = keep_lease(plane, lease, 31, "broken.json")
    good = keep_lease(plane, LEASE, 31)
    expire(plane, NOW)
    assert not broken.exists()
    assert broken.with_suffix(".broken").exists()
    assert not good.exists()
    assert weights_in(plane) == [{STABLE: 100, CANDIDATE: 0}]
    assert "is set aside" in next(event for event in told(plane) if event["name"] == "broken")["because"]


def test_a_number_written_as_text_ends_the_lease_like_any_number(plane: Path) -> None:
    path = keep_lease(plane, {**LEASE, "expires": "30"}, 31)
    expire(plane, NOW)
    assert not path.exists()
    assert weights_in(plane) == [{STABLE: 100, CANDIDATE: 0}]


@pytest.mark.parametrize(
    "content",
    ["{", "{}", '{"resources": [{"virtual_hosts": [{"routes": [{"route": null}]}]}]}', '{"resources": null}'],
    ids=["torn", "empty", "route without a mapping", "no resources"],
)
def test_routes_that_make_no_sense_do_not_stop_the_supervisor(plane: Path, content: str) -> None:
    path = keep_lease(plane, LEASE, 31)
    (plane / "envoy/rds.json").write_text(content)
    expire(plane, NOW)
    assert path.with_suffix(".broken").exists()
    assert (plane / "envoy/rds.json").read_text() == content


def test_a_lease_whose_routes_cannot_be_written_now_is_tried_again(plane: Path) -> None:
    path = keep_lease(plane, {**LEASE, "lock": "gone/lock"}, 31)
    expire(plane, NOW)
    assert path.exists()
    (plane / "gone").mkdir()
    expire(plane, NOW)
    assert not path.exists()
    assert weights_in(plane) == [{STABLE: 100, CANDIDATE: 0}]


@pytest.mark.parametrize("name", [".flights.json", ".flights.json.12.part", "flights.broken", "notes.txt"])
def test_only_whole_leases_are_looked_at(plane: Path, name: str) -> None:
    path = keep_lease(plane, "{", 31, name)
    expire(plane, NOW)
    assert path.exists()
    assert told(plane) == []


def test_a_folder_without_leases_is_no_error(tmp_path: Path) -> None:
    expire(tmp_path, NOW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b'"x"', b"{", b"", b"\xff\xfe"])
def test_what_is_no_object_is_not_read_as_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"JSON|Expecting|decode"):
        read_object(path)


@given(value=st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8) | st.none(), max_size=5))
def test_an_object_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("object")
    write_atomically(folder / "a.json", {"older": 1})
    write_atomically(folder / "a.json", value)
    assert read_object(folder / "a.json") == value
    assert [path.name for path in folder.iterdir()] == ["a.json"]


def test_a_lock_is_held_by_one_and_given_back(tmp_path: Path) -> None:
    with try_locked(tmp_path / "lock") as first, try_locked(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
    with try_locked(tmp_path / "lock") as third:
        assert third


def test_events_are_lines_in_their_order(tmp_path: Path) -> None:
    for word in ("one", "two\nlines", "drei — ü"):
        record(tmp_path, "r1", "started", word)
    assert [event["because"] for event in told(tmp_path)] == ["one", "two\nlines", "drei — ü"]
    assert {event["name"] for event in told(tmp_path)} == {"r1"}


def test_a_log_that_became_too_large_is_kept_once_and_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.supervise.files.LARGEST_LOG", 10)
    log = tmp_path / "a.log"
    rotate(log)
    log.write_text("x" * 10)
    rotate(log)
    assert log.read_text() == "x" * 10
    log.write_text("y" * 11)
    rotate(log)
    assert (log.read_text(), (tmp_path / "a.log.1").read_text()) == ("", "y" * 11)


def test_copies_end_with_the_lease_also_where_the_candidate_has_no_weight(plane: Path) -> None:
    copied = {**route("flights mirrored", {STABLE: 100}), "name": "flights mirrored"}
    copied["route"]["request_mirror_policies"] = [{"cluster": f"mirror.{CANDIDATE}"}]
    other = json.loads(json.dumps(copied).replace(CANDIDATE, "delays.production.r7"))
    write_atomically(plane / "envoy/rds.json", document(copied, other, route("flights", {STABLE: 100})))
    keep_lease(plane, {**LEASE, "mirror": f"mirror.{CANDIDATE}"}, 31)
    expire(plane, NOW)
    text = (plane / "envoy/rds.json").read_text()
    assert f"mirror.{CANDIDATE}" not in text
    assert "mirror.delays.production.r7" in text
    assert weights_in(plane) == [{STABLE: 100}, {STABLE: 100}]
    assert read_object(plane / "envoy/rds.json")["version_info"] != "before"
    (event,) = told(plane)
    assert event["because"].endswith(f"no request is copied to {CANDIDATE} any more")

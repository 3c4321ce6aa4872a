"""API keys, checked by the real proxy: whichever way a path is written, the keys of the route that answers decide."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fronts import GuardedPlane

from interlock.access.keys import Grant
from interlock.access.tokens import token_digest, token_text
from interlock.edges.front import Front
from interlock.edges.front.keys import filter_of_keys
from interlock.errors import StaleWrite
from interlock.system.files import write_atomically

TEXTS = {name: token_text(bytes([place]) * 32, "ilm_") for place, name in enumerate(("batch", "tester", "all", "old"))}
BATCH = Grant(digest=token_digest(TEXTS["batch"]), name="batch", models=("flights",))
TESTER = Grant(digest=token_digest(TEXTS["tester"]), name="tester", models=("flights/production",), is_tester=True)
ALL = Grant(digest=token_digest(TEXTS["all"]), name="all")
OLD = Grant(digest=token_digest(TEXTS["old"]), name="old", until=1000.0)
KEYS = [BATCH, TESTER, ALL, OLD]


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {TEXTS[name]}"}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedPlane]:
    plane = GuardedPlane(tmp_path_factory.mktemp("guarded"), Front(needs_key=True))
    try:
        plane.proxy.allow_keys(KEYS, 10)
        yield plane
    finally:
        plane.end()


def test_who_shows_a_key_is_answered_and_the_key_goes_no_further(plane: GuardedPlane) -> None:
    for headers in (bearer("batch"), {"x-api-key": TEXTS["batch"]}, {"X-API-Key": TEXTS["batch"]}):
        answer = plane.ask("/v2/models/flights/infer", headers | {"x-interlock-key": "somebody-else"})
        assert answer.status == 200
        assert answer.json["headers"]["x-interlock-key"] == "batch"
        assert TEXTS["batch"] not in answer.body.decode()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Basic {TEXTS['batch']}"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {TEXTS['batch']} more"},
        {"authorization": f"Bearer {TEXTS['batch']}x"},
        {"authorization": f"Bearer {TEXTS['batch'].lower()}"},
        {"authorization": f"Bearer {BATCH.digest}"},
        {"x-api-key": ""},
        {"x-api-key": "x" * 55},
        {"x-api-key": "x" * 56},
        {"x-api-key": "x" * 20_000},
        {"x-api-key": "is_open"},
        {"x-api-key": BATCH.digest},
        {"x-api-key": f"{TEXTS['batch']},{TEXTS['batch']}"},
        {"x-api-key": TEXTS["old"]},
        {"x-interlock-key": "batch"},
        {"cookie": f"x-api-key={TEXTS['batch']}"},
    ],
    ids=lambda headers: str(headers)[:40],
)
def test_all_else_is_refused_in_the_protocols_form(plane: GuardedPlane, headers: dict[str, str]) -> None:
    answer = plane.ask("/v2/models/flights/infer", headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/json"
    assert "API key" in answer.json["error"]


PATHS = [
    "/v2/models/delays/infer",
    "/v2/models/delays",
    "/v2/models/flights/../delays/infer",
    "/v2/models/flights/..;/delays/infer",
    "/v2/models/flights/..;x=y/delays/infer",
    "/v2/models/flights/%2e%2e/delays/infer",
    "/v2/models/flights/%2E%2E;/delays/infer",
    "/v2/models/flights%2f..%2fdelays/infer",
    "/v2/models/flights/%2e%2e%2fdelays/infer",
    "/v2/models/flights%5c..%5cdelays/infer",
    "/v2/models/flights\\..\\delays\\infer",
    "/v2/models/flights%252f..%252fdelays/infer",
    "//v2//models//delays//infer",
    "/v2/models//delays/infer",
    "/v2//models/flights//..//delays/infer",
    "/v2/./models/./delays/infer",
    "/v2/models/delays;flights/infer",
    "/v2/models/delays;/infer",
    "/v2/models/delays%3b/infer",
    "/v2/models/delays?model=/v2/models/flights/infer",
    "/v2/models/delays%3fx/infer",
    "/v2/models/delays#/v2/models/flights",
    "/v2/models/delays/infer?x-api-key=" + TEXTS["batch"],
    "/v2/models/%64elays/infer",
    "/v2/models/Delays/infer",
    "/v2/models/delays%00/infer",
    "/v2/models/flights%00/../delays/infer",
    "/v2/health/live/../../models/delays/infer",
    "/v2/health/live/..;/..;/models/delays/infer",
    "/labels/flights/production/../../../v2/models/delays/infer",
    "http://other/v2/models/delays/infer",
    "/v2/models/flights/../../../interlock/stats",
    "/interlock/stats",
    "/v2/repository/index",
    "/labels/delays/production",
    "/labels/flights/production/../../delays/production",
    "/labels/flights/staging",
    "/labels/flights/../flights/staging",
    "/labels/",
    "*",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_key_of_one_model_reaches_no_other_by_any_path(plane: GuardedPlane, path: str, method: str) -> None:
    answer = plane.ask(path, bearer("batch"), method)
    if answer.status == 200:  # then it was the key's own model that answered, or the label endpoint for it
        assert answer.json["name"] == "flights.production.r1.0"
    else:
        assert 400 <= answer.status < 500
    assert TEXTS["batch"] not in answer.json["headers"].values() if answer.status == 200 else True


TRICKS = st.lists(
    st.sampled_from(["/", "//", "..", "..;", ".", "%2e", "%2f", "%5c", "\\", ";", "flights", "delays", "v2", "models"]),
    max_size=12,
)


@settings(max_examples=150)
@given(parts=TRICKS, prefix=st.sampled_from(["/v2/models/flights", "/v2/models/delays", "/labels/flights/production"]))
def test_nor_by_any_made_up_one(plane: GuardedPlane, parts: list[str], prefix: str) -> None:
    answer = plane.ask(f"{prefix}/{''.join(parts)}", bearer("batch"))
    assert answer.status in (200, 400, 401, 404)
    if answer.status == 200:
        assert answer.json["name"] in ("flights.production.r1.0", "labels")


@pytest.mark.parametrize("header", ["transfer-encoding: chunked\r\n", "x_api_key: " + TEXTS["all"] + "\r\n"])
def test_a_head_that_reads_two_ways_is_refused(plane: GuardedPlane, header: str) -> None:
    with socket.create_connection(("127.0.0.1", plane.port), timeout=10) as client:
        head = f"POST /v2/models/delays/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n{header}"
        client.sendall(f"{head}authorization: Bearer {TEXTS['batch']}\r\n\r\n0\r\n\r".encode())
        assert client.recv(1000).split()[1] in (b"400", b"401")


def test_labels_take_the_key_of_their_model(plane: GuardedPlane) -> None:
    assert plane.ask("/labels/flights/production", bearer("batch")).json["name"] == "labels"
    assert plane.ask("/labels/flights/production").status == 401
    assert plane.ask("/labels/delays/production", bearer("tester")).status == 401
    assert plane.ask("/labels/delays/production", bearer("all")).json["name"] == "labels"


def test_only_a_tester_names_the_revision_that_answers(plane: GuardedPlane) -> None:
    named = {"x-interlock-revision": "flights.production.r1"}
    assert plane.ask("/v2/models/flights/infer", named).status == 401
    refused = plane.ask("/v2/models/flights/infer", named | bearer("batch"))
    assert (refused.status, refused.json["error"]) == (
        403,
        "only a tester's API key may name the revision that answers",
    )
    assert plane.ask("/v2/models/flights/infer", named | bearer("tester")).status == 200
    assert plane.ask("/v2/models/flights/infer", bearer("tester")).status == 200
    for others in ("delays.production.r1", "flights.production.r1,delays.production.r1", "flights.production.r9"):
        answer = plane.ask("/v2/models/flights/infer", {"x-interlock-revision": others} | bearer("tester"))
        assert answer.status == 404 or answer.json["name"] == "flights.production.r1.0"


def test_whether_anybody_is_there_takes_no_key(plane: GuardedPlane) -> None:
    assert plane.ask("/v2/health/live", method="GET").json == {"live": True}


def test_a_revoked_key_opens_nothing_and_an_old_act_does_not_bring_it_back(plane: GuardedPlane) -> None:
    try:
        began = time.monotonic()
        plane.proxy.allow_keys([TESTER], 20)
        assert plane.ask("/v2/models/flights/infer", bearer("batch")).status == 401
        assert time.monotonic() - began < 1
        assert plane.ask("/v2/models/flights/infer", bearer("tester")).status == 200
        with pytest.raises(StaleWrite):
            plane.proxy.allow_keys(KEYS, 15)
        assert plane.ask("/v2/models/flights/infer", bearer("batch")).status == 401
    finally:
        plane.proxy.allow_keys(KEYS, 30)


def test_keys_that_were_written_before_their_routes_are_taken_at_the_next_look(plane: GuardedPlane) -> None:
    file = plane.folder / "envoy" / "keys.json"
    document = json.loads(file.read_text())
    document["resources"] = [one for one in document["resources"] if one["name"] != "batch"]
    file.write_text(json.dumps(document))
    try:
        plane.proxy.allow_keys([TESTER, ALL, OLD], 40)
        assert plane.ask("/v2/models/flights/infer", bearer("batch")).status == 401
    finally:
        plane.proxy.allow_keys(KEYS, 50)


def test_the_proxy_knows_the_keys_by_itself_when_it_comes_back(plane: GuardedPlane) -> None:
    """kill -9 of Envoy, with no control plane: the next one starts from the files."""
    before = json.loads((plane.folder / "status" / "envoy.json").read_text())["pid"]
    children = Path(f"/proc/{before}/task/{before}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    answers = []
    until = time.monotonic() + 10
    while time.monotonic() < until and 200 not in answers:
        try:
            assert plane.ask("/v2/models/delays/infer", bearer("batch")).status in (401, 503)
            answers.append(plane.ask("/v2/models/flights/infer", bearer("batch")).status)
        except OSError:
            time.sleep(0.02)
    assert 200 in answers


def test_a_retired_model_is_gone_for_who_has_a_key_by_every_way_also_after_a_restart(plane: GuardedPlane) -> None:
    environment, key = "delays/production", "delays.production.r1"
    plane.proxy.retire(environment, 5)
    try:
        for proxy in (plane.proxy, plane.make_proxy(Front(needs_key=True))):
            proxy.start()
            for path in ("", "/infer", "/ready", "/versions/1", "/../delays/infer"):
                answer = plane.ask(f"/v2/models/delays{path}", bearer("all"))
                assert (answer.status, answer.json) == (410, {"error": "delays was retired"})
            named = bearer("all") | {"x-interlock-revision": key}
            assert plane.ask("/v2/models/delays/infer", named).status == 410
            assert plane.ask("/v2/models/delays/infer").status == 401, "whether it was there is told to who has a key"
            assert plane.ask("/v2/models/flights/infer", bearer("batch")).status == 200
            assert plane.ask("/labels/delays/production", bearer("all")).status == 200, "the truth may still come"
    finally:
        plane.proxy.ensure_weights(environment, {key: 100}, 6)
    assert plane.ask("/v2/models/delays/infer", bearer("all")).status == 200


def test_a_key_that_cannot_be_checked_opens_nothing(plane: GuardedPlane) -> None:
    """A script that fails would be passed by."""
    file = plane.folder / "envoy" / "rds.production.json"
    sound = file.read_bytes()
    write_atomically(file, sound.replace(b'"until": 1000.0', b'"until": "soon"'), 0o600)
    try:
        until = time.monotonic() + 5
        while (answer := plane.ask("/v2/models/flights/infer", bearer("old"))).status == 401:
            assert time.monotonic() < until
        assert (answer.status, answer.json) == (503, {"error": "API keys cannot be checked now"})
    finally:
        write_atomically(file, sound, 0o600)


def test_logs_say_whose_key_it_was_and_no_file_holds_its_text(plane: GuardedPlane) -> None:
    for name, text in TEXTS.items():
        forged = {"x-answer": "500", "x-interlock-key": "forged"}
        plane.ask(f"/v2/models/flights/infer?x-api-key={text}", bearer(name) | forged)
    log = plane.folder / "logs" / "access.log"
    until = time.monotonic() + 15
    failed: list[dict[str, object]] = []
    while len(failed) < 3 and time.monotonic() < until:
        time.sleep(0.1)
        lines = log.read_text().splitlines() if log.exists() else []
        failed = [one for one in map(json.loads, lines) if one["status"] == 500]
    assert [one["key"] for one in failed] == ["batch", "tester", "all"]
    assert {one["path"] for one in failed} == {"/v2/models/flights/infer"}
    held = [path for path in plane.folder.rglob("*") if path.is_file() and b"ilm_" in path.read_bytes()]
    assert held == []
    modes = {path.name: path.stat().st_mode & 0o777 for path in (plane.folder / "envoy").glob("*.json")}
    assert (modes["keys.json"], modes["rds.production.json"]) == (0o600, 0o600)


@settings(max_examples=60)
@given(text=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=55))
def test_the_digest_is_sha_256(plane: GuardedPlane, text: str) -> None:
    """Stated by Python's own: a key of any length and letters is found by it."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    source = filter_of_keys()["typed_config"]["default_source_code"]["inline_string"]
    assert digest not in source
    plane.proxy.allow_keys([Grant(digest=digest, name="odd")], 100)
    assert plane.ask("/v2/models/flights/infer", {"x-api-key": text}).status == 200
    plane.proxy.allow_keys(KEYS, 100)

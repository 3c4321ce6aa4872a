"""Datasets in an object store: a real S3 server, and one that answers with every kind of trouble."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore
import pytest
from obstore.store import ObjectStore, from_url
from tests.datasets import World
from tests.object_store import SETTINGS, free_ports

from interlock.edges.data import objects
from interlock.errors import DataFault, Forbidden, NotFound

pytestmark = pytest.mark.xdist_group("s3")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def bucket(s3: str, tmp_path: Path) -> ObjectStore:
    assert s3
    return from_url(f"s3://datasets/{tmp_path.name}")


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"s3://datasets/{tmp_path.name}"


def test_an_object_is_read_once_and_again_when_it_changed(world: World, bucket: ObjectStore, address: str) -> None:
    obstore.put(bucket, "train.csv", b"1,2\n")
    sources = {"data/train.csv": f"{address}/train.csv"}
    first = world.fetch(sources)
    assert world.content(first.products["data/train.csv"]) == {"": b"1,2\n"}
    assert world.fetch(sources).because == "1 dataset as before: nothing was read"
    assert world.datasets.recall(world.request(sources)).products == first.products
    obstore.put(bucket, "train.csv", b"1,3\n")
    assert world.datasets.recall(world.request(sources)).because == "data/train.csv changed"
    assert world.content(world.fetch(sources).products["data/train.csv"]) == {"": b"1,3\n"}
    assert not list((world.folder / "places").glob("incoming-*"))


def test_of_a_prefix_only_what_changed_is_read(world: World, bucket: ObjectStore, address: str) -> None:
    for name in ("a.png", "deep/b.png", "odd name é+%.png"):
        obstore.put(bucket, f"images/{name}", name.encode())
    obstore.put(bucket, "images2/other", b"no")
    sources = {"images": f"{address}/images/"}
    first = world.fetch(sources)
    assert world.content(first.products["images"]) == {
        name: name.encode() for name in ("a.png", "deep/b.png", "odd name é+%.png")
    }
    obstore.put(bucket, "images/a.png", b"new")
    obstore.delete(bucket, "images/deep/b.png")
    second = world.fetch(sources)
    assert world.said == ["images: 1 files read, 3 bytes"]
    assert set(world.content(second.products["images"])) == {"a.png", "odd name é+%.png"}


def test_an_object_of_several_parts(
    world: World, bucket: ObjectStore, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PART", 100_000)
    content = bytes(range(256)) * 5000 + b"end"
    obstore.put(bucket, "big", content)
    obstore.put(bucket, "empty", b"")
    found = world.fetch({"big": f"{address}/big", "empty": f"{address}/empty"})
    assert world.content(found.products["big"]) == {"": content}
    assert world.content(found.products["empty"]) == {"": b""}


def test_an_object_that_is_replaced_while_it_is_read_is_read_again(
    world: World, bucket: ObjectStore, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PART", 1000)
    obstore.put(bucket, "train.csv", b"old" * 10_000)
    asked = threading.Event()

    def replace_once() -> None:
        if not asked.is_set():
            asked.set()
            obstore.put(bucket, "train.csv", b"new" * 10_000)

    world.pause = replace_once
    found = world.fetch({"t.csv": f"{address}/train.csv"})
    assert world.content(found.products["t.csv"]) == {"": b"new" * 10_000}
    world.pause = lambda: None
    assert world.fetch({"t.csv": f"{address}/train.csv"}).products == found.products


def test_an_object_that_never_rests_is_a_fault(
    world: World, bucket: ObjectStore, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PART", 1000)
    monkeypatch.setattr(objects, "PARTS_AT_ONCE", 1)
    contents = iter(range(10**6))
    obstore.put(bucket, "log", b"x" * 3000)
    world.pause = lambda: obstore.put(bucket, "log", b"%07d" % next(contents) * 400)
    with pytest.raises(DataFault, match="replaced while it is read"):
        world.fetch({"log": f"{address}/log"})


def test_what_is_not_there_is_refused(world: World, s3: str, bucket: ObjectStore, address: str) -> None:
    obstore.put(bucket, "train.csv", b"1")
    for place in (f"{address}/none.csv", f"{address}/train", "s3://no-such-bucket/train.csv"):
        with pytest.raises((NotFound, DataFault), match=r"there is nothing|NoSuchBucket"):
            world.fetch({"t.csv": place})


def test_wrong_credentials_are_a_fault_that_names_none_of_them(
    world: World, bucket: ObjectStore, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstore.put(bucket, "train.csv", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(DataFault, match=r"AWS_\.\.\. of the environment") as fault:
        world.fetch({"t.csv": f"{address}/train.csv"})
    assert "another-secret" not in str(fault.value)


@contextmanager
def a_store_that_answers(status: int, body: str) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = body.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(403, "AccessDenied", DataFault), (500, "InternalError", DataFault), (503, "SlowDown", DataFault)],
)
def test_each_answer_of_a_store_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, status: int, code: str, kind: type[Exception]
) -> None:
    body = f"<Error><Code>{code}</Code><Message>because</Message></Error>"
    with a_store_that_answers(status, body) as endpoint:
        for name, value in {**SETTINGS, "AWS_ENDPOINT": endpoint}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(kind, match="AWS_"):
            world.fetch({"t.csv": "s3://bucket/train.csv"})
        unknown = world.datasets.recall(world.request({"t.csv": "s3://bucket/train.csv"}))
        assert not unknown.products
        assert "s3://bucket/train.csv" in unknown.because


def test_a_store_that_is_not_there_is_a_fault(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SETTINGS, "AWS_ENDPOINT": f"http://127.0.0.1:{free_ports(1)[0]}"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DataFault, match="check the address"):
        world.fetch({"t.csv": "s3://bucket/train.csv"})


@pytest.mark.parametrize(
    "place", ["s3://datasets/flightsx/a", "s3://datasets", "s3://datasets/", "s3://other/flights/a"]
)
def test_a_repository_reads_the_prefixes_that_its_settings_list(world: World, place: str) -> None:
    world.places = {"small": ("s3://datasets/flights/",)}
    with pytest.raises(Forbidden, match=r"server.yaml: repositories\.small\.data"):
        world.fetch({"t.csv": place})


def test_a_listed_prefix_is_read(world: World, bucket: ObjectStore, address: str) -> None:
    obstore.put(bucket, "train.csv", b"1")
    world.places = {"small": (f"{address}/",)}
    assert world.fetch({"t.csv": f"{address}/train.csv", "all": address}).products

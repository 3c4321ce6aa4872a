"""API keys in the store: who may make which, what is kept of them, and what the front hears."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.face import ServedFace

from interlock.access.caller import Caller, Role
from interlock.access.tokens import token_digest
from interlock.client.api import Client
from interlock.control.front.keys import Keys, granted
from interlock.control.people import local_caller, verify_audit
from interlock.control.rows import write_environment, write_state
from interlock.delivery.environment import Environment
from interlock.edges.store import MemoryStore, SqlStore
from interlock.errors import Conflict, Forbidden, NotFound, Refused
from interlock.gate.judgement import Judgement
from interlock.ports import Store
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Digest, Kind, Write

ADA = local_caller("ada")


def version_of(model: str, repository: str) -> Write:
    """The first version of a model, which says whose name that is."""
    version = ModelVersion(
        model=model,
        number=1,
        digest=Digest("blake3:1"),
        lock=Digest("l"),
        format="skops",
        judgement=Judgement(),
        repository=repository,
        ref="refs/heads/main",
        commit="a" * 40,
        run="1",
        plan=Digest("p"),
        serving=Digest("s"),
        signature=Digest("s"),
        provenance=Digest("p"),
        deploy=(),
        made=1.0,
        is_trusted=True,
    )
    return write_state(Kind.VERSION, version.key, version, expected=0, phase="registered", because="a test")


class World:
    def __init__(self, store: Store) -> None:
        self.store, self.clock, self.rung = store, 1000.0, 0
        self.keys = Keys(store, lambda: self.clock, self.ring)

    def ring(self) -> None:
        self.rung += 1

    def everything(self) -> str:
        rows = [row.model_dump_json() for kind in Kind for row in self.store.rows(kind)]
        return "|".join([*rows, *(one.model_dump_json() for one in (*self.store.events(), *self.store.audit()))])


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "memory":
        yield World(MemoryStore(lambda: 1000.0))
        return
    store = SqlStore(f"sqlite:///{tmp_path / 'interlock.db'}", lambda: 1000.0)
    yield World(store)
    store.close()


def test_a_key_is_told_once_and_its_digest_is_what_the_front_hears(world: World) -> None:
    key, text = world.keys.create(ADA, "batch", ["flights/production"], is_tester=True, expires=5000.0)
    assert text.startswith("ilm_")
    assert text.removeprefix("ilm_") not in world.everything()
    (told,) = granted(world.store)
    assert told.digest == token_digest(text)
    assert (told.name, told.models, told.is_tester, told.until) == ("batch", ("flights/production",), True, 5060.0)
    assert (key.key, key.created, world.rung) == ("1", 1000.0, 1)


def test_a_revoked_key_is_told_no_more_and_stays_in_the_list(world: World) -> None:
    key, _ = world.keys.create(ADA, "batch")
    kept, _ = world.keys.create(ADA, "other")
    assert world.keys.revoke(ADA, key.key).revoked == 1000.0
    assert world.keys.revoke(ADA, key.key).revoked == 1000.0, "a second time changes nothing"
    assert [told.name for told in granted(world.store)] == ["other"]
    assert [(one.name, one.revoked) for one in world.keys.keys(ADA)] == [("batch", 1000.0), ("other", None)]
    assert (kept.revoked, world.rung) == (None, 3)
    with pytest.raises(NotFound, match="no API key 9"):
        world.keys.revoke(ADA, "9")


def test_the_audit_log_says_who_made_and_ended_it(world: World) -> None:
    key, _ = world.keys.create(ADA, "batch", ["flights"])
    world.keys.revoke(ADA, key.key)
    deeds = [entry.deed for entry in world.store.audit()]
    assert [(one.who, one.action, one.thing) for one in deeds] == [
        ("local:ada", "create key", "key/1"),
        ("local:ada", "revoke key", "key/1"),
    ]
    assert deeds[0].detail == {"name": "batch", "models": ["flights"], "is_tester": False, "expires": None}
    assert verify_audit(world.store) is None


def test_a_name_is_of_one_key_that_holds(world: World) -> None:
    key, _ = world.keys.create(ADA, "batch", expires=2000.0)
    with pytest.raises(Conflict, match="has this name"):
        world.keys.create(ADA, "batch")
    world.clock = 2061.0
    world.keys.create(ADA, "batch")
    world.keys.revoke(ADA, "2")
    world.keys.create(ADA, "batch")
    assert key.name == "batch"


@pytest.mark.parametrize(
    ("name", "models", "expires"),
    [
        ("", (), None),
        ("two words", (), None),
        ("a\nb", (), None),
        ("x" * 101, (), None),
        ("-batch", (), None),
        ("é", (), None),
        ("batch", ("Flights",), None),
        ("batch", ("flights/",), None),
        ("batch", ("flights/production/more",), None),
        ("batch", ("../flights",), None),
        ("batch", (), 1000.0),
    ],
)
def test_what_is_no_key_is_refused(world: World, name: str, models: tuple[str, ...], expires: float | None) -> None:
    with pytest.raises(Refused):
        world.keys.create(ADA, name, models, expires=expires)
    assert world.keys.keys(ADA) == []


def test_nobody_makes_or_ends_keys_for_more_than_they_operate(world: World) -> None:
    world.store.save(version_of("flights", "mine"), version_of("delays", "theirs"))
    viewer = Caller(name="eve", role=Role.MAINTAINER)
    mine = Caller(name="bob", role=Role.OPERATOR, repositories=("mine",))
    here = Caller(name="sue", role=Role.OPERATOR, environments=("flights/production",))
    with pytest.raises(Forbidden, match="role operator"):
        world.keys.create(viewer, "a", ["flights"])
    for caller, models in (
        (mine, []),
        (mine, ["delays"]),
        (mine, ["flights", "delays"]),
        (mine, ["unknown"]),
        (here, []),
        (here, ["flights"]),
        (here, ["flights/staging"]),
    ):
        with pytest.raises(Forbidden, match="may not make keys for more than"):
            world.keys.create(caller, "a", models)
    world.keys.create(mine, "a", ["flights"])
    world.keys.create(here, "b", ["flights/production"])
    all_of_it, _ = world.keys.create(ADA, "c")
    assert [one.name for one in world.keys.keys(mine)] == ["a", "b"]
    assert [one.name for one in world.keys.keys(here)] == ["b"]
    with pytest.raises(Forbidden):
        world.keys.revoke(mine, all_of_it.key)


def test_over_the_api_and_its_client(tmp_path: Path) -> None:
    face = ServedFace(tmp_path)
    try:
        _, admin = face.people.create_token(ADA, "root", Role.ADMIN)
        _, viewer = face.people.create_token(ADA, "eve", Role.VIEWER)
        with Client(f"http://127.0.0.1:{face.port}", admin) as client:
            key, text = client.keys.create("batch", ["flights"], is_tester=True, expires=time.time() + 100)
            assert (key.name, key.models, key.is_tester) == ("batch", ["flights"], True)
            assert [one.name for one in client.keys.all()] == ["batch"]
            assert granted(face.store)[0].digest == token_digest(text)
            client.keys.revoke(key.key)
            client.keys.revoke(key.key)
            assert client.keys.all()[0].revoked is not None
        assert granted(face.store) == []
        assert face.ask("GET", "/api/v1/keys", token=viewer).status == 403
        assert face.ask("POST", "/api/v1/keys", {"name": "x"}, token=viewer).status == 403
        assert face.ask("GET", "/api/v1/keys").status == 401
        assert face.ask("DELETE", "/api/v1/keys/9", token=admin).status == 404
        assert face.ask("POST", "/api/v1/keys", {"name": "two words"}, token=admin).status == 422
        assert face.ask("POST", "/api/v1/keys", {"name": "x", "text": "mine"}, token=admin).status == 422
        face.store.save(write_environment(Environment(name="production", model="flights"), 0, "a test"))
        line = {"path": "/v2/models/flights/infer", "time": "2027", "listener": "production", "key": "batch"}
        face.front_log = [line]
        with Client(f"http://127.0.0.1:{face.port}", admin) as client:
            assert [one.who for one in client.models.callers("flights")] == ["batch"]
            assert client.models.retire("flights", "nobody asks it") == "flights is retired in flights/production"
            assert client.models.restore("flights", "somebody does") == "flights is restored in flights/production"
        assert face.ask("POST", "/api/v1/models/flights/restore", {"reason": "x"}, token=admin).status == 422
        for answer in ("/api/v1/keys", "/api/v1/events?kind=api_key", "/api/v1/audit"):
            assert text not in face.ask("GET", answer, token=admin).body.decode()
        events = face.ask("GET", "/api/v1/events?kind=api_key", token=viewer)
        assert events.status != 200 or events.json["items"] == []
    finally:
        face.end()

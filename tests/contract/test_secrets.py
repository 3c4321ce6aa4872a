"""Secrets in the store: who may set them, who gets them, and where their values are not."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.database import database_url

from interlock.access.caller import Caller, Role
from interlock.control.people import local_caller
from interlock.control.secrets import SecretName, Secrets
from interlock.edges.store import MemoryStore, SqlStore
from interlock.edges.vault import LocalVault, MemoryVault
from interlock.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    NotFound,
    Refused,
    SeveralRefused,
    StaleWrite,
    VaultFault,
)
from interlock.ports import Store
from interlock.vocabulary import Kind

ADA = local_caller("ada")
VALUE = "correct horse battery staple"
PRODUCTION = "flights/production"


class World:
    def __init__(self, store: Store, secrets: Secrets) -> None:
        self.store, self.secrets = store, secrets


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "memory":
        kept = MemoryStore(lambda: 1000.0)
        yield World(kept, Secrets(kept, MemoryVault(), lambda: 1000.0))
        return
    store = SqlStore(database_url(request, tmp_path), lambda: 1000.0)
    yield World(store, Secrets(store, LocalVault(tmp_path / "keys"), lambda: 1000.0))
    store.close()


def test_a_secret_is_given_to_whom_it_was_set_for(world: World) -> None:
    assert world.secrets.put(ADA, "demo", None, "API_TOKEN", VALUE) is None
    world.secrets.put(ADA, "demo", PRODUCTION, "API_TOKEN", "that of production")
    world.secrets.put(ADA, "demo", None, "OTHER", "another value")
    assert world.secrets.values("demo", ["API_TOKEN"]) == {"API_TOKEN": VALUE}
    assert world.secrets.values("demo", ["API_TOKEN", "OTHER", "OTHER"]) == {
        "API_TOKEN": VALUE,
        "OTHER": "another value",
    }
    assert world.secrets.values(f"demo/{PRODUCTION}", ["API_TOKEN", "OTHER"]) == {
        "API_TOKEN": "that of production",
        "OTHER": "another value",
    }
    assert world.secrets.values("demo/flights/staging", ["API_TOKEN"]) == {"API_TOKEN": VALUE}
    assert world.secrets.values("demo", []) == {}


def test_nobody_gets_the_secrets_of_another_repository_or_environment(world: World) -> None:
    world.secrets.put(ADA, "demo", PRODUCTION, "DEPLOY_KEY", VALUE)
    world.secrets.put(ADA, "demo", None, "API_TOKEN", VALUE)
    for secrets_of, name in (
        ("demo", "DEPLOY_KEY"),
        ("demo/flights/staging", "DEPLOY_KEY"),
        ("dem", "API_TOKEN"),
        ("demo2", "API_TOKEN"),
        ("other/flights/production", "DEPLOY_KEY"),
        ("demo", "flights/production/DEPLOY_KEY"),
        ("", "demo//API_TOKEN"),
    ):
        with pytest.raises(NotFound, match="there is no secret"):
            world.secrets.values(secrets_of, [name])


def test_all_that_are_missing_are_told_at_once(world: World) -> None:
    world.secrets.put(ADA, "demo", None, "HERE", VALUE)
    with pytest.raises(SeveralRefused) as refused:
        world.secrets.values("demo", ["ONE", "HERE", "TWO"])
    assert "ONE" in str(refused.value)
    assert "TWO" in str(refused.value)
    assert VALUE not in str(refused.value)


def test_a_secret_is_changed_and_removed(world: World) -> None:
    world.secrets.put(ADA, "demo", None, "API_TOKEN", VALUE)
    world.secrets.put(ADA, "demo", None, "API_TOKEN", "the second value")
    assert world.secrets.values("demo", ["API_TOKEN"]) == {"API_TOKEN": "the second value"}
    world.secrets.remove(ADA, "demo", None, "API_TOKEN")
    assert world.secrets.names(ADA, "demo") == []
    with pytest.raises(NotFound):
        world.secrets.values("demo", ["API_TOKEN"])
    with pytest.raises(NotFound):
        world.secrets.remove(ADA, "demo", None, "API_TOKEN")
    with pytest.raises(NotFound):
        world.secrets.remove(ADA, "demo", None, "NEVER_SET")
    world.secrets.put(ADA, "demo", None, "API_TOKEN", "the third value")
    assert world.secrets.values("demo", ["API_TOKEN"]) == {"API_TOKEN": "the third value"}
    told = [(entry.deed.action, entry.deed.thing) for entry in world.store.audit() if "give" not in entry.deed.action]
    assert told == [(f"{did} secret", "secret/demo//API_TOKEN") for did in ("set", "set", "remove", "set")]


def test_only_names_are_told(world: World) -> None:
    world.secrets.put(ADA, "demo", None, "B_TOKEN", VALUE)
    world.secrets.put(ADA, "demo", PRODUCTION, "A_TOKEN", VALUE)
    world.secrets.put(ADA, "demo", None, "A_TOKEN", VALUE)
    world.secrets.put(ADA, "other", None, "C_TOKEN", VALUE)
    names = world.secrets.names(ADA, "demo")
    assert [(one.environment, one.name) for one in names] == [
        (None, "A_TOKEN"),
        (None, "B_TOKEN"),
        (PRODUCTION, "A_TOKEN"),
    ]
    assert set(SecretName.model_fields) == {"repository", "environment", "name", "updated", "by"}
    assert {(one.repository, one.by, one.updated) for one in names} == {("demo", "local:ada", 1000.0)}


def test_the_value_is_nowhere_but_in_its_sealed_text(world: World, tmp_path: Path) -> None:
    world.secrets.put(ADA, "demo", None, "API_TOKEN", VALUE)
    world.secrets.values("demo", ["API_TOKEN"])
    world.secrets.put(ADA, "demo", None, "API_TOKEN", VALUE + VALUE)
    world.secrets.remove(ADA, "demo", None, "API_TOKEN")
    world.secrets.put(ADA, "demo", None, "API_TOKEN", VALUE)
    told = [one.model_dump_json() for one in (*world.store.events(), *world.store.audit())]
    told += [row.model_dump_json() for row in world.store.rows(Kind.SECRET)]
    assert VALUE not in "".join(told)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or VALUE.encode() not in path.read_bytes()


def test_that_a_stage_was_given_secrets_is_in_the_audit_log_by_name(world: World) -> None:
    world.secrets.put(ADA, "demo", None, "API_TOKEN", VALUE)
    world.secrets.values(f"demo/{PRODUCTION}", ["API_TOKEN"])
    deed = world.store.audit()[-1].deed
    assert (deed.action, deed.thing, deed.detail) == (
        "give secrets",
        f"demo/{PRODUCTION}",
        {"names": ["API_TOKEN"]},
    )


@pytest.mark.parametrize("role", [Role.VIEWER, Role.DEVELOPER])
def test_who_may_not_manage_secrets_does_not_even_see_their_names(world: World, role: Role) -> None:
    caller = Caller(name="bob", role=role)
    for asked in (
        lambda: world.secrets.put(caller, "demo", None, "API_TOKEN", VALUE),
        lambda: world.secrets.remove(caller, "demo", None, "API_TOKEN"),
        lambda: world.secrets.names(caller, "demo"),
    ):
        with pytest.raises(Forbidden, match="it takes the role maintainer"):
            asked()
    assert world.store.rows(Kind.SECRET) == []


def test_a_scope_holds_for_secrets_too(world: World) -> None:
    caller = Caller(name="bot", role=Role.MAINTAINER, repositories=("demo",), environments=("flights/staging",))
    world.secrets.put(ADA, "demo", PRODUCTION, "DEPLOY_KEY", VALUE)
    world.secrets.put(caller, "demo", "flights/staging", "DEPLOY_KEY", VALUE)
    assert [one.environment for one in world.secrets.names(caller, "demo")] == ["flights/staging"]
    for repository, environment in (("other", None), ("demo", PRODUCTION)):
        with pytest.raises(Forbidden, match="is for demo, flights/staging"):
            world.secrets.put(caller, repository, environment, "DEPLOY_KEY", VALUE)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "at least 8 characters"),
        ("1234567", "at least 8 characters"),
        ("abc\n      ", "at least 8 characters"),
        ("x" * (16 * 1024 + 1), "at most 16 KiB"),
        ("ü" * (8 * 1024 + 1), "at most 16 KiB"),
        ("with a \0 inside", "no text"),
        ("with a \udcff inside", "no text"),
    ],
)
def test_a_value_that_cannot_be_kept_or_masked_is_refused(world: World, value: str, problem: str) -> None:
    with pytest.raises(Refused, match=problem) as refused:
        world.secrets.put(ADA, "demo", None, "API_TOKEN", value)
    assert not value or value not in str(refused.value)
    assert world.store.rows(Kind.SECRET) == []


@pytest.mark.parametrize("value", ["x" * 16 * 1024, "two\nlines\n", "12345678", "a b'c\"d$e`f\\g"])
def test_other_values_are_kept_as_they_are(world: World, value: str) -> None:
    world.secrets.put(ADA, "demo", None, "API_TOKEN", value)
    assert world.secrets.values("demo", ["API_TOKEN"]) == {"API_TOKEN": value}


def test_a_common_word_is_taken_with_a_warning(world: World) -> None:
    warning = world.secrets.put(ADA, "demo", None, "API_TOKEN", "password")
    assert warning is not None
    assert "the log will show ***" in warning
    assert "password" not in warning


@pytest.mark.parametrize(
    "name",
    [
        *("", "api_token", "1TOKEN", "A-B", "A B", "A;B", "É", "A" * 101, "PATH", "HOME", "LD_PRELOAD", "PYTHONPATH"),
        *("PYTHONSTARTUP", "BASH_ENV", "ENV", "IFS", "INTERLOCK_ENDPOINT", "OMP_NUM_THREADS", "VIRTUAL_ENV"),
    ],
)
def test_names_that_are_no_variables_or_steer_programs_are_refused(world: World, name: str) -> None:
    with pytest.raises(Refused, match="no name of a secret"):
        world.secrets.put(ADA, "demo", None, name, VALUE)


@pytest.mark.parametrize(
    ("repository", "environment"), [("", None), ("a/b", None), ("demo", "production"), ("demo", "a/b/c")]
)
def test_places_that_are_none_are_refused(world: World, repository: str, environment: str | None) -> None:
    with pytest.raises(Refused, match=r"repository with secrets|an environment is named"):
        world.secrets.put(ADA, repository, environment, "API_TOKEN", VALUE)


@pytest.mark.parametrize("fault", [StaleWrite, AlreadyExists])
def test_two_who_set_it_at_once_are_told(world: World, fault: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object, **__: object) -> None:
        raise fault("somebody was first")

    monkeypatch.setattr(world.store, "save", lose)
    with pytest.raises(Conflict, match="try again"):
        world.secrets.put(ADA, "demo", None, "API_TOKEN", VALUE)


def test_a_sealed_text_moved_to_another_secret_in_the_database_does_not_open(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/interlock.db")
    secrets = Secrets(store, LocalVault(tmp_path / "keys"), lambda: 1000.0)
    secrets.put(ADA, "demo", PRODUCTION, "DEPLOY_KEY", VALUE)
    secrets.put(ADA, "fork", None, "MINE", "mine, all mine")
    with sqlite3.connect(tmp_path / "interlock.db") as connection:
        connection.execute(
            "UPDATE rows SET state = json_set(state, '$.sealed', (SELECT json_extract(state, '$.sealed') FROM rows "
            "WHERE key = 'demo/flights/production/DEPLOY_KEY')) WHERE key = 'fork//MINE'"
        )
    connection.close()
    with pytest.raises(VaultFault, match="sealed for something else"):
        secrets.values("fork", ["MINE"])
    store.close()

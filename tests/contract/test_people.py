"""Tokens, who they let in, and what the audit log says of it; on every store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.database import database_url

from interlock.access.audit import GENESIS, Deed, chain
from interlock.access.caller import Caller, Role
from interlock.control.people import People, audit_head, local_caller, verify_audit
from interlock.edges.store import MemoryStore, SqlStore
from interlock.errors import Conflict, Forbidden, NotFound, Refused, Unauthenticated
from interlock.ports import Store
from interlock.vocabulary import Kind

ADA = local_caller("ada")


class World:
    def __init__(self, store: Store, clock: list[float]) -> None:
        self.store, self.clock = store, clock
        self.people = self.again()

    def again(self) -> People:
        """As after a restart of the server."""
        return People(self.store, lambda: self.clock[0])

    def digest(self) -> str:
        """Everything the store holds."""
        rows = [row.model_dump_json() for kind in Kind for row in self.store.rows(kind)]
        return "|".join([*rows, *(one.model_dump_json() for one in (*self.store.events(), *self.store.audit()))])


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    clock = [1000.0]
    if request.param == "memory":
        yield World(MemoryStore(lambda: clock[0]), clock)
        return
    store = SqlStore(database_url(request, tmp_path), lambda: clock[0])
    yield World(store, clock)
    store.close()


def test_a_token_lets_its_holder_in_as_who_it_is_for(world: World) -> None:
    token, text = world.people.create_token(ADA, "ci", Role.DEVELOPER, ["demo"], ["demo/staging"])
    assert text.startswith("ilk_")
    who = Caller(name="ci", role=Role.DEVELOPER, repositories=("demo",), environments=("demo/staging",))
    assert world.people.authenticate(text) == who
    assert world.again().authenticate(text) == who
    assert (token.key, token.created, token.last_used) == ("1", 1000.0, None)


def test_the_text_is_stored_nowhere(world: World) -> None:
    _, text = world.people.create_token(ADA, "ci", Role.VIEWER)
    assert text.removeprefix("ilk_") not in world.digest()


@pytest.mark.parametrize("text", ["", "ilk_", "ilk_" + "A" * 43, "Bearer x", "\udc00", "ilk_é", "ilk_" + "x" * 100_000])
def test_what_is_no_token_is_not_known(world: World, text: str) -> None:
    _, real = world.people.create_token(ADA, "ci", Role.VIEWER)
    for wrong in (text, real[:-1], real + "x", real.lower(), real.removeprefix("ilk_")):
        with pytest.raises(Unauthenticated, match="not known"):
            world.people.authenticate(wrong)


def test_a_token_expires_within_a_minute_of_its_time(world: World) -> None:
    _, text = world.people.create_token(ADA, "ci", Role.VIEWER, expires=2000.0)
    world.clock[0] = 2060.0
    world.people.authenticate(text)
    world.clock[0] = 2061.0
    with pytest.raises(Unauthenticated, match="expired"):
        world.people.authenticate(text)


def test_a_token_is_revoked_at_once_and_for_good(world: World) -> None:
    token, text = world.people.create_token(ADA, "ci", Role.VIEWER)
    other = world.again()
    other.authenticate(text)
    assert world.people.revoke_token(ADA, token.key).revoked == 1000.0
    world.clock[0] = 3000.0
    assert world.people.revoke_token(ADA, token.key).revoked == 1000.0
    other.flush_last_used()
    for people in (world.people, other, world.again()):
        with pytest.raises(Unauthenticated, match="revoked"):
            people.authenticate(text)
    with pytest.raises(NotFound, match="no token 99"):
        world.people.revoke_token(ADA, "99")
    assert [entry.deed.action for entry in world.store.audit()] == ["create token", "revoke token"]


def test_to_show_a_token_writes_nothing_and_its_use_is_written_down_later(world: World) -> None:
    token, text = world.people.create_token(ADA, "ci", Role.VIEWER)
    before = world.digest()
    for moment in range(1001, 1100):
        world.clock[0] = float(moment)
        world.people.authenticate(text)
    assert world.people.tokens(ADA)[0].last_used == 1099.0
    assert world.digest() == before
    assert world.again().tokens(ADA)[0].last_used is None
    world.people.flush_last_used()
    assert world.again().tokens(ADA)[0].last_used == 1099.0
    world.clock[0] = 1100.0
    world.people.authenticate(text)
    world.people.flush_last_used()
    assert len(world.store.events(Kind.TOKEN, token.key)) == 2, "not for every minute of use"
    world.clock[0] = 2000.0
    world.people.authenticate(text)
    world.people.flush_last_used()
    assert world.again().tokens(ADA)[0].last_used == 2000.0


def test_a_revocation_wins_over_the_use_that_is_written_down(world: World) -> None:
    """The row moves between the look and the save: the loser does nothing."""
    token, text = world.people.create_token(ADA, "ci", Role.VIEWER)
    world.people.authenticate(text)
    load = world.store.load

    def revoked_meanwhile(kind: Kind, key: str) -> object:
        row = load(kind, key)
        world.store.load = load  # type: ignore[method-assign]
        world.again().revoke_token(ADA, token.key)
        return row

    world.store.load = revoked_meanwhile  # type: ignore[method-assign, assignment]
    world.people.flush_last_used()
    with pytest.raises(Unauthenticated, match="revoked"):
        world.people.authenticate(text)


def test_a_revocation_is_tried_again_when_the_use_was_written_down_meanwhile(world: World) -> None:
    token, text = world.people.create_token(ADA, "ci", Role.VIEWER)
    world.people.authenticate(text)
    load = world.store.load

    def used_meanwhile(kind: Kind, key: str) -> object:
        row = load(kind, key)
        world.store.load = load  # type: ignore[method-assign]
        world.people.flush_last_used()
        return row

    world.store.load = used_meanwhile  # type: ignore[method-assign, assignment]
    world.again().revoke_token(ADA, token.key)
    with pytest.raises(Unauthenticated, match="revoked"):
        world.people.authenticate(text)
    assert [entry.deed.action for entry in world.store.audit()] == ["create token", "revoke token"]


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
def test_only_an_admin_sees_and_makes_tokens(world: World, role: Role) -> None:
    caller = Caller(name="bob", role=role)
    before = world.digest()
    for asked in (
        lambda: world.people.create_token(caller, "x", Role.VIEWER),
        lambda: world.people.revoke_token(caller, "1"),
        lambda: world.people.tokens(caller),
        lambda: world.people.audit(caller),
    ):
        with pytest.raises(Forbidden, match="it takes the role admin"):
            asked()
    assert world.digest() == before


def test_an_admin_of_a_part_makes_no_token_for_more(world: World) -> None:
    part = Caller(name="lead", role=Role.ADMIN, repositories=("a", "b"))
    whole, _ = world.people.create_token(ADA, "whole", Role.VIEWER)
    for repositories in ([], ["c"], ["a", "c"]):
        with pytest.raises(Forbidden, match="may not act for more than a, b"):
            world.people.create_token(part, "x", Role.ADMIN, repositories)
    token, _ = world.people.create_token(part, "x", Role.ADMIN, ["a"])
    assert [one.name for one in world.people.tokens(part)] == ["x"]
    assert [one.name for one in world.people.tokens(ADA)] == ["whole", "x"]
    with pytest.raises(Forbidden):
        world.people.revoke_token(part, whole.key)
    world.people.revoke_token(part, token.key)
    with pytest.raises(Forbidden):
        world.people.audit(part)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101, "\u202egpj", " ci", "local:root", "interlock"])
def test_odd_names_are_refused(world: World, name: str) -> None:
    with pytest.raises(Refused):
        world.people.create_token(ADA, name, Role.VIEWER)


def test_a_name_is_that_of_one_valid_token_at_a_time(world: World) -> None:
    token, _ = world.people.create_token(ADA, "ci", Role.VIEWER)
    with pytest.raises(Conflict, match="choose another name"):
        world.people.create_token(ADA, "ci", Role.VIEWER)
    world.people.revoke_token(ADA, token.key)
    world.people.create_token(ADA, "ci", Role.VIEWER, expires=1500.0)
    world.clock[0] = 2000.0
    world.people.create_token(ADA, "ci", Role.VIEWER)
    with pytest.raises(Refused, match="expired already"):
        world.people.create_token(ADA, "late", Role.VIEWER, expires=1999.0)


def test_what_was_done_is_in_the_audit_log_by_whom(world: World) -> None:
    token, _ = world.people.create_token(ADA, "ci", Role.OPERATOR, ["demo"], expires=5000.0)
    world.people.revoke_token(ADA, token.key)
    made, revoked = world.people.audit(ADA)
    assert made.deed == Deed(
        who="local:ada",
        action="create token",
        thing="token/1",
        detail={"name": "ci", "role": "operator", "repositories": ["demo"], "environments": [], "expires": 5000.0},
    )
    assert revoked.deed == Deed(who="local:ada", action="revoke token", thing="token/1", detail={"name": "ci"})
    assert world.people.audit(ADA, after=1) == [revoked]
    assert verify_audit(world.store) is None
    assert verify_audit(world.store, audit_head(world.store)) is None


# --- L1: somebody with the database's file in hand ---


@pytest.fixture
def database(tmp_path: Path) -> Iterator[tuple[SqlStore, sqlite3.Connection]]:
    store = SqlStore(f"sqlite:///{tmp_path}/interlock.db", lambda: 1000.0)
    for number in range(1, 8):
        store.save(audit=[Deed(who="ada", action="release", thing=f"version/{number}")])
    connection = sqlite3.connect(tmp_path / "interlock.db", isolation_level=None)
    yield store, connection
    connection.close()
    store.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET deed = replace(deed, 'ada', 'eve') WHERE number = 4",
        "UPDATE audit SET at = at + 1 WHERE number = 4",
        "UPDATE audit SET digest = previous WHERE number = 7",
        "DELETE FROM audit WHERE number = 4",
        "DELETE FROM audit WHERE number <= 3",
        (
            "UPDATE audit SET number = CASE number WHEN 3 THEN -4 ELSE -3 END WHERE number IN (3, 4); "
            "UPDATE audit SET number = -number WHERE number < 0"
        ),
        "DELETE FROM audit WHERE number <= 3; UPDATE audit SET number = number - 3",
    ],
)
def test_a_log_changed_in_the_database_is_found(database: tuple[SqlStore, sqlite3.Connection], statement: str) -> None:
    store, connection = database
    assert verify_audit(store) is None
    connection.executescript(statement)
    assert verify_audit(store) is not None


def test_a_log_whose_end_was_cut_off_is_found_by_its_head(database: tuple[SqlStore, sqlite3.Connection]) -> None:
    store, connection = database
    head = audit_head(store)
    assert head.startswith("7:")
    connection.execute("DELETE FROM audit WHERE number > 5")
    assert verify_audit(store) is None, "what is left is whole in itself"
    assert "its end was cut off" in str(verify_audit(store, head))
    for number in (6, 7):
        store.save(audit=[Deed(who="eve", action="release", thing=f"version/{number}")])
    assert verify_audit(store) is None
    assert "written anew" in str(verify_audit(store, head))


def test_an_empty_log_has_no_head(world: World) -> None:
    assert audit_head(world.store) == ""
    assert verify_audit(world.store) is None
    entry = chain(1, 1.0, ADA_DEED, GENESIS)
    assert "cut off" in str(verify_audit(world.store, f"1:{entry.digest}"))


ADA_DEED = Deed(who="ada", action="a", thing="b")

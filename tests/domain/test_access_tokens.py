"""Tokens, roles and the chain of the audit log."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.access.audit import GENESIS, AuditEntry, Deed, chain, first_break, head_of, lacks
from interlock.access.caller import Action, Caller, Role
from interlock.access.tokens import Token, is_valid, token_digest, token_text, why_invalid
from interlock.errors import Forbidden

TOKEN = Token(key="1", name="ci", role=Role.DEVELOPER, created=1000.0)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_token_has_a_prefix_and_all_of_its_randomness(one: bytes, other: bytes) -> None:
    assert token_text(one).startswith("ilk_")
    assert len(token_text(one)) == 47
    assert token_text(one).removeprefix("ilk_").replace("-", "").replace("_", "").isalnum() or set(one) <= {0xFF, 0xFB}
    assert (token_text(one) == token_text(other)) is (one == other)


def test_a_token_of_too_little_randomness_is_not_made() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        token_text(b"short")


def test_only_a_digest_is_stored() -> None:
    assert token_digest("ilk_x") == hashlib.sha256(b"ilk_x").hexdigest()
    assert "ilk_" not in token_digest("ilk_x")


@pytest.mark.parametrize(
    ("expires", "revoked", "now", "problem"),
    [
        (None, None, 1e12, None),
        (2000.0, None, 1999.0, None),
        (2000.0, None, 2060.0, None),
        (2000.0, None, 2060.5, "the token has expired"),
        (None, 1500.0, 1500.0, "the token was revoked"),
        (2000.0, 1500.0, 9999.0, "the token was revoked"),
        (None, None, 1.0, None),
    ],
)
def test_when_a_token_is_good(expires: float | None, revoked: float | None, now: float, problem: str | None) -> None:
    token = TOKEN.model_copy(update={"expires": expires, "revoked": revoked})
    assert why_invalid(token, now) == problem
    assert is_valid(token, now) is (problem is None)


def test_a_tokens_caller_has_its_name_role_and_scope() -> None:
    scoped = TOKEN.model_copy(update={"repositories": ("a",), "environments": ("m/e",)})
    assert scoped.caller == Caller(name="ci", role=Role.DEVELOPER, repositories=("a",), environments=("m/e",))


MAY = {
    Role.VIEWER: {Action.READ},
    Role.DEVELOPER: {Action.READ, Action.RUN, Action.CANCEL},
    Role.MAINTAINER: {Action.READ, Action.RUN, Action.CANCEL, Action.APPROVE, Action.MANAGE_SECRETS},
    Role.OPERATOR: set(Action) - {Action.MANAGE_TOKENS, Action.READ_AUDIT},
    Role.ADMIN: set(Action),
}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", Action)
def test_what_each_role_may_do(role: Role, action: Action) -> None:
    caller = Caller(name="ada", role=role)
    assert caller.may(action) is (action in MAY[role])
    if action in MAY[role]:
        caller.require(action)
    else:
        with pytest.raises(Forbidden, match=f"ada may not {action}.*it takes the role"):
            caller.require(action)


def test_a_scope_holds_whatever_the_role() -> None:
    caller = Caller(name="bot", role=Role.ADMIN, repositories=("a",), environments=("m/staging",))
    assert caller.may(Action.RUN, repository="a")
    assert not caller.may(Action.RUN, repository="b")
    assert caller.may(Action.RELEASE, repository="a", environment="m/staging")
    assert not caller.may(Action.RELEASE, repository="a", environment="m/production")
    with pytest.raises(Forbidden, match="the token of bot is for a, m/staging"):
        caller.require(Action.RUN, repository="b")


# --- the audit log ---


def log_of(count: int) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for number in range(1, count + 1):
        previous = entries[-1].digest if entries else GENESIS
        deed = Deed(who="ada", action="release", thing=f"version/{number}", detail={"n": number})
        entries.append(chain(number, 1000.0 + number, deed, previous))
    return entries


def test_a_whole_log_has_no_break() -> None:
    assert first_break([]) is None
    assert first_break(log_of(7)) is None
    assert first_break(log_of(7)[3:], log_of(3)[-1].digest) is not None, "numbers begin at 1"


FIELDS = {"at": 5.0, "digest": "0" * 64, "previous": "1" * 64, "number": 99}


@given(place=st.integers(0, 6), field=st.sampled_from([*FIELDS, "deed"]))
def test_an_edited_entry_is_found(place: int, field: str) -> None:
    entries = log_of(7)
    value = FIELDS.get(field, Deed(who="eve", action="nothing", thing="to see"))
    entries[place] = entries[place].model_copy(update={field: value})
    assert first_break(entries) is not None


@given(place=st.integers(0, 5))
def test_a_deleted_entry_is_found(place: int) -> None:
    entries = log_of(7)
    del entries[place]
    problem = first_break(entries)
    assert problem is not None
    assert f"entry {place + 1} is missing" in problem


@given(order=st.permutations(range(7)))
def test_reordered_entries_are_found(order: list[int]) -> None:
    entries = log_of(7)
    assert (first_break([entries[place] for place in order]) is None) is (order == list(range(7)))


@given(place=st.integers(0, 5))
def test_an_entry_written_anew_breaks_the_chain_behind_it(place: int) -> None:
    entries = log_of(7)
    old = entries[place]
    entries[place] = chain(old.number, old.at, Deed(who="eve", action="a", thing="b"), old.previous)
    assert first_break(entries) is not None


def test_a_log_that_was_cut_off_or_begun_anew_lacks_its_head() -> None:
    entries = log_of(7)
    head = head_of(entries[4])
    assert head == f"5:{entries[4].digest}"
    assert lacks(entries, head) is None
    assert lacks(entries[:5], head) is None
    assert first_break(entries[:4]) is None, "alone nobody can see it"
    assert "it had 5 entries" in str(lacks(entries[:4], head))
    forged = [chain(1, 1.0, Deed(who="eve", action="a", thing="b"), GENESIS)]
    while len(forged) < 7:
        forged.append(chain(len(forged) + 1, 1.0, Deed(who="eve", action="a", thing="b"), forged[-1].digest))
    assert first_break(forged) is None
    assert "written anew" in str(lacks(forged, head))


@pytest.mark.parametrize("head", ["", "x", "0:" + "0" * 64, "5", "-1:" + "0" * 64, "1:xyz"])
def test_what_is_no_head_is_said_so(head: str) -> None:
    assert "is no head" in str(lacks(log_of(1), head))

"""Who may come in: tokens and what they let their holders do, and the log of what was done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from secrets import token_bytes

from interlock.access.audit import AuditEntry, Deed, first_break, head_of, lacks
from interlock.access.caller import Action, Caller, Role
from interlock.access.tokens import (
    PREFIX,
    RANDOM_BYTES,
    Token,
    is_valid,
    token_digest,
    token_text,
    why_invalid,
)
from interlock.control.rows import load_state, read_state, write_state
from interlock.errors import Conflict, Forbidden, NotFound, Refused, StaleWrite, Unauthenticated
from interlock.ports import Store
from interlock.vocabulary import Kind

VALID, REVOKED = "valid", "revoked"
LOCAL = "local:"
OWN = "interlock"
"""Who did what nobody asked for, in the audit log."""
LONGEST_NAME = 100
USED_PRECISION = 600.0
"""Seconds: when a token was last used is written down again after so long. Every save is an event that stays."""


def local_caller(name: str) -> Caller:
    """A user of this machine who can open the state folder, and so may do everything."""
    return Caller(name=LOCAL + name, role=Role.ADMIN)


class People:
    """Tokens in the store. A token's text is answered once, when it is made, and kept nowhere."""

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._turn = threading.Lock()
        self._used: dict[str, float] = {}

    def create_token(
        self,
        caller: Caller,
        name: str,
        role: Role,
        repositories: Sequence[str] = (),
        environments: Sequence[str] = (),
        expires: float | None = None,
    ) -> tuple[Token, str]:
        """A new token and its text. No ``repositories`` or ``environments``: all of them. ``expires`` in wall time.

        Forbidden for a token that may more than the caller; Conflict where a valid token has the name.
        """
        caller.require(Action.MANAGE_TOKENS)
        _check_name(name)
        if expires is not None and expires <= self._now():
            raise Refused("the token would have expired already", name, "name a time to come, or none")
        wanted = Caller(name=name, role=role, repositories=tuple(repositories), environments=tuple(environments))
        _require_within(caller, wanted)
        if any(token.name == name and is_valid(token, self._now()) for token in self._all()):
            raise Conflict("a valid token has this name", name, "choose another name, or revoke that token")
        return self._insert(
            caller.name,
            name=name,
            role=role,
            repositories=wanted.repositories,
            environments=wanted.environments,
            expires=expires,
        )

    def revoke_token(self, caller: Caller, key: str) -> Token:
        """From now on the token is good for nothing; a second call changes nothing. NotFound where there is none."""
        caller.require(Action.MANAGE_TOKENS)
        while True:
            token, expected = load_state(self._store, Kind.TOKEN, key, Token)
            if token is None:
                raise NotFound(f"there is no token {key}", remedy="interlock token list shows them")
            _require_within(caller, token.caller)
            if token.revoked is not None:
                return token
            revoked = token.model_copy(update={"revoked": self._now()})
            because = f"revoked by {caller.name}"
            write = write_state(Kind.TOKEN, key, revoked, expected=expected, phase=REVOKED, because=because)
            deed = Deed(who=caller.name, action="revoke token", thing=f"token/{key}", detail={"name": token.name})
            try:
                self._store.save(write, audit=[deed])
            except StaleWrite:
                continue  # its last use was written down at this moment
            return revoked

    def tokens(self, caller: Caller) -> list[Token]:
        """Every token that the caller could have made, in order of creation; revoked ones too."""
        caller.require(Action.MANAGE_TOKENS)
        with self._turn:
            used = dict(self._used)
        return [
            token.model_copy(update={"last_used": used.get(token.key, token.last_used)})
            for token in self._all()
            if _is_within(caller, token.caller)
        ]

    def authenticate(self, text: str) -> Caller:
        """Who shows this token. Unauthenticated for none, an unknown, an expired or a revoked one. Writes nothing.

        What is looked up is the digest of a random text, so how long it takes tells nothing about any token.
        """
        row = self._store.find(Kind.TOKEN, token_digest(text)) if text.startswith(PREFIX) else None
        if row is None:
            raise Unauthenticated("the token is not known here", remedy="an admin makes one: interlock token create")
        token = read_state(row, Token)
        problem = why_invalid(token, self._now())
        if problem is not None:
            raise Unauthenticated(problem, token.name, "an admin makes a new one: interlock token create")
        with self._turn:
            self._used[token.key] = self._now()
        return token.caller

    def flush_last_used(self) -> None:
        """Writes down when tokens were last used; to be called by a timer, once a minute is enough."""
        with self._turn:
            used = dict(self._used)
        for key, at in used.items():
            token, expected = load_state(self._store, Kind.TOKEN, key, Token)
            if token is None or token.revoked is not None or at - (token.last_used or 0.0) < USED_PRECISION:
                continue
            seen = token.model_copy(update={"last_used": at})
            try:
                self._store.save(
                    write_state(Kind.TOKEN, key, seen, expected=expected, phase=VALID, because="it was used")
                )
            except StaleWrite:
                continue  # revoked just now: the next look will see it

    def audit(self, caller: Caller, after: int = 0, newest: int | None = None) -> list[AuditEntry]:
        """Entries of the audit log, as the store answers them. Forbidden for who is not admin of everything."""
        caller.require(Action.READ_AUDIT)
        _require_within(caller, Caller(name=caller.name, role=caller.role))
        return self._store.audit(after, newest)

    def _all(self) -> list[Token]:
        return [read_state(row, Token) for row in self._store.rows(Kind.TOKEN)]

    def _insert(self, who: str, **of_token: object) -> tuple[Token, str]:
        text = token_text(token_bytes(RANDOM_BYTES))
        key = str(self._store.number(Kind.TOKEN))
        token = Token.model_validate({"key": key, "created": self._now(), **of_token})
        detail = token.model_dump(mode="json", include={"name", "role", "repositories", "environments", "expires"})
        write = write_state(
            Kind.TOKEN,
            key,
            token,
            expected=0,
            phase=VALID,
            because=f"made by {who} for {token.name}",
            identity=token_digest(text),
        )
        self._store.save(write, audit=[Deed(who=who, action="create token", thing=f"token/{key}", detail=detail)])
        return token, text


def audit_head(store: Store) -> str:
    """What stands for the whole audit log as it is now: to be kept elsewhere, and given to ``verify_audit`` later."""
    newest = store.audit(newest=1)
    return head_of(newest[0]) if newest else ""


def verify_audit(store: Store, head: str = "") -> str | None:
    """What is wrong with the audit log; None where nothing is.

    Without a ``head`` from earlier nobody can tell whether its newest entries were cut off.
    """
    entries = store.audit()
    return first_break(entries) or (lacks(entries, head) if head else None)


def _check_name(name: str) -> None:
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise Refused("a token's name is 1 to 100 letters on one line", repr(name), "name whoever will use it")
    if name == OWN or name.startswith(LOCAL):
        raise Refused(
            "the audit log calls users of this machine, or Interlock itself, by this name", name, "choose another"
        )


def _is_within(caller: Caller, other: Caller) -> bool:
    """Whether the caller may do all that the other one may."""
    return all(
        not own or (bool(wanted) and set(wanted) <= set(own))
        for own, wanted in (
            (caller.repositories, other.repositories),
            (caller.environments, other.environments),
        )
    )


def _require_within(caller: Caller, other: Caller) -> None:
    if not _is_within(caller, other):
        scope = ", ".join(caller.repositories + caller.environments)
        raise Forbidden(f"{caller.name} may not act for more than {scope}", other.name, "ask an admin of all of it")

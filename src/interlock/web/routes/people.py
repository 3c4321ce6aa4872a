"""Who asks, tokens, secrets and the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from interlock.access.audit import AuditEntry
from interlock.access.caller import Caller
from interlock.access.keys import ApiKey
from interlock.access.tokens import Token
from interlock.control.people import audit_head, verify_audit
from interlock.control.secrets import SecretName
from interlock.web.routes.asking import CallerOf, ServicesOf
from interlock.web.routes.shapes import AuditVerdict, KeyOrder, NewKey, NewToken, SecretOrder, TokenOrder, Warned

ROUTES = APIRouter(tags=["people"])


@ROUTES.get("/whoami")
def show_caller(caller: CallerOf) -> Caller:
    """Who asks, as the server knows them."""
    return caller


@ROUTES.get("/tokens")
def list_tokens(services: ServicesOf, caller: CallerOf) -> list[Token]:
    """All tokens, revoked ones too; never their text."""
    return services.people.tokens(caller)


@ROUTES.post("/tokens", status_code=201)
def create_token(asked: TokenOrder, services: ServicesOf, caller: CallerOf) -> NewToken:
    """Makes a token. Its text is in this answer and nowhere else."""
    token, text = services.people.create_token(
        caller, asked.name, asked.role, asked.repositories, asked.environments, asked.expires
    )
    return NewToken(token=token, text=text)


@ROUTES.delete("/tokens/{key}", status_code=204)
def revoke_token(key: str, services: ServicesOf, caller: CallerOf) -> None:
    """Ends a token at once."""
    services.people.revoke_token(caller, key)


@ROUTES.get("/keys")
def list_keys(services: ServicesOf, caller: CallerOf) -> list[ApiKey]:
    """The API keys of the front, revoked ones too; never their text."""
    return services.keys.keys(caller)


@ROUTES.post("/keys", status_code=201)
def create_key(asked: KeyOrder, services: ServicesOf, caller: CallerOf) -> NewKey:
    """Makes an API key. Its text is in this answer and nowhere else."""
    key, text = services.keys.create(caller, asked.name, asked.models, is_tester=asked.is_tester, expires=asked.expires)
    return NewKey(key=key, text=text)


@ROUTES.delete("/keys/{key}", status_code=204)
def revoke_key(key: str, services: ServicesOf, caller: CallerOf) -> None:
    """Ends an API key at once."""
    services.keys.revoke(caller, key)


@ROUTES.get("/secrets")
def list_secrets(services: ServicesOf, caller: CallerOf, repository: str) -> list[SecretName]:
    """The names of a repository's secrets; values are only ever written."""
    return services.secrets.names(caller, repository)


@ROUTES.put("/secrets")
def put_secret(asked: SecretOrder, services: ServicesOf, caller: CallerOf) -> Warned:
    """Keeps a secret, in the place of one of the same name."""
    warning = services.secrets.put(caller, asked.repository, asked.environment, asked.name, asked.value)
    return Warned(warning=warning)


@ROUTES.delete("/secrets", status_code=204)
def remove_secret(
    services: ServicesOf, caller: CallerOf, repository: str, name: str, environment: str | None = None
) -> None:
    """Forgets a secret."""
    services.secrets.remove(caller, repository, environment, name)


@ROUTES.get("/audit")
def list_audit(
    services: ServicesOf,
    caller: CallerOf,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="The last so many.")] = 100,
) -> list[AuditEntry]:
    """The last entries of the audit log behind number ``after``, in order."""
    return services.people.audit(caller, after, limit)


@ROUTES.get("/audit/verify")
def check_audit(
    services: ServicesOf,
    caller: CallerOf,
    head: Annotated[str, Query(max_length=200, description="The head that was told earlier.")] = "",
) -> AuditVerdict:
    """Follows the chain of the whole log, and looks for the head of an earlier time in it."""
    services.people.audit(caller, newest=1)  # only who may read it is told of it
    now = audit_head(services.store)
    return AuditVerdict(problem=verify_audit(services.store, head), head=now)

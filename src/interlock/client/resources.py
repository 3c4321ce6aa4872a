"""What can be asked of a server, by subject. Each method is one request, but for lists, which are read page by page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from .connection import Connection, Parameters
from .models import (
    ApiKey,
    AuditEntry,
    AuditVerdict,
    EnvironmentState,
    LogWindow,
    MonitorState,
    RecentCaller,
    ReleaseState,
    Repository,
    RolloutState,
    Row,
    RunState,
    RunSummary,
    SecretName,
    Token,
    VersionState,
)

API = "/api/v1"
PAGE = 200
"""How many things are asked for at once, at most."""


class Runs:
    """Runs: listed, shown, begun, ended, approved, let past gates; and what their stages print."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(
        self,
        *,
        repository: str | None = None,
        ref: str | None = None,
        phases: Sequence[str] = (),
        page: int = PAGE,
    ) -> Iterator[RunSummary]:
        """The newest first, read ``page`` at a time, for as long as they are taken. ``ref`` is a full one."""
        found = {"repository": repository, "ref": ref, "phase": list(phases)}
        return map(RunSummary.model_validate, pages(self._connection, f"{API}/runs", found, page))

    def get(self, number: int) -> Row[RunState]:
        """One run."""
        return Row[RunState].model_validate(self._connection.get(f"{API}/runs/{number}"))

    def trigger(self, repository: str, ref: str | None = None, *, key: str | None = None) -> Row[RunState]:
        """Begins a run of what a ref names now, or the default branch. The same ``key`` answers the same run."""
        asked = {"repository": repository, "ref": ref or ""}
        return Row[RunState].model_validate(self._connection.post(f"{API}/runs", asked, key=key))

    def rerun(self, number: int, from_stage: str | None = None, *, key: str | None = None) -> Row[RunState]:
        """Begins a run of the same commit again; ``from_stage`` and what needs it are executed in any case."""
        asked = {"from_stage": from_stage}
        return Row[RunState].model_validate(self._connection.post(f"{API}/runs/{number}/rerun", asked, key=key))

    def cancel(self, number: int, reason: str) -> Row[RunState]:
        """Ends a run and everything it started."""
        return self._post(number, "cancel", {"reason": reason})

    def approve(self, number: int, sha: str) -> Row[RunState]:
        """Lets a held run of somebody from outside go on, for this one commit."""
        return self._post(number, "approve", {"sha": sha})

    def override(self, number: int, gates: Sequence[str], reason: str) -> Row[RunState]:
        """Lets a run go on past gates that did not pass, named by title: its model is registered and released."""
        return self._post(number, "override", {"gates": [*gates], "reason": reason})

    def log(self, number: int, stage: str, attempt: int, first: int = 0, most: int = 1000) -> LogWindow:
        """Lines of what an attempt printed, from number ``first`` on; below 0 it counts from the end."""
        window = self._connection.get(_log(number, stage, attempt), {"first": first, "most": most})
        return LogWindow.model_validate(window)

    def follow_log(self, number: int, stage: str, attempt: int, first: int = 0) -> Iterator[str]:
        """Each line once and in order, those that come until the attempt ends too, over lost connections."""
        stream = self._connection.follow(f"{_log(number, stage, attempt)}/stream", {"first": first})
        return (json.loads(event.data) for event in stream)

    def _post(self, number: int, what: str, asked: dict[str, Any]) -> Row[RunState]:
        return Row[RunState].model_validate(self._connection.post(f"{API}/runs/{number}/{what}", asked))


class Deliveries:
    """Model versions, their releases and their rollouts. Lists begin with the newest."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def versions(self, model: str | None = None) -> Iterator[Row[VersionState]]:
        """Registered model versions."""
        return map(Row[VersionState].model_validate, pages(self._connection, f"{API}/versions", {"model": model}))

    def version(self, key: str) -> Row[VersionState]:
        """One version, named ``model/number``."""
        return Row[VersionState].model_validate(self._connection.get(f"{API}/versions/{quote(key)}"))

    def releases(self, phases: Sequence[str] = ()) -> Iterator[Row[ReleaseState]]:
        """Releases."""
        found = pages(self._connection, f"{API}/releases", {"phase": list(phases)})
        return map(Row[ReleaseState].model_validate, found)

    def get_release(self, number: int) -> Row[ReleaseState]:
        """One release."""
        return Row[ReleaseState].model_validate(self._connection.get(f"{API}/releases/{number}"))

    def release(self, version: str, because: str | None = None, *, key: str | None = None) -> Row[ReleaseState]:
        """Takes a version, named ``model/number``, through its environments."""
        asked = {"version": version} | ({"because": because} if because else {})
        return Row[ReleaseState].model_validate(self._connection.post(f"{API}/releases", asked, key=key))

    def approve(self, release: int, reason: str) -> str:
        """One person's approval of a release that waits for some; what was done, in one sentence."""
        # Sent again after a lost answer it would say that this person approved already.
        asked, path = {"reason": reason}, f"{API}/releases/{release}/approve"
        return str(self._connection.post(path, asked, is_repeatable=False)["because"])

    def lift_quarantine(self, version: str, reason: str) -> str:
        """Lets a version that was rolled back be released again; what was done, in one sentence."""
        # Sent again after a lost answer it would say that there is no quarantine.
        asked, path = {"reason": reason}, f"{API}/versions/{quote(version)}/lift-quarantine"
        return str(self._connection.post(path, asked, is_repeatable=False)["because"])

    def rollouts(self, phases: Sequence[str] = ()) -> Iterator[Row[RolloutState]]:
        """Rollouts."""
        found = pages(self._connection, f"{API}/rollouts", {"phase": list(phases)})
        return map(Row[RolloutState].model_validate, found)

    def get_rollout(self, number: int) -> Row[RolloutState]:
        """One rollout."""
        return Row[RolloutState].model_validate(self._connection.get(f"{API}/rollouts/{number}"))

    def steer(self, rollout: int, order: str, reason: str) -> str:
        """The ``order`` is pause, resume, promote, abort or approve; what was done, in one sentence."""
        # Sent again after a lost answer it would say that this is so already.
        asked, path = {"reason": reason}, f"{API}/rollouts/{rollout}/{quote(order, safe='')}"
        return str(self._connection.post(path, asked, is_repeatable=False)["because"])

    def retry(
        self, rollout: int, reason: str, lift_quarantine: str | None = None, *, key: str | None = None
    ) -> Row[ReleaseState]:
        """Begins a rollout anew that ended without promotion; ``lift_quarantine`` is why its digest may come again."""
        asked, path = {"reason": reason, "lift_quarantine": lift_quarantine}, f"{API}/rollouts/{rollout}/retry"
        return Row[ReleaseState].model_validate(self._connection.post(path, asked, key=key))


class Environments:
    """Where models serve; each is named ``model/environment``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> Iterator[Row[EnvironmentState]]:
        """The one that was first delivered to last."""
        return map(Row[EnvironmentState].model_validate, pages(self._connection, f"{API}/environments", {}))

    def get(self, key: str) -> Row[EnvironmentState]:
        """One of them."""
        return Row[EnvironmentState].model_validate(self._connection.get(f"{API}/environments/{quote(key)}"))

    def monitor(self, environment: str) -> Row[MonitorState]:
        """How what serves in ``model/environment`` is watched, and which alerts fire."""
        path = f"{API}/environments/{quote(environment)}/monitor"
        return Row[MonitorState].model_validate(self._connection.get(path))

    def roll_back(self, environment: str, reason: str, *, key: str | None = None) -> str:
        """Brings ``model/environment`` back; what was done, in one sentence."""
        path = f"{API}/environments/{quote(environment)}/rollback"
        return str(self._connection.post(path, {"reason": reason}, key=key)["because"])

    def freeze(self, environment: str, reason: str, until: float | None = None) -> str:
        """Lets nothing go forward in ``model/environment`` until then (seconds since 1970), or until it is unfrozen."""
        path = f"{API}/environments/{quote(environment)}/freeze"
        return str(self._connection.post(path, {"reason": reason, "until": until})["because"])

    def unfreeze(self, environment: str, reason: str) -> str:
        """Lets ``model/environment`` go forward again."""
        # Sent again after a lost answer it would say that nothing is frozen.
        path = f"{API}/environments/{quote(environment)}/unfreeze"
        return str(self._connection.post(path, {"reason": reason}, is_repeatable=False)["because"])


class Repositories:
    """The configured repositories."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> list[Repository]:
        """By name."""
        return [Repository.model_validate(one) for one in self._connection.get(f"{API}/repositories")]

    def get(self, name: str) -> Repository:
        """One of them."""
        return Repository.model_validate(self._connection.get(f"{API}/repositories/{quote(name)}"))

    def sync(self, name: str) -> list[str]:
        """Looks at it now, as if a push had been told of; what came of it, in lines."""
        return [str(line) for line in self._connection.post(f"{API}/repositories/{quote(name)}/sync", None)["lines"]]


class Tokens:
    """Tokens, by which people and programs are known."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> list[Token]:
        """All of them, revoked ones too."""
        return [Token.model_validate(one) for one in self._connection.get(f"{API}/tokens")]

    def create(
        self,
        name: str,
        role: str,
        *,
        repositories: Sequence[str] = (),
        environments: Sequence[str] = (),
        expires: float | None = None,
    ) -> tuple[Token, str]:
        """A new token, and its text, which is never shown again. ``expires``: seconds since 1970."""
        asked = {
            "name": name,
            "role": role,
            "repositories": [*repositories],
            "environments": [*environments],
            "expires": expires,
        }
        made = self._connection.post(f"{API}/tokens", asked, is_repeatable=False)
        return Token.model_validate(made["token"]), str(made["text"])

    def revoke(self, key: str) -> None:
        """From now on it is good for nothing."""
        self._connection.delete(f"{API}/tokens/{quote(key, safe='')}")


class Keys:
    """API keys, by which programs are known to models at the front."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> list[ApiKey]:
        """All of them, revoked ones too."""
        return [ApiKey.model_validate(one) for one in self._connection.get(f"{API}/keys")]

    def create(
        self, name: str, models: Sequence[str] = (), *, is_tester: bool = False, expires: float | None = None
    ) -> tuple[ApiKey, str]:
        """A new key and its text, which is never shown again.

        ``models`` are ``model`` or ``model/environment``, none: all. A tester may say which revision answers.
        ``expires``: seconds since 1970.
        """
        asked = {"name": name, "models": [*models], "is_tester": is_tester, "expires": expires}
        made = self._connection.post(f"{API}/keys", asked, is_repeatable=False)
        return ApiKey.model_validate(made["key"]), str(made["text"])

    def revoke(self, key: str) -> None:
        """From now on it opens nothing."""
        self._connection.delete(f"{API}/keys/{quote(key, safe='')}")


class Models:
    """Models as the front knows them: who asks them, and whether they are there at all."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def callers(self, model: str) -> list[RecentCaller]:
        """Who asked it lately, the most frequent first, as far as the front's log says."""
        found = self._connection.get(f"{API}/models/{quote(model, safe='')}/callers")
        return [RecentCaller.model_validate(one) for one in found]

    def retire(self, model: str, reason: str) -> str:
        """Takes it away everywhere; what that means, in one sentence."""
        return self._ask(model, "retire", reason)

    def restore(self, model: str, reason: str) -> str:
        """Brings a retired one back as it was."""
        return self._ask(model, "restore", reason)

    def _ask(self, model: str, order: str, reason: str) -> str:
        # Sent again after a lost answer it would say that it is so already.
        path = f"{API}/models/{quote(model, safe='')}/{order}"
        return str(self._connection.post(path, {"reason": reason}, is_repeatable=False)["because"])


class Secrets:
    """Secrets of repositories: written and named, never read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def names(self, repository: str) -> list[SecretName]:
        """The names of a repository's secrets."""
        found = self._connection.get(f"{API}/secrets", {"repository": repository})
        return [SecretName.model_validate(one) for one in found]

    def put(self, repository: str, environment: str | None, name: str, value: str) -> str | None:
        """Keeps a secret of a repository, or of one ``model/environment`` of it; a warning about its value."""
        asked = {"repository": repository, "environment": environment, "name": name, "value": value}
        told = self._connection.put(f"{API}/secrets", asked)
        return told.get("warning") if isinstance(told, dict) else None

    def remove(self, repository: str, environment: str | None, name: str) -> None:
        """Forgets a secret."""
        which = {"repository": repository, "environment": environment, "name": name}
        self._connection.delete(f"{API}/secrets", which)


class Audit:
    """The audit log."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def entries(self, after: int = 0, newest: int = 100) -> list[AuditEntry]:
        """The last so many entries behind number ``after``, at most 1,000, in order."""
        found = self._connection.get(f"{API}/audit", {"after": after, "limit": newest})
        return [AuditEntry.model_validate(one) for one in found]

    def verify(self, head: str = "") -> AuditVerdict:
        """Follows the chain of the whole log, and looks for the ``head`` of an earlier time in it."""
        return AuditVerdict.model_validate(self._connection.get(f"{API}/audit/verify", {"head": head or None}))


def pages(connection: Connection, path: str, parameters: Parameters, size: int = PAGE) -> Iterator[dict[str, Any]]:
    """The items of a list, read page by page while they are taken."""
    cursor: str | None = None
    while True:
        page = connection.get(path, {**parameters, "limit": size, "cursor": cursor})
        yield from page["items"]
        cursor = page["next"]
        if cursor is None:
            return


def _log(number: int, stage: str, attempt: int) -> str:
    return f"{API}/runs/{number}/stages/{quote(stage, safe='')}/attempts/{attempt}/log"

"""The server's settings: the file ``server.yaml``, and environment variables that stand above it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from interlock.app.folder import StateFolder
from interlock.errors import Refused, SeveralRefused
from interlock.pipeline.document import Document, plain, read_document, refuse_all
from interlock.pipeline.rules.patterns import DataPlace
from interlock.pipeline.rules.values import Duration, ModelName
from interlock.source.repository import ForgeKind, ForkPolicy
from interlock.vocabulary import Json

LOOPBACK = ("127.0.0.1", "::1", "localhost")
DAY = 86400.0
PREFIX = "INTERLOCK_"
FROM_ENVIRONMENT = ("listen", "url", "database", "hosts", "poll_every", "log_format")
"""Keys that an environment variable may set: ``INTERLOCK_LISTEN`` and so on. ``hosts`` are parted by commas."""


RepositoryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""It is a part of paths and addresses."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class SecretSource(_Strict):
    """Where a credential is: in a file of its own, or in an environment variable of the server. Never in this file."""

    file: Path | None = None
    env: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> SecretSource:
        if (self.file is None) == (self.env is None):
            raise ValueError("write exactly one of file: PATH and env: NAME")
        return self


class AppSettings(_Strict):
    """A GitHub App: its number, the number of its installation, and its private key (PEM)."""

    id: int
    installation: int
    key: SecretSource


class ForgeSettings(_Strict):
    """The forge of a repository. ``url`` is its base (``https://github.com``), ``project`` the repository's name there.

    ``webhook_secrets``: any of them signs a webhook, so that they can be changed one after the other. Statuses and
    comments are written with the ``token``, or as the ``app`` of GitHub.
    """

    kind: ForgeKind
    url: str
    project: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)+$")]
    webhook_secrets: tuple[SecretSource, ...] = ()
    token: SecretSource | None = None
    app: AppSettings | None = None

    @field_validator("url")
    @classmethod
    def _is_web_address(cls, value: str) -> str:
        return _web_address(value)

    @model_validator(mode="after")
    def _has_one_identity(self) -> ForgeSettings:
        if self.token is not None and self.app is not None:
            raise ValueError("write token or app, not both")
        if self.app is not None and self.kind != "github":
            raise ValueError("app is for github; write token")
        return self


class RepositorySettings(_Strict):
    """A git repository to watch: its git directory (``path``) on this machine, or the ``url`` of a remote.

    ``trusted`` are branches and full refs, as patterns, whose runs may deliver and have secrets. ``data`` are the paths
    of this machine and prefixes of object stores that its runs may read data from. ``propose_reverts``: a rollback for
    harm leads to a branch of it, and a pull request, that takes back what was rolled back.
    """

    path: Path | None = None
    url: str | None = None
    default_branch: str = "main"
    trusted: tuple[str, ...] = ("main",)
    forks: ForkPolicy = "approve"
    most_runs: Annotated[int, Field(ge=1)] | None = None
    data: tuple[DataPlace, ...] = ()
    propose_reverts: bool = False
    forge: ForgeSettings | None = None

    @model_validator(mode="after")
    def _is_somewhere(self) -> RepositorySettings:
        if (self.path is None) == (self.url is None):
            raise ValueError("path or url is required: a git directory of this machine, or a remote")
        return self

    @property
    def place(self) -> str:
        """What tells two repositories apart."""
        return str(self.path.resolve()) if self.path is not None else str(self.url)


class PrometheusSettings(_Strict):
    """A Prometheus server that live metrics may be asked of: its base ``url``, and a bearer ``token`` for it alone."""

    url: str
    token: SecretSource | None = None

    @field_validator("url")
    @classmethod
    def _is_web_address(cls, value: str) -> str:
        return _web_address(value)

    @model_validator(mode="after")
    def _keeps_its_token(self) -> PrometheusSettings:
        parts = urlsplit(self.url)
        if self.token is not None and parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise ValueError("a token is not sent over http: write an https address")
        return self


class TlsSettings(_Strict):
    """Certificate chain and private key, as PEM files."""

    certificate: Path
    key: Path


class QuotaSettings(_Strict):
    """How many requests a second are answered for ever, and at once after a rest: ``burst``, a second's unless set."""

    requests_per_second: int = Field(ge=1, le=1_000_000)
    burst: int | None = Field(default=None, ge=1, le=10_000_000)


class EnvironmentSettings(_Strict):
    """Where an environment listens, as ``address:port``; beyond loopback with ``tls`` and API keys alone.

    ``authors_may_approve``: whether who wrote a commit, or asked for its run, may approve of its model here.
    """

    tls: TlsSettings | None = None
    api_keys: Literal["required"] | None = None
    quotas: dict[ModelName, QuotaSettings] = {}
    key_quota: QuotaSettings | None = None
    listen: str
    authors_may_approve: bool = True

    @field_validator("key_quota")
    @classmethod
    def _knows_keys(cls, value: QuotaSettings | None, others: ValidationInfo) -> QuotaSettings | None:
        if value is not None and not others.data.get("api_keys"):
            raise ValueError("it is of each API key, so `api_keys: required` is too")
        return value

    @field_validator("listen")
    @classmethod
    def _is_safe(cls, value: str, others: ValidationInfo) -> str:
        address, _, port = value.rpartition(":")
        is_guarded = bool(others.data.get("tls") and others.data.get("api_keys"))
        if address == "localhost":
            address = "127.0.0.1"
        if address != "127.0.0.1" and not is_guarded:
            raise ValueError("only loopback without tls and `api_keys: required`: 127.0.0.1:PORT")
        if not _is_numeric(address):
            raise ValueError("write the address in numbers: 0.0.0.0:8443 or [::]:8443")
        if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
            raise ValueError("a port between 1 and 65535 is missing: 127.0.0.1:PORT")
        return f"{address}:{port}"


def _is_numeric(address: str) -> bool:
    is_bracketed = address.startswith("[") and address.endswith("]")
    try:
        return ip_address(address.strip("[]")).version == (6 if is_bracketed else 4)
    except ValueError:
        return False


class RetentionSettings(_Strict):
    """How long things are kept that nothing refers to any more."""

    logs: Duration = 90 * DAY
    artifacts: Duration = 30 * DAY
    environments: Duration = 30 * DAY


class WebhookSettings(_Strict):
    """Where alerts are posted; the body is signed with the ``secret`` (HMAC-SHA256)."""

    url: str
    secret: SecretSource

    @field_validator("url")
    @classmethod
    def _is_web_address(cls, value: str) -> str:
        return _web_address(value)


class AlertSettings(_Strict):
    """Who is told of the alerts of monitors, by a name for people."""

    webhooks: dict[RepositoryName, WebhookSettings] = {}


def _default_environments() -> dict[str, EnvironmentSettings]:
    return {
        "staging": EnvironmentSettings(listen="127.0.0.1:8081"),
        "production": EnvironmentSettings(listen="127.0.0.1:8080"),
    }


Protocols = Annotated[tuple[Literal["https", "ssh", "http", "git", "file"], ...], Field(min_length=1)]


class ServerSettings(_Strict):
    """``poll_every`` in seconds: how long a push that no hook told of can go unseen.

    ``listen`` is where the API and the webhooks answer; ``url`` how they are reached from outside, for links;
    ``hosts`` further names by which they may be called; ``protocols`` those by which remotes may be asked.
    ``prometheus`` are the servers that metrics of rollouts may be asked of, by the name that pipeline files give.
    ``sandbox``: ``none`` where a person said that less isolation will do.
    """

    repositories: dict[RepositoryName, RepositorySettings] = {}
    prometheus: dict[ModelName, PrometheusSettings] = {}
    environments: dict[ModelName, EnvironmentSettings] = Field(default_factory=_default_environments)
    poll_every: float = Field(default=30.0, gt=0, le=86400, allow_inf_nan=False)
    listen: str = "127.0.0.1:8090"
    tls: TlsSettings | None = None
    url: str | None = None
    hosts: tuple[str, ...] = ()
    database: str | None = None
    protocols: Protocols = ("https", "ssh")
    retention: RetentionSettings = RetentionSettings()
    alerts: AlertSettings = AlertSettings()
    log_format: Literal["text", "json"] = "text"
    sandbox: Literal["namespace", "none"] = "namespace"

    @field_validator("repositories")
    @classmethod
    def _are_different(cls, value: dict[str, RepositorySettings]) -> dict[str, RepositorySettings]:
        _refuse_shared("the repository", ((name, one.place) for name, one in value.items()))
        return value

    @field_validator("environments")
    @classmethod
    def _listen_apart(cls, value: dict[str, EnvironmentSettings]) -> dict[str, EnvironmentSettings]:
        _refuse_shared("the address", ((name, one.listen) for name, one in value.items()))
        return value

    @field_validator("listen")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        address, _, port = value.rpartition(":")
        if not address or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise ValueError("write ADDRESS:PORT, as 127.0.0.1:8090 (port 0: any free one)")
        return value

    @field_validator("url")
    @classmethod
    def _is_web_address(cls, value: str | None) -> str | None:
        return None if value is None else _web_address(value)

    @model_validator(mode="after")
    def _is_safe(self) -> ServerSettings:
        if self.address not in LOOPBACK and self.tls is None:
            raise ValueError(f"listen: {self.address} is not loopback, so tls (certificate and key) is required")
        strangers = [name for name, one in self.repositories.items() if one.url and one.forks != "refuse"]
        if self.sandbox == "none" and strangers:
            raise ValueError(f"sandbox: none would let forks in: write `forks: refuse` for {', '.join(strangers)}")
        return self

    @property
    def address(self) -> str:
        """The address it listens at, without the port."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def guarded(self) -> frozenset[str]:
        """The environments where nobody may approve of what is their own work."""
        return frozenset(name for name, one in self.environments.items() if not one.authors_may_approve)

    @property
    def port(self) -> int:
        """The port it listens at; 0 is any free one."""
        return int(self.listen.rpartition(":")[2])


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("write https://HOST, without user, query or fragment")
    return value.rstrip("/")


def _refuse_shared(what: str, named: Iterable[tuple[str, str]]) -> None:
    holders = defaultdict(list)
    for name, thing in named:
        holders[thing].append(name)
    for thing, names in holders.items():
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} share {what} {thing}")


def read_settings(path: Path, environment: Mapping[str, str] | None = None) -> ServerSettings:
    """The settings; defaults where the file is not there. Refused with all its problems.

    ``environment`` holds the variables of the process; those named above take the place of the file's keys.
    """
    document = _read(path) if path.exists() else None
    written = plain(document.value) if document is not None and document.value is not None else {}
    variables = _from(environment or {})
    if isinstance(written, dict):
        written = {**written, **variables}
    try:
        return ServerSettings.model_validate(written)
    except ValidationError as invalid:
        raise SeveralRefused(_refusals(invalid, document, path, variables)) from invalid


def _read(path: Path) -> Document:
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise Refused(f"it cannot be read: {problem.strerror}", str(path), "name a file of settings") from problem
    document = read_document(content, str(path))
    refuse_all(document.refusals(document.problems))
    return document


def _from(environment: Mapping[str, str]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key in FROM_ENVIRONMENT:
        value = environment.get(f"{PREFIX}{key.upper()}")
        if value:
            found[key] = [one.strip() for one in value.split(",")] if key == "hosts" else value
    return found


def _refusals(
    invalid: ValidationError, document: Document | None, path: Path, variables: Mapping[str, object]
) -> list[Refused]:
    refusals = []
    for problem in invalid.errors():
        keys = tuple(key for key in problem["loc"] if key != "[key]")
        name = ".".join(map(str, keys)) or "the file"
        told = f"{name}: {problem['msg'].removeprefix('Value error, ')}"
        if keys and keys[0] in variables:
            where = f"{PREFIX}{str(keys[0]).upper()}"
        else:
            where = document.place(keys, at_key="[key]" in problem["loc"]) if document else str(path)
        refusals.append(Refused(told, where, "see docs/server.md"))
    return refusals


def database_of(folder: StateFolder) -> str:
    """The URL of the state folder's database, as its ``server.yaml`` or the environment say."""
    return read_settings(folder.settings, os.environ).database or folder.database

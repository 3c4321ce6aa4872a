"""The server's settings file, ``server.yaml``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from interlock.errors import Refused, SeveralRefused
from interlock.pipeline.document import Document, plain, read_document, refuse_all
from interlock.pipeline.rules.values import ModelName


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RepositorySettings(_Strict):
    """A git repository to watch. ``path`` is its git directory; ``trusted`` the branches that may deliver."""

    path: Path
    trusted: tuple[str, ...] = ("main",)


class EnvironmentSettings(_Strict):
    """Where an environment listens, as ``address:port``, on loopback."""

    listen: str

    @field_validator("listen")
    @classmethod
    def _is_loopback(cls, value: str) -> str:
        address, _, port = value.rpartition(":")
        if address not in ("127.0.0.1", "localhost"):
            raise ValueError("only loopback is supported yet: 127.0.0.1:PORT")
        if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
            raise ValueError("a port between 1 and 65535 is missing: 127.0.0.1:PORT")
        return f"127.0.0.1:{port}"


def _default_environments() -> dict[str, EnvironmentSettings]:
    return {
        "staging": EnvironmentSettings(listen="127.0.0.1:8081"),
        "production": EnvironmentSettings(listen="127.0.0.1:8080"),
    }


class ServerSettings(_Strict):
    """``poll_every`` in seconds: how long a push that no hook told of can go unseen."""

    repositories: dict[str, RepositorySettings] = {}
    environments: dict[ModelName, EnvironmentSettings] = Field(default_factory=_default_environments)
    poll_every: float = Field(default=30.0, gt=0, le=86400, allow_inf_nan=False)

    @field_validator("repositories")
    @classmethod
    def _are_different(cls, value: dict[str, RepositorySettings]) -> dict[str, RepositorySettings]:
        _refuse_shared("the repository", ((name, str(one.path.resolve())) for name, one in value.items()))
        return value

    @field_validator("environments")
    @classmethod
    def _listen_apart(cls, value: dict[str, EnvironmentSettings]) -> dict[str, EnvironmentSettings]:
        _refuse_shared("the address", ((name, one.listen) for name, one in value.items()))
        return value


def _refuse_shared(what: str, named: Iterable[tuple[str, str]]) -> None:
    holders = defaultdict(list)
    for name, thing in named:
        holders[thing].append(name)
    for thing, names in holders.items():
        if len(names) > 1:
            raise ValueError(f"{' and '.join(names)} share {what} {thing}")


def read_settings(path: Path) -> ServerSettings:
    """The settings; defaults where the file is not there. Refused with all its problems."""
    if not path.exists():
        return ServerSettings()
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise Refused(f"it cannot be read: {problem.strerror}", str(path), "name a file of settings") from problem
    document = read_document(content, str(path))
    refuse_all(document.refusals(document.problems))
    try:
        return ServerSettings.model_validate({} if document.value is None else plain(document.value))
    except ValidationError as invalid:
        raise SeveralRefused(_refusals(invalid, document)) from invalid


def _refusals(invalid: ValidationError, document: Document) -> list[Refused]:
    refusals = []
    for problem in invalid.errors():
        keys = tuple(key for key in problem["loc"] if key != "[key]")
        name = ".".join(map(str, keys)) or "the file"
        told = f"{name}: {problem['msg'].removeprefix('Value error, ')}"
        refusals.append(Refused(told, document.place(keys, at_key="[key]" in problem["loc"]), "see docs/server.md"))
    return refusals

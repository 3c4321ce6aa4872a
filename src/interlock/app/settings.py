"""The server's settings file, ``server.yaml``."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from interlock.errors import Refused, SeveralRefused


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
        if not port.isdigit() or not 0 < int(port) < 65536:
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
    environments: dict[str, EnvironmentSettings] = Field(default_factory=_default_environments)
    poll_every: float = Field(default=30.0, gt=0)


def read_settings(path: Path) -> ServerSettings:
    """The settings; defaults where the file is not there. Refused with all its problems."""
    if not path.exists():
        return ServerSettings()
    try:
        content = yaml.safe_load(path.read_bytes()) or {}
        return ServerSettings.model_validate(content)
    except yaml.YAMLError as broken:
        raise Refused(f"it is no YAML: {broken}", str(path), "mend the file") from broken
    except ValidationError as invalid:
        raise SeveralRefused(
            [
                Refused(
                    problem["msg"], f"{path}: {'.'.join(map(str, problem['loc']))}", "see docs/server.md for the keys"
                )
                for problem in invalid.errors()
            ]
        ) from invalid

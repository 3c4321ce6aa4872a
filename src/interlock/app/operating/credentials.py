"""Credentials that the settings point at, read once when the server starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from interlock.app.settings import AlertSettings, ForgeSettings, PrometheusSettings, RepositorySettings, SecretSource
from interlock.errors import Refused, SeveralRefused

LONGEST = 64 * 1024
NO_SERVERS: Mapping[str, PrometheusSettings] = MappingProxyType({})
NO_ALERTS = AlertSettings()


class Credentials:
    """What was read, by repository, and by Prometheus server; ``alert_secrets`` by the name of the webhook. Refused at
    construction with every source that cannot be read.
    """

    def __init__(
        self,
        repositories: Mapping[str, RepositorySettings],
        environment: Mapping[str, str],
        prometheus: Mapping[str, PrometheusSettings] = NO_SERVERS,
        alerts: AlertSettings = NO_ALERTS,
    ) -> None:
        self._environment = environment
        self._refusals: list[Refused] = []
        self.webhook_secrets: dict[str, tuple[bytes, ...]] = {}
        self.tokens: dict[str, str] = {}
        self.app_keys: dict[str, str] = {}
        self.alert_secrets = {
            name: self._read(webhook.secret, f"alerts.webhooks.{name}.secret").encode()
            for name, webhook in alerts.webhooks.items()
        }
        for name, repository in repositories.items():
            if repository.forge is not None:
                self._read_forge(name, repository.forge)
        self.prometheus_tokens = {
            name: self._read(server.token, f"prometheus.{name}.token")
            for name, server in prometheus.items()
            if server.token is not None
        }
        if self._refusals:
            raise SeveralRefused(self._refusals)

    def _read_forge(self, name: str, forge: ForgeSettings) -> None:
        where = f"repositories.{name}.forge"
        secrets = [
            self._read(source, f"{where}.webhook_secrets.{place}") for place, source in enumerate(forge.webhook_secrets)
        ]
        self.webhook_secrets[name] = tuple(secret.encode() for secret in secrets)
        if forge.token is not None:
            self.tokens[name] = self._read(forge.token, f"{where}.token")
        if forge.app is not None:
            self.app_keys[name] = self._read(forge.app.key, f"{where}.app.key")

    def _read(self, source: SecretSource, where: str) -> str:
        value = ""
        problem = "it is empty"
        if source.env is not None:
            value = self._environment.get(source.env, "")
            problem = f"the environment variable {source.env} is not set"
        elif source.file is not None:
            try:
                value = _read_file(source.file)
            except (OSError, UnicodeDecodeError) as error:
                problem = f"{source.file} cannot be read: {error}"
        if not value.strip():
            self._refusals.append(Refused(problem, where, "put the credential there, readable by the server alone"))
        return value.strip()


def _read_file(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(LONGEST).decode()

"""What is outside of the server: who is asked for numbers, told of alerts, may ask models, and was refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from interlock.app.operating.credentials import Credentials
from interlock.app.settings import EnvironmentSettings, QuotaSettings, ServerSettings
from interlock.edges.front import REFUSED, Certificate, Front, Quota
from interlock.edges.notify import Webhook, Webhooks
from interlock.edges.proxy.admin import Admin
from interlock.edges.proxy.configuration import ADMIN, FOLDER
from interlock.edges.proxy.envoy import EnvoyProxy
from interlock.edges.telemetry import PrometheusServer, PrometheusServers
from interlock.errors import ProxyFault, Refused, SeveralRefused

LABELS = r"environment\.(?P<environment>[^.]*)\.model\.(?P<model>[^.]*)\.status\.(?P<status>\d+)"
DAY = 86_400.0
TOLD_AT = (3, 14)
"""Days that a certificate of a front has left when the server tells so."""
COUNTED = re.compile(rf"{re.escape(REFUSED)}\.requests\.{LABELS}")


def telemetry_of(settings: ServerSettings, credentials: Credentials) -> PrometheusServers:
    """The Prometheus servers that live metrics are asked of."""
    tokens = credentials.prometheus_tokens
    return PrometheusServers(
        {name: PrometheusServer(one.url, tokens.get(name, "")) for name, one in settings.prometheus.items()}
    )


def receivers_of(settings: ServerSettings, credentials: Credentials) -> Webhooks:
    """The webhooks that alerts are sent to."""
    secrets = credentials.alert_secrets
    return Webhooks({name: Webhook(one.url, secrets[name]) for name, one in settings.alerts.webhooks.items()})


def fronts_of(settings: ServerSettings) -> dict[str, Front]:
    """What an environment asks of those who ask it, by its name; none of one that asks for nothing."""
    environments = settings.environments.items()
    return {name: _front(one) for name, one in environments if one.api_keys or one.tls or one.quotas}


def _front(settings: EnvironmentSettings) -> Front:
    tls = settings.tls
    certificate = None if tls is None else Certificate(tls.certificate.absolute(), tls.key.absolute())
    quotas = {model: _quota(one) for model, one in settings.quotas.items()}
    of_key = None if settings.key_quota is None else _quota(settings.key_quota)
    return Front(settings.api_keys == "required", certificate, quotas, of_key)


def _quota(settings: QuotaSettings) -> Quota:
    return Quota(settings.requests_per_second, settings.burst or settings.requests_per_second)


def refused(data: Path) -> dict[tuple[str, str, str], int]:
    """Requests by environment name, model (empty where no model's own path was asked for) and status, since the proxy
    began; none while it cannot be read.
    """
    try:
        stats = Admin(data / FOLDER, ADMIN).stats(f"{REFUSED}.")
    except ProxyFault:
        return {}
    found = [(named, int(count)) for name, count in stats.items() if (named := COUNTED.fullmatch(name))]
    return {(named["environment"], named["model"], named["status"]): count for named, count in found}


def certificates(data: Path) -> dict[str, float]:
    """By environment name when the certificate that the proxy shows there ends; none while it cannot be read."""
    try:
        return Admin(data / FOLDER, ADMIN).certificates()
    except ProxyFault:
        return {}


def renew_certificates(proxy: EnvoyProxy, data: Path, now: Callable[[], float]) -> None:
    """The proxy shows the certificates that the settings name. SeveralRefused while some have few days left, too."""
    proxy.renew_certificates()
    ending = []
    for name, until in sorted(certificates(data).items()):
        within = next((days for days in TOLD_AT if until - now() < days * DAY), None)
        if within is not None:
            told = f"the certificate ends {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC, within {within} days"
            ending.append(
                Refused(told, f"environments.{name}.tls", "renew its files: the server takes them as they come")
            )
    if ending:
        raise SeveralRefused(ending)

"""What the settings name outside of the server: who is asked for numbers, who is told of alerts, who may ask models."""

from __future__ import annotations

from interlock.app.operating.credentials import Credentials
from interlock.app.settings import EnvironmentSettings, ServerSettings
from interlock.edges.front import Certificate, Front
from interlock.edges.notify import Webhook, Webhooks
from interlock.edges.telemetry import PrometheusServer, PrometheusServers


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
    return {name: _front(one) for name, one in settings.environments.items() if one.api_keys or one.tls}


def _front(settings: EnvironmentSettings) -> Front:
    tls = settings.tls
    certificate = None if tls is None else Certificate(tls.certificate.absolute(), tls.key.absolute())
    return Front(settings.api_keys == "required", certificate)

"""What one listener adds to its configuration: its filters, its certificate, and what its routes know of keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from interlock.access.keys import Grant

from .keys import NAMED, Document, filter_of_keys, guarded
from .quotas import TEXT, Quota, counted, filter_of_quotas
from .tls import Certificate, transport_socket

TOO_MANY = 429
REFUSALS = (401, 403, 410, TOO_MANY)
"""What the front itself answers: no API key, no right of a tester, a model that was retired, a quota that is used."""
REFUSED = "interlock.refused"
"""The name of their counters, each with the model and the status."""


class Front(NamedTuple):
    """Of one environment name: whether a request needs an API key, and the certificate, without which it is no TLS.

    ``quotas`` are of models, ``key_quota`` is of each API key for each model.
    """

    needs_key: bool = False
    certificate: Certificate | None = None
    quotas: Mapping[str, Quota] = MappingProxyType({})
    key_quota: Quota | None = None

    @property
    def scheme(self) -> str:
        """By which it is spoken to."""
        return "http" if self.certificate is None else "https"

    def secret(self, name: str, now: float) -> Document | None:
        """The certificate and its key as they are now, under this name; None without TLS. Refused as they say."""
        return None if self.certificate is None else self.certificate.secret(name, now)

    def listener(self, document: Document, secrets: Document) -> Document:
        """The listener with what this front asks of who comes; ``secrets`` is where its certificate comes from."""
        (chain,) = document["filter_chains"]
        (network,) = chain["filters"]
        manager = dict(network["typed_config"])
        if self._has_quota:
            counting = filter_of_quotas(document["name"], self.quotas, self.key_quota)
            manager["http_filters"] = [counting, *manager["http_filters"]]
            manager["local_reply_config"] = _with_why(manager["local_reply_config"])
        manager["access_log"] = [*manager["access_log"], _counting_refusals(document["name"])]
        if self.needs_key:
            manager["http_filters"] = [filter_of_keys(), *manager["http_filters"]]
            manager["access_log"] = [_with_caller(manager["access_log"][0]), *manager["access_log"][1:]]
        chain = {**chain, "filters": [{**network, "typed_config": manager}]}
        if self.certificate is not None:
            chain["transport_socket"] = transport_socket(document["name"], secrets)
        return {**document, "filter_chains": [chain]}

    @property
    def _has_quota(self) -> bool:
        return bool(self.quotas) or self.key_quota is not None

    def routes(self, configuration: Document, grants: Sequence[Grant]) -> Document:
        """The routes of the listener, each with the keys that open it and what its requests count as."""
        (host,) = configuration["virtual_hosts"]
        routes = host["routes"]
        if self.needs_key:
            routes = guarded(routes, configuration["name"], grants)
        if self._has_quota:
            routes = counted(routes, list(self.quotas), NAMED if self.key_quota else None)
        return {**configuration, "virtual_hosts": [{**host, "routes": routes}]}


def _counting_refusals(environment_name: str) -> Document:
    """Counts what was refused, and costs those that were answered a look at their status."""
    kinds = "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config"
    are_refusals = [
        {"status_code_filter": {"comparison": {"op": "EQ", "value": _number(status)}}} for status in REFUSALS
    ]
    tags = [
        {"name": "environment", "value_format": environment_name},
        {"name": "model", "value_format": "%ROUTE_NAME%"},
        {"name": "status", "value_format": "%RESPONSE_CODE%"},
    ]
    counter = {"stat": {"name": "requests", "tags": tags}, "value_fixed": 1}
    return {
        "name": "envoy.access_loggers.stats",
        "filter": {"or_filter": {"filters": are_refusals}},
        "typed_config": {"@type": kinds, "stat_prefix": REFUSED, "counters": [counter]},
    }


def _number(value: int) -> Document:
    return {"default_value": value, "runtime_key": f"interlock.refusal.{value}"}


def _with_why(replies: Document) -> Document:
    """Answers that say what was too much, in the protocol's form."""
    is_too_many = {"op": "EQ", "value": _number(TOO_MANY)}
    why = {
        "filter": {"status_code_filter": {"comparison": is_too_many}},
        "body_format_override": {"json_format": {"error": TEXT}},
    }
    return {**replies, "mappers": [why, *replies["mappers"]]}


def _with_caller(log: Document) -> Document:
    """A log that says whose key it was; one that a caller made up is gone by then."""
    typed = log["typed_config"]
    fields = {**typed["log_format"]["json_format"], "key": f"%REQ({NAMED})%"}
    return {**log, "typed_config": {**typed, "log_format": {"json_format": fields}}}

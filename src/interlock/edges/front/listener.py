"""What one listener adds to its configuration: its filters, its certificate, and what its routes know of keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from interlock.access.keys import Grant

from .keys import NAMED, Document, filter_of_keys, guarded
from .tls import Certificate, transport_socket

REFUSALS = "interlock.refused"
"""The counter of requests that the front itself refused: of keys, quotas, and models that were retired."""
REFUSED_FROM, REFUSED_BELOW = 401, 500


class Front(NamedTuple):
    """Of one environment name: whether a request needs an API key, and the certificate, without which it is no TLS."""

    needs_key: bool = False
    certificate: Certificate | None = None

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
        if self.needs_key:
            manager["http_filters"] = [filter_of_keys(), *manager["http_filters"]]
            manager["access_log"] = [_with_caller(one) for one in manager["access_log"]]
        chain = {**chain, "filters": [{**network, "typed_config": manager}]}
        if self.certificate is not None:
            chain["transport_socket"] = transport_socket(document["name"], secrets)
        return {**document, "filter_chains": [chain]}

    def routes(self, configuration: Document, grants: Sequence[Grant]) -> Document:
        """The routes of the listener, each with the keys that open it."""
        if not self.needs_key:
            return configuration
        (host,) = configuration["virtual_hosts"]
        routes = guarded(host["routes"], configuration["name"], grants)
        return {**configuration, "virtual_hosts": [{**host, "routes": routes}]}


def _with_caller(log: Document) -> Document:
    """A log that says whose key it was; one that a caller made up is gone by then."""
    typed = log["typed_config"]
    fields = {**typed["log_format"]["json_format"], "key": f"%REQ({NAMED})%"}
    return {**log, "typed_config": {**typed, "log_format": {"json_format": fields}}}

"""What the proxy was told beside shares of traffic: API keys that hold, models that were retired, and certificates.

It is kept in files of its own; routes are written from it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from interlock.access.keys import Grant

from . import configuration as config
from .configuration import Document
from .files import ConfigurationFiles
from .seen import split_environment

KEYS = "keys.json"
"""The file with the API keys that hold, as their digests."""
RETIRED = "retired.json"
"""The file with the environments that were retired."""
GONE = 410
"""What is answered for a model that was retired."""


class Front(Protocol):
    """What one listener asks of those who come: it adds that to the documents of the configuration."""

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""

    def secret(self, name: str, now: float) -> Document | None:
        """Its certificate and key under this name, as they are at wall time ``now``; None without TLS. Refused."""

    def listener(self, document: Document, secrets: Document) -> Document:
        """The listener with what it asks, its certificate from ``secrets``."""

    def routes(self, configuration: Document, grants: Sequence[Grant]) -> Document:
        """The routes with who may use them."""


class Notes:
    """Notes beside Envoy's files; they are changed under the lock of those, by who then writes routes.

    ``fronts`` say what listeners ask of who comes, by environment name; others ask nothing.
    """

    def __init__(self, files: ConfigurationFiles, fronts: Mapping[str, Front]) -> None:
        self.fronts = dict(fronts)
        self._files = files

    def set_keys(self, grants: Sequence[Grant], version: int) -> None:
        """These API keys hold. StaleWrite where a newer version is in force."""
        wanted = [one.model_dump(mode="json", exclude_defaults=True) for one in grants]
        if self._files.read(KEYS) != wanted:
            self._files.advance(KEYS, version)
            self._files.write(KEYS, wanted)

    def set_retired(self, environment: str, *, is_retired: bool) -> None:
        """Whether ``model/environment`` is to be answered 410."""
        others = [one for one in self._files.read(RETIRED) if one["environment"] != environment]
        self._files.write(RETIRED, [*others, *([{"environment": environment}] if is_retired else [])])

    def is_retired(self, environment: str) -> bool:
        """Whether its routes say so: whoever noted it may have ended before they were written."""
        model, name = split_environment(environment)
        resources = self._files.read(config.routes_file(name))
        return bool(resources) and model in _gone(resources[0])

    def applied(self, configuration: Document) -> Document:
        """A route configuration with all that is noted."""
        name = configuration["name"]
        retired = [split_environment(one["environment"]) for one in self._files.read(RETIRED)]
        configuration = _without(configuration, [model for model, there in retired if there == name])
        front = self.fronts.get(name)
        if front is None:
            return configuration
        return front.routes(configuration, [Grant.model_validate(one) for one in self._files.read(KEYS)])

    def listener(self, document: Document) -> Document:
        """A listener with what it asks of who comes."""
        name = document["name"]
        front = self.fronts.get(name)
        return document if front is None else front.listener(document, config.secrets_source(name))

    def secrets(self, now: float) -> dict[str, Document]:
        """The certificates of all listeners that have one, as they are now. Refused where one is no good."""
        found = {name: front.secret(name, now) for name, front in self.fronts.items()}
        return {name: secret for name, secret in found.items() if secret is not None}

    def scheme(self, name: str) -> str:
        """By which a listener is spoken to."""
        return self.fronts[name].scheme if name in self.fronts else "http"


def _without(configuration: Document, models: Collection[str]) -> Document:
    """410 for everything of these models, whatever was to answer it."""
    paths = {f"/v2/models/{model}": model for model in models}
    (host,) = configuration["virtual_hosts"]
    routes = [
        _answer_gone(route, paths[path]) if (path := route["match"].get("path_separated_prefix")) in paths else route
        for route in host["routes"]
    ]
    return {**configuration, "virtual_hosts": [{**host, "routes": routes}]}


def _answer_gone(route: Document, model: str) -> Document:
    kept = {name: part for name, part in route.items() if name in ("name", "match")}
    return {**kept, "direct_response": {"status": GONE, "body": {"inline_string": f"{model} was retired"}}}


def _gone(configuration: Document) -> set[str]:
    """The models that a route configuration answers so."""
    routes = configuration["virtual_hosts"][0]["routes"]
    gone = [route for route in routes if route.get("direct_response", {}).get("status") == GONE]
    return {str(route["match"]["path_separated_prefix"]).rpartition("/")[2] for route in gone}

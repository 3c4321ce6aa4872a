"""API keys at the front: each route knows the digests of those that open it, and a filter looks before all else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from interlock.access.keys import Grant

Document: TypeAlias = dict[str, Any]

LUA = "envoy.filters.http.lua"
NAMED = "x-interlock-key"
"""The header by which what is behind the front hears who asks. A caller's own one is dropped."""
MODEL = re.compile(r"/v2/models/([^/]+)")
LABELS = "/labels/"
OPEN = "/v2/health/live"
"""Whoever asks whether anybody is there shows no key."""


def filter_of_keys() -> Document:
    """Refuses what shows no key that its route knows; it stands before all others, so nothing of that is held."""
    source = Path(__file__).with_name("keys.lua").read_text(encoding="utf-8")
    kind = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
    return {"name": LUA, "typed_config": {"@type": kind, "default_source_code": {"inline_string": source}}}


def guarded(routes: Sequence[Document], environment_name: str, grants: Sequence[Grant]) -> list[Document]:
    """The routes of a listener, each with the keys that open it; those of labels are opened model by model."""
    models = sorted({found[1] for route in routes if (found := _model(route))})
    parted = [part for route in routes for part in _parted(route, environment_name, models)]
    return [_with_keys(route, environment_name, grants) for route in parted]


def _parted(route: Document, environment_name: str, models: Sequence[str]) -> list[Document]:
    """A key of one model must not label another's answers, nor those of another environment."""
    if route["match"].get("prefix") != LABELS:
        return [route]
    places = [f"{LABELS}{model}/{environment_name}" for model in models]
    return [{**route, "match": {"path_separated_prefix": place}} for place in places]


def _with_keys(route: Document, environment_name: str, grants: Sequence[Grant]) -> Document:
    if route["match"].get("path") == OPEN:
        return {**route, "metadata": _metadata({"is_open": True})}
    path = str(route["match"].get("path_separated_prefix", ""))
    found = re.fullmatch(rf"{MODEL.pattern}|{LABELS}([^/]+)/{re.escape(environment_name)}", path)
    model = found[1] or found[2] if found else ""
    is_named = "cluster_header" in route.get("route", {})
    known = {
        one.digest: _known(one, is_refused=is_named and not one.is_tester)
        for one in grants
        if found and one.is_for(model, environment_name)
    }
    return {**route, "metadata": _metadata(known)}


def _known(grant: Grant, *, is_refused: bool) -> Document:
    until = {} if grant.until is None else {"until": grant.until}
    return {"name": grant.name, **until, **({"is_refused": True} if is_refused else {})}


def _model(route: Document) -> re.Match[str] | None:
    return MODEL.fullmatch(str(route["match"].get("path_separated_prefix", "")))


def _metadata(known: Mapping[str, Any]) -> Document:
    return {"filter_metadata": {LUA: dict(known)}}

"""Quotas at the front: so many requests a second for a model, or of one API key for a model, and not more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

Document: TypeAlias = dict[str, Any]

RETRY_AFTER_SECONDS = 1
"""Within it a bucket has tokens again."""
MOST_CALLERS = 1000
"""As many API keys are told apart; of more the one that asked last longest ago begins anew with a full bucket."""
TEXT = "more requests than the quota allows: ask again after the seconds of retry-after"
_TYPE = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"


class Quota(NamedTuple):
    """``requests_per_second`` for ever, ``burst`` at once after a rest."""

    requests_per_second: int
    burst: int


def filter_of_quotas(name: str, models: Mapping[str, Quota], of_key: Quota | None) -> Document:
    """Counts requests of each model, and of each API key for each model; it stands behind the filter of keys."""
    descriptors = [_descriptor([{"key": "model", "value": model}], quota) for model, quota in models.items()]
    if of_key is not None:
        descriptors.append(_descriptor([{"key": "asked"}, {"key": "caller"}], of_key))
    always = {"default_value": {"numerator": 100}, "runtime_key": "interlock.quota"}
    header = {"key": "retry-after", "value": str(RETRY_AFTER_SECONDS)}
    typed = {
        "@type": _TYPE,
        "stat_prefix": f"quota_{name}",
        "filter_enabled": always,
        "filter_enforced": always,
        "descriptors": descriptors,
        "max_dynamic_descriptors": MOST_CALLERS,
        "response_headers_to_add": [{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
    }
    return {"name": "envoy.filters.http.local_ratelimit", "typed_config": typed}


def counted(routes: Sequence[Document], models: Sequence[str], caller_header: str | None) -> list[Document]:
    """The routes with what their requests count as; ``caller_header`` names who asks, where that has a quota too."""
    return [_counted(route, models, caller_header) for route in routes]


def _counted(route: Document, models: Sequence[str], caller_header: str | None) -> Document:
    _, _, model = str(route["match"].get("path_separated_prefix", "")).partition("/v2/models/")
    if not model or "route" not in route:
        return route
    counts = [[_generic("model", model)]] if model in models else []
    if caller_header is not None:
        asking = {"request_headers": {"header_name": caller_header, "descriptor_key": "caller"}}
        counts.append([_generic("asked", model), asking])
    if not counts:
        return route
    return {**route, "route": {**route["route"], "rate_limits": [{"actions": actions} for actions in counts]}}


def _generic(key: str, value: str) -> Document:
    return {"generic_key": {"descriptor_key": key, "descriptor_value": value}}


def _descriptor(entries: Sequence[Document], quota: Quota) -> Document:
    bucket = {"max_tokens": quota.burst, "tokens_per_fill": quota.requests_per_second, "fill_interval": "1s"}
    return {"entries": list(entries), "token_bucket": bucket}

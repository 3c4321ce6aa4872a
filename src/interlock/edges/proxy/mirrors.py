"""Mirrors: requests whose copies go to another revision too. Nobody waits for the copies, their answers are dropped.

A copy goes by a route of its own, which marks both the request and the copy with the revision that is given it: each
model server logs the mark, so that both answers are found again. Copies have a cluster of their own over the same
replicas: they are not counted among what the revision serves, they are not tried again, and how many wait at once is
bounded apart from callers. Long requests are not copied: those that wait for a revision that hangs fit into memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from . import configuration as config
from .configuration import Document

LONGEST_BYTES = 256 * 1024
"""The longest request that is copied."""
MOST_WAITING = 1024
"""Copies in flight, beyond which they are dropped; as many as a revision may have of its own requests."""
_PREFIX = "mirror."
_APART = " mirrored"


class Shares(NamedTuple):
    """Of one model's requests: percent by revision that it answers, and percent by revision that are copied to it."""

    weights: dict[str, int]
    mirrors: dict[str, int]


NOTHING = Shares({}, {})


def cluster_of(revision_key: str) -> str:
    """The cluster that copies for a revision go to."""
    return _PREFIX + revision_key


def is_of_copies(cluster: str) -> bool:
    """Whether only copies go there."""
    return cluster.startswith(_PREFIX)


def cluster(revision_key: str) -> Document:
    """The replicas of a revision once more, for copies alone. A copy that finds them ill is no answer: it shall be."""
    twin = config.cluster(revision_key)
    kept = {name: part for name, part in twin.items() if name not in ("health_checks", "outlier_detection")}
    waiting = {"max_connections": MOST_WAITING, "max_pending_requests": MOST_WAITING, "max_requests": MOST_WAITING}
    return {**kept, "name": cluster_of(revision_key), "circuit_breakers": {"thresholds": [waiting]}}


def routes(model: str, shares: Shares) -> list[Document]:
    """One model's routes: that of requests which are copied, where there are any, and that of all others."""
    plain = config.model_route(model, shares.weights)
    if "route" not in plain:
        return [plain]
    copied = [_copied(plain, key, percent) for key, percent in shares.mirrors.items()]
    return [*copied, plain]


def _copied(plain: Document, revision_key: str, percent: int) -> Document:
    share = {"default_value": {"numerator": percent, "denominator": "HUNDRED"}}
    asked = [
        {"name": ":method", "string_match": {"exact": "POST"}},
        {"name": "content-length", "range_match": {"start": 0, "end": LONGEST_BYTES + 1}},
    ]
    mark = {"header": {"key": config.MIRRORED, "value": revision_key}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {
        "name": plain["name"] + _APART,
        "match": {**plain["match"], "headers": asked, "runtime_fraction": share},
        "request_headers_to_add": [mark],
        "route": {**plain["route"], "request_mirror_policies": [{"cluster": cluster_of(revision_key)}]},
    }


def shares_of(configuration: Document) -> dict[str, Shares]:
    """By model what a route configuration says."""
    named: Sequence[Mapping[str, Any]] = config.model_routes(configuration)
    found: dict[str, Shares] = {}
    for route in named:
        if not route["name"].endswith(_APART):
            found[route["name"]] = Shares(config.weights_of(dict(route)), {})
    for route in named:
        for policy in route.get("route", {}).get("request_mirror_policies", []):
            percent = int(route["match"]["runtime_fraction"]["default_value"]["numerator"])
            found[route["name"].removesuffix(_APART)].mirrors[policy["cluster"].removeprefix(_PREFIX)] = percent
    return found

"""From Envoy's words to those of the house."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from interlock.delivery.revision import CounterSeen, EndpointSeen, LatencySeen, LoadSeen

from .admin import Bucket
from .configuration import TESTER, TIMEOUT_SECONDS


def split_environment(environment: str) -> tuple[str, str]:
    """Model and environment name of ``model/environment``."""
    model, _, name = environment.partition("/")
    return model, name


def environment_of(revision_key: str) -> str:
    """``model/environment`` of ``model.environment.rN``."""
    model, _, name = revision_key.rpartition(".r")[0].rpartition(".")
    return f"{model}/{name}"


def counter(cluster: str, stats: Mapping[str, int | str], epoch: str) -> CounterSeen:
    """Attempts that a cluster answered or failed to.

    Envoy counts in ``upstream_rq_completed`` and ``upstream_rq_5xx`` how a request ended, its own 503 and 504
    included. An attempt before a retry is in neither; each retry stands for one that failed. What testers asked, who
    name the revision, is no evidence of what callers get.
    """
    ended, failed = (_of_callers(cluster, name, stats) for name in ("completed", "5xx"))
    retried = int(stats.get(f"cluster.{cluster}.upstream_rq_retry", 0))
    return CounterSeen(epoch=epoch, requests=ended + retried, errors=failed + retried)


def _of_callers(cluster: str, name: str, stats: Mapping[str, int | str]) -> int:
    all_of_them, of_testers = (
        int(stats.get(f"cluster.{who}.upstream_rq_{name}", 0)) for who in (cluster, testers_of(cluster))
    )
    return max(0, all_of_them - of_testers)


def testers_of(cluster: str) -> str:
    """Under which name a cluster counts once more what testers asked."""
    return f"{cluster}.{TESTER}"


def times_of(cluster: str) -> str:
    """The histogram of how long a cluster's answers took."""
    return f"cluster.{cluster}.upstream_rq_time"


def times_of_callers(cluster: str, times: Mapping[str, Sequence[Bucket]]) -> list[Bucket]:
    """How long a cluster's answers took to those who do not name the revision."""
    of_testers = {one.lower: one.answers for one in times.get(times_of(testers_of(cluster)), [])}
    return [
        one._replace(answers=max(0, one.answers - of_testers.get(one.lower, 0)))
        for one in times.get(times_of(cluster), [])
    ]


def load(buckets: Sequence[Bucket], hosts: Mapping[str, EndpointSeen], epoch: str) -> LoadSeen:
    """What a cluster has answered, how long that took, and what its replicas have in flight."""
    counted = [(bucket.lower + max(bucket.width, 1.0), bucket) for bucket in buckets]  # whole milliseconds: N to N + 1
    return LoadSeen(
        epoch=epoch,
        answered=sum(bucket.answers for bucket in buckets),
        active=sum(host.active for host in hosts.values()),
        seconds=sum((bucket.lower + bound) / 2000.0 * bucket.answers for bound, bucket in counted),
        within=tuple(zip((bound for bound, _ in counted), accumulate(one.answers for one in buckets), strict=True)),
    )


def latency(cluster: str, buckets: Sequence[Bucket], stats: Mapping[str, int | str], epoch: str) -> LatencySeen:
    """How long a cluster's answers took. Envoy times no request that it gave up: those took its whole time limit."""
    of_testers = int(stats.get(f"cluster.{testers_of(cluster)}.upstream_rq_504", 0))
    given_up = max(0, int(stats.get(f"cluster.{cluster}.upstream_rq_timeout", 0)) - of_testers)
    most = 1000.0 * TIMEOUT_SECONDS
    answers = [(one.lower, one.lower + max(one.width, 1.0), one.answers) for one in buckets if one.answers]
    return LatencySeen(epoch=epoch, answers=(*answers, *([(most, most, given_up)] if given_up else [])))


def endpoints(hosts: Sequence[Mapping[str, Any]]) -> dict[str, EndpointSeen]:
    """The replicas of a cluster by name."""
    return {host["address"]["pipe"]["path"].split("/")[-2]: _endpoint(host) for host in hosts}


def _endpoint(host: Mapping[str, Any]) -> EndpointSeen:
    health = dict(host.get("health_status", {}))
    configured = health.pop("eds_health_status", "UNKNOWN")
    stats = {one["name"]: int(one.get("value", 0)) for one in host.get("stats", [])}
    is_failing = any(flag is True for flag in health.values())  # the rest are flags, each for something wrong
    return EndpointSeen(
        is_healthy=not is_failing,
        is_draining=configured == "DRAINING",
        active=stats.get("rq_active", 0),
        requests=stats.get("rq_total", 0),
        errors=stats.get("rq_error", 0),
    )

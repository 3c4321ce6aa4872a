"""Revisions of one environment, that differ in what a test wants to differ."""

from __future__ import annotations

from interlock.delivery.revision import Revision
from interlock.pipeline.plan import ScalingPlan
from interlock.vocabulary import Digest


def revision(number: int, replicas: int = 2) -> Revision:
    """One of the environment ``flights/production``, of the version of the same number."""
    return Revision(
        environment="flights/production",
        number=number,
        version=number,
        model="flights",
        model_digest=Digest(f"blake3:{number}"),
        lock=Digest("blake3:l"),
        format="skops",
        replicas=replicas,
    )


def scaled_revision(scaling: ScalingPlan, service_ms: float | None = None) -> Revision:
    """The first, that may become more."""
    more = {"provenance": Digest("blake3:p"), "scaling": scaling, "service_ms": service_ms}
    return revision(1).model_copy(update=more)

"""A revision of two replicas that may become more."""

from __future__ import annotations

from interlock.delivery.revision import Revision
from interlock.pipeline.plan import ScalingPlan
from interlock.vocabulary import Digest


def scaled_revision(scaling: ScalingPlan, service_ms: float | None = None) -> Revision:
    """The first of the environment ``flights/production``."""
    return Revision(
        environment="flights/production",
        number=1,
        version=1,
        model="flights",
        model_digest=Digest("blake3:1"),
        lock=Digest("blake3:l"),
        provenance=Digest("blake3:p"),
        format="skops",
        replicas=2,
        scaling=scaling,
        service_ms=service_ms,
    )

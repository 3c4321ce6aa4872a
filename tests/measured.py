"""The report of a run's measurements, as gates read it: rows of a holdout of which each has its prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def report_of(
    labels: list[float],
    candidate: Mapping[str, Any],
    columns: Mapping[str, Any],
    baseline: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """``candidate`` and ``baseline`` have ``prediction`` and ``probability``."""
    rows = {
        "holdout": len(labels),
        "candidate_missing": 0,
        "unknown_ids": 0,
        "duplicate_ids": 0,
        "labels": labels,
        "candidate": candidate,
        "columns": columns,
        "baseline": baseline,
    }
    return {"metrics": {}, "invalid": {}, "rows": rows}

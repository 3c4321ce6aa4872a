"""The reference of a model: how its inputs and outputs lie on rows of the holdout, as it is asked for them.

What is asked in production is counted in the same bins (``inference.observing``) and compared with this.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rows import Ask, Holdout, request_of

MOST_ROWS = 5000
"""Rows that are asked, spread over the holdout."""
FEWEST_ROWS = 50
"""Fewer than so many say too little of a distribution."""
AT_ONCE = 100
"""Rows in one request."""
BINS = 10
"""Of a number: each has the same share of the reference."""
DISTINCT = 20
"""Up to so many different numbers each have a bin of their own."""
NAMED = 30
"""The most frequent values of a category, which have bins of their own."""
MOST_VALUES = 1000
"""Values of a category that are known; all others count as unseen."""
FLAWED = 2
"""Places in the counts before the first bin: missing, strange."""


def make_reference(holdout: Holdout | str, ask: Ask) -> dict[str, Any]:
    """How many ``rows`` were asked, and the ``columns`` with their ``counts``; or ``because``: why there is none.

    ``counts`` are of missing values, of strange ones, and of each bin; ``strange`` is the share of strange values that
    is expected of further rows of the same kind: of a number 2 / (n + 1), which is what falls outside of n values on
    average; of a category the share of values that were seen once (Good, Biometrika 40, 1953).
    """
    if isinstance(holdout, str):
        return {"because": holdout}
    template = holdout.template
    chosen = holdout.rows.iloc[:: max(1, math.ceil(len(holdout.rows) / MOST_ROWS))]
    inputs: dict[str, list[Any]] = {tensor["name"]: [] for tensor in template}
    outputs: dict[str, list[Any]] = {}
    rows = 0
    for start in range(0, len(chosen), AT_ONCE):
        request = request_of(template, chosen.iloc[start : start + AT_ONCE])
        answers = ask(request)
        if answers is None or (outputs and answers.keys() != outputs.keys()):
            continue
        rows += len(request["inputs"][0]["data"])
        for tensor in request["inputs"]:
            inputs[tensor["name"]] += tensor["data"]
        for name, values in answers.items():
            outputs.setdefault(name, []).extend(values)
    if rows < FEWEST_ROWS:
        return {"because": f"{rows} rows of the holdout were answered, fewer than {FEWEST_ROWS}"}
    halves = {tensor["name"] for tensor in template if tensor["datatype"] == "FP32"}
    texts = {tensor["name"] for tensor in template if tensor["datatype"] == "BYTES"}
    columns = [
        _category(name, "input", values) if name in texts else _number(name, "input", values, name in halves)
        for name, values in inputs.items()
    ]
    columns += [column for name, values in outputs.items() if (column := _output(name, values)) is not None]
    return {"rows": rows, "columns": columns}


def _output(name: str, values: Sequence[Any]) -> dict[str, Any] | None:
    """A list for each row, as of the chances of several classes, is not watched."""
    if any(isinstance(value, list) for value in values):
        return None
    if any(isinstance(value, str) for value in values):
        return _category(name, "output", values)
    return _number(name, "output", values, False)


def _number(name: str, side: str, values: Sequence[Any], is_single: bool) -> dict[str, Any]:
    numbers = np.asarray([np.nan if value is None else value for value in values], float)
    if is_single:
        numbers = numbers.astype(np.float32).astype(float)
    known = np.sort(numbers[np.isfinite(numbers)])
    edges = _edges(known)
    bins = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    missing = int(np.isnan(numbers).sum())
    return {
        "name": name,
        "side": side,
        "kind": "number",
        "edges": edges.tolist(),
        "lowest": float(known[0]) if len(known) else 0.0,
        "highest": float(known[-1]) if len(known) else 0.0,
        "strange": 2.0 / (len(known) + 1),
        "counts": [missing, len(numbers) - missing - len(known), *bins.tolist()],
    }


def _edges(known: NDArray[np.float64]) -> NDArray[np.float64]:
    """What parts the bins: between the values where they are few, else so that each bin holds as much."""
    different = np.unique(known)
    if len(different) <= DISTINCT:
        edges: NDArray[np.float64] = (different[1:] + different[:-1]) / 2.0
    else:
        edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS))
        edges = edges[edges > known[0]]
    return edges


def _category(name: str, side: str, values: Sequence[Any]) -> dict[str, Any]:
    found = Counter(value for value in values if value is not None)
    ordered = sorted(found, key=lambda value: (-found[value], value))[:MOST_VALUES]
    bins = min(len(ordered), NAMED + 1)
    counts = [0] * (FLAWED + max(1, bins))
    for place, value in enumerate(ordered):
        counts[FLAWED + min(place, bins - 1)] += found[value]
    known = sum(found.values())
    counts[:FLAWED] = [len(values) - known, known - sum(counts)]
    once = counts[1] + sum(found[value] == 1 for value in ordered)
    return {
        "name": name,
        "side": side,
        "kind": "category",
        "values": ordered,
        "bins": max(1, bins),
        "strange": once / max(1, known),
        "counts": counts,
    }

"""Whether the served model answers a row alike, whatever stands beside it: the golden rows alone, together, backwards.

A model that fills empty cells with the mean of its batch, carries values on from the row before, or scales by what came
along is measured offline as one thing and serves another, for there a request often has one row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

Ask = Callable[[dict[str, Any]], dict[str, list[Any]] | None]
"""From a request to its outputs by name, a list of one entry a row; None where it was not answered."""

MOST_ROWS = 100
MOST_NULLS = 50
"""Numbers that are emptied in turn, one in each pair of requests."""

_NULLABLE = ("FP32", "FP64")


def measure_consistency(requests: list[dict[str, Any]], ask: Ask) -> dict[str, Any]:
    """By check (``row_by_row``, ``row_order``, ``nulls``): how many rows were ``asked`` twice, the ``worst``
    difference, and which row that was. Differences of what is above 1 are in proportion; another text counts as 1.
    """
    rows = [row for request in requests for row in rows_of(request)][:MOST_ROWS]
    if not rows or any(_shapes(row) != _shapes(rows[0]) for row in rows):
        return {}
    together = ask(join_rows(rows))
    if together is None:
        return {}
    backwards = ask(join_rows(rows[::-1]))
    alone = [ask(row) for row in rows]
    found = {"row_by_row": _compare(together, alone)}
    if backwards is not None and len(rows) > 1:
        turned = {name: values[::-1] for name, values in backwards.items()}
        found["row_order"] = _compare(together, [_row(turned, row) for row in range(len(rows))])
    emptied = list(_emptied(rows))
    pairs = [(ask(join_rows([*rows, row, *rows])), ask(row)) for row in emptied]
    answered = [(among, single) for among, single in pairs if among is not None and single is not None]
    if answered:
        first: dict[str, list[Any]] = {
            name: [among[name][len(rows)] for among, _ in answered] for name in answered[0][0]
        }
        found["nulls"] = _compare(first, [single for _, single in answered])
    return {name: one for name, one in found.items() if one["asked"]}


def read_outputs(content: bytes, rows: int) -> dict[str, list[Any]] | None:
    """The outputs of a response, one entry a row: a number, a text, or a list."""
    found = {}
    for output in json.loads(content).get("outputs", []):
        data = output["data"]
        if not rows or len(data) % rows:
            return None
        width = len(data) // rows
        found[output["name"]] = data if width == 1 else [data[at : at + width] for at in range(0, len(data), width)]
    return found or None


def rows_in(request: dict[str, Any]) -> int:
    """How many rows the request asks for."""
    return int(request["inputs"][0]["shape"][0])


def rows_of(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The request as requests of one row each."""
    for row in range(rows_in(request)):
        inputs = []
        for tensor in request["inputs"]:
            data = list(_flat(tensor["data"]))
            width = len(data) // tensor["shape"][0]
            part = data[row * width : (row + 1) * width]
            inputs.append({**tensor, "shape": [1, *tensor["shape"][1:]], "data": part})
        yield {"inputs": inputs}


def _flat(data: Any) -> Iterator[Any]:
    for value in data:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _shapes(row: dict[str, Any]) -> list[Any]:
    return [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in row["inputs"]]


def join_rows(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Requests of one row each, the same inputs in the same order, as one request."""
    inputs = []
    for place, tensor in enumerate(rows[0]["inputs"]):
        data = [value for row in rows for value in row["inputs"][place]["data"]]
        inputs.append({**tensor, "shape": [len(rows), *tensor["shape"][1:]], "data": data})
    return {"inputs": inputs}


def _emptied(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Golden rows, each with one number that is null: every number of a row in turn, as long as there are turns."""
    places = [
        (place, number)
        for place, tensor in enumerate(rows[0]["inputs"])
        if tensor["datatype"] in _NULLABLE
        for number in range(len(tensor["data"]))
    ]
    for turn, (place, number) in enumerate(places[:MOST_NULLS]):
        inputs = [dict(tensor) for tensor in rows[turn % len(rows)]["inputs"]]
        data = list(inputs[place]["data"])
        data[number] = None
        inputs[place]["data"] = data
        yield {"inputs": inputs}


def _row(outputs: dict[str, list[Any]], row: int) -> dict[str, list[Any]]:
    return {name: [values[row]] for name, values in outputs.items()}


def _compare(together: dict[str, list[Any]], alone: list[dict[str, list[Any]] | None]) -> dict[str, Any]:
    asked, worst, where = 0, 0.0, ""
    for row, single in enumerate(alone):
        if single is None:
            continue
        asked += 1
        for name, values in together.items():
            here, there = values[row], single[name][0]
            distance = apart(here, there)
            if distance > worst:
                worst, where = distance, f"row {row}: {name} {shown(here)} among others, {shown(there)} otherwise"
    return {"asked": asked, "worst": worst, "where": where}


def apart(one: Any, other: Any) -> float:
    """How far apart two answers are: numbers above 1 in proportion, and 1 for what is something else."""
    if isinstance(one, list) and isinstance(other, list):
        return max((apart(first, second) for first, second in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) / max(1.0, abs(one), abs(other))
    return 0.0 if one == other else 1.0


def shown(value: Any) -> str:
    """The answer in a few letters."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:60]

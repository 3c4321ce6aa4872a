"""Rows of the holdout asked of the real model server, and its answers beside the predictions that were made offline.

Gates judge predictions that a stage wrote. Where that stage prepares its rows otherwise than the server does, another
model is judged than the one that is served. A request is made of a row's columns, as the golden requests name them;
but only where every golden row is found among the rows of the holdout, so that it is known that they are asked so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd

from ..consistency import apart, rows_of, shown
from ..data_table import MISSING, UnreadableTable, read_table

Ask = Callable[[dict[str, Any]], dict[str, list[Any]] | None]
"""From a request to its outputs by name, a list of one entry a row; None where it was not answered."""

MOST_ROWS = 200
"""Rows that are asked, spread over the holdout."""
MOST_GOLDEN = 100
"""Golden rows that are looked for in it."""
AT_ONCE = 20
"""Rows in one request."""
OUTPUTS = ("prediction", "probability")

_FEWEST_DECIMALS = 3  # of a number in a file, for it to be taken for one that was rounded


class Holdout(NamedTuple):
    """The holdout's ``rows`` with the column ``key`` that names them, what was predicted ``offline`` of them, and the
    inputs of a golden row, as which requests are made of them.
    """

    rows: pd.DataFrame
    key: str
    offline: pd.DataFrame
    template: list[dict[str, Any]]


def read_holdout(settings: dict[str, Any], requests: list[dict[str, Any]]) -> Holdout | str:
    """The holdout as these golden requests ask for it, or why no request can be made of its rows.

    ``settings``: ``predictions``, and ``holdout`` with ``path`` and ``id``.
    """
    holdout = settings["holdout"]
    try:
        rows, offline = read_table(holdout["path"]).cells, read_table(settings["predictions"]).cells
    except UnreadableTable as error:
        return f"the rows cannot be read: {error}"
    golden = [row for request in requests for row in rows_of(request)][:MOST_GOLDEN]
    because = _why_not(golden, rows, offline, holdout["id"])
    return because or Holdout(rows, holdout["id"], offline, golden[0]["inputs"])


def compare_offline(holdout: Holdout | str, ask: Ask) -> dict[str, Any]:
    """How many rows were ``asked``, the ``worst`` difference (of what is above 1 in proportion) and ``where`` that was,
    or ``because``: why none could be asked.
    """
    if isinstance(holdout, str):
        return {"because": holdout}
    rows, key_column, offline, template = holdout
    by_id = offline.drop_duplicates("id", keep=False).set_index("id")
    known = rows[rows[key_column].isin(by_id.index)]
    chosen = known.iloc[:: max(1, math.ceil(len(known) / MOST_ROWS))]
    asked, worst, where = 0, 0.0, ""
    for start in range(0, len(chosen), AT_ONCE):
        some = chosen.iloc[start : start + AT_ONCE]
        answers = ask(request_of(template, some))
        if answers is None:
            continue
        asked += len(some)
        for place, key in enumerate(some[key_column]):
            for name in OUTPUTS:
                if name not in answers or name not in by_id.columns:
                    continue
                written, served = by_id.at[key, name], answers[name][place]
                distance = _distance(written, served)
                if distance > worst:
                    worst, where = distance, f"id {key}: {name} {written} offline, {shown(served)} as served"
    return {"asked": asked, "worst": worst, "where": where} if asked else {"because": "no row was answered"}


def _why_not(golden: list[dict[str, Any]], rows: pd.DataFrame, offline: pd.DataFrame, key: str) -> str:
    if not {"id", "prediction"} <= set(offline.columns) or key not in rows.columns:
        return "predictions or holdout have no id"
    because = why_no_columns(golden, rows)
    if because:
        return because
    names = [tensor["name"] for tensor in golden[0]["inputs"]]
    wanted = [tuple(_canonical(tensor["data"][0]) for tensor in row["inputs"]) for row in golden]
    known = _known(rows[names], wanted)
    unknown = next((number for number, row in enumerate(wanted) if row not in known), None)
    if unknown is None:
        return ""
    return f"golden row {unknown} is no row of the holdout: its columns may be prepared before they are asked"


def why_no_columns(golden: list[dict[str, Any]], rows: pd.DataFrame) -> str:
    """Why requests like these golden rows cannot be made of the table's columns; empty where they can."""
    if any(math.prod(tensor["shape"]) != 1 for row in golden for tensor in row["inputs"]):
        return "the inputs of the golden requests are no columns"
    absent = [tensor["name"] for tensor in golden[0]["inputs"] if tensor["name"] not in rows.columns]
    return f"the holdout has no column {absent[0]}, which the golden requests name" if absent else ""


def _known(rows: pd.DataFrame, wanted: list[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """The wanted rows that are there, and perhaps others; column by column, so that few rows have to be looked at."""
    for place, name in enumerate(rows.columns):
        values = {row[place] for row in wanted}
        rows = rows.assign(**{name: rows[name].map({cell: _canonical(cell) for cell in rows[name].unique()})})
        rows = rows[rows[name].isin(values)]
    return set(rows.itertuples(index=False, name=None))


def _canonical(value: Any) -> str:
    """The same for a cell and for what a request has in its place: numbers in six digits, and one word for nothing."""
    text = "" if value is None else str(value).strip()
    if text in MISSING:
        return ""
    number = _number(text)
    return text.lower() if number is None else f"{number:.6g}"


def request_of(template: list[dict[str, Any]], rows: pd.DataFrame) -> dict[str, Any]:
    """One request for these rows, of inputs like those of a golden row."""
    inputs = []
    for tensor in template:
        data = [_value(tensor["datatype"], cell) for cell in rows[tensor["name"]]]
        inputs.append({**tensor, "shape": [len(data), *tensor["shape"][1:]], "data": data})
    return {"inputs": inputs}


def _value(datatype: str, cell: str) -> Any:
    if datatype == "BYTES":
        return cell or None
    text = cell.strip()
    if text in MISSING:
        return None
    if datatype == "BOOL":
        return text.lower() in ("true", "1", "1.0")
    number = _number(text)
    return int(number) if number is not None and not datatype.startswith("FP") else number


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _distance(written: str, served: Any) -> float:
    """How far apart they are; 0 where what was written is the other, rounded."""
    text = written.strip()
    if isinstance(served, bool):
        return 0.0 if text.lower() in (("true", "1", "1.0") if served else ("false", "0", "0.0")) else 1.0
    number = _number(text)
    if number is None or not isinstance(served, int | float):
        return apart(text, str(served))
    decimals = len(text.partition(".")[2]) if "e" not in text.lower() else 0
    is_rounded = decimals >= _FEWEST_DECIMALS and round(served, decimals) == number
    return 0.0 if is_rounded else apart(number, served)

"""The model in production, asked by its own server, in its own environment, for rows that it was not judged on.

Requests are made of the holdout's columns, as its golden requests name them. Whether that asks it as it is meant to be
asked is not looked at here: the control plane lets only such a model be asked whose run has shown it (``rows``).
"""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd

from ..consistency import read_outputs, rows_in, rows_of
from ..data_table import read_table
from ..serving.servers import ModelServer, NotServed
from .rows import OUTPUTS, request_of, why_no_columns

ASK_SECONDS = 600.0
"""What is not answered by then has no prediction."""
AT_ONCE = 100
"""Rows in one request; where it is not answered, each of them is asked alone."""


def ask_production(asked: dict[str, Any], holdout: dict[str, Any], folder: Path) -> tuple[str | None, str]:
    """The file in ``folder`` with its predictions of the holdout's rows; or None, and why it could not be asked.

    ``asked``: ``model`` (see ``ModelServer``, with golden requests) and ``inference_folder``; ``holdout``: ``path`` and
    ``id``. Rows that it does not answer are left out. UnreadableTable where the holdout is no table.
    """
    model = asked["model"]
    rows = read_table(holdout["path"]).cells
    golden = [row for request in json.loads(Path(model["golden"]).read_bytes())["requests"] for row in rows_of(request)]
    because = why_no_columns(golden, rows)
    if because:
        return None, because
    server = ModelServer(folder / "server", asked["inference_folder"], model)
    try:
        server.start(os.sched_getaffinity(0))
        found = _answers(server, golden[0]["inputs"], rows, holdout["id"])
    except NotServed as failure:
        return None, str(failure)
    finally:
        server.stop()
    # a list of one chance for each class is no column
    kept = [name for name in OUTPUTS if found and not any(isinstance(row.get(name), list | None) for row in found)]
    if "prediction" not in kept:
        return None, f"its server answers {len(found)} of {len(rows)} rows, none with one prediction"
    path = folder / "predictions.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", *kept], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(found)
    return str(path), ""


def _answers(server: ModelServer, template: list[dict[str, Any]], rows: pd.DataFrame, key: str) -> list[dict[str, Any]]:
    until = time.perf_counter() + ASK_SECONDS
    found: list[dict[str, Any]] = []
    for start in range(0, len(rows), AT_ONCE):
        together = rows.iloc[start : start + AT_ONCE]
        answered = _ask(server, template, together, key, until)
        alone = (rows.iloc[[place]] for place in range(start, start + len(together)))
        found += answered or [row for one in alone for row in _ask(server, template, one, key, until)]
    return found


def _ask(
    server: ModelServer, template: list[dict[str, Any]], rows: pd.DataFrame, key: str, until: float
) -> list[dict[str, Any]]:
    """Id and outputs of each of these rows; nothing where they are not answered."""
    if time.perf_counter() > until:
        return []
    request = request_of(template, rows)
    content = server.answer(request)
    outputs = None if content is None else read_outputs(content, rows_in(request))
    if outputs is None:
        return []
    names = [name for name in OUTPUTS if name in outputs]
    return [{"id": one, **{name: outputs[name][place] for name in names}} for place, one in enumerate(rows[key])]

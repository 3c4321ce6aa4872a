"""Brings metrics files, predictions and a labelled holdout into the one canonical form that gates judge.

Settings: ``{"metrics": [paths], "predictions": path, "holdout": {"name", "path", "id", "label"},
"baseline_predictions": path, "baseline_served": how it is asked, "baseline_name": str, "columns": [names]}``; all but
the first may be null or missing. With ``baseline_served`` (see ``offline.production``) production is asked for its
predictions. ``columns`` are what gates tell rows apart by, each from the holdout or else the predictions, and losses;
``*`` stands for all.
"""

from __future__ import annotations

import csv
import json
import math
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .data_table import Found, Table, UnreadableTable, found, read_table
from .offline.production import ask_production

Value = float | str
Columns = dict[str, dict[str, Value | None]]
"""Values by name of the column and id."""

CHANCE = "probability_"
"""How the names of columns begin that hold what was given to each class, where there are more than two."""
ROUNDED = 0.05
"""How far the chances of a row may be from 1 in all, as they were written out; they are divided by what they are."""
ROW_LOSS = "row_loss"
"""How the names of columns begin that hold a loss of each row; each side has its own."""


class Predictions(NamedTuple):
    """Predictions by id, with the ids that were given more than once. ``probability`` is None without that column.

    ``right`` is what was given to the class that the label is, of more than two classes, each with a column; else None.
    ``columns`` are those that gates ask for.
    """

    path: str
    prediction: dict[str, Value]
    probability: dict[str, float] | None
    right: dict[str, float | None] | None
    repeated: set[str]
    problems: list[Found]
    columns: Columns


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """The canonical report: ``metrics``, ``invalid`` (each with its reason), and ``rows`` (or null)."""
    problems: list[Found] = []
    metrics: dict[str, float] = {}
    invalid: dict[str, str] = {}
    for path in settings["metrics"]:
        problems += _read_metrics(path, metrics, invalid)
    rows = None
    holdout = settings.get("holdout")
    try:
        if settings.get("predictions") and holdout and holdout.get("id") and holdout.get("label"):
            rows = _join(settings, holdout, problems)
        elif settings.get("predictions"):
            message = "no dataset has both id and label, so these predictions cannot be judged row by row"
            problems.append(found(message, settings["predictions"], is_warning=True))
    except UnreadableTable as error:
        problems.append(error.problem)
    wrong = [problem for problem in problems if not problem["is_warning"]]
    because = f"{len(metrics)} metrics" + (f", {len(rows['labels'])} predictions with labels" if rows else "")
    if invalid:
        because += f", {len(invalid)} invalid metrics"
    return {
        "passed": not wrong,
        "because": f"{wrong[0]['path']}: {wrong[0]['message']}" if wrong else because,
        "problems": problems,
        "report": {"metrics": metrics, "invalid": invalid, "rows": rows},
    }


def _read_metrics(path: str, metrics: dict[str, float], invalid: dict[str, str]) -> list[Found]:
    """Adds a file's numbers under dotted names; answers why the file could not be read, if so."""
    try:
        pairs = _flatten(_parse_metrics(path), "")
    except FileNotFoundError:
        return [found("there is no such file", path)]
    except (ValueError, OSError, yaml.YAMLError, RecursionError) as error:
        return [found(f"is not a readable metrics file: {' '.join(str(error).split())}", path)]
    problems = []
    for name, value in pairs:
        reason = "is given more than once" if name in metrics or name in invalid else _why_no_number(value)
        if reason:
            metrics.pop(name, None)
            invalid[name] = f"{reason} ({path})"
            problems.append(found(f"metric {name} {reason}", path, is_warning=True))
        else:
            metrics[name] = float(value)
    return problems


class _Pairs(list[tuple[str, Any]]):
    """A mapping as it was written, repeated names included."""


def _parse_metrics(path: str) -> Any:
    if path.endswith((".yaml", ".yml")):
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
        try:
            node = loader.get_single_node()
            return None if node is None else _construct(loader, node)
        finally:
            loader.dispose()
    if path.endswith((".csv", ".csv.gz")):
        return _parse_table(path)
    return json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_Pairs)


def _construct(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _Pairs((str(name.value), _construct(loader, value)) for name, value in node.value)
    return loader.construct_object(node, deep=True)


def _parse_table(path: str) -> _Pairs:
    """Two columns ``metric,value`` (or ``name,value``), or one row of numbers under their names."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.reader(file) if line]
    if len(lines) < 2:
        raise ValueError("it has no numbers")
    header, *rows = lines
    if [name.strip().lower() for name in header] in (["metric", "value"], ["name", "value"]):
        if any(len(row) != 2 for row in rows):
            raise ValueError("a row has not two columns")
        return _Pairs((row[0], _number_or_text(row[1])) for row in rows)
    if len(rows) != 1 or len(rows[0]) != len(header):
        raise ValueError("it is neither one row of numbers under their names nor two columns metric,value")
    return _Pairs(zip(header, map(_number_or_text, rows[0]), strict=True))


def _number_or_text(text: str) -> Value:
    try:
        return float(text)
    except ValueError:
        return text


def _flatten(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, _Pairs):
        below = [_flatten(inner, f"{name}.{key}" if name else key) for key, inner in value]
        return [pair for pairs in below for pair in pairs]
    if not name:
        raise ValueError("it is not a mapping of names to numbers")
    return [(name, value)]


def _why_no_number(value: Any) -> str:
    if value is None:
        return "is null"
    if isinstance(value, bool):
        return f"is {str(value).lower()}, not a number"
    if not isinstance(value, int | float):
        return f"is the {type(value).__name__} {str(value)[:40]!r}, not a number"
    try:
        return "" if math.isfinite(float(value)) else f"is {float(value)}, not a finite number"
    except OverflowError:
        return "is too large for a number"


def _join(settings: dict[str, Any], holdout: dict[str, Any], problems: list[Found]) -> dict[str, Any]:
    """Labels and predictions side by side, in order of id."""
    wanted = settings.get("columns") or []
    labels, unlabelled, trusted = _read_labels(holdout, wanted)
    candidate = _read_predictions(settings["predictions"], wanted, labels)
    baseline, not_asked = _read_baseline(settings, holdout, labels)
    mapping = _map_to_classes(labels, candidate)
    for predictions in (candidate, baseline):
        if predictions is not None and mapping:
            _apply(mapping, predictions)
    labels_as_numbers = {key: mapping.get(value, value) for key, value in labels.items()}
    _refuse_text(holdout["path"], labels_as_numbers, "label")
    _refuse_text(candidate.path, candidate.prediction, "prediction")
    known = sorted(key for key in labels if key in candidate.prediction)
    unknown = len(candidate.prediction.keys() - labels.keys())
    problems += candidate.problems
    missing = len(labels) - len(known)
    if missing:
        message = f"{missing} of {len(labels)} labelled rows of {holdout['path']} have no usable prediction"
        problems.append(found(message, candidate.path, is_warning=True))
    if candidate.repeated:
        message = f"{len(candidate.repeated)} ids are given more than once, such as {min(candidate.repeated)}"
        problems.append(found(message, candidate.path, is_warning=True))
    return {
        "holdout": len(labels),
        "unlabelled": unlabelled,
        "candidate_missing": missing,
        "unknown_ids": unknown,
        "duplicate_ids": len(candidate.repeated),
        "classes": {str(value): code for value, code in mapping.items()},
        "labels": [labels_as_numbers[key] for key in known],
        "candidate": _columns(candidate, known),
        "columns": _in_order({**candidate.columns, **trusted}, known),
        "baseline": None if baseline is None else _baseline(baseline, settings, known, labels),
        "baseline_because": not_asked,
    }


def _read_baseline(
    settings: dict[str, Any], holdout: dict[str, Any], labels: dict[str, Value]
) -> tuple[Predictions | None, str]:
    """What production predicted, in its own run or now; or why it could not be asked."""
    wanted, asked = settings.get("columns") or [], settings.get("baseline_served")
    if not asked:
        path = settings.get("baseline_predictions")
        return (_read_predictions(path, wanted, labels) if path else None), ""
    with tempfile.TemporaryDirectory(prefix="interlock-production-") as folder:
        path, because = ask_production(asked, holdout, Path(folder))
        return (_read_predictions(path, wanted, labels) if path else None), because


def _columns(predictions: Predictions, keys: list[str]) -> dict[str, Any]:
    probability, right = predictions.probability, predictions.right
    return {
        "prediction": [predictions.prediction.get(key) for key in keys],
        "probability": None if probability is None else [probability.get(key) for key in keys],
        **({} if right is None else {"right": [right.get(key) for key in keys]}),
    }


def _baseline(
    baseline: Predictions, settings: dict[str, Any], keys: list[str], labels: dict[str, Value]
) -> dict[str, Any]:
    usable: dict[str, Value] = {
        key: value
        for key, value in baseline.prediction.items()
        if not isinstance(value, str) and key not in baseline.repeated
    }
    kept = baseline._replace(prediction=usable)
    missing = sum(key not in usable for key in keys)
    unknown = len(baseline.prediction.keys() - labels.keys())
    losses = {column: values for column, values in kept.columns.items() if column.startswith(ROW_LOSS)}
    return {
        "name": settings.get("baseline_name"),
        "is_asked": bool(settings.get("baseline_served")),
        **_columns(kept, keys),
        "missing": missing,
        "unknown_ids": unknown,
        "columns": _in_order(losses, keys),
    }


def _in_order(columns: Columns, keys: list[str]) -> dict[str, list[Value | None]]:
    return {name: [values.get(key) for key in keys] for name, values in columns.items()}


def _wanted_columns(table: Table, key: str, wanted: list[str], usual: tuple[str, ...]) -> Columns:
    """The columns of a table that gates ask for, by id."""
    names = [name for name in map(str, table.cells.columns) if name not in usual and not name.startswith(CHANCE)]
    kept = names if "*" in wanted else [name for name in names if name in wanted]
    return {
        name: dict(zip(table.cells[key], (_value(cell) for cell in table.cells[name]), strict=True)) for name in kept
    }


def _read_labels(holdout: dict[str, Any], wanted: list[str]) -> tuple[dict[str, Value], int, Columns]:
    """Labels by id, how many rows have none, and the holdout's own columns: no loss, for that is a side's own."""
    table = read_table(holdout["path"])
    _require(table, (holdout["id"], holdout["label"]))
    labels: dict[str, Value] = {}
    unlabelled = 0
    for row, (key, text) in enumerate(zip(table.cells[holdout["id"]], table.cells[holdout["label"]], strict=True)):
        if key in labels:
            raise UnreadableTable(f"{holdout['id']} {key} occurs more than once", table.path, table.line(row))
        value = _value(text)
        if value is None:
            unlabelled += 1
        else:
            labels[key] = value
    usual = (holdout["id"], holdout["label"], "id", "prediction", "probability")
    columns = _wanted_columns(table, holdout["id"], wanted, usual)
    return labels, unlabelled, {name: cells for name, cells in columns.items() if not name.startswith(ROW_LOSS)}


def _read_predictions(path: str, wanted: list[str], labels: dict[str, Value]) -> Predictions:
    """Rows whose prediction (or probability, where that column is there) is unusable are left out and named."""
    table = read_table(path)
    _require(table, ("id", "prediction"))
    predicted: dict[str, Value] = {}
    probability: dict[str, float] | None = {} if "probability" in table.cells else None
    repeated: set[str] = set()
    problems: list[Found] = []
    right = _given_to_labels(table, labels, problems)
    chances = table.cells["probability"] if probability is not None else table.cells["id"]
    seen: set[str] = set()
    for row, (key, text, chance) in enumerate(zip(table.cells["id"], table.cells["prediction"], chances, strict=True)):
        if key in seen:
            repeated.add(key)
        seen.add(key)
        value, likely = _value(text), _value(chance)
        if value is None or (probability is not None and not (isinstance(likely, float) and 0.0 <= likely <= 1.0)):
            message = f"id {key}: prediction {text!r}"
            message += f" with probability {chance!r} (0 to 1)" if probability is not None else ""
            if len(problems) < 20:
                problems.append(found(f"{message} cannot be used", path, table.line(row), is_warning=True))
            continue
        if right is not None and right.get(key, 1.0) is None:
            if len(problems) < 20:
                message = f"id {key}: the probabilities of its classes are no chances that add up to 1"
                problems.append(found(message, path, table.line(row), is_warning=True))
            continue
        predicted[key] = value
        if probability is not None and isinstance(likely, float):
            probability[key] = likely
    columns = _wanted_columns(table, "id", wanted, ("id", "prediction", "probability", "label"))
    return Predictions(path, predicted, probability, right, repeated, problems, columns)


def _given_to_labels(table: Table, labels: dict[str, Value], problems: list[Found]) -> dict[str, float | None] | None:
    """By id what was given to the class that the label is, None where that is no chance; of more than two classes, each
    with a column ``probability_CLASS``.
    """
    names = [name for name in map(str, table.cells.columns) if name.startswith(CHANCE)]
    places = {_value(name.removeprefix(CHANCE)): place for place, name in enumerate(names)}
    classes = set(labels.values())
    if len(classes) <= 2 or not names:
        return None
    absent = sorted(value if isinstance(value, str) else f"{value:g}" for value in classes - places.keys())
    if absent:
        message = f"column {CHANCE}{absent[0]} is missing, so there is no log_loss: it needs one for each class"
        problems.append(found(message, table.path, 1, is_warning=True))
        return None
    rows = zip(*(map(_value, table.cells[name]) for name in names), strict=True)
    return {
        key: _share(chances, places[labels[key]])
        for key, chances in zip(table.cells["id"], rows, strict=True)
        if key in labels
    }


def _share(chances: tuple[Value | None, ...], place: int) -> float | None:
    """The one at this place of chances that add up to 1; None where these do not."""
    numbers = [chance for chance in chances if isinstance(chance, float) and 0.0 <= chance <= 1.0]
    whole = math.fsum(numbers)
    return numbers[place] / whole if len(numbers) == len(chances) and abs(whole - 1.0) <= ROUNDED else None


def _require(table: Table, columns: tuple[str, ...]) -> None:
    for name in columns:
        if name not in table.cells:
            there = ", ".join(map(str, table.cells.columns))
            raise UnreadableTable(f"column {name} is missing; there are {there}", table.path, 1)


def _value(text: str) -> Value | None:
    """A finite number, a truth value as 1 or 0, or text; None where there is nothing or nothing finite."""
    stripped = text.strip()
    if not stripped:
        return None
    if stripped.lower() in ("true", "false"):
        return float(stripped.lower() == "true")
    number = _number_or_text(stripped)
    if isinstance(number, float) and not math.isfinite(number):
        return None
    return number


def _map_to_classes(labels: dict[str, Value], candidate: Predictions) -> dict[Value, float]:
    """Codes of classes in sort order: for labels that are text, and for two numbers that are predicted as classes."""
    values = set(labels.values())
    if any(isinstance(value, str) for value in values):
        return {value: float(code) for code, value in enumerate(sorted(values, key=str))}
    if len(values) == 2 and values != {0.0, 1.0} and set(candidate.prediction.values()) <= values:
        return {value: float(code) for code, value in enumerate(sorted(values, key=float))}
    return {}


def _apply(mapping: dict[Value, float], predictions: Predictions) -> None:
    """Replaces classes by their codes; what is no class stays as text, so that it cannot be taken for a code."""
    for key, value in predictions.prediction.items():
        predictions.prediction[key] = mapping.get(value, str(value))


def _refuse_text(path: str, values: dict[str, Value], what: str) -> None:
    for key, value in values.items():
        if isinstance(value, str):
            raise UnreadableTable(f"id {key}: {what} {value} is neither a number nor one of the label's classes", path)

"""Schema files: what a table must look like. The format is described in docs/data-schema.md."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from .data_table import Found, found

TYPES = ("integer", "number", "string", "boolean", "datetime")
_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {"integer": (int,), "number": (int, float), "string": (str,), "boolean": (bool,)}
)
_SCHEMA_KEYS = ("columns", "rows", "other_columns")
_COLUMN_KEYS = ("type", "min", "max", "nulls", "unique", "in", "pattern")
_ROWS_KEYS = ("min", "max")


@dataclass(frozen=True)
class ColumnRule:
    """One column. ``minimum`` and ``maximum`` are as the file has them; ``allowed`` is None where all values are."""

    type: str = "string"
    minimum: Any = None
    maximum: Any = None
    may_be_null: bool = True
    is_unique: bool = False
    allowed: tuple[Any, ...] | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class TableRule:
    """A whole table; ``are_others_allowed``: columns without a rule may be there."""

    columns: Mapping[str, ColumnRule]
    fewest_rows: int | None = None
    most_rows: int | None = None
    are_others_allowed: bool = False


NO_RULES = TableRule(columns={}, are_others_allowed=True)


def read_schema(path: str) -> tuple[TableRule, list[Found]]:
    """The rules of a schema file, and every problem it has; with a problem the rules must not be used."""
    try:
        loader = yaml.SafeLoader(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return NO_RULES, [found(f"the schema cannot be read: {error}", path)]
    reader = _SchemaReader(path)
    try:
        node = loader.get_single_node()
        if node is None:
            return NO_RULES, [found("the schema is empty", path)]
        reader.note_lines(node, "")
        rules = reader.table(loader.construct_document(node))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error)
        return NO_RULES, [found(f"the schema is not YAML: {reason}", path, mark.line + 1 if mark else None)]
    finally:
        loader.dispose()
    return rules, reader.problems


class _SchemaReader:
    """Reads one file's values, collecting problems with the key and line they are at."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problems: list[Found] = []
        self.lines: dict[str, int] = {}

    def refuse(self, key: str, message: str) -> None:
        """Notes a problem at a dotted key."""
        self.problems.append(found(f"{key}: {message}" if key else message, self.path, self.lines.get(key, 1)))

    def note_lines(self, node: yaml.Node, key: str) -> None:
        """Remembers the line of every key, and refuses one that is given twice."""
        if not isinstance(node, yaml.MappingNode):
            return
        seen = set()
        for name, value in node.value:
            below = f"{key}.{name.value}" if key else str(name.value)
            self.lines[below] = name.start_mark.line + 1
            if name.value in seen:
                self.refuse(below, "is given twice")
            seen.add(name.value)
            self.note_lines(value, below)

    def table(self, raw: Any) -> TableRule:
        """The whole file."""
        values = self._mapping(raw, "", _SCHEMA_KEYS)
        rows = self._mapping(values.get("rows", {}), "rows", _ROWS_KEYS)
        columns = self._mapping(values.get("columns", {}), "columns", None)
        others = values.get("other_columns", "refuse")
        if others not in ("refuse", "allow"):
            self.refuse("other_columns", f"must be refuse or allow, not {others!r}")
        if not columns and not rows:
            self.refuse("", "the schema has no columns and no rows, so it checks nothing")
        fewest, most = (self._count(rows.get(name), f"rows.{name}") for name in _ROWS_KEYS)
        if fewest is not None and most is not None and fewest > most:
            self.refuse("rows", f"min {fewest} is above max {most}")
        return TableRule(
            columns={name: self._column(rule, f"columns.{name}") for name, rule in columns.items()},
            fewest_rows=fewest,
            most_rows=most,
            are_others_allowed=others == "allow",
        )

    def _column(self, raw: Any, key: str) -> ColumnRule:
        values = self._mapping(raw, key, _COLUMN_KEYS)
        type_ = values.get("type")
        if type_ not in TYPES:
            self.refuse(f"{key}.type" if "type" in values else key, f"type must be one of {', '.join(TYPES)}")
        lowest, highest = values.get("min"), values.get("max")
        for name in ("min", "max"):
            self._limit(values.get(name), type_, f"{key}.{name}")
        numbers = [limit for limit in (lowest, highest) if isinstance(limit, int | float)]
        if len(numbers) == 2 and numbers[0] > numbers[1]:
            self.refuse(key, f"min {lowest} is above max {highest}")
        return ColumnRule(
            type=str(type_),
            minimum=lowest,
            maximum=highest,
            may_be_null=self._answer(values.get("nulls", True), f"{key}.nulls"),
            is_unique=self._answer(values.get("unique", False), f"{key}.unique"),
            allowed=self._choices(values.get("in"), type_, f"{key}.in"),
            pattern=self._pattern(values.get("pattern"), type_, f"{key}.pattern"),
        )

    def _mapping(self, raw: Any, key: str, known: tuple[str, ...] | None) -> dict[str, Any]:
        if not isinstance(raw, dict):
            self.refuse(key, "must be a mapping of names to values")
            return {}
        kept = {}
        for name, value in raw.items():
            below = f"{key}.{name}" if key else str(name)
            if not isinstance(name, str):
                self.refuse(below, f"the name {name!r} is not text: write it in quotes")
            elif known is not None and name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                self.refuse(below, f"is not known; {hint}")
            else:
                kept[name] = value
        return kept

    def _count(self, raw: Any, key: str) -> int | None:
        if raw is None or (isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0):
            return raw
        self.refuse(key, f"must be a whole number of at least 0, not {raw!r}")
        return None

    def _answer(self, raw: Any, key: str) -> bool:
        if isinstance(raw, bool):
            return raw
        self.refuse(key, f"must be true or false, not {raw!r}")
        return False

    def _limit(self, raw: Any, type_: Any, key: str) -> None:
        if raw is None:
            return
        if type_ not in ("integer", "number"):
            self.refuse(key, "is for integer and number columns")
        elif isinstance(raw, bool) or not isinstance(raw, int | float) or math.isnan(raw):
            self.refuse(key, f"must be a number, not {raw!r}")

    def _choices(self, raw: Any, type_: Any, key: str) -> tuple[Any, ...] | None:
        if raw is None:
            return None
        if not isinstance(raw, list) or not raw:
            self.refuse(key, "must be a list of values")
            return None
        fitting = _PYTHON_TYPES.get(str(type_))
        if fitting is None:
            self.refuse(key, f"is not for {type_} columns")
            return None
        for value in raw:
            if not isinstance(value, fitting) or (isinstance(value, bool) and type_ != "boolean"):
                hint = ": write it in quotes" if type_ == "string" else ""
                self.refuse(key, f"{value!r} is not of type {type_}{hint}")
        return tuple(raw)

    def _pattern(self, raw: Any, type_: Any, key: str) -> str | None:
        if raw is None:
            return None
        if type_ != "string" or not isinstance(raw, str):
            self.refuse(key, "must be a regular expression, and is for string columns")
            return None
        try:
            re.compile(raw)
        except re.error as error:
            self.refuse(key, f"is not a regular expression: {error}")
            return None
        return raw

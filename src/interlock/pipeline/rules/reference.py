"""Makes the reference page and the JSON Schema of ``interlock.yaml`` from the models and their docstrings.

``python -m interlock.pipeline.rules.reference page > docs/pipeline-file.md`` and
``python -m interlock.pipeline.rules.reference schema > docs/interlock.schema.json``; a test says when they are old.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeAlias

from interlock.pipeline import spec
from interlock.pipeline.rules.values import Section

Schema: TypeAlias = dict[str, Any]
"""A part of a JSON Schema."""

_ROOT = "FileSpec"
_NAME = "NAME"

_INTRODUCTION = """\
# The pipeline file: `interlock.yaml`

Generated from the schema; do not edit. For editors there is a [JSON Schema](interlock.schema.json): begin the file with
`# yaml-language-server: $schema=` and its address.

The file is YAML 1.2: `on` and `no` are texts, `3.10` in a place for texts is "3.10". Anchors, aliases, tags, duplicate
keys and empty values are refused. All problems of a file are told at once, each with line, column and remedy;
`interlock validate` shows them.

Paths are relative to the folder of the file. Durations are a number and a unit: `30s`, `5m`, `2h`, `1d`; so are sizes:
`512MiB`, `4GiB`. What is not known here is refused, never ignored.

Patterns of branches, tags and paths: `*` is any run of characters but `/`, `?` one character but `/`, `**` any run of
characters (`docs/**`, `**/*.py`). One that begins with `!` takes away what those before it let in; the last one that
matches decides. Put a pattern that begins with `*` or `!` in quotes.

Five lines are enough for a repository that follows the conventions:

```yaml
version: 1
stages:
  train: {cmd: python train.py, outs: [model.skops], metrics: [metrics.json]}
model: model.skops
gates: [{metric: accuracy, min: 0.9}]
```
"""


def describe_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of the file."""
    made = spec.FileSpec.model_json_schema()
    sections = {name: _mended(name, part) for name, part in {_ROOT: made, **made.pop("$defs")}.items()}
    root = sections.pop(_ROOT)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "interlock.yaml",
        **root,
        "$defs": dict(sorted(sections.items())),
    }


def write_page() -> str:
    """The reference page: a table of keys for each section, in Markdown."""
    schema = describe_schema()
    names = _names_of(schema)
    parts = [_INTRODUCTION]
    for section, name in names.items():
        part = schema if section == _ROOT else schema["$defs"][section]
        parts.append(f"## {name}\n\n{part['description']}\n")
        rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
        required = part.get("required", [])
        rows += [_row(key, value, key in required, names) for key, value in part["properties"].items()]
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def write_schema() -> str:
    """The JSON Schema as text."""
    return json.dumps(describe_schema(), indent=2) + "\n"


def _mended(name: str, section: Schema) -> Schema:
    """A section with descriptions and readable defaults, and without what pydantic adds for its own sake."""
    meanings = _meanings(name)
    properties = {key: _plain(value) for key, value in section["properties"].items()}
    for key, value in properties.items():
        value["description"] = meanings[key]
        default = value.pop("default", None)
        if isinstance(default, float) and value.get("type") == "string":
            default = _duration(default)
        is_plain = isinstance(default, bool | int | float | str) or (
            isinstance(default, list) and all(isinstance(part, str) for part in default)
        )
        if is_plain:
            value["default"] = default
    kept = {key: value for key, value in section.items() if key in {"additionalProperties", "required", "type"}}
    return {**kept, "description": section["description"], "properties": properties}


def _plain(value: Any) -> Any:
    """Without titles, and without null: an empty value is refused."""
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _plain(part) for key, part in value.items() if key != "title"}
    others = [part for part in kept.pop("anyOf", ()) if part != {"type": "null"}]
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    return kept | others[0] if others else kept


def _meanings(section: str) -> dict[str, str]:
    """The docstrings below the keys of a section, by key."""
    model = next(one for one in Section.__subclasses__() if one.__name__ == section)
    (definition,) = ast.parse(inspect.getsource(model)).body
    body, fields = getattr(definition, "body", []), model.model_fields
    meanings = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            name = ast.unparse(field.target)
            meanings[fields[name].alias or name] = " ".join(str(ast.literal_eval(text.value)).split())
    return meanings


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g}s"
    return f"{seconds / 60:g}m" if seconds % 3600 else f"{seconds / 3600:g}h"


def _names_of(schema: Schema) -> dict[str, str]:
    """Each section with the place of its keys in the file, in the order of the file."""
    names = {_ROOT: "The file"}
    open_ends = [("", schema)]
    while open_ends:
        prefix, part = open_ends.pop(0)
        for key, value in part["properties"].items():
            for section, inside in _sections_in(value, f"{prefix}{key}"):
                if section not in names:
                    names[section] = f"`{inside}`"
                    open_ends.append((f"{inside}.", schema["$defs"][section]))
    return dict(sorted(names.items(), key=lambda entry: _rank(schema, entry[1])))


def _rank(schema: Schema, name: str) -> tuple[int, str]:
    top = name.strip("`").partition(".")[0].removesuffix("[]")
    keys = list(schema["properties"])
    return (keys.index(top) if top in keys else -1, name.strip("`"))


def _sections_in(value: Schema, place: str) -> Iterator[tuple[str, str]]:
    if "$ref" in value:
        yield value["$ref"].rpartition("/")[2], place
    for part in value.get("oneOf", ()):
        yield from _sections_in(part, place)
    yield from _sections_in(value["items"], f"{place}[]") if "items" in value else ()
    for part in value.get("patternProperties", {}).values():
        yield from _sections_in(part, f"{place}.{_NAME}")


def _row(key: str, value: Schema, is_required: bool, names: Mapping[str, str]) -> str:
    default = "required" if is_required else f"`{json.dumps(value['default'])}`" if "default" in value else ""
    return f"| `{key}` | {_kind(value, names)} | {default} | {value['description']} |"


def _kind(value: Schema, names: Mapping[str, str]) -> str:
    if "$ref" in value:
        return f"mapping, see {names[value['$ref'].rpartition('/')[2]]}"
    if "oneOf" in value:
        return " or ".join(_kind(part, names) for part in value["oneOf"])
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "items" in value:
        return f"list of: {_kind(value['items'], names)}"
    if "patternProperties" in value:
        return f"by name: {next(_kind(part, names) for part in value['patternProperties'].values())}"
    if str(value.get("pattern", "")).endswith("[smhd]$"):
        return "duration"
    if str(value.get("pattern", "")).endswith("iB$"):
        return "size"
    words = {"string": "text", "number": "number", "integer": "whole number", "boolean": "`true` or `false`"}
    return words[value["type"]]


if __name__ == "__main__":
    sys.stdout.write(write_page() if sys.argv[1:] == ["page"] else write_schema())

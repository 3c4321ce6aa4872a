"""Parameters: those of ``params.yaml``, overridden by name, and the part of them that a stage sees."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from interlock.errors import Refused, SeveralRefused
from interlock.pipeline.document import Problem, plain, read_document, read_value, refuse_all
from interlock.vocabulary import Json

_NAME = re.compile(r"[^\s.=]+(\.[^\s.=]+)*")


def read_params(content: bytes, where: str = "params.yaml") -> dict[str, Json]:
    """The content of a parameter file, which the user's own code reads too; Refused like a document."""
    document = read_document(content, where, is_shared=True)
    problems = list(document.problems)
    if not isinstance(document.value, dict | None):
        problems.append(Problem((), "parameters are a mapping", "write `name: value` on each line"))
    refuse_all(document.refusals(problems))
    return {key: plain(value) for key, value in document.value.items()} if isinstance(document.value, dict) else {}


def parse_overrides(texts: Sequence[str]) -> dict[str, Json]:
    """``["train.max_depth=4"]`` as ``{"train.max_depth": 4}``; values are YAML. Refused for all else at once."""
    overrides: dict[str, Json] = {}
    refusals: list[Refused] = []
    for text in texts:
        try:
            name, value = _parse(text)
        except SeveralRefused as refused:
            refusals += refused.refusals
            continue
        if name in overrides:
            refusals.append(Refused(f"{name} is overridden twice", f"-S {text}", "keep one of them"))
        overrides[name] = value
    refuse_all(refusals)
    return overrides


def override(params: Mapping[str, Json], overrides: Mapping[str, Json]) -> dict[str, Json]:
    """The parameters with other values. Refused for names that are not there, and for whole groups."""
    changed = copy.deepcopy(dict(params))
    refusals: list[Refused] = []
    for name, value in overrides.items():
        *groups, last = name.split(".")
        group: Json = changed
        for part in groups:
            group = group.get(part) if isinstance(group, dict) else None
        if not isinstance(group, dict) or last not in group:
            refusals.append(Refused(f"params.yaml has no {name}", f"-S {name}", nearest_param(name, params)))
        elif isinstance(group[last], dict):
            refusals.append(Refused(f"{name} is a group of parameters", f"-S {name}", "override its parts, one by one"))
        else:
            group[last] = value
    refuse_all(refusals)
    return changed


def select(params: Mapping[str, Json], names: Iterable[str]) -> tuple[dict[str, Json], list[str]]:
    """Just the named parameters, nested as in the file, and the names that are not there."""
    selected: dict[str, Json] = {}
    missing: list[str] = []
    for name in names:
        parts = name.split(".")
        value: Json = dict(params)
        for part in parts:
            is_there = isinstance(value, dict) and part in value
            value = value[part] if isinstance(value, dict) and is_there else None
        if not is_there:
            missing.append(name)
            continue
        _put(selected, parts, copy.deepcopy(value))
    return selected, missing


def flatten(value: Json, prefix: str = "") -> dict[str, Json]:
    """Every parameter by dotted name; an empty group is a parameter itself."""
    if not isinstance(value, dict) or (prefix and not value):
        return {prefix: value}
    flat: dict[str, Json] = {}
    for name, inner in value.items():
        flat |= flatten(inner, f"{prefix}.{name}" if prefix else name)
    return flat


def nearest_param(name: str, params: Mapping[str, Json]) -> str:
    """A remedy for a name that is not there."""
    close = difflib.get_close_matches(name, list(flatten(dict(params))), n=1)
    return f"did you mean {close[0]}?" if close else "add it to params.yaml, or remove it here"


def _parse(text: str) -> tuple[str, Json]:
    name, equals, written = text.partition("=")
    if not equals or not _NAME.fullmatch(name) or not written.strip():
        raise SeveralRefused([Refused(f"{text} is no override", f"-S {text}", "write NAME=VALUE: train.max_depth=4")])
    value = read_value(written, f"-S {text}")
    if isinstance(value, dict):
        raise SeveralRefused([Refused(f"{name} would become a group", f"-S {text}", "override its parts, one by one")])
    return name, value


def _put(selected: dict[str, Json], parts: Sequence[str], value: Json) -> None:
    group = selected
    for part in parts[:-1]:
        inner = group.setdefault(part, {})
        assert isinstance(inner, dict)
        group = inner
    group[parts[-1]] = value

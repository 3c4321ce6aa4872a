"""What pydantic found wrong with a file, told in the user's words: the place, what was expected, the nearest key."""

from __future__ import annotations

import difflib
import re
from types import MappingProxyType
from typing import Any, get_args, get_origin

from pydantic import Tag, ValidationError

from interlock.pipeline.document import Document, Path, Problem
from interlock.pipeline.rules.values import Section, said
from interlock.pipeline.spec import FileSpec

_KINDS = MappingProxyType(
    {
        "string_type": ("a text", "put it in quotes"),
        "int_type": ("a whole number", "write it without a point"),
        "int_from_float": ("a whole number", "write it without a point"),
        "float_type": ("a number", "write a plain number such as 0.05"),
        "bool_type": ("true or false", "write true or false"),
        "list_type": ("a list", "write [a, b], or one `- a` on each line"),
        "dict_type": ("a mapping", "write `name: value` on indented lines below it"),
        "model_type": ("a mapping", "write `name: value` on indented lines below it"),
        "literal_error": ("1", "write `version: 1`"),
    }
)
"""By pydantic's type of error: what was expected, and the remedy."""

_BOUNDS = MappingProxyType(
    {
        "greater_than": ("more than", "gt"),
        "greater_than_equal": ("at least", "ge"),
        "less_than": ("less than", "lt"),
        "less_than_equal": ("at most", "le"),
    }
)

_WORDS_OF_OTHERS = MappingProxyType(
    {
        "command": "cmd",
        "run": "cmd",
        "script": "cmd",
        "outputs": "outs",
        "artifacts": "outs",
        "dependencies": "deps",
        "depends_on": "deps",
        "needs": "deps",
        "parameters": "params",
        "threshold": "min",
        "timeout_minutes": "timeout",
        "weight": "set_weight",
        "environments": "deploy",
        "jobs": "stages",
        "datasets": "data",
        "triggers": "on",
        "strategy": "canary",
        "duration": "for",
        "cancel_in_progress": "cancel_superseded",
        "interruptible": "cancel_superseded",
        "cron": "schedule",
        "schedules": "schedule",
        "timezone": "time_zone",
        "merge_request": "pull_request",
        "merge_requests": "pull_request",
        "pull_requests": "pull_request",
        "pull_request_target": "pull_request",
    }
)
"""What other systems call a thing, in snake_case, and what it is called here."""

_TAKE_AWAY = "a pattern that begins with ! takes away:"
_REMEDIES_OF_OTHERS = MappingProxyType(
    {
        "branches_ignore": f'{_TAKE_AWAY} write branches: ["**", "!wip/**"]',
        "tags_ignore": f'{_TAKE_AWAY} write tags: ["**", "!*-rc*"]',
        "paths_ignore": f'{_TAKE_AWAY} write paths: ["**", "!docs/**"]',
        "workflow_dispatch": "remove it: `interlock trigger` begins a run of any branch",
        "autoscaling": "write replicas: {min: 2, max: 8}",
        "repository_dispatch": "remove it: `interlock trigger` begins a run of any branch",
    }
)
"""What other systems have a key for, and how it is said here."""


def problems_of(error: ValidationError, document: Document) -> list[Problem]:
    """Each error of the validation as a problem of the document."""
    return [_problem(details, document) for details in error.errors(include_url=False)]


def keys_of(section: type[Section]) -> dict[str, Any]:
    """The keys of a section with their types."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def section_in(annotation: Any) -> type[Section] | None:
    """The section that a type holds, be it in a list, a mapping or a choice; None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_in(part))), None)


def tagged_in(annotation: Any, tag: str) -> type[Section] | None:
    """The section with this tag in a type that is a choice."""
    parts = get_args(annotation)
    if any(isinstance(part, Tag) and part.tag == tag for part in parts):
        return section_in(annotation)
    return next((found for part in parts if (found := tagged_in(part, tag))), None)


def _problem(details: Any, document: Document) -> Problem:
    loc, kind, context = details["loc"], details["type"], details.get("ctx", {})
    path = _path_in(document.value, loc)
    name = next((part for part in reversed(path) if isinstance(part, str)), "the file")
    if kind == "extra_forbidden":
        return Problem(path, f"the key {name} is unknown", _nearest_key(str(name), loc), at_key=True)
    if kind == "missing":
        return Problem(path, f"the key {loc[-1]} is missing", f"add `{loc[-1]}: ...` here")
    if kind == "refused":
        return Problem(path, context["problem"], context["remedy"], at_key=loc[-1] == "[key]")
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        problem = f"{name} must be {words} {context[bound]:g}, not {said(details['input'])}"
        return Problem(path, problem, f"write a number that is {words} {context[bound]:g}")
    if kind in _KINDS:
        expected, remedy = _KINDS[kind]
        whose = f"an entry of {name}" if path and isinstance(path[-1], int) else name
        return Problem(path, f"{whose} must be {expected}, not {said(details['input'])}", remedy)
    if kind == "too_long":
        return Problem(path, f"{name} holds more than {context['max_length']} entries", "write several pipeline files")
    return Problem(path, f"{name} is empty", "write something here, or remove the key")


def _path_in(value: Any, loc: tuple[str | int, ...]) -> Path:
    """The part of an error's place that the document has too; pydantic adds its own marks and missing keys."""
    path: Path = ()
    for part in loc:
        is_there = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        if is_there:
            value = value[part]
            path = (*path, part)
    return path


def _nearest_key(key: str, loc: tuple[str | int, ...]) -> str:
    section: type[Section] = FileSpec
    is_name = False
    chosen: Any = None
    for part in loc[:-1]:
        section = tagged_in(chosen, str(part)) or section
        field = None if is_name else keys_of(section).get(str(part))
        is_name = False
        if field is not None:
            is_name = any(get_origin(inner) is dict for inner in (field.annotation, *get_args(field.annotation)))
            section = section_in(field.annotation) or section
            chosen = field.annotation
    known = list(keys_of(section))
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).replace("-", "_").lower()
    if snake in _REMEDIES_OF_OTHERS:
        return _REMEDIES_OF_OTHERS[snake]
    meant = [word for word in (snake, _WORDS_OF_OTHERS.get(snake)) if word in known]
    meant = meant or difflib.get_close_matches(snake, known, n=1, cutoff=0.6)
    return f"did you mean {meant[0]}?" if meant else f"known keys here: {', '.join(known)}"

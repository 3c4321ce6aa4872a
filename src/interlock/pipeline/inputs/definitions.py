"""The top-level parts of a Python file, and which of them changed, in words."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from interlock.pipeline.fingerprint import digest_of

_DIGITS = 12
"""Hexadecimal digits of a part's digest: enough to tell a person what changed; nothing is reused by them."""
_SHOWN = 4
_IMPORTS = "the imports"
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def define(tree: ast.Module) -> dict[str, str]:
    """Each top-level part of a tree without docstrings: a short digest, or ``= 3`` where it is a number.

    Functions, classes, methods and assigned names are parts of their own; all imports are one, and so is all other
    code. Texts are never shown: they may be secrets.
    """
    parts: dict[str, str] = {}
    for statement in tree.body:
        for name, content in _parts_of(statement):
            parts[name] = _joined(parts.get(name), content)
    return parts


def tell_definitions(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs: ``function scale changed, constant LIMIT: 3 -> 4``; empty where no part does."""
    told = [
        _tell(name, before.get(name), now.get(name))
        for name in dict.fromkeys((*now, *before))
        if before.get(name) != now.get(name)
    ]
    more = len(told) - _SHOWN
    return ", ".join(told[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _tell(name: str, before: str | None, now: str | None) -> str:
    are = "are" if name == _IMPORTS else "is"
    if before is None:
        return f"{name} {are} new"
    if now is None:
        return f"{name} {are} gone"
    if before.startswith("= ") and now.startswith("= "):
        return f"{name}: {before[2:]} -> {now[2:]}"
    return f"{name} changed"


def _parts_of(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    if isinstance(statement, _Function):
        yield f"function {statement.name}", _short(statement)
    elif isinstance(statement, ast.ClassDef):
        yield from _parts_of_class(statement)
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield _IMPORTS, _short(statement)
    elif (
        isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name)
    ):
        yield _title(statement.targets[0].id), _value(statement, statement.value)
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield _title(statement.target.id), _short(statement)
    else:
        yield "top-level code", _short(statement)


def _parts_of_class(statement: ast.ClassDef) -> Iterator[tuple[str, str]]:
    methods = [inner for inner in statement.body if isinstance(inner, _Function)]
    rest = [inner for inner in statement.body if not isinstance(inner, _Function)]
    bare = ast.ClassDef(
        **{field: getattr(statement, field) for field in statement._fields if field != "body"}, body=rest
    )
    yield f"class {statement.name}", _short(bare)
    for method in methods:
        yield f"method {statement.name}.{method.name}", _short(method)


def _title(name: str) -> str:
    return f"constant {name}" if name.isupper() else f"variable {name}"


def _value(statement: ast.stmt, value: ast.expr) -> str:
    number = value.operand if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub) else value
    if (
        isinstance(number, ast.Constant)
        and isinstance(number.value, int | float | None)
        and len(ast.unparse(value)) < 24
    ):
        return f"= {ast.unparse(value)}"
    return _short(statement)


def _short(node: ast.AST) -> str:
    return digest_of(node)[:_DIGITS]


def _joined(before: str | None, content: str) -> str:
    """Several parts of one name are told as one."""
    return content if before is None else f"+ {before} {content}"

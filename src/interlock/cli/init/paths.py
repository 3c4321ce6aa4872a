"""What a path in somebody's code comes to, as far as it can be told without running the code."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Mapping
from pathlib import PurePosixPath

SAME = frozenset({"resolve", "absolute", "expanduser", "as_posix"})
"""Methods of a path that name the same file."""


class PathReader:
    """Evaluates the few expressions that people write paths with.

    ``script`` is the file they stand in, relative to the project; ``names`` are values of names and of command-line
    options (``args.out``) that were found before.
    """

    def __init__(self, script: str, names: Mapping[str, str]) -> None:
        self._script = script
        self._names = names

    def read(self, node: ast.expr | None) -> str | None:
        """The text an expression gives; None where only running the code would tell."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.Name):
            return self._script if node.id == "__file__" else self._names.get(node.id)
        if isinstance(node, ast.BinOp):
            return self._join_two(node)
        if isinstance(node, ast.JoinedStr):
            return self._join_text(
                [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
            )
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Attribute):
            return self._attribute(node)
        return self._parent_number(node) if isinstance(node, ast.Subscript) else None

    def _join_two(self, node: ast.BinOp) -> str | None:
        left, right = self.read(node.left), self.read(node.right)
        if left is None or right is None or not isinstance(node.op, ast.Div | ast.Add):
            return None
        return posixpath.join(left, right) if isinstance(node.op, ast.Div) else left + right

    def _join_text(self, parts: list[ast.expr]) -> str | None:
        texts = [text for part in parts if (text := self.read(part)) is not None]
        return "".join(texts) if len(texts) == len(parts) else None

    def _call(self, node: ast.Call) -> str | None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if isinstance(node.func, ast.Attribute) and name in SAME:
            return self.read(node.func.value)
        texts = [text for argument in node.args if (text := self.read(argument)) is not None]
        if not texts or len(texts) != len(node.args):
            return None
        if name in ("Path", "PurePath", "PosixPath", "join", "joinpath"):
            before = [self.read(node.func.value)] if name == "joinpath" and isinstance(node.func, ast.Attribute) else []
            return None if None in before else posixpath.join(*(text for text in before if text is not None), *texts)
        if name in ("str", "fspath", "abspath", "realpath"):
            return texts[0]
        return posixpath.dirname(texts[0]) if name == "dirname" else None

    def _attribute(self, node: ast.Attribute) -> str | None:
        if node.attr == "parent":
            inner = self.read(node.value)
            return None if inner is None else str(PurePosixPath(inner).parent)
        return self._names.get(f"{node.value.id}.{node.attr}") if isinstance(node.value, ast.Name) else None

    def _parent_number(self, node: ast.Subscript) -> str | None:
        """``Path(__file__).parents[1]``."""
        if not (isinstance(node.value, ast.Attribute) and node.value.attr == "parents"):
            return None
        inner = self.read(node.value.value)
        number = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if inner is None or not isinstance(number, int):
            return None
        parents = PurePosixPath(inner).parents
        return str(parents[number]) if 0 <= number < len(parents) else None


def normalise(path: str | None) -> str | None:
    """The path relative to the project, without detours; None for one that leads out of it or is no path."""
    if not path or "\n" in path or "://" in path or len(path) > 300:
        return None
    clean = posixpath.normpath(path)
    return None if clean.startswith(("/", "..", "~")) or clean == "." else clean

"""What a program reads and writes, found by looking at its code. Nothing of it is run."""

from __future__ import annotations

import ast
import json
import posixpath
from typing import NamedTuple

from interlock.cli.init.paths import PathReader, normalise

READERS = frozenset(
    [
        "read_csv",
        "read_parquet",
        "read_json",
        "read_excel",
        "read_feather",
        "read_table",
        "read_pickle",
        "scan_csv",
        "scan_parquet",
        "loadtxt",
        "genfromtxt",
        "load",
        "read_text",
        "read_bytes",
    ]
)
FIRST_ARGUMENT = frozenset(
    ["to_csv", "to_parquet", "to_json", "to_excel", "to_feather", "to_pickle", "savefig", "save_model", "save", "savez"]
)
"""Calls that write the path in their first argument."""
RECEIVER = frozenset({"write_text", "write_bytes"})
MAKE_FOLDER = frozenset({"makedirs", "mkdir"})


class Written(NamedTuple):
    """A path a program writes, and how: ``skops``, ``joblib``, ``pickle``, ``folder``, or ``file``."""

    path: str
    how: str


class CodeFacts(NamedTuple):
    """What was seen in one program. Paths are relative to the project.

    ``imports`` are full module names; ``strings`` all short texts in it; ``metrics`` the names it writes into JSON.
    ``is_program``: it does something when it is run, and not only defines.
    """

    reads: tuple[str, ...]
    writes: tuple[Written, ...]
    imports: frozenset[str]
    strings: frozenset[str]
    metrics: tuple[str, ...]
    is_program: bool


def read_program(source: str, script: str) -> CodeFacts | None:
    """The facts of a Python file; None where it does not parse. ``script`` is its path in the project."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    return _Reader(tree, script).facts()


def notebook_source(text: str) -> str | None:
    """The code of a notebook without its magic lines; None where it is no notebook."""
    try:
        cells = json.loads(text)["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError):
        return None
    lines = [line for source in sources for line in source.splitlines()]
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!", "?")))


class _Reader:
    """Walks one program, in the order it is written."""

    def __init__(self, tree: ast.Module, script: str) -> None:
        self._tree = tree
        self._modules: dict[str, str] = {}
        self._imports: set[str] = set()
        self._names: dict[str, str] = {}
        self._dictionaries: dict[str, list[str]] = {}
        self._paths = PathReader(script, self._names)
        self._script = script
        self._reads: list[str] = []
        self._writes: list[Written] = []
        self._metrics: list[str] = []

    def facts(self) -> CodeFacts:
        nodes = list(ast.walk(self._tree))
        for node in nodes:
            self._note_import(node)
        # Twice, because a name may be made of one that is assigned further down, in a function walked later.
        for _ in range(2):
            for node in nodes:
                self._note_name(node)
        for call in (node for node in nodes if isinstance(node, ast.Call)):
            self._note_call(call)
        files = [written for written in self._writes if written.how != "folder"]
        filled = {posixpath.dirname(written.path) for written in files}
        writes = [*files, *(one for one in self._writes if one.how == "folder" and one.path not in filled)]
        strings = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        return CodeFacts(
            reads=tuple(dict.fromkeys(self._reads)),
            writes=tuple({written.path: written for written in reversed(writes)}.values())[::-1],
            imports=frozenset(self._imports),
            strings=frozenset(text for text in strings if len(text) <= 100),
            metrics=tuple(dict.fromkeys(self._metrics)),
            is_program=any(_is_action(statement) for statement in self._tree.body),
        )

    def _note_import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._imports.add(alias.name)
                self._modules[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            self._imports.add(module)
            for alias in node.names:
                self._modules[alias.asname or alias.name] = f"{module}.{alias.name}"
                self._imports.add(f"{module}.{alias.name}")

    def _note_name(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    self._set_name(target.id, node.value)
        elif isinstance(node, ast.FunctionDef):
            defaults = node.args.defaults
            with_default = node.args.args[-len(defaults) :] if defaults else []
            for argument, value in zip(with_default, defaults, strict=True):
                self._set_name(argument.arg, value)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument" and node.args:
            option = self._paths.read(node.args[0])
            if option is not None:
                self._set_name(f"args.{option.lstrip('-').replace('-', '_')}", _keyword(node, "default"))

    def _set_name(self, name: str, value: ast.expr | None) -> None:
        text = self._paths.read(value)
        if text is not None:
            self._names.setdefault(name, text)
        if isinstance(value, ast.Dict):
            keys = [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
            self._dictionaries.setdefault(name, keys)

    def _note_call(self, node: ast.Call) -> None:
        name = self._full_name(node.func)
        short = name.rpartition(".")[2]
        receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
        if short in ("dump", "dumps") and name.startswith("json."):
            self._note_metrics(node)
        elif short == "dump" and name.startswith(("joblib.", "skops.")):
            target = node.args[1] if len(node.args) > 1 else _keyword(node, "filename") or _keyword(node, "file")
            self._write(target, name.partition(".")[0])
        elif short == "open":
            path = receiver if name != "open" and receiver is not None and not name.startswith("io.") else _first(node)
            mode_at = 1 if path is not receiver else 0
            mode = node.args[mode_at] if len(node.args) > mode_at else _keyword(node, "mode")
            self._note_open(path, self._paths.read(mode) or "r")
        elif name == "torch.save":
            self._write(node.args[1] if len(node.args) > 1 else _keyword(node, "f"), "file")
        elif short in MAKE_FOLDER:
            self._write(_first(node) if name.startswith("os.") else receiver, "folder")
        elif short in RECEIVER:
            self._write(receiver, "file")
        elif short in FIRST_ARGUMENT:
            self._write(_first(node), "file")
        elif short in READERS:
            self._read(receiver if short in ("read_text", "read_bytes") else _first(node))

    def _note_open(self, path: ast.expr | None, mode: str) -> None:
        if not set(mode) & set("wax"):
            self._read(path)
            return
        is_pickled = any(module.startswith(("pickle", "cloudpickle", "dill")) for module in self._imports)
        text = self._paths.read(path) or ""
        is_binary = "b" in mode and not text.endswith((".json", ".csv", ".txt", ".png"))
        self._write(path, "pickle" if is_binary and is_pickled else "file")

    def _note_metrics(self, node: ast.Call) -> None:
        value = _first(node)
        if isinstance(value, ast.Name):
            self._metrics += self._dictionaries.get(value.id, [])
        elif isinstance(value, ast.Dict):
            self._metrics += [
                key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            ]

    def _write(self, node: ast.expr | None, how: str) -> None:
        path = normalise(self._paths.read(node))
        if path is not None:
            self._writes.append(Written(path, how))

    def _read(self, node: ast.expr | None) -> None:
        path = normalise(self._paths.read(node))
        if path is not None:
            self._reads.append(path)

    def _full_name(self, node: ast.expr) -> str:
        """``sio.dump`` as ``skops.io.dump``, as the imports say."""
        if isinstance(node, ast.Attribute):
            return f"{self._full_name(node.value)}.{node.attr}"
        return self._modules.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def _first(node: ast.Call) -> ast.expr | None:
    if node.args:
        return node.args[0]
    return next((keyword.value for keyword in node.keywords if keyword.arg in ("path", "file", "path_or_buf")), None)


def _keyword(node: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in node.keywords if keyword.arg == name), None)


def _is_action(statement: ast.stmt) -> bool:
    """Whether a statement at the top of a file does something: not a definition, an import, a constant, a docstring."""
    if isinstance(statement, ast.If | ast.For | ast.While | ast.With | ast.Try):
        return True
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)

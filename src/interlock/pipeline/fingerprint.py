"""What of a Python file matters: all of it without comments, formatting and docstrings.

A program may look at its own text: print a docstring, parse a source file, start another program that does. Then
comments matter, and ``needs_source_text`` says so. It errs to that side: a needless run is a cost, a stale model a
defect. It cannot see code that hides what it does (a name put together at run time), nor libraries of the environment.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from blake3 import blake3

_REVEALING_MODULES = frozenset(
    {
        *(
            "ast",
            "asyncio.subprocess",
            "bdb",
            "builtins",
            "clearml",
            "click",
            "cloudpickle",
            "code",
            "codeop",
            "comet_ml",
        ),
        *("compileall", "dill", "dis", "docopt", "doctest", "dspy", "fabric", "fire", "inspect", "invoke", "langchain"),
        *(
            "langchain_core",
            "langgraph",
            "libcst",
            "linecache",
            "llama_index",
            "mcp",
            "mlflow",
            "parso",
            "pdb",
            "pexpect",
        ),
        *(
            "pkgutil",
            "plac",
            "plumbum",
            "pty",
            "py_compile",
            "pyclbr",
            "pydantic_ai",
            "pydoc",
            "runpy",
            "sh",
            "smolagents",
        ),
        *(
            "subprocess",
            "symtable",
            "tarfile",
            "token",
            "tokenize",
            "torch.jit",
            "trace",
            "traceback",
            "typer",
            "wandb",
        ),
        *("zipapp", "zipfile", "zipimport"),
    }
)
"""Modules that read sources or docstrings, pack files, or start programs."""

_PATTERN_CALLS = frozenset({"glob", "iglob", "rglob"})
"""Calls that list what fits a pattern; one that ends like ``*.csv`` names no source."""

_REVEALING_CALLS = _PATTERN_CALLS | frozenset(
    {
        *(
            "create_subprocess_exec",
            "create_subprocess_shell",
            "getstatusoutput",
            "popen",
            "posix_spawn",
            "posix_spawnp",
        ),
        *(
            "subprocess_exec",
            "subprocess_shell",
            "startfile",
            "system",
            "copytree",
            "make_archive",
            "listdir",
            "scandir",
        ),
        *("walk", "fwalk", "iterdir", "import_module", "__import__", "find_spec", "get_source", "getsource", "getdoc"),
        *("currentframe", "_getframe", "model_json_schema", "get_json_schema"),
        *(f"{verb}{kind}" for verb in ("exec", "spawn") for kind in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    }
)
"""Functions that start programs, list folders (their files may be sources), or import by computed name."""

_REVEALING_BUILTINS = frozenset({"exec", "eval", "compile", "help"})
"""Run or show texts as code; methods of these names (``re.compile``, ``model.eval``) do not."""

_REVEALING_NAMES = frozenset(
    {
        *("__doc__", "__loader__", "__spec__", "__cached__", "__code__", "__path__", "f_lineno", "tb_lineno", "lineno"),
        *("co_filename", "co_firstlineno", "co_lnotab", "co_linetable", "co_lines", "co_positions"),
    }
)
"""Names that hold docstrings, line numbers or the place of a source."""

_SOURCE_FILE = re.compile(r"\.py(?![a-z0-9_])", re.IGNORECASE)
_OTHER_FILES = re.compile(r".*\.[A-Za-z0-9]+")

_PATH_STEPS = frozenset({"Path", "PurePath", "resolve", "absolute", "abspath", "realpath", "normpath", "fspath", "str"})
_FOLDER_STEPS = frozenset({"parent", "parents", "dirname"})

_PLAIN_DECORATORS = frozenset({"staticmethod", "classmethod", "property"})

_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What Python's own parser raises for bytes that are no source, or one that is nested too deeply."""


def fingerprint_python(source: bytes) -> str:
    """``py:`` and a digest of what the source does: comments, formatting and docstrings left out, all else kept.

    The docstrings of decorated functions and of classes with bases are kept: decorators and bases may read them. A file
    that cannot be parsed is fingerprinted by its bytes (``raw:``).
    """
    tree = parse(source)
    try:
        return fingerprint_text(source) if tree is None else fingerprint_tree(without_docstrings(tree))
    except _UNREADABLE:
        return fingerprint_text(source)


def fingerprint_text(source: bytes) -> str:
    """``raw:`` and a digest of the bytes."""
    return f"raw:{blake3(source).hexdigest()}"


def needs_source_text(source: bytes) -> bool:
    """Whether the code might look at the text of sources, or at docstrings; True where it cannot be parsed."""
    tree = parse(source)
    return tree is None or is_revealing(tree)


def parse(source: bytes) -> ast.Module | None:
    """The tree of a source; None where it is none that Python reads."""
    try:
        return ast.parse(source)
    except _UNREADABLE:
        return None


def fingerprint_tree(tree: ast.Module) -> str:
    """``py:`` and a digest of a tree whose docstrings were taken out."""
    return f"py:{digest_of(tree)}"


def digest_of(node: ast.AST) -> str:
    """64 hexadecimal digits that tell two trees apart, wherever and however they are written."""
    return blake3(ast.dump(node).encode("utf-8", "surrogatepass")).hexdigest()


def is_revealing(tree: ast.Module) -> bool:
    """Whether the code of a whole tree might look at the text of sources, or at docstrings."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    docstrings = {_docstring_of(node) for node in ast.walk(tree)}
    return any(_is_revealing(node, parents) for node in ast.walk(tree) if node not in docstrings)


def without_docstrings(tree: ast.Module) -> ast.Module:
    """The very tree, with the docstrings that nobody is handed taken out."""
    for node in ast.walk(tree):
        if _docstring_of(node) is not None and not _is_handed_on(node):
            node.body = node.body[1:]  # type: ignore[attr-defined]
    return tree


def _docstring_of(node: ast.AST) -> ast.expr | None:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not node.body:
        return None
    first = node.body[0]
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return first.value if is_text and isinstance(first, ast.Expr) else None


def _is_handed_on(node: ast.AST) -> bool:
    """Whether other code is given the function or class as it is made, and may look at its docstring."""
    if isinstance(node, ast.ClassDef):
        return bool(node.bases or node.keywords or node.decorator_list)
    decorators = getattr(node, "decorator_list", [])
    return any(not isinstance(decorator, ast.Name) or decorator.id not in _PLAIN_DECORATORS for decorator in decorators)


def _is_revealing(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    if isinstance(node, ast.Import):
        return any(_is_revealing_module(alias.name) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return not node.level and any(_is_revealing_import(node.module or "", alias) for alias in node.names)
    if isinstance(node, ast.Constant):
        return _is_revealing_text(node.value)
    if isinstance(node, ast.Name):
        return _is_revealing_name(node, parents)
    if isinstance(node, ast.Attribute):
        return _is_revealing_attribute(node, parents)
    return isinstance(node, ast.Subscript) and _is_program_path(node)


def _is_program_path(node: ast.Subscript) -> bool:
    """Whether it is ``sys.argv[0]``, the path of the program's own source."""
    owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
    return owner == "argv" and isinstance(node.slice, ast.Constant) and node.slice.value == 0


def _is_revealing_module(name: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in _REVEALING_MODULES)


def _is_revealing_import(module: str, alias: ast.alias) -> bool:
    if alias.name == "*":
        return module.partition(".")[0] in {"os", "sys", "shutil", "importlib", "asyncio"} or _is_revealing_module(
            module
        )
    is_hidden = alias.name in _REVEALING_CALLS and (alias.asname is not None or alias.name not in _PATTERN_CALLS)
    return is_hidden or _is_revealing_module(module) or _is_revealing_module(f"{module}.{alias.name}")


def _is_revealing_text(value: object) -> bool:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        return False
    return bool(_SOURCE_FILE.search(text)) or any(name in text for name in (*_REVEALING_NAMES, "__file__"))


def _is_revealing_name(node: ast.Name, parents: Mapping[ast.AST, ast.AST]) -> bool:
    if node.id == "__file__":
        return not _is_folder_of_file(node, parents)
    if node.id in _REVEALING_NAMES or node.id in _REVEALING_BUILTINS:
        return True
    is_owner = isinstance(parents.get(node), ast.Attribute)
    return not is_owner and node.id in _REVEALING_CALLS and not _is_pattern_of_others(node, node.id, parents)


def _is_revealing_attribute(node: ast.Attribute, parents: Mapping[ast.AST, ast.AST]) -> bool:
    if node.attr == "__file__":
        return not _is_folder_of_file(node, parents)
    if node.attr in _REVEALING_NAMES or (
        isinstance(node.value, ast.Name) and f"{node.value.id}.{node.attr}" in _REVEALING_MODULES
    ):
        return True
    return node.attr in _REVEALING_CALLS and not _is_pattern_of_others(node, node.attr, parents)


def _is_pattern_of_others(node: ast.expr, name: str, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether it is a call like ``glob("*.csv")``, which lists no sources."""
    call = parents.get(node)
    if name not in _PATTERN_CALLS or not isinstance(call, ast.Call) or call.func is not node or not call.args:
        return False
    pattern = call.args[0]
    is_text = isinstance(pattern, ast.Constant) and isinstance(pattern.value, str)
    return is_text and isinstance(pattern, ast.Constant) and _OTHER_FILES.fullmatch(str(pattern.value)) is not None


def _is_folder_of_file(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether a ``__file__`` is only used to find its folder: ``Path(__file__).resolve().parent``."""
    outer = parents.get(node)
    while isinstance(outer, ast.Call | ast.Attribute):
        name = outer.attr if isinstance(outer, ast.Attribute) else _called(outer)
        if name in _FOLDER_STEPS:
            return True
        if name not in _PATH_STEPS:
            return False
        outer = parents.get(outer)
    return False


def _called(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")

"""Whether the user's Python code parses, and whether everything it imports can be found; none of it is executed.

Settings of both probes: ``{"entries": [paths]}``, the files and folders that stages and tests start from, relative to
the working folder. What they import, directly or not, is *reachable*: there a finding is a problem, elsewhere
a warning. Where no entry is named, every file is one. Standard library only: this runs in the user's environment.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

LEFT_OUT = frozenset({"__pycache__", "node_modules", "venv", "env", "site-packages"})
OPTIONAL = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
DISTRIBUTIONS = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Distributions whose name is not that of the module."""


class Import(NamedTuple):
    """One import statement's one name. ``level`` counts leading dots, ``member`` is what ``from`` takes out of it."""

    module: str
    member: str | None
    level: int
    line: int
    is_optional: bool

    @property
    def title(self) -> str:
        """As a person would write it."""
        return "." * self.level + self.module + (f".{self.member}" if self.level and self.member else "")


class Finding(NamedTuple):
    """What is wrong with one import."""

    message: str
    is_warning: bool = False


class Parsed(NamedTuple):
    """A file's tree, or the problem that there is none."""

    tree: ast.Module | None
    problem: dict[str, Any] | None


def check_syntax(settings: dict[str, Any]) -> dict[str, Any]:
    """Every reachable file parses; other files of the project are only warned about."""
    project = Project(Path.cwd())
    entries, problems = project.entries(settings["entries"])
    reached = project.reach(entries)
    for path in sorted(project.files):
        broken = project.parse(path).problem
        if broken is not None:
            problems.append(broken | {"is_warning": path not in reached})
    return _report(problems, f"{len(reached)} files that stages and tests use parse", reached, project)


def check_imports(settings: dict[str, Any]) -> dict[str, Any]:
    """Every import of reachable code is found in the project, the standard library or the environment."""
    project = Project(Path.cwd())
    entries, problems = project.entries(settings["entries"])
    reached = project.reach(entries)
    for path, folders in sorted(reached.items()):
        parsed = project.parse(path)
        if parsed.tree is None:
            problems.append(_problem("its imports are unknown, for it does not parse", path, is_warning=True))
            continue
        for one in imports_of(parsed.tree):
            finding = project.look_up(one, path, folders)
            if finding is not None:
                is_warning = finding.is_warning or one.is_optional
                problems.append(_problem(finding.message, path, one.line, is_warning=is_warning))
    return _report(problems, f"every import of {len(reached)} files is found", reached, project)


class Project:
    """The Python files below a folder, by path relative to it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.files = frozenset(self._find())
        self._folders = {str(parent) for path in self.files for parent in PurePosixPath(path).parents}
        self._parsed: dict[str, Parsed] = {}

    def entries(self, named: Iterable[str]) -> tuple[list[str], list[dict[str, Any]]]:
        """The Python files that the named files and folders stand for, and problems with names that stand for none."""
        found: list[str] = []
        problems = []
        for name in named:
            path = str(PurePosixPath(name))
            if path in self.files:
                found.append(path)
            elif (self._root / path).is_dir():
                found += sorted(file for file in self.files if path == "." or file.startswith(f"{path}/"))
            elif path.endswith(".py"):
                problems.append(_problem("a stage starts this file, and it does not exist", path))
        return (found, problems) if found or problems else (sorted(self.files), problems)

    def parse(self, path: str) -> Parsed:
        """Parses a file, once."""
        if path not in self._parsed:
            self._parsed[path] = self._parse(path)
        return self._parsed[path]

    def reach(self, entries: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Every file that the entries import, directly or not, with the folders its imports are looked up in."""
        reached: dict[str, tuple[str, ...]] = {}
        waiting = [(path, search_path(path)) for path in reversed(list(entries))]
        while waiting:
            path, folders = waiting.pop()
            if path in reached:
                continue
            reached[path] = folders
            tree = self.parse(path).tree
            for one in imports_of(tree) if tree is not None else ():
                waiting += [(file, folders) for file in self._files_of(one, path, folders)]
        return reached

    def look_up(self, one: Import, path: str, folders: tuple[str, ...]) -> Finding | None:
        """None where the import is found."""
        if one.level:
            return self._look_up_relative(one, path)
        top = one.module.partition(".")[0]
        place = self._home_of(one.module, folders)
        if place is not None:
            return self._look_in(place, one)
        if top in sys.stdlib_module_names or top in sys.builtin_module_names or is_installed(top):
            return None
        elsewhere = self._home_of(one.module, (".", "src", *sorted(self._folders)))
        if elsewhere is not None:
            where = f"{elsewhere}/{top}".removeprefix("./")
            return Finding(f"module {top} is at {where}, where Python does not look by itself", is_warning=True)
        return Finding(f"module {one.module} is not found: {self._remedy(top)}")

    def _look_up_relative(self, one: Import, path: str) -> Finding | None:
        package = PurePosixPath(path).parent
        for _ in range(one.level - 1):
            package = package.parent
        if not one.module:
            is_there = f"{package}/__init__.py".removeprefix("./") in self.files or one.member is None
            return None if is_there or self._files_at(package, one.member or "") else self._missing(one)
        return self._look_in(str(package), one)

    def _look_in(self, folder: str, one: Import) -> Finding | None:
        place = PurePosixPath(folder)
        for part in one.module.split("."):
            if not self._files_at(place, part) and str(place / part) not in self._folders:
                return self._missing(one)
            place /= part
        if one.member in (None, "*") or self._files_at(place.parent, place.name):
            return None  # a member of a real module may be any name: only running it would tell
        is_there = self._files_at(place, one.member or "") or str(place / (one.member or "")) in self._folders
        return None if is_there else self._missing(one)

    def _missing(self, one: Import) -> Finding:
        name = one.title if one.level or one.member is None else f"{one.module}.{one.member}"
        return Finding(f"module {name} is not found: there is no such file in the project")

    def _files_of(self, one: Import, path: str, folders: tuple[str, ...]) -> Iterator[str]:
        """Files of the project that an import executes."""
        if one.level:
            place = PurePosixPath(path).parent
            for _ in range(one.level - 1):
                place = place.parent
            yield from self._package_at(place)
        else:
            home = self._home_of(one.module, folders)
            if home is None:
                return
            place = PurePosixPath(home)
        for part in [*filter(None, one.module.split(".")), *([one.member] if one.member else [])]:
            yield from self._files_at(place, part)
            place /= part

    def _home_of(self, module: str, folders: Iterable[str]) -> str | None:
        """The folder that a project's module is found in: a file or package first, a bare folder only at last."""
        top = module.partition(".")[0]
        folders = list(folders)
        for folder in folders:
            if self._files_at(PurePosixPath(folder), top):
                return folder
        if top in sys.stdlib_module_names or is_installed(top):
            return None
        return next((folder for folder in folders if str(PurePosixPath(folder) / top) in self._folders), None)

    def _files_at(self, folder: PurePosixPath, name: str) -> list[str]:
        """The file or package of this name in a folder; empty where there is none."""
        package, module = str(folder / name / "__init__.py"), str(folder / f"{name}.py")
        return [package] if package in self.files else [module] if module in self.files else []

    def _package_at(self, folder: PurePosixPath) -> list[str]:
        package = str(folder / "__init__.py")
        return [package] if package in self.files else []

    def _remedy(self, top: str) -> str:
        own = {PurePosixPath(path).stem for path in self.files} - {"__init__"}
        close = difflib.get_close_matches(top, own, n=1, cutoff=0.8)
        add = f"add {DISTRIBUTIONS.get(top, top)} to the project's dependencies and lock again"
        return f"did you mean {close[0]}? Else {add}" if close else add

    def _find(self) -> Iterator[str]:
        waiting = [self._root]
        while waiting:
            for entry in waiting.pop().iterdir():
                if entry.is_symlink() or entry.name.startswith(".") or entry.name in LEFT_OUT:
                    continue
                if entry.is_dir() and not (entry / "pyvenv.cfg").exists():
                    waiting.append(entry)
                elif entry.suffix == ".py" and entry.is_file():
                    yield entry.relative_to(self._root).as_posix()

    def _parse(self, path: str) -> Parsed:
        try:
            source = (self._root / path).read_bytes()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(
                    source, path, "exec", dont_inherit=True
                )  # finds more than the parser: a return outside a function
                return Parsed(ast.parse(source, path), None)
        except SyntaxError as error:
            return Parsed(None, _problem(f"{type(error).__name__}: {error.msg}", path, error.lineno))
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            return Parsed(None, _problem(f"it cannot be parsed: {error}", path))


def search_path(path: str) -> tuple[str, ...]:
    """Folders in which Python looks for the imports of a file that is started.

    As ``python FILE`` has it: the file's own folder. Tests also find what pytest adds: the folder above their
    packages, the project's root, and ``src``.
    """
    place = PurePosixPath(path)
    own = str(place.parent)
    if place.name.startswith("test_") or place.stem.endswith("_test") or place.name == "conftest.py":
        return tuple(dict.fromkeys((own, *map(str, place.parent.parents), ".", "src")))
    return (own,)


def imports_of(tree: ast.Module) -> list[Import]:
    """Every import of a file, also inside functions; optional where its failure is caught or it is for types alone."""
    found: list[Import] = []
    waiting: list[tuple[ast.AST, bool]] = [(tree, False)]
    while waiting:
        node, is_optional = waiting.pop()
        if isinstance(node, ast.Import):
            found += [Import(alias.name, None, 0, node.lineno, is_optional) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found += [Import(module, alias.name, node.level, node.lineno, is_optional) for alias in node.names]
        guarded = _guarded(node)
        waiting += [(child, is_optional or child in guarded) for child in ast.iter_child_nodes(node)]
    return sorted(found, key=lambda one: one.line)


def _guarded(node: ast.AST) -> list[ast.stmt]:
    """Statements directly below a node whose failing imports do no harm."""
    if isinstance(node, ast.Try) and any(_catches_import_error(handler) for handler in node.handlers):
        return node.body
    if isinstance(node, ast.If) and _name_of(node.test) == "TYPE_CHECKING":
        return node.body
    return []


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(one is None or _name_of(one) in OPTIONAL for one in caught)


def _name_of(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_installed(module: str) -> bool:
    """Whether the environment has a top-level module, found without executing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return module in sys.modules


def _problem(message: str, path: str, line: int | None = None, *, is_warning: bool = False) -> dict[str, Any]:
    return {"message": message, "path": path, "line": line, "is_warning": is_warning}


def _report(problems: list[dict[str, Any]], well: str, reached: Iterable[str], project: Project) -> dict[str, Any]:
    wrong = [problem for problem in problems if not problem["is_warning"]]
    because = well
    if wrong:
        place = ":".join(str(part) for part in (wrong[0]["path"], wrong[0]["line"]) if part is not None)
        because = f"{place}: {wrong[0]['message']}" + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
    return {
        "passed": not wrong,
        "because": because,
        "problems": problems,
        "report": {"files": len(project.files), "reached": sorted(reached)},
    }

"""The programs of a repository: which of them prepares, trains and evaluates, and what each reads and writes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from interlock.cli.init.code import CodeFacts, Written, notebook_source, read_program
from interlock.errors import Refused

SKIPPED = frozenset(
    {"node_modules", "__pycache__", "venv", "env", "build", "dist", "site-packages", "htmlcov", "mlruns"}
)
MOST_FILES = 20_000
LONGEST_FILE = 2_000_000

ROLES = {
    "features": (
        "features",
        "feature",
        "prepare",
        "prepare_data",
        "preprocess",
        "preprocessing",
        "featurize",
        "build_features",
        "make_features",
        "make_dataset",
        "clean",
        "clean_data",
        "process",
        "process_data",
    ),
    "train": ("train", "training", "train_model", "fit", "fit_model"),
    "evaluate": ("evaluate", "evaluation", "eval", "evaluate_model", "score", "test_model"),
}
"""Stages in the order they run, and what their programs are called."""

MODEL_SUFFIXES = (".skops", ".joblib", ".pkl", ".pickle", ".onnx", ".ubj", ".lgb")


def find_programs(project: Path, files: Sequence[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Stages and their programs, by name and by deed; ``chosen`` are those a person named.

    Refused where nothing that trains a model is found.
    """
    programs = {**_find_scripts(project, files), **chosen}
    if "train" not in programs:
        remedy = "name it: `interlock init --train path/to/program.py`"
        raise Refused("found no program that trains a model", str(project), remedy)
    return programs


def list_files(project: Path) -> list[str]:
    """The project's files, without hidden folders, environments and caches, sorted."""
    found: list[str] = []
    for folder, names, files in os.walk(project):
        names[:] = sorted(
            name
            for name in names
            if name not in SKIPPED and not name.startswith(".") and not (Path(folder) / name / "pyvenv.cfg").exists()
        )
        found += [(Path(folder) / file).relative_to(project).as_posix() for file in files]
        if len(found) > MOST_FILES:
            break
    return sorted(found)


def _find_scripts(project: Path, files: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for role, names in ROLES.items():
        fitting = [path for path in files if _is_candidate(path) and PurePosixPath(path).stem.lower() in names]
        # A program before a notebook, the usual name before an unusual one, the shallow before the deep.
        fitting.sort(
            key=lambda path: (path.endswith(".ipynb"), names.index(PurePosixPath(path).stem.lower()), len(path))
        )
        programs = [path for path in fitting if (facts := _facts(project, path)) is not None and facts.is_program]
        if programs:
            found[role] = programs[0]
    if "train" not in found:
        found |= _find_by_deed(project, [path for path in files if path not in found.values()])
    return found


def _find_by_deed(project: Path, files: Sequence[str]) -> dict[str, str]:
    """The program that writes a model, whatever it is called."""
    for path in files:
        facts = _facts(project, path) if _is_candidate(path) else None
        if facts is not None and facts.is_program and any(is_model(written) for written in facts.writes):
            return {"train": path}
    return {}


def _is_candidate(path: str) -> bool:
    parts = PurePosixPath(path).parts
    is_test = any(part in ("tests", "test") for part in parts[:-1]) or parts[-1] == "conftest.py"
    return path.endswith((".py", ".ipynb")) and not is_test


def _facts(project: Path, path: str) -> CodeFacts | None:
    """The facts of a program or a notebook; a notebook's paths start at its own folder."""
    file = project / path
    if not file.is_file() or file.stat().st_size > LONGEST_FILE:
        return None
    text = file.read_text(errors="replace")
    if not path.endswith(".ipynb"):
        return read_program(text, path)
    source = notebook_source(text)
    facts = read_program(source, path) if source is not None else None
    folder = PurePosixPath(path).parent
    if facts is None or str(folder) == ".":
        return facts
    writes = tuple(Written(os.path.normpath(folder / one.path), one.how) for one in facts.writes)
    return facts._replace(reads=tuple(os.path.normpath(folder / read) for read in facts.reads), writes=writes)


def facts_of(project: Path, files: Sequence[str], script: str) -> CodeFacts | None:
    """The facts of a program and of the project's own modules that it imports."""
    facts = _facts(project, script)
    if facts is None:
        return None
    known = set(files)
    waiting, seen = list(_local_modules(known, script, facts)), {script}
    while waiting:
        path = waiting.pop()
        inner = None if path in seen else _facts(project, path)
        seen.add(path)
        if inner is None:
            continue
        facts = facts._replace(
            reads=tuple(dict.fromkeys(facts.reads + inner.reads)),
            writes=tuple(dict.fromkeys(facts.writes + inner.writes)),
            strings=facts.strings | inner.strings,
            metrics=tuple(dict.fromkeys(facts.metrics + inner.metrics)),
        )
        waiting += _local_modules(known, path, inner)
    return facts


def _local_modules(known: set[str], script: str, facts: CodeFacts) -> Iterator[str]:
    folders = {PurePosixPath(script).parent, PurePosixPath(), PurePosixPath("src")}
    for module in facts.imports:
        tail = module.lstrip(".").replace(".", "/")
        for folder in folders if tail else ():
            for path in (f"{folder / tail}.py", f"{folder / tail}/__init__.py"):
                if path in known:
                    yield path


def is_model(written: Written) -> bool:
    """Whether a program writes a model there."""
    return written.how in ("skops", "joblib", "pickle") or written.path.endswith(MODEL_SUFFIXES)

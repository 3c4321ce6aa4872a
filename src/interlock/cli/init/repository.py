"""What a repository holds: its programs in the order they run, data, tests, model. Nothing of it is executed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from interlock.cli.init.code import CodeFacts, Written
from interlock.cli.init.programs import ROLES, facts_of, is_model
from interlock.errors import Refused

DATA_SUFFIXES = (".csv", ".csv.gz", ".parquet")


class StageFound(NamedTuple):
    """One program that became a stage, and what it makes."""

    name: str
    script: str
    command: str
    facts: CodeFacts
    outs: tuple[str, ...]
    metrics: tuple[str, ...]
    predictions: str | None
    params: tuple[str, ...]


class Repository(NamedTuple):
    """What was found. ``told`` says it to a person, ``unsolved`` what could not be told and has to be filled in."""

    files: frozenset[str]
    stages: tuple[StageFound, ...]
    model: Written | None
    data: tuple[tuple[str, str], ...]
    test_command: str | None
    told: tuple[str, ...]
    unsolved: tuple[str, ...]


def inspect_repository(
    project: Path, files: Sequence[str], programs: Mapping[str, str], packages: frozenset[str]
) -> Repository:
    """Looks at every program that is to be a stage. ``packages`` are those of the lock."""
    unsolved: list[str] = []
    stages: list[StageFound] = []
    for name in ROLES:
        if name in programs:
            stages.append(_stage(project, files, name, programs[name], packages, stages, unsolved))
    model = _find_model(stages)
    if model is None:
        unsolved.append("the model: no joblib.dump, skops.io.dump or pickle.dump of a plain path was found in the code")
    if "evaluate" not in programs:
        unsolved.append("evaluation: no evaluate.py was found, so no metric can be gated on")
    test_command, told_tests = _find_tests(project, files, packages)
    data = _find_data(files, stages)
    told = [f"stage {stage.name}: {stage.command}" for stage in stages]
    told += [f"model: {model.path}, written by {model.how}"] if model else []
    told += [f"data: {path}" for _, path in data]
    told += [f"tests: {test_command}"] if test_command else []
    unsolved += told_tests
    return Repository(frozenset(files), tuple(stages), model, data, test_command, tuple(told), tuple(unsolved))


def _stage(
    project: Path,
    files: Sequence[str],
    name: str,
    script: str,
    packages: frozenset[str],
    earlier: Sequence[StageFound],
    unsolved: list[str],
) -> StageFound:
    facts = facts_of(project, files, script)
    if facts is None:
        raise Refused("cannot be read as Python", script, "mend it, or name another program")
    taken = {path for stage in earlier for path in (*stage.outs, *stage.metrics, stage.predictions)}
    writes = [one.path for one in facts.writes if one.path not in taken]
    metrics = tuple(path for path in writes if _is_metrics(path, name))
    predictions = next((path for path in writes if _is_predictions(path)), None)
    outs = tuple(path for path in writes if path not in (*metrics, predictions))
    if not outs and name != "evaluate":
        unsolved.append(f"what {script} makes: none was found in its code; add what it writes to `outs`")
    if not metrics and name == "evaluate":
        unsolved.append(f"the metrics of {script}: no JSON file that it writes was found; add it to `metrics`")
    unsolved += [
        f"the data {read}: {script} reads it, but it is not there and no stage makes it"
        for read in facts.reads
        if read.endswith(DATA_SUFFIXES) and read not in {*files, *taken, *writes}
    ]
    if script.endswith(".ipynb"):
        unsolved += _missing_for_notebook(script, packages)
    return StageFound(name, script, _command(script), facts, outs, metrics, predictions, _params(project, name, facts))


def _command(script: str) -> str:
    if script.endswith(".ipynb"):
        return f"jupyter execute {shlex.quote(script)}"
    return f"python {shlex.quote(script)}"


def _missing_for_notebook(script: str, packages: frozenset[str]) -> list[str]:
    missing = [name for name in ("nbclient", "ipykernel") if name not in packages]
    told = f"running {script}: add {' and '.join(missing)} to the lock, so that notebooks can be run"
    return [told] if missing else []


def _is_metrics(path: str, stage: str) -> bool:
    stem = PurePosixPath(path).stem.lower()
    is_named_so = bool(re.search(r"metric|score|result", stem))
    return path.endswith(".json") and (is_named_so or stage == "evaluate")


def _is_predictions(path: str) -> bool:
    return "predict" in PurePosixPath(path).name.lower() and path.endswith(DATA_SUFFIXES)


def _params(project: Path, stage: str, facts: CodeFacts) -> tuple[str, ...]:
    """The stage's own section of params.yaml, if it has one and its code names no other."""
    file = project / "params.yaml"
    if not file.is_file() or not any(text.endswith("params.yaml") for text in facts.strings):
        return ()
    sections = re.findall(r"^([A-Za-z_][\w-]*):", file.read_text(errors="replace"), flags=re.MULTILINE)
    named = [section for section in sections if section in facts.strings]
    return (stage,) if named == [stage] else ()


def _find_model(stages: Sequence[StageFound]) -> Written | None:
    train = next(stage for stage in stages if stage.name == "train")
    models = [written for written in train.facts.writes if written.path in train.outs and is_model(written)]
    models.sort(key=lambda written: "model" not in written.path)
    return models[0] if models else None


def _find_data(files: Sequence[str], stages: Sequence[StageFound]) -> tuple[tuple[str, str], ...]:
    """Pairs (name, path) of the data files the stages read."""
    made = {path for stage in stages for path in (*stage.outs, *stage.metrics, stage.predictions)}
    read = [path for stage in stages for path in stage.facts.reads if path.endswith(DATA_SUFFIXES)]
    paths = [path for path in read if path in files and path not in made]
    named: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        name = re.sub(r"[^a-z0-9_]+", "_", PurePosixPath(path).stem.lower()).strip("_") or "data"
        name = f"data_{name}" if name[0].isdigit() else name
        named.setdefault(name, path)
    return tuple(named.items())


def _find_tests(project: Path, files: Sequence[str], packages: frozenset[str]) -> tuple[str | None, list[str]]:
    tests = [
        path
        for path in files
        if path.endswith(".py") and re.match(r"test_|.*_test\.py$", PurePosixPath(path).name) and "/model" not in path
    ]
    if not tests:
        return None, [
            "tests: none were found; a check like `{name: unit, cmd: pytest -q tests}` runs before any training"
        ]
    folder = next((name for name in ("tests", "test") if any(path.startswith(f"{name}/") for path in tests)), None)
    where = folder or " ".join(shlex.quote(path) for path in tests[:20])
    if "pytest" in packages:
        return f"pytest -q {where}", []
    texts = [(project / path).read_text(errors="replace") for path in tests]
    if all("unittest" in text for text in texts):
        return f"python -m unittest discover {'-s ' + folder if folder else ''}".rstrip(), []
    return None, [f"tests: {where} needs pytest, which is not in the lock; add it there and a check that runs it"]

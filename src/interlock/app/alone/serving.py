"""`interlock models serve`: a model of a folder, served from an environment made of its lock."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from interlock.app.folder import StateFolder
from interlock.app.parts import PACKAGE, SERVER_REQUIREMENTS
from interlock.edges.blobs import LocalBlobs
from interlock.edges.environments import UvEnvironments
from interlock.edges.sandbox import SANDBOXES
from interlock.edges.serving import Alone, serve_alone
from interlock.errors import Refused
from interlock.pipeline.models.formats import ENDINGS, format_of, serving_purpose
from interlock.pipeline.plan import PythonPlan
from interlock.system.machine import find_cores

__all__ = ["Alone", "Asked", "find_format", "name_of", "serve"]

LOCKS = ("uv.lock", "requirements.txt")
MLFLOW = "MLmodel"


class Asked(NamedTuple):
    """What a person asked for; None is found out. ``lock`` and ``python`` each tell the environment."""

    model: Path
    name: str | None = None
    format: str | None = None
    golden: Path | None = None
    lock: Path | None = None
    python: Path | None = None
    port: int | None = None
    socket: Path | None = None
    sandbox: str = "namespace"


def serve(state: Path, asked: Asked, say: Callable[[str], None], tell_ready: Callable[[Alone], None]) -> None:
    """Serves until SIGTERM or SIGINT, and leaves nothing behind. Refused where the model cannot be served."""
    if not asked.model.exists():
        raise Refused("there is no model", str(asked.model), "name the file or folder that holds it")
    model = asked.model.resolve()
    golden = asked.golden or next((path for path in [model / "golden.json"] if path.is_file()), None)
    kind = find_format(model, asked.format)
    python = str(asked.python.absolute()) if asked.python else _build(StateFolder(state), model, kind, asked.lock, say)
    with tempfile.TemporaryDirectory(prefix="interlock-alone-") as scratch:
        served = Alone(
            name=asked.name or name_of(model),
            model=model,
            digest=str(LocalBlobs(Path(scratch) / "blobs").put(str(model))),
            format=kind,
            golden=golden.resolve() if golden else None,
            python=python,
            port=asked.port,
            socket=asked.socket,
        )
        folder = Path(scratch) / "served"
        folder.mkdir()
        sandbox = SANDBOXES[asked.sandbox]()
        try:
            serve_alone(served, folder, PACKAGE, sandbox, max(1, int(find_cores())), lambda: tell_ready(served))
        finally:
            sandbox.close()


def find_format(model: Path, named: str | None) -> str:
    """The format that was named, or the one that the names of the files tell. Refused where they tell none or several.

    A module beside another model is part of that one, and no model itself.
    """
    files = [path.name for path in model.rglob("*") if path.is_file()] if model.is_dir() else [model.name]
    if named is not None:
        return format_of(model.name, named)
    if MLFLOW in files:
        return "mlflow"
    found = {kind for name in files for ending, kind in ENDINGS.items() if name.lower().endswith(ending)}
    found = found - {"python"} or found
    if len(found) != 1:
        told = f"its files could be {' or '.join(sorted(found))}" if found else "the names of its files do not tell"
        raise Refused(f"the format of the model is not known: {told}", str(model), "name it with --format")
    return found.pop()


def name_of(model: Path) -> str:
    """A name for the paths, made of the file's or folder's."""
    stem = model.name if model.is_dir() else model.stem
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:63].strip("-") or "model"


def _build(state: StateFolder, model: Path, kind: str, lock: Path | None, say: Callable[[str], None]) -> str:
    """The interpreter of the environment that the lock gives, the nearest one above the model where none is named.

    What MLflow writes into its folders is no lock.
    """
    above = model.parents if (model / MLFLOW).is_file() else (model, *model.parents)
    nearest = (folder / name for folder in above for name in LOCKS if (folder / name).is_file())
    found = lock or next(nearest, None)
    if found is None or not found.is_file():
        problem = "there is no lock of the model's packages"
        raise Refused(
            problem, str(found or model), "name it with --lock, or an interpreter that has them with --python"
        )
    plan = PythonPlan(lock=found.name)
    names = [found.name, "pyproject.toml"] if found.suffix == ".lock" else [found.name]
    files = {name: path.read_bytes() for name in names if (path := found.with_name(name)).is_file()}
    if len(files) < len(names):
        raise Refused("a uv.lock is read with the pyproject.toml beside it", str(found), "add it, or name another lock")
    environments = UvEnvironments(state.make().environments, SERVER_REQUIREMENTS)
    return environments.python_of(environments.ensure(plan, files, serving_purpose(kind), say))

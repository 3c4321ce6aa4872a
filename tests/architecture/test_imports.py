"""The import contracts of pyproject.toml: kept by the source, and each broken by a planted import."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = Path(sys.executable).parent / "lint-imports"


def lint(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    chosen = [part for contract in contracts for part in ("--contract", contract)]
    return subprocess.run(
        [LINT, "--no-cache", *chosen],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copied_source(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def test_the_source_keeps_every_contract() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout


SELDOM = {"numpy", "scipy", "pandas", "sqlalchemy", "alembic", "psycopg", "httpx", "rich", "model_signing", "sigstore"}


DELIVERED = {"interlock.delivery.environment", "interlock.control.reproducing", "cryptography"}
"""What a run or plan of a working tree needs only where there is a model in production, a secret or a second run."""
STARTS = [
    ("interlock.app.local, interlock.cli.show", SELDOM | DELIVERED),
    ("interlock.app.server, interlock.web.serving", SELDOM),
]


@pytest.mark.parametrize(("start", "seldom"), STARTS)
def test_no_start_loads_what_is_seldom_needed(start: str, seldom: set[str]) -> None:
    program = f"import sys, {start}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "interlock.run.advance" in loaded
    assert not seldom & set(loaded)


PLANTED = [
    ("layers", "gate/judgement.py", "import interlock.delivery.rollout"),
    ("standing-alone", "inference/__init__.py", "import interlock.errors"),
    ("apart", "probes/__init__.py", "import interlock.client"),
    ("edges-apart", "edges/proxy/__init__.py", "import interlock.edges.store"),
    ("only-app-wires", "control/loop.py", "import interlock.edges.store"),
    ("pure-domain", "delivery/release.py", "import time"),
    ("numbers-where-they-belong", "control/rows.py", "import numpy"),
]


@pytest.mark.parametrize(("contract", "path", "line"), PLANTED)
def test_a_planted_import_breaks_its_contract(contract: str, path: str, line: str, copied_source: Path) -> None:
    module = copied_source / "src" / "interlock" / path
    module.write_text(f"{module.read_text()}\n{line}\n")
    result = lint(copied_source, contract)
    assert result.returncode == 1, result.stdout
    assert "BROKEN" in result.stdout

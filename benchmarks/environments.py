"""How long a Python environment takes from its lock, against a bare `uv sync --frozen` of the same lock, cache warm.

    python benchmarks/environments.py [--rounds 5]

Both make a new environment each time, in turn, on one file system. Ours also makes byte code, because stages see their
environment read-only; `uv sync --compile-bytecode` is measured beside it for that reason.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uv

from interlock.edges.environments import UvEnvironments
from interlock.pipeline.plan import PythonPlan

PROJECT = """
[project]
name = "measured"
version = "0"
requires-python = ">=3.11"
dependencies = ["scikit-learn", "pandas", "skops", "pyyaml"]
[dependency-groups]
dev = ["pytest"]
"""


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    scratch = Path(tempfile.mkdtemp(prefix="environments-"))
    try:
        project = scratch / "project"
        project.mkdir()
        (project / "pyproject.toml").write_text(PROJECT)
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        subprocess.run([uv.find_uv_bin(), "lock", "--quiet"], cwd=project, check=True, env=environment)
        files = {name: (project / name).read_bytes() for name in ("pyproject.toml", "uv.lock")}
        kept = UvEnvironments(scratch / "ours")

        def bare(*options: str) -> None:
            place = {**environment, "UV_PROJECT_ENVIRONMENT": str(scratch / "bare"), "UV_LINK_MODE": "hardlink"}
            command = [uv.find_uv_bin(), "sync", "--frozen", "--quiet", "--no-install-project", *options]
            subprocess.run(command, cwd=project, check=True, env=place)

        def ours() -> None:
            kept.ensure(PythonPlan(), files, "build", lambda _: None)

        def clear() -> None:
            shutil.rmtree(scratch / "bare", ignore_errors=True)
            for made in (scratch / "ours").glob("[0-9a-f]*"):
                shutil.rmtree(made, ignore_errors=True)

        ours()
        bare()
        found: dict[str, list[float]] = {"uv sync": [], "uv sync --compile-bytecode": [], "interlock": []}
        for _ in range(rounds):
            clear()
            found["uv sync"].append(timed(bare))
            clear()
            found["uv sync --compile-bytecode"].append(timed(lambda: bare("--compile-bytecode")))
            clear()
            found["interlock"].append(timed(ours))
        medians = {name: statistics.median(seconds) for name, seconds in found.items()}
        for name, median in medians.items():
            told = " ".join(f"{seconds:.2f}" for seconds in found[name])
            print(f"{name:<28} {median:6.2f} s   {median / medians['uv sync']:5.2f} x uv sync   ({told})")
        again = statistics.median(timed(ours) for _ in range(20))
        print(f"{'interlock, made already':<28} {1000 * again:6.2f} ms")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()

"""Packages of npm that tests read: fetched once for each machine, with the node of the development dependencies.

Test modules cannot import one another (pytest's importlib mode), so this is run: ``python tests/npm_packages.py NAME
VERSION [FILE...]`` prints the folder of the package, of which only the named files are kept. npm takes the registry
from the user's own configuration.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(sys.prefix) / "npm-packages"
"""Beside the tools of the project, and so ignored by git and removed by ``make clean``."""

NPM = Path(sys.executable).parent / "npm"


def npm_package(name: str, version: str, *files: str) -> Path:
    """The folder of the package's files, or of those named. Exits with what to do where it cannot be fetched."""
    folder = ROOT / f"{name.replace('/', '-').removeprefix('@')}-{version}"
    if not folder.is_dir():
        ROOT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=ROOT) as place:
            fetch(name, version, Path(place), files)
            publish(Path(place) / "package", folder)
    return folder


def fetch(name: str, version: str, place: Path, files: Sequence[str]) -> None:
    command = [NPM, "pack", f"{name}@{version}", "--ignore-scripts", "--loglevel=error", "--cache", place / "cache"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=300)
    archives = list(place.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = (done.stderr or done.stdout).strip()[:500]
        sys.exit(
            f"npm could not fetch {name} {version}: {said or 'it said nothing'}\n"
            f"the tests need it once: see that the registry can be reached ({NPM} config get registry)"
        )
    with tarfile.open(archives[0]) as archive:
        wanted = [f"package/{file}" for file in files] or archive.getnames()
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 brought it
        archive.extractall(place, [archive.getmember(name) for name in wanted])


def publish(made: Path, folder: Path) -> None:
    """By one rename; whoever comes second finds it there."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


if __name__ == "__main__":
    print(npm_package(*sys.argv[1:]))

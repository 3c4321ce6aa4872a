"""Programs of Debian that tests run: fetched once for each machine by apt, unpacked beside the project's own tools.

``python tests/debian_packages.py NAME`` prints the folder of the package's files. apt takes the archive from the
machine's own configuration, and keeps its lists and its cache in a folder of ours, so no right to install is needed.
Exits with what to do where the package cannot be had.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(sys.prefix) / "debian-packages"


def debian_package(name: str) -> Path:
    """The folder of the package's files."""
    folder = ROOT / name
    if not folder.is_dir():
        ROOT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=ROOT) as made:
            place = Path(made)
            fetch(name, place)
            try:
                (place / "files").rename(folder)
            except OSError:  # somebody else was first
                if not folder.is_dir():
                    raise
    return folder


def fetch(name: str, place: Path) -> None:
    for needed in ("state/lists/partial", "cache/archives/partial"):
        (place / needed).mkdir(parents=True)
    own = {"Dir::State": place / "state", "Dir::State::status": "/var/lib/dpkg/status", "Dir::Cache": place / "cache"}
    user = {"APT::Sandbox::User": "root"} if os.getuid() == 0 else {}
    options = [f"--option={key}={value}" for key, value in {**own, **user}.items()]
    run(["apt-get", *options, "--quiet", "update"], place)
    run(["apt-get", *options, "--quiet", "download", name], place)
    (archive,) = place.glob("*.deb")
    run(["dpkg-deb", "--extract", archive, place / "files"], place)


def run(command: list[str | Path], place: Path) -> None:
    try:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False, timeout=300)
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not on this machine: a Debian package is fetched with it")
    if done.returncode:
        sys.exit(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[:500]}")


if __name__ == "__main__":
    print(debian_package(sys.argv[1]))

"""Environments of other tools: each its own, pinned, made once by uv and kept."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

UV = Path(sys.executable).parent / "uv"


def environment_of(name: str, packages: Sequence[str], cache: Path) -> Path:
    """The folder of its programs. Other packages are another environment."""
    letters = "".join(letter for letter in name.lower() if letter.isalnum())
    place = cache / f"{letters}-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:8]}"
    if not (place / "complete").exists():
        subprocess.run([UV, "venv", "-q", "--clear", "--python", sys.executable, place], check=True)
        subprocess.run([UV, "pip", "install", "-q", "--python", place / "bin" / "python", *packages], check=True)
        (place / "complete").touch()
    return place / "bin"

"""What a stage is executed on: machine, processor, interpreter and installed packages, as they really are."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from interlock.pipeline.locks.packages import canonical_name
from interlock.run.conditions import Conditions

PROCESSOR = Path("/proc/cpuinfo")
NAMES, FLAGS = ("model name", "CPU implementer", "cpu"), ("flags", "Features")
"""Lines of it, as kernels of several machines name them."""


def conditions_of(environment: str, threads: int) -> Conditions:
    """Those of a stage in the Python environment at ``environment`` that was told to use so many threads."""
    processor = _processor()
    return Conditions(
        system=" ".join(part for part in (platform.system(), platform.machine(), *platform.libc_ver()) if part),
        processor=next((processor[name] for name in NAMES if name in processor), ""),
        flags=tuple(sorted(next((processor[name] for name in FLAGS if name in processor), "").split())),
        cores=len(os.sched_getaffinity(0)),
        threads=threads,
        python=_interpreter(Path(environment)),
        packages=_installed(Path(environment)),
    )


def _processor() -> dict[str, str]:
    """What the kernel says of the first processor; nothing where it says nothing."""
    found: dict[str, str] = {}
    try:
        with PROCESSOR.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, colon, value = line.partition(":")
                if not colon and found:
                    break
                found[name.strip()] = value.strip()
    except OSError:
        return {}
    return found


def _interpreter(environment: Path) -> str:
    """The version of the environment's interpreter, as the environment's own settings have it."""
    for line in (environment / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        if name.strip() in {"version", "version_info"}:
            return value.strip()
    return ""


def _installed(environment: Path) -> dict[str, str]:
    folders = sorted(path.name for path in environment.glob("lib/python*/site-packages/*.dist-info"))
    pairs = (folder.removesuffix(".dist-info").rpartition("-") for folder in folders)
    return {canonical_name(name): version for name, _, version in pairs if name}

"""What this machine has (processors, memory, the graphics processors of NVIDIA's driver), and what a stage is executed
on: processor, interpreter and installed packages, as they really are.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from interlock.pipeline.locks.packages import canonical_name
from interlock.run.conditions import Conditions

DEVICES = Path("/dev")
DRIVER = Path("/proc/driver/nvidia/gpus")
"""The driver's folder for each of its processors (NVIDIA's driver, README, chapter "The /proc Interface")."""
SHARED = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
"""Devices that every program needs beside those of its own processors."""
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where the kernel says how much memory this process and its like may have together."""
PROCESSOR = Path("/proc/cpuinfo")
NAMES, FLAGS = ("model name", "CPU implementer", "cpu"), ("flags", "Features")
"""Lines of it, as kernels of several machines name them."""


class Gpu(NamedTuple):
    """One graphics processor: the name that ``CUDA_VISIBLE_DEVICES`` knows it by, and its device."""

    name: str
    device: str


def find_cores() -> float:
    """The processors that this process may use."""
    return float(len(os.sched_getaffinity(0)))


def find_memory(limits: tuple[Path, ...] = LIMITS) -> float:
    """Bytes: those of the machine, or of the control group this process is in."""
    found = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in limits:
        try:
            found = min(found, float(path.read_text()))
        except (OSError, ValueError):  # no such group, or it says "max"
            continue
    return found


def find_gpus(driver: Path = DRIVER, devices: Path = DEVICES) -> tuple[Gpu, ...]:
    """The graphics processors, by number of their device; none where there is no driver.

    They are named by the identifier that the driver tells; one that it tells nothing of, by its number.
    """
    told: dict[int, str] = {}
    for path in driver.glob("*/information"):
        text = path.read_text(errors="replace")
        number = re.search(r"^Device Minor:\s*(\d+)\s*$", text, re.MULTILINE)
        name = re.search(r"^GPU UUID:\s*(GPU-[0-9a-f-]+)\s*$", text, re.MULTILINE)
        if number and name:
            told[int(number[1])] = name[1]
    found = {int(path.name.removeprefix("nvidia")): path for path in devices.glob("nvidia[0-9]*")}
    return tuple(Gpu(told.get(number, str(number)), str(path)) for number, path in sorted(found.items()))


def shared_devices(devices: Path = DEVICES) -> tuple[str, ...]:
    """Those of the devices that all programs on graphics processors share which are there."""
    return tuple(str(devices / name) for name in SHARED if (devices / name).exists())


def conditions_of(environment: str, threads: int) -> Conditions:
    """Those of a stage in the Python environment at ``environment`` that was told to use so many threads."""
    processor = _processor(PROCESSOR)
    return Conditions(
        system=_system(),
        processor=next((processor[name] for name in NAMES if name in processor), ""),
        flags=tuple(sorted(next((processor[name] for name in FLAGS if name in processor), "").split())),
        cores=len(os.sched_getaffinity(0)),
        threads=threads,
        python=_interpreter(Path(environment)),
        packages=_installed(Path(environment)),
    )


@lru_cache(maxsize=1)  # to know the C library's version the interpreter's own file is searched
def _system() -> str:
    return " ".join(part for part in (platform.system(), platform.machine(), *platform.libc_ver()) if part)


@lru_cache(maxsize=1)  # it stays what it is, and is asked for at every end of a stage
def _processor(told: Path) -> Mapping[str, str]:
    """What the kernel says of the first processor; nothing where it says nothing."""
    found: dict[str, str] = {}
    try:
        with told.open(encoding="utf-8", errors="replace") as lines:
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

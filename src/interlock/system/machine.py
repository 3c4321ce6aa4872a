"""What this machine has: processors, memory, and the graphics processors of NVIDIA's driver."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

DEVICES = Path("/dev")
DRIVER = Path("/proc/driver/nvidia/gpus")
"""The driver's folder for each of its processors (NVIDIA's driver, README, chapter "The /proc Interface")."""
SHARED = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
"""Devices that every program needs beside those of its own processors."""
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where the kernel says how much memory this process and its like may have together."""


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

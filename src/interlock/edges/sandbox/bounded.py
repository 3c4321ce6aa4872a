"""``python -m interlock.edges.sandbox.bounded CORES PROGRAM ...``: becomes the program, which may use so many cores.

It and all that it starts are in a control group of its own; where this user may make none they are bound to as many
cores as it takes, and that is said. The group is named by the process: once that has ended, whoever makes another group
removes it.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from interlock.ports import Bounds

from .cells import Cores
from .cgroups import Places


def bound(cpu: float) -> str:
    """From now on this process and what it starts may use so many cores; what is not kept of that."""
    try:
        group = Places().make()
        group.bound(Bounds(cpu=cpu))
        group.admit(os.getpid())
    except OSError as problem:
        os.sched_setaffinity(0, Cores(os.sched_getaffinity(0)).take(cpu) or os.sched_getaffinity(0))
        found = len(os.sched_getaffinity(0))
        cores = f"{found} {'core' if found == 1 else 'cores'}"
        return f"its limit of {cpu:g} (replicas.cpu) is not kept: no control groups ({problem}); it runs on {cores}\n"
    return ""


def main(arguments: list[str]) -> NoReturn:
    """Becomes the program."""
    cpu, *program = arguments
    sys.stderr.write(bound(float(cpu)))
    sys.stderr.flush()
    os.execve(program[0], program, {})  # noqa: S606 - a list of words, no shell


if __name__ == "__main__":
    main(sys.argv[1:])

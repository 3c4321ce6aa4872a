"""What the collection removes besides artifacts: old logs, and Python environments that nothing runs in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

from interlock.edges.environments import UvEnvironments

ENDING = ".log"
PROC = Path("/proc")


def collect_logs(folder: Path, keep: Callable[[str], bool], older_than: float) -> tuple[int, int]:
    """Removes logs below ``folder`` last written before ``older_than``, unless ``keep`` wants those of the attempt.

    Answers how many, and their bytes; a log's index goes with it. What another process removes first is fine.
    """
    count = size = 0
    for log in sorted(folder.rglob(f"*{ENDING}")):
        with suppress(FileNotFoundError):
            facts = log.stat()
            if facts.st_mtime >= older_than or keep(_attempt_of(log.relative_to(folder))):
                continue
            for path in (log, log.with_name(f"{log.name}.lines"), log.with_name(f".{log.name}.ring")):
                if path.exists():
                    size += path.stat().st_size
                    path.unlink()
            count += 1
    for emptied in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        with suppress(OSError):  # it holds something, or an attempt begins in it now
            emptied.rmdir()
    return count, size


def collect_environments(
    environments: UvEnvironments, wanted: Collection[str], older_than: float, data: Path, proc: Path = PROC
) -> tuple[int, int]:
    """Removes environments last used before ``older_than``, but for the wanted and those that programs run in.

    ``data`` is the data plane's folder: what it keeps alive counts also in the moment in which it is down.
    """
    return environments.collect(wanted, _command_lines(proc) + _kept_alive(data), older_than)


def _attempt_of(path: Path) -> str:
    return "/".join(unquote(part) for part in path.with_suffix("").parts)


def _kept_alive(data: Path) -> str:
    """The orders of the data plane's parent, as they are written."""
    return "\n".join(path.read_text(errors="replace") for path in sorted(data.glob("processes/*.json")))


def _command_lines(proc: Path) -> str:
    """The command lines of all processes of this machine: a model server's names its environment."""
    lines = []
    for process in proc.iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                lines.append((process / "cmdline").read_bytes().decode(errors="replace"))
    return "\n".join(lines)

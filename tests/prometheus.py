"""The real Prometheus, from Debian's package: started on a folder with a configuration, asked over HTTP, ended."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml


def programs() -> Path:
    """The folder with ``prometheus`` and ``promtool``; the test is skipped where they cannot be had."""
    fetch = [sys.executable, str(Path(__file__).parent / "debian_packages.py"), "prometheus"]
    done = subprocess.run(fetch, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr.strip())
    return Path(done.stdout.strip()) / "usr" / "bin"


@contextmanager
def running(where: Path, folder: Path, configuration: Mapping[str, Any]) -> Iterator[int]:
    """The port of a Prometheus of this configuration, with its data in ``folder``."""
    (folder / "prometheus.yml").write_text(yaml.safe_dump(dict(configuration)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [where / "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with (folder / "said").open("w") as said:
        server = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder, stdout=said, stderr=said
        )
    try:
        yield port
    finally:
        server.terminate()
        server.wait(30)


def asked(port: int, path: str) -> str:
    """What the API answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=10) as answer:
        return str(answer.read().decode())


def eventually(port: int, query: str, word: str) -> bool:
    """Whether a query's answer holds the word within a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with suppress(OSError):  # it starts
            if word in asked(port, f"query?query={urllib.parse.quote(query)}"):
                return True
        time.sleep(0.2)
    return False


def firing(port: int) -> set[tuple[str, str]]:
    """Name and summary of each alert that fires."""
    alerts = json.loads(asked(port, "alerts"))["data"]["alerts"]
    return {(one["labels"]["alertname"], one["annotations"]["summary"]) for one in alerts if one["state"] == "firing"}

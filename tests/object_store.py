"""A real S3 server, for tests of what reads and watches object stores."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

WEED = Path(sys.executable).with_name("weed")
STARTED_WITHIN, ATTEMPTS = 40.0, 3
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}
"""Variables by which its clients find it, but for AWS_ENDPOINT."""


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextmanager
def object_store(folder: Path) -> Iterator[str]:
    """The endpoint of a server of its own on this machine's loopback, its data in ``folder``.

    It needs eight ports, and between the look for free ones and its start another test may take one: then it is
    started once more with others.
    """
    actions = ["Admin", "Read", "Write", "List"]
    person = {"name": "a", "credentials": [{"accessKey": "key", "secretKey": "secret"}], "actions": actions}
    (folder / "people.json").write_text(json.dumps({"identities": [person]}))
    for attempt in range(ATTEMPTS):
        (folder / str(attempt)).mkdir()
        with serving(folder / str(attempt), folder / "people.json") as port:
            if answers(port):
                yield f"http://127.0.0.1:{port}"
                return
    raise AssertionError("the S3 server does not answer")


@contextmanager
def serving(folder: Path, people: Path) -> Iterator[int]:
    """The port of a server that was started just now."""
    names = ["master", "volume", "filer", "s3"]
    ports = free_ports(2 * len(names))
    command = [str(WEED), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
    command += [f"-s3.config={people}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=40"]
    for name, port, inner in zip(names, ports[::2], ports[1::2], strict=True):
        command += [f"-{name}.port={port}", f"-{name}.port.grpc={inner}"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            yield ports[-2]
        finally:
            server.kill()


def answers(port: int) -> bool:
    """Whether the server there answers in time."""
    until = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.1)
        else:
            return True
        finally:
            connection.close()
    return False

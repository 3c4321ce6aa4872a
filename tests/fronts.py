"""A data plane whose listener asks something of who comes, before replicas that tell what reached them."""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.unix_server import SERVE

from interlock.edges.front import Front
from interlock.edges.proxy import EnvoyProxy
from interlock.edges.proxy.configuration import LABELS, socket_of
from interlock.edges.serving import ensure_supervise, stop_supervise
from interlock.system.sockets import free_port

ECHO = (
    """
import http.server, json, socketserver, sys
name, socket = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        status = int(self.headers.get("x-answer", 200))
        body = json.dumps({"name": name, "path": self.path, "headers": dict(self.headers)}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET"""
    + SERVE
)
MODELS = ("flights", "delays")


class Answer:
    """What came back. ``json`` is its body."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, {name.lower(): value for name, value in headers.items()}, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class GuardedPlane:
    """Envoy and one echoing replica of each model in ``production``; the label endpoint echoes too."""

    def __init__(self, folder: Path, front: Front) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "processes").mkdir(parents=True)
        (folder / "echo.py").write_text(ECHO)
        ensure_supervise(folder)
        self.proxy = self.make_proxy(front)
        self.proxy.start()
        for model in MODELS:
            self.serve(f"{model}.production.r1")
            self.proxy.ensure_weights(f"{model}/production", {f"{model}.production.r1": 100}, 1)

    def make_proxy(self, front: Front) -> EnvoyProxy:
        """As by a server with these settings."""
        listeners = {"production": f"127.0.0.1:{self.port}"}
        return EnvoyProxy(self.folder, listeners, self._argv(LABELS), fronts={"production": front})

    def serve(self, revision: str) -> None:
        name = f"{revision}.0"
        (self.folder / "s" / name).mkdir(parents=True, exist_ok=True)
        process = {"name": name, "argv": self._argv(name), "env": {}, "generation": 1, "grace": 1}
        part = self.folder / f"{name}.part"
        part.write_text(json.dumps(process | {"unlink": [socket_of(name)]}))
        part.rename(self.folder / "processes" / f"{name}.json")
        self.proxy.ensure_endpoints(revision, [name], (), 1)
        environment = revision.rpartition(".")[0].replace(".", "/")
        until = time.monotonic() + 20
        while not self.proxy.observe(environment).endpoints[revision][name].is_healthy:
            assert time.monotonic() < until
            time.sleep(0.02)

    def ask(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        context: ssl.SSLContext | None = None,
    ) -> Answer:
        """One request, over a connection of its own."""
        connection: http.client.HTTPConnection
        if context is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        else:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)
        try:
            connection.request(method, path, b"{}" if method == "POST" else None, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def end(self) -> None:
        stop_supervise(self.folder)

    def _argv(self, name: str) -> list[str]:
        return [sys.executable, "-S", "echo.py", name, socket_of(name)]

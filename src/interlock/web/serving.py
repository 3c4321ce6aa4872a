"""The HTTP face in a running process: its listeners, its thread, and its end."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path

import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState

from interlock.app.services import Services
from interlock.errors import Refused
from interlock.system.sockets import listen
from interlock.vocabulary import Stored
from interlock.web.api import Application, create_app
from interlock.web.entry.protocol import PatientProtocol

SOCKET_NAME = "control.sock"
KEEP_ALIVE_SECONDS = 60
BACKLOG = 1024
END_SECONDS = 8.0
"""How long requests under way may take once the server ends; then their connections are cut."""
CUT_SECONDS = 0.5
"""How long they may take after that to notice."""


class Listener(Stored):
    """An address to listen on. ``hosts`` are the names it answers to besides its own; with ``certificate`` and ``key``
    (paths of PEM files) it speaks TLS.
    """

    address: str
    port: int
    hosts: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None

    @property
    def names(self) -> frozenset[str]:
        """Every host name that a request may be for."""
        own = {self.address}
        if self.address == "localhost" or _is_loopback(self.address):
            own |= {"localhost", "127.0.0.1", "::1"}
        return frozenset(name.lower() for name in (*self.hosts, *own))


class Face:
    """Answers HTTP on ``listeners`` and on ``control.sock`` in ``folder``, on a thread of its own."""

    def __init__(self, services: Services, listeners: Sequence[Listener], folder: Path) -> None:
        self._services = services
        self._listeners = listeners
        self._folder = folder
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._is_ready = threading.Event()
        self._bound: list[tuple[socket.socket, frozenset[str] | None, ssl.SSLContext | None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._app: Application

    def start(self) -> None:
        """Answers from now on. Refused where an address cannot be had; then nothing listens."""
        try:
            for listener in self._listeners:
                context = _context(listener)
                self._bound.append((_bind(listener), listener.names, context))
            self._bound.append((listen(self._folder, SOCKET_NAME), None, None))
            self._app = create_app(self._services)
        except BaseException:
            for bound, _, _ in self._bound:
                bound.close()
            raise
        self._thread.start()
        self._is_ready.wait()

    def stop(self) -> None:
        """Answers what is under way, at most so long, and ends."""
        if self._loop is not None and self._over is not None:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        (self._folder / SOCKET_NAME).unlink(missing_ok=True)

    @property
    def ports(self) -> list[int]:
        """The ports of the listeners, also where any free one was asked for."""
        return [bound.getsockname()[1] for bound, names, _ in self._bound if names is not None]

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        config = Config(
            self._app,
            http=PatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
        config.load()
        states = [ServerState() for _ in self._bound]
        dating = asyncio.create_task(_date(states))
        servers = [
            await _listen(self._loop, config, state, *bound) for state, bound in zip(states, self._bound, strict=True)
        ]
        self._is_ready.set()
        await self._over.wait()
        for server in servers:
            server.close()
        await _end(self._app, states)
        dating.cancel()


async def _listen(
    loop: asyncio.AbstractEventLoop,
    config: Config,
    state: ServerState,
    bound: socket.socket,
    hosts: frozenset[str] | None,
    context: ssl.SSLContext | None,
) -> asyncio.Server:
    def connect() -> PatientProtocol:
        return PatientProtocol(config, state, {"hosts": hosts}, loop)

    return await loop.create_server(
        connect,
        sock=bound,
        backlog=BACKLOG,
        ssl=context,
        ssl_handshake_timeout=10.0 if context else None,
        ssl_shutdown_timeout=5.0 if context else None,
    )


async def _end(app: Application, states: Sequence[ServerState]) -> None:
    """Idle connections close, the others when they are answered; who is still there at the end is cut off."""
    app.close()
    deadline = time.monotonic() + END_SECONDS
    told: set[object] = set()
    while True:
        await asyncio.sleep(0.02)  # who was accepted in the last moment is known by then
        connections = [connection for state in states for connection in state.connections]
        if not connections or time.monotonic() >= deadline:
            break
        for connection in connections:
            if connection not in told:
                connection.shutdown()
                told.add(connection)
    for connection in connections:
        connection.transport.abort()  # who still waits for a body hears that its caller left, and ends by itself
    tasks = [task for state in states for task in state.tasks]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=CUT_SECONDS)
        for task in late:
            task.cancel()


async def _date(states: Sequence[ServerState]) -> None:
    """Every answer has its date; it is written once a second, not once an answer."""
    while True:
        date = formatdate(time.time(), usegmt=True).encode()
        for state in states:
            state.default_headers = [(b"date", date)]
        await asyncio.sleep(1)


def _bind(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((listener.address, listener.port))
        bound.listen(BACKLOG)  # now, so that a port that is taken is known before anything is begun
    except OSError as problem:
        bound.close()
        where = f"{listener.address}:{listener.port}"
        raise Refused(f"cannot listen: {problem.strerror}", where, "choose another listen in server.yaml") from problem
    return bound


def _context(listener: Listener) -> ssl.SSLContext | None:
    if listener.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(listener.certificate, listener.key)
    except (OSError, ssl.SSLError) as problem:
        remedy = "name PEM files of a certificate and its key"
        raise Refused(f"the certificate cannot be used: {problem}", str(listener.certificate), remedy) from problem
    return context


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False

"""`interlock server`: the control plane with its HTTP face, from its lock to its end."""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from interlock.app.folder import StateFolder
from interlock.app.operating.lines import Lines
from interlock.app.settings import ServerSettings, read_settings
from interlock.errors import Refused
from interlock.later import Later
from interlock.system.files import try_lock

if TYPE_CHECKING:
    from interlock.app import server as control
    from interlock.web import serving
else:  # wrong settings, and a folder that another server holds, are refused before these are loaded
    control, serving = Later("interlock.app.server"), Later("interlock.web.serving")

OBJECTS_BETWEEN_COLLECTIONS = 50_000
SWITCH_SECONDS = 0.0005
"""How long a thread computes while another waits to. A commit waits for its turn several times, and all the calls that
it keeps wait with it: with Python's own 5 ms a flood of hook calls is a quarter slower.
"""


def serve(state: Path, config: Path | None, environment: Mapping[str, str], write: Callable[[str], None]) -> int:
    """Runs the control plane until SIGTERM or SIGINT; 0 when it ended as asked. ``write`` takes the lines of its log.

    Refused where another server holds the folder, naming its process, and where its address is taken.
    """
    asked = _Asked()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)
    folder = StateFolder(state.resolve()).make()
    settings = read_settings(config or folder.settings, environment)
    lines = Lines(write, is_json=settings.log_format == "json", now=time.time)
    lock = try_lock(folder.lock)
    if lock is None:
        holder = folder.lock.read_text().strip()
        raise Refused(
            f"another server (process {holder}) runs on this state folder", str(folder.root), "stop it, or use --state"
        )
    with lock:
        server = control.Server(folder.root, settings, environment, lines.say, lines.tell_request)
        try:
            face = serving.Face(server.services, [_listener(settings)], folder.root)
            face.start()
            try:
                _say_hello(settings, face, lines)
                _spare_collector()
                sys.setswitchinterval(SWITCH_SECONDS)
                asked.end = server.end
                if not asked.is_over:
                    server.run()
            finally:
                face.stop()
        finally:
            server.close()
    return 0


class _Asked:
    """The handler of signals: one that comes while the server starts is obeyed as soon as it can be."""

    def __init__(self) -> None:
        self.is_over = False
        self.end: Callable[[], None] = lambda: None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.is_over = True
        self.end()


def _spare_collector() -> None:
    """What was loaded stays: the collector does not look through it again for each page of a list."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)


def _listener(settings: ServerSettings) -> serving.Listener:
    return serving.Listener(
        address=settings.address,
        port=settings.port,
        hosts=settings.hosts,
        certificate=settings.tls.certificate if settings.tls else None,
        key=settings.tls.key if settings.tls else None,
    )


def _say_hello(settings: ServerSettings, face: serving.Face, lines: Lines) -> None:
    scheme = "https" if settings.tls else "http"
    address = f"[{settings.address}]" if ":" in settings.address else settings.address
    lines.say(f"API and webhooks: {scheme}://{address}:{face.ports[0]}")
    for name, environment in settings.environments.items():
        lines.say(f"environment {name}: {'https' if environment.tls else 'http'}://{environment.listen}")

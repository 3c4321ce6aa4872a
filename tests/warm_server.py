"""``interlock server`` without its start: imported once, and forked for each life, so that a life costs little.

``python -m tests.warm_server DESCRIPTOR``: each message at the Unix socket is a life; the answer is its process id
and, where it is watched, the listener of its calls (see tests.calls). A ``variant`` is what is wrong with this server:
a wrong order of writes, a store whose answers are lost, little patience.
"""

import gc
import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from tests.calls import listen
from tests.rollout_lives import deliver

from interlock.control.inbox import Inbox
from interlock.edges.blobs import LocalBlobs
from interlock.edges.store import SqlStore, sqlite
from interlock.edges.store.database import Database
from interlock.edges.store.values import Connection
from interlock.errors import InterlockError, StoreFault
from interlock.source.notice import Notice
from interlock.vocabulary import Digest
from interlock.web.running import serve


def answer_first() -> None:
    """A call is answered before its notice is on the disk, which takes its time."""
    accept, note = Inbox.accept, SqlStore.note

    def accept_at_once(inbox: Inbox, notice: Notice) -> Future[None]:
        accept(inbox, notice)
        answered: Future[None] = Future()
        answered.set_result(None)
        return answered

    def note_slowly(store: SqlStore, *notices: Notice) -> None:
        time.sleep(0.2)  # the answer is heard before, also on a busy machine
        note(store, *notices)

    Inbox.accept = accept_at_once  # type: ignore[method-assign]
    SqlStore.note = note_slowly  # type: ignore[method-assign]


def row_first() -> None:
    """An artifact is stored after the row that names it."""
    put, save = LocalBlobs.put_files, SqlStore.save
    late: list[tuple[LocalBlobs, Mapping[str, bytes]]] = []

    def put_later(blobs: LocalBlobs, files: Mapping[str, bytes]) -> Digest:
        late.append((blobs, files))
        return put(LocalBlobs(f"{blobs._folder}-elsewhere"), files)

    def save_first(store: SqlStore, *writes: Any, **more: Any) -> Any:
        saved = save(store, *writes, **more)
        while writes and late:
            put(*late.pop())
        return saved

    LocalBlobs.put_files = put_later  # type: ignore[method-assign]
    SqlStore.save = save_first  # type: ignore[method-assign]


def forgetful() -> None:
    """One save in ten is done, and told to have failed: the answer of the database was lost."""
    chance, writing = random.Random(7), Database._writing

    @contextmanager
    def lose_answer(database: Database) -> Iterator[Connection]:
        with writing(database) as connection:
            yield connection
        if chance.random() < 0.1:
            raise StoreFault("the answer of the database was lost")

    Database._writing = lose_answer  # type: ignore[method-assign]


def impatient() -> None:
    """It waits a second for the lock of its database, not thirty."""
    sqlite.BUSY_SECONDS = 1


VARIANTS = {
    "right": lambda: None,
    "answer-first": answer_first,
    "row-first": row_first,
    "forgetful": forgetful,
    "impatient": impatient,
}


def serve_all(state: Path) -> int:
    """A whole server."""
    return serve(state, None, os.environ, lambda line: print(line, flush=True))


def live(life: Mapping[str, Any], channel: socket.socket) -> None:
    """One server, from its start to its end; or, where it ``delivers``, of its loop what delivers."""
    log = os.open(life["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    VARIANTS[life["variant"]]()
    listeners = [listen()] if life["is_watched"] else []
    socket.send_fds(channel, [str(os.getpid()).encode()], listeners)
    for descriptor in (channel.detach(), *listeners):
        os.close(descriptor)
    code = 3
    try:
        code = deliver(Path(life["state"])) if life.get("delivers") else serve_all(Path(life["state"]))
    except InterlockError as fault:
        print(f"{type(fault).__name__}: {fault}", flush=True)
    except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as its parent
        traceback.print_exc()
    os._exit(code)


LOADED_LATER = (
    "interlock.app.server",
    "interlock.web.serving",
    "interlock.gate.judge",
    "interlock.gate.data.judge",
    "cryptography.exceptions",
    "cryptography.hazmat.primitives.serialization",
    "cryptography.x509",
    "cryptography.hazmat.primitives.ciphers.aead",
    "httpx",
)


def warm_up() -> None:
    """Loads and builds what a server otherwise does when it is first used, and each life would do again."""
    for name in LOADED_LATER:
        import_module(name)
    models = list(BaseModel.__subclasses__())
    for model in models:
        models += model.__subclasses__()
        model.model_rebuild()


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    while message := channel.recv(1 << 16):
        if os.fork() == 0:
            live(json.loads(message), channel)


if __name__ == "__main__":
    main()

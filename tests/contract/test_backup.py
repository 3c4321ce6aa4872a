"""Backups made while others write, and what comes back from them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.postgres import PROGRAMS, PostgresServer

from interlock.access.audit import Deed, first_break
from interlock.app.backup import back_up, restore
from interlock.app.folder import StateFolder
from interlock.edges.blobs import LocalBlobs
from interlock.edges.store import SqlStore
from interlock.errors import Refused, StoreFault
from interlock.system.files import try_lock
from interlock.vocabulary import Digest, Kind, Write


class Writer:
    """Stores an artifact and then a row that names it, again and again; knows what was acknowledged."""

    def __init__(self, state: Path, url: str) -> None:
        self.acknowledged: list[str] = []
        self._over = threading.Event()
        self._store = SqlStore(url)
        self._blobs = LocalBlobs(StateFolder(state).artifacts)
        self._thread = threading.Thread(target=self._write_on)
        self._thread.start()

    def _write_on(self) -> None:
        while not self._over.is_set():
            key = str(len(self.acknowledged))
            digest = self._blobs.put_files({"model.bin": key.encode() * 1000, "same": b"same"})
            deed = Deed(who="local:ada", action="begin", thing=key)
            write = Write(
                kind=Kind.RUN, key=key, expected=0, phase="queued", state={"model": digest}, because="it was there"
            )
            self._store.save(write, audit=[deed])
            self.acknowledged.append(key)

    def wait_for(self, count: int) -> None:
        while len(self.acknowledged) < count:
            assert self._thread.is_alive()

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self._store.close()


@contextmanager
def writing(state: Path, url: str) -> Iterator[Writer]:
    writer = Writer(state, url)
    try:
        yield writer
    finally:
        writer.end()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with keys, settings, and things that can be made again."""
    folder = StateFolder(tmp_path / "state").make()
    SqlStore(folder.database).close()
    for path in (folder.keys, folder.environments / "abc", folder.data, folder.execution, folder.mirrors):
        path.mkdir(parents=True, mode=0o700)
    (folder.keys / "signing.pem").write_text("key")
    (folder.keys / "signing.pem").chmod(0o600)
    (folder.environments / "abc" / "python").write_text("environment")
    (folder.settings).write_text("poll_every: 5\n")
    return folder.root


def check_restored(state: Path, url: str, before: list[str], after: list[str]) -> None:
    """All that was acknowledged before the backup is there, with its artifacts; nothing is torn."""
    store, blobs = SqlStore(url), LocalBlobs(StateFolder(state).artifacts)
    rows = store.rows(Kind.RUN)
    assert [row.key for row in rows] == [str(number) for number in range(len(rows))]
    assert len(before) <= len(rows) <= len(after) + 1
    for row in rows:
        files = blobs.files(Digest(str(row.state["model"])))
        assert blobs.read(files["model.bin"]) == row.key.encode() * 1000
    assert len(store.events()) == len(store.audit()) == len(rows)
    assert first_break(store.audit()) is None
    store.check()
    store.close()


def test_a_backup_made_while_others_write_holds_all_that_was_acknowledged(state: Path, tmp_path: Path) -> None:
    with writing(state, StateFolder(state).database) as writer:
        writer.wait_for(20)
        before = list(writer.acknowledged)
        back_up(state, tmp_path / "backup")
        after = list(writer.acknowledged)
        writer.wait_for(len(after) + 5)
    database = sqlite3.connect(tmp_path / "backup" / "interlock.db")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()
    restore(tmp_path / "backup", tmp_path / "new")
    new = StateFolder(tmp_path / "new")
    check_restored(new.root, new.database, before, after)
    assert new.settings.read_text() == "poll_every: 5\n"
    assert (new.keys / "signing.pem").read_text() == "key"
    assert (new.keys / "signing.pem").stat().st_mode & 0o777 == 0o600
    assert new.keys.stat().st_mode & 0o777 == new.root.stat().st_mode & 0o777 == 0o700
    assert not new.environments.exists()
    assert not new.mirrors.exists()
    assert not new.data.exists()


def test_a_backup_of_postgresql_is_made_and_restored_by_its_own_programs(
    state: Path, tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(PROGRAMS), prepend=os.pathsep)
    url, empty = postgres.create(), postgres.create()
    with writing(state, url) as writer:
        writer.wait_for(20)
        before = list(writer.acknowledged)
        back_up(state, tmp_path / "backup", url)
        after = list(writer.acknowledged)
    assert not (tmp_path / "backup" / "interlock.db").exists()
    restore(tmp_path / "backup", tmp_path / "new", empty)
    check_restored(tmp_path / "new", empty, before, after)
    store = SqlStore(empty)
    (row,) = store.save(Write(kind=Kind.RUN, key="next", expected=0, phase="queued", state={}, because="go on"))
    assert row.place == max(row.place for row in store.rows(Kind.RUN))
    store.close()
    with pytest.raises(StoreFault, match="pg_restore"):  # it is not empty any more
        restore(tmp_path / "backup", tmp_path / "other", empty)
    with pytest.raises(Refused, match=r"no interlock\.db"):
        restore(tmp_path / "backup", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_backup_of_postgresql_needs_its_programs_and_keeps_the_password(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="pg_dump") as refused:
        back_up(state, tmp_path / "backup", "postgresql://ada:secret@127.0.0.1/interlock")
    assert "secret" not in str(refused.value)
    assert "install" in refused.value.remedy
    monkeypatch.setenv("PATH", str(PROGRAMS))
    with pytest.raises(StoreFault, match="pg_dump") as fault:
        back_up(state, tmp_path / "backup", f"postgresql://ada:secret@/interlock?host={tmp_path}")
    assert "secret" not in str(fault.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]


def test_a_backup_goes_only_where_nothing_is(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "deep" / "backup")
    with pytest.raises(Refused, match="there already"):
        back_up(state, tmp_path / "deep" / "backup")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["backup"]


def test_what_is_no_state_folder_is_not_backed_up(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no database"):
        back_up(tmp_path / "nothing", tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []


def test_a_backup_that_cannot_be_written_is_not_left_half_done(state: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreFault, match="file"):
        back_up(state, tmp_path / "file" / "backup")
    (StateFolder(state).artifacts / "files").mkdir(parents=True)
    (StateFolder(state).artifacts / "files" / "loop").symlink_to("loop")
    with pytest.raises(StoreFault, match="loop"):
        back_up(state, tmp_path / "backup")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "state"]


def test_a_folder_in_use_is_not_restored_over(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "backup")
    lock = try_lock(StateFolder(state).lock)
    assert lock is not None
    with lock, pytest.raises(Refused, match=f"process {os.getpid()}"):
        restore(tmp_path / "backup", state)
    with pytest.raises(Refused, match="not empty"):
        restore(tmp_path / "backup", state)
    assert StateFolder(state).environments.exists()
    shutil.rmtree(state)
    state.mkdir()
    restore(tmp_path / "backup", state)
    assert StateFolder(state).settings.exists()


def test_a_database_that_is_there_is_not_restored_over(state: Path, tmp_path: Path) -> None:
    elsewhere = f"sqlite:///{tmp_path}/elsewhere.db"
    back_up(state, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "new", elsewhere)
    assert not (tmp_path / "new" / "interlock.db").exists()
    with pytest.raises(Refused, match="there already"):
        restore(tmp_path / "backup", tmp_path / "other", elsewhere)
    back_up(tmp_path / "new", tmp_path / "second", elsewhere)
    assert (tmp_path / "second" / "interlock.db").exists()


def test_what_is_no_backup_or_a_damaged_one_is_not_restored(state: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no interlock\.db"):
        restore(tmp_path / "nothing", tmp_path / "new")
    back_up(state, tmp_path / "backup")
    path = tmp_path / "backup" / "interlock.db"
    content = bytearray(path.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises((Refused, StoreFault)):
        restore(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []

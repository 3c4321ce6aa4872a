"""What only a store on a disk can show: several processes, sudden death, other releases, broken files."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from interlock.edges.store import SqlStore
from interlock.edges.store.opening import open_engine
from interlock.edges.store.schema import METADATA
from interlock.errors import Refused, StoreFault
from interlock.vocabulary import Kind, Row, Write

ADDING = """
import sys
from interlock.edges.store import SqlStore
from interlock.errors import AlreadyExists, StaleWrite
from interlock.vocabulary import Kind, Write

store = SqlStore(sys.argv[1])
name, times = sys.argv[2], int(sys.argv[3])
for index in range(times):
    while True:
        row = store.load(Kind.RUN, "sum")
        own = Write(kind=Kind.ATTEMPT, key=f"{name}/{index}", expected=0, phase="done", state={}, because="added")
        value = row.state["value"] + 1 if row else 1
        adding = Write(kind=Kind.RUN, key="sum", expected=row.version if row else 0, phase="queued",
                       state={"value": value, "by": name}, because="added")
        try:
            store.save(adding, own)
        except (StaleWrite, AlreadyExists):
            continue
        break
    store.number(Kind.RUN)
store.close()
"""


def open_at(folder: Path) -> SqlStore:
    return SqlStore(url_of(folder))


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/interlock.db"


def insert(key: str) -> Write:
    return Write(kind=Kind.RUN, key=key, expected=0, phase="queued", state={}, because="inserted")


def row_after(row: Row) -> Write:
    return Write(kind=row.kind, key=row.key, expected=row.version, phase="done", state=row.state, because="next")


def start_adding(folder: Path, name: str, times: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", ADDING, url_of(folder), name, str(times)])


def test_four_processes_that_begin_on_no_database_lose_nothing(tmp_path: Path) -> None:
    processes = [start_adding(tmp_path, name, 15) for name in "abcd"]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    store = open_at(tmp_path)
    row = store.load(Kind.RUN, "sum")
    assert row is not None
    assert (row.version, row.state["value"]) == (60, 60)
    assert {row.key for row in store.rows(Kind.ATTEMPT)} == {
        f"{name}/{index}" for name in "abcd" for index in range(15)
    }
    assert [event.version for event in store.events(Kind.RUN, "sum")] == list(range(1, 61))
    assert store.number(Kind.RUN) == 61
    store.close()


@pytest.mark.parametrize("rows_before_death", [3, 23])
def test_a_killed_writer_leaves_all_or_nothing(tmp_path: Path, rows_before_death: int) -> None:
    store = open_at(tmp_path)
    process = start_adding(tmp_path, "a", 1_000_000)
    while len(store.rows(Kind.ATTEMPT)) < rows_before_death:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    row = store.load(Kind.RUN, "sum")
    assert row is not None
    written = len(store.rows(Kind.ATTEMPT))
    assert row.state["value"] == row.version == written >= rows_before_death
    assert len(store.events(Kind.RUN, "sum")) == len(store.events(Kind.ATTEMPT)) == written
    store.save(row_after(row), insert("after"))
    store.close()


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    saved = store.save(insert("b"), insert("a"))
    store.remember("space", "key", 1)
    store.number(Kind.RUN)
    events = store.events()
    store.close()
    again = open_at(tmp_path)
    assert tuple(again.rows(Kind.RUN)) == saved
    assert again.events() == events
    assert again.recall("space", "key") == [1]
    assert again.number(Kind.RUN) == 2
    again.close()


def test_a_reader_is_not_held_up_by_a_writer(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    store.save(insert("1"))
    writer = sqlite3.connect(tmp_path / "interlock.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE rows SET phase = 'running'")
    assert [row.phase for row in store.rows(Kind.RUN)] == ["queued"]
    writer.execute("COMMIT")
    assert [row.phase for row in store.rows(Kind.RUN)] == ["running"]
    writer.close()
    store.close()


def test_a_writer_waits_for_another_process(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    other = sqlite3.connect(tmp_path / "interlock.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    saved: list[object] = []
    thread = threading.Thread(target=lambda: saved.extend(store.save(insert("1"))))
    thread.start()
    time.sleep(0.05)
    assert saved == []
    other.execute("COMMIT")
    other.close()
    thread.join()
    assert len(saved) == 1
    store.close()


def test_what_is_saved_is_synced(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
    store.close()


def test_the_migrations_make_the_tables_that_the_queries_use(tmp_path: Path) -> None:
    engine = open_engine(url_of(tmp_path))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        indexes = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'index'").scalars().all()
    engine.dispose()
    assert {"rows_by_phase", "rows_in_order", "events_of_a_row", "facts_of_a_key"} <= set(indexes)


def test_a_database_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    database = sqlite3.connect(tmp_path / "interlock.db")
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.commit()
    with pytest.raises(Refused, match="9999") as refusal:
        open_at(tmp_path)
    assert "newer release" in refusal.value.remedy
    assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    database.close()


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "interlock.db")
    database.execute("CREATE TABLE numbers (mine)")  # in the way of the third table of the first step
    database.commit()
    with pytest.raises(StoreFault, match="numbers"):
        open_at(tmp_path)
    assert database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("numbers",)]
    database.execute("DROP TABLE numbers")
    database.close()
    open_at(tmp_path).close()


@pytest.mark.parametrize(
    "url", ["", "no url", "sqlite://", "sqlite:///:memory:", "postgresql://someone:secret@host/database"]
)
def test_other_databases_are_refused_with_the_remedy(url: str) -> None:
    with pytest.raises(Refused) as refusal:
        SqlStore(url)
    assert "sqlite:///" in refusal.value.remedy
    assert "secret" not in str(refusal.value)


def test_a_file_that_is_no_database_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "interlock.db").write_bytes(b"these are not the pages of a database" * 100)
    with pytest.raises(StoreFault, match="not a database"):
        open_at(tmp_path)


def test_a_database_that_breaks_while_open_is_a_fault(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    database = sqlite3.connect(tmp_path / "interlock.db")
    database.execute("DROP TABLE rows")
    database.commit()
    database.close()
    with pytest.raises(StoreFault, match="rows"):
        store.load(Kind.RUN, "1")
    with pytest.raises(StoreFault, match="rows"):
        store.save(insert("1"))
    store.close()

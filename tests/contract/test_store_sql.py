"""What only a store on a disk can show: several processes, sudden death, other releases, broken files."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, inspect

from interlock.access.audit import Deed, first_break
from interlock.edges.store import SqlStore
from interlock.edges.store.migrations.tables import METADATA
from interlock.edges.store.migrations.walking import walk_to
from interlock.errors import Refused, StoreFault
from interlock.source.notice import Notice
from interlock.vocabulary import Fact, Kind, Row, Write

ADDING = """
import sys
from interlock.access.audit import Deed
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
            store.save(adding, own, audit=[Deed(who=name, action="add", thing="sum")])
        except (StaleWrite, AlreadyExists):
            continue
        break
    store.number(Kind.RUN)
store.close()
"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return url_of(tmp_path)
    made: str = request.getfixturevalue("postgres").create()
    return made


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/interlock.db"


def open_at(folder: Path) -> SqlStore:
    return SqlStore(url_of(folder))


@contextmanager
def raw(url: str) -> Iterator[Connection]:
    """A connection that knows nothing of stores; what it did is committed at the end."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def insert(key: str) -> Write:
    return Write(kind=Kind.RUN, key=key, expected=0, phase="queued", state={}, because="inserted")


def row_after(row: Row) -> Write:
    return Write(kind=row.kind, key=row.key, expected=row.version, phase="done", state=row.state, because="next")


def start_adding(url: str, name: str, times: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", ADDING, url, name, str(times)])


def test_four_processes_that_begin_on_no_database_lose_nothing(url: str) -> None:
    processes = [start_adding(url, name, 15) for name in "abcd"]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    store = SqlStore(url)
    row = store.load(Kind.RUN, "sum")
    assert row is not None
    assert (row.version, row.state["value"]) == (60, 60)
    assert {row.key for row in store.rows(Kind.ATTEMPT)} == {
        f"{name}/{index}" for name in "abcd" for index in range(15)
    }
    assert [event.version for event in store.events(Kind.RUN, "sum")] == list(range(1, 61))
    assert store.number(Kind.RUN) == 61
    assert first_break(store.audit()) is None
    assert len(store.audit()) == 60
    store.close()


def test_who_follows_the_events_of_other_processes_misses_none(url: str) -> None:
    store = SqlStore(url)
    processes = [start_adding(url, name, 25) for name in "abc"]
    seen: list[int] = []
    while any(process.poll() is None for process in processes) or store.last_event() > max(seen, default=0):
        seen += [event.number for event in store.events(after=max(seen, default=0))]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert seen == [event.number for event in store.events()]
    assert len(seen) == 2 * 3 * 25
    store.close()


@pytest.mark.parametrize("rows_before_death", [3, 23])
def test_a_killed_writer_leaves_all_or_nothing(url: str, rows_before_death: int) -> None:
    store = SqlStore(url)
    process = start_adding(url, "a", 1_000_000)
    while len(store.rows(Kind.ATTEMPT)) < rows_before_death:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    store.number(Kind.RUN)  # what the dead one may have begun to commit is over
    row = store.load(Kind.RUN, "sum")
    assert row is not None
    written = len(store.rows(Kind.ATTEMPT))
    assert row.state["value"] == row.version == written >= rows_before_death
    assert len(store.events(Kind.RUN, "sum")) == len(store.events(Kind.ATTEMPT)) == len(store.audit()) == written
    store.save(row_after(row), insert("after"))
    store.close()


def test_everything_is_there_after_a_restart(url: str) -> None:
    store = SqlStore(url)
    saved = store.save(insert("b"), insert("a"), audit=[Deed(who="local:ada", action="begin", thing="run/1")])
    store.save(facts=[Fact("space", "key", 1)])
    store.number(Kind.RUN)
    store.note(Notice(repository="flights", source="git", kind="push"))
    events, entries, pending = store.events(), store.audit(), store.pending(9)
    store.close()
    again = SqlStore(url)
    assert tuple(again.rows(Kind.RUN)) == saved
    assert (again.events(), again.audit(), again.pending(9)) == (events, entries, pending)
    assert (len(events), len(entries), len(pending)) == (2, 1, 1)
    assert again.recall("space", "key") == [1]
    assert again.number(Kind.RUN) == 2
    again.check()
    again.close()


@pytest.mark.parametrize("change", ["deed = replace(deed, 'local:ada', 'local:eve')", "at = at + 1", "number = 7"])
def test_an_audit_log_that_was_edited_does_not_hang_together(url: str, change: str) -> None:
    store = SqlStore(url)
    store.save(audit=[Deed(who="local:ada", action="release", thing=str(number)) for number in range(4)])
    with raw(url) as connection:
        connection.exec_driver_sql(f"UPDATE audit SET {change} WHERE number = 3")
    assert first_break(store.audit()) is not None
    store.close()


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
    with store._reading() as connection:
        assert connection.execute("PRAGMA journal_mode")[0]["journal_mode"] == "wal"
        assert connection.execute("PRAGMA synchronous")[0]["synchronous"] == 2  # FULL
    store.close()


def test_without_durability_each_save_waits_for_no_disk_and_is_seen_by_all(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'interlock.db'}"
    store, other = SqlStore(url, is_durable=False), SqlStore(url)
    with store._reading() as connection:
        assert connection.execute("PRAGMA synchronous")[0]["synchronous"] == 1  # NORMAL
    store.save(Write(kind=Kind.RUN, key="1", expected=0, phase="queued", state={"a": [1]}, because="new"))
    found = other.load(Kind.RUN, "1")
    assert found is not None
    assert (found.version, found.state) == (1, {"a": [1]})
    store.close()
    other.close()


def schema_of(connection: Connection) -> dict[str, object]:
    """Everything that the database says of its tables, in no order of its own."""
    seen = inspect(connection)
    schema: dict[str, object] = {}
    for table in seen.get_table_names():
        columns = {column["name"]: {**column, "type": repr(column["type"])} for column in seen.get_columns(table)}
        unique = {found["name"]: found["column_names"] for found in seen.get_unique_constraints(table)}
        indexes = {found["name"]: (found["column_names"], found["unique"]) for found in seen.get_indexes(table)}
        schema[table] = (columns, seen.get_pk_constraint(table), unique, indexes)
    if connection.dialect.name == "sqlite":
        counted = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'")
        schema["counted"] = set(counted.scalars())
    schema["step"] = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all()
    return schema


def test_the_migrations_make_the_tables_that_a_new_database_has(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    is_file = url.startswith("sqlite")
    walked = f"sqlite:///{tmp_path}/walked.db" if is_file else request.getfixturevalue("postgres").create()
    with raw(walked) as connection:
        walk_to(connection, "head", None, walked)
    SqlStore(url).close()
    with raw(url) as connection, raw(walked) as other:
        assert schema_of(connection) == schema_of(other)
        assert METADATA.tables.keys() < schema_of(connection).keys()


def test_a_database_of_a_newer_release_is_refused_and_left_alone(url: str) -> None:
    SqlStore(url).close()
    with raw(url) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Refused, match="9999") as refusal:
        SqlStore(url)
    assert "newer release" in refusal.value.remedy
    with raw(url) as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_a_migration_that_fails_leaves_nothing(url: str) -> None:
    with raw(url) as connection:
        connection.exec_driver_sql("CREATE TABLE numbers (mine INTEGER)")  # in the way of the third table
    with pytest.raises(StoreFault, match="numbers"):
        SqlStore(url)
    with raw(url) as connection:
        assert inspect(connection).get_table_names() == ["numbers"]
        connection.exec_driver_sql("DROP TABLE numbers")
    SqlStore(url).close()


@pytest.mark.parametrize(
    "other",
    [
        "",
        "no url",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://someone:secret@host/database",
        "postgresql://someone:secret@",
    ],
)
def test_other_databases_are_refused_with_the_remedy(other: str) -> None:
    with pytest.raises(Refused) as refusal:
        SqlStore(other)
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

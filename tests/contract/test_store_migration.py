"""Databases of earlier releases: ``releases`` holds rows as each of them wrote them, from a journey of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, Table, create_engine, text

from interlock.delivery.environment import Environment
from interlock.delivery.release import Release
from interlock.delivery.rollout import Rollout
from interlock.edges.store import SqlStore
from interlock.edges.store.migrations.walking import walk_to
from interlock.errors import StoreFault
from interlock.registry.version import ModelVersion
from interlock.run.run import Run
from interlock.vocabulary import Kind, Stored, Write

RELEASES = Path(__file__).parent / "releases"
SHAPES: dict[Kind, type[Stored]] = {
    Kind.RUN: Run,
    Kind.VERSION: ModelVersion,
    Kind.RELEASE: Release,
    Kind.ROLLOUT: Rollout,
    Kind.ENVIRONMENT: Environment,
}

DYING = """
import os, sys
from sqlalchemy import Engine, create_engine, event, inspect, text
from interlock.edges.store import SqlStore

def content():
    engine = create_engine(sys.argv[1].replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        tables = sorted(inspect(connection).get_table_names())
        found = [(table, connection.execute(text(f"SELECT * FROM {table} ORDER BY 1")).fetchall()) for table in tables]
    engine.dispose()
    return repr(found)

def die_at(point):
    left = [point]
    def count(*_):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), 9)
    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", count)

before, point = content(), 0
while True:
    child = os.fork()
    if child == 0:
        die_at(point)
        SqlStore(sys.argv[1])
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert os.WTERMSIG(status) == 9, status
    assert content() == before, f"killed at statement {point}, it left something behind"
    point += 1
print(point)
"""


def written_by(release: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RELEASES / f"{release}.jsonl").read_text().splitlines()]


def runs_of(stored: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in stored if row["table"] == "rows" and row["kind"] == "run"]


@pytest.fixture(params=["sqlite", "postgres"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[list[dict[str, Any]]], str]:
    """Makes a database of schema 0001 with these rows; answers its URL."""
    is_file = request.param == "sqlite"

    def make(stored: list[dict[str, Any]]) -> str:
        url = f"sqlite:///{tmp_path}/interlock.db" if is_file else request.getfixturevalue("postgres").create()
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            walk_to(connection, "0001", None, url)
            insert_all(connection, stored)
        engine.dispose()
        return str(url)

    return make


def insert_all(connection: Connection, stored: list[dict[str, Any]]) -> None:
    metadata = MetaData()
    for row in stored:
        table = Table(row["table"], metadata, autoload_with=connection)
        connection.execute(table.insert().values({name: row[name] for name in row.keys() - {"table"}}))
    if connection.dialect.name == "postgresql":  # which counts apart from what is inserted by hand
        for name, column in (("rows", "place"), ("events", "number"), ("facts", "number")):
            counter = f"pg_get_serial_sequence('{name}', '{column}')"
            connection.execute(text(f"SELECT setval({counter}, 1 + (SELECT COALESCE(max({column}), 0) FROM {name}))"))


def test_every_row_of_the_first_release_is_read_by_this_one(old: Callable[[list[dict[str, Any]]], str]) -> None:
    stored = written_by("0.1.0")
    store = SqlStore(old(stored))
    for kind, shape in SHAPES.items():
        written = [row for row in stored if row["table"] == "rows" and row["kind"] == kind]
        rows = store.rows(kind)
        assert [
            (row.key, row.version, row.phase, row.identity, row.created, row.updated, row.place) for row in rows
        ] == [
            (row["key"], row["version"], row["phase"], row["identity"], row["created"], row["updated"], row["place"])
            for row in written
        ]
        assert rows
        for row in rows:
            shape.model_validate(row.state)
    events = [row for row in stored if row["table"] == "events"]
    assert [(event.number, event.because) for event in store.events()] == [
        (event["number"], event["because"]) for event in events
    ]
    fact = next(row for row in stored if row["table"] == "facts")
    assert json.loads(fact["fact"]) in store.recall(fact["space"], fact["key"])
    store.close()


def test_a_run_of_the_first_release_keeps_all_but_where_its_branches_are_said(
    old: Callable[[list[dict[str, Any]]], str],
) -> None:
    stored = runs_of(written_by("0.1.0"))
    store = SqlStore(old(stored))
    for row, written in zip(store.rows(Kind.RUN), stored, strict=True):
        before = json.loads(written["state"])
        branches = before["plan"].pop("branches")
        plan = row.state["plan"]
        assert isinstance(plan, dict)
        assert plan.pop("triggers") == {"branches": branches}
        assert row.state == before
        assert (row.repository, row.ref) == ("small", "refs/heads/main")
    assert len(store.rows(Kind.RUN, repository="small", ref="refs/heads/main", newest=50)) == 4
    store.close()


def test_a_long_history_is_migrated_a_part_at_a_time(old: Callable[[list[dict[str, Any]]], str]) -> None:
    pattern = runs_of(written_by("0.1.0"))[0]
    stored = [pattern | {"key": str(n), "identity": str(n), "place": 3 * n} for n in range(1, 1103)]
    store = SqlStore(old(stored))
    rows = store.rows(Kind.RUN, repository="small")
    assert [row.key for row in rows] == [str(n) for n in range(1, 1103)]
    assert all("branches" not in dict(row.state["plan"]) for row in rows)  # type: ignore[arg-type,call-overload]
    store.close()


def test_a_migrated_database_goes_on(old: Callable[[list[dict[str, Any]]], str]) -> None:
    stored = written_by("0.1.0")
    store = SqlStore(old(stored))
    last = store.rows(Kind.RUN)[-1]
    saved = Write(kind=Kind.RUN, key=last.key, expected=last.version, phase="done", state=last.state, because="go on")
    (row,) = store.save(saved)
    assert (row.repository, row.identity, row.place) == (last.repository, last.identity, last.place)
    with pytest.raises(StoreFault, match="exists"):
        store.save(saved.model_copy(update={"key": "new", "expected": 0, "identity": last.identity}))
    (new,) = store.save(saved.model_copy(update={"key": "new", "expected": 0}))
    assert new.place > max(row["place"] for row in stored if row["table"] == "rows")
    numbers = next(row["last"] for row in stored if row["table"] == "numbers" and row["kind"] == "run")
    assert store.number(Kind.RUN) == numbers + 1
    assert store.events()[-1].number > 40
    store.close()


def test_a_migration_that_is_killed_at_any_statement_leaves_the_old_database(
    old: Callable[[list[dict[str, Any]]], str],
) -> None:
    url = old(runs_of(written_by("0.1.0")))
    done = subprocess.run([sys.executable, "-c", DYING, url], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
    store = SqlStore(url)
    assert [Run.model_validate(row.state).number for row in store.rows(Kind.RUN)] == [1, 2, 3, 4]
    store.close()

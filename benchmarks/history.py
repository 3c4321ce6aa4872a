"""A long history in the store: what the web pages ask of it, on SQLite and on PostgreSQL, beside the bare statements.

Run it with ``python benchmarks/history.py [--runs N] [--rounds N]``. It makes a history of 100,000 runs with 800,000
events in a temporary folder, the state of each run as a run of nine stages really left it (about 9 KB), and asks each
question of other places every time. ``limit`` is the same statement through the driver alone, its text not decoded;
both take turns, so that whatever else the machine does hits both alike. Then the same lists are asked for as people
ask: ``GET /api/v1/runs`` with a token, over HTTP, from another process. A list of 50 must take at most 20 ms (p95),
both ways.
"""

from __future__ import annotations

import argparse
import base64
import gc
import http.client
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.face import ServedFace
from tests.postgres import PostgresServer

from interlock.access.caller import Role
from interlock.edges.store import SqlStore
from interlock.vocabulary import Kind

ROOT = Path(__file__).resolve().parents[1]
WRITTEN = ROOT / "tests" / "contract" / "releases" / "0.1.0.jsonl"
LIMIT_MS = 20.0
LIST = "/api/v1/runs?limit=50"
EVENTS_EACH = 8
ACTIVE, ACTIVE_PHASES = 30, ("queued", "running")
REPOSITORIES, REFS = 5, 20
ROW_COLUMNS = "place, kind, key, version, phase, state, identity, created, updated, repository, ref"
EVENT_COLUMNS = "kind, key, version, phase, at, because, observed"
Ask = Callable[[str, Sequence[object]], list[Any]]


@dataclass(frozen=True)
class Question:
    """One question, of the store and as bare statements; ``is_list`` where the limit of lists holds."""

    name: str
    ask: Callable[[SqlStore], object]
    bare: Callable[[Ask], object]
    is_list: bool = True


def state_of_a_run() -> str:
    """The state that a run left behind, with a place for its number."""
    rows = (json.loads(line) for line in WRITTEN.read_text().splitlines())
    state = next(row["state"] for row in rows if row["table"] == "rows" and row["kind"] == "run")
    run = json.loads(state.replace('"branches":["main"]', '"triggers":{"branches":["main"]}'))
    return json.dumps(run, separators=(",", ":")).replace('{"number":1,', '{"number":%d,')


def labels(number: int) -> tuple[str, str]:
    """The repository and ref of a run."""
    return f"models-{number % REPOSITORIES}", f"refs/heads/branch-{number // REPOSITORIES % REFS}"


def phase(number: int, runs: int) -> str:
    """Nearly all are over; the last few are not."""
    if number > runs - ACTIVE:
        return "running" if number % 3 else "queued"
    return "failed" if number % 15 == 0 else "cancelled" if number % 40 == 1 else "succeeded"


def rows(runs: int) -> Iterator[tuple[object, ...]]:
    """Rows of the table ``rows``."""
    state = state_of_a_run()
    for number in range(1, runs + 1):
        named = ("run", str(number), EVENTS_EACH, phase(number, runs))
        yield (number, *named, state % number, f"identity {number}", 1e9 + number, 1e9 + number, *labels(number))


def events(runs: int) -> Iterator[tuple[object, ...]]:
    """Rows of the table ``events``, without their numbers."""
    for number in range(1, runs + 1):
        for version in range(1, EVENTS_EACH + 1):
            now = "running" if version < EVENTS_EACH else phase(number, runs)
            yield "run", str(number), version, now, 1e9 + number, f"stage {version} starts: no result is known", "{}"


def fill_sqlite(url: str, runs: int) -> None:
    """Inserts a history without waiting for the disk."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.execute("PRAGMA synchronous = OFF")
    connection.executemany(f"INSERT INTO rows ({ROW_COLUMNS}) VALUES ({', '.join('?' * 11)})", rows(runs))
    connection.executemany(f"INSERT INTO events ({EVENT_COLUMNS}) VALUES ({', '.join('?' * 7)})", events(runs))
    connection.commit()
    connection.close()


def fill_postgres(url: str, runs: int) -> None:
    """Inserts a history, and does at once what the server's own housekeeping does within minutes."""
    with psycopg.connect(url, autocommit=True) as connection:
        for table, columns, content in (("rows", ROW_COLUMNS, rows(runs)), ("events", EVENT_COLUMNS, events(runs))):
            with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as copy:
                for row in content:
                    copy.write_row(row)
            connection.execute(f"VACUUM ANALYZE {table}")
        # the rows above brought their own places: what is inserted next comes after them
        connection.execute("SELECT setval(pg_get_serial_sequence('rows', 'place'), max(place)) FROM rows")


def asking_sqlite(url: str) -> Ask:
    """Asks through the driver alone."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    return lambda statement, values: connection.execute(statement, values).fetchall()


def asking_postgres(url: str) -> Ask:
    """The same for PostgreSQL."""
    connection = psycopg.connect(url, autocommit=True)
    return lambda statement, values: connection.execute(statement.replace("?", "%s"), values).fetchall()


def questions(runs: int, numbers: random.Random) -> list[Question]:
    """What is asked, each time of another place."""
    row, newest = f"SELECT {ROW_COLUMNS} FROM rows WHERE kind = 'run'", "ORDER BY place DESC LIMIT 50"
    event = f"SELECT number, {EVENT_COLUMNS} FROM events WHERE kind = 'run' AND key = ? ORDER BY number"
    active = " UNION ALL ".join(
        f"SELECT place FROM rows WHERE kind = 'run' AND phase = '{one}'" for one in ACTIVE_PHASES
    )

    def deep() -> int:
        return max(51, runs - 50 * min(1000, runs // 100) - numbers.randrange(50))

    def one(store: SqlStore) -> object:
        key = str(numbers.randrange(1, runs))
        return store.load(Kind.RUN, key), store.events(Kind.RUN, key)

    def one_bare(ask: Ask) -> object:
        key = str(numbers.randrange(1, runs))
        return ask(f"{row} AND key = ?", [key]), ask(event, [key])

    def branch(store: SqlStore) -> object:
        repository, ref = labels(numbers.randrange(runs))
        return store.rows(Kind.RUN, repository=repository, ref=ref, newest=50)

    def branch_bare(ask: Ask) -> object:
        return ask(f"{row} AND repository = ? AND ref = ? {newest}", labels(numbers.randrange(runs)))

    return [
        Question("newest 50", lambda store: store.rows(Kind.RUN, newest=50), lambda ask: ask(f"{row} {newest}", [])),
        Question("newest 50 of a repository's branch", branch, branch_bare),
        Question(
            f"50 of page {min(1000, runs // 100):,}",
            lambda store: store.rows(Kind.RUN, newest=50, before=deep()),
            lambda ask: ask(f"{row} AND place < ? {newest}", [deep()]),
        ),
        Question(
            "newest 50 that did not succeed",
            lambda store: store.rows(Kind.RUN, phases=["failed", "cancelled"], newest=50),
            lambda ask: ask(f"{row} AND phase IN ('failed', 'cancelled') {newest}", []),
        ),
        Question(
            f"the {ACTIVE} active runs",
            lambda store: store.rows(Kind.RUN, phases=ACTIVE_PHASES),
            lambda ask: ask(f"{row} AND place IN ({active}) ORDER BY place", []),
        ),
        Question("one run with its events", one, one_bare, is_list=False),
    ]


def milliseconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begun)


def take_turns(work: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """The 99 percentiles of both, in milliseconds, after some rounds that only warm the caches."""
    for _ in range(10):
        work(), other()
    pairs = [(milliseconds(work), milliseconds(other)) for _ in range(rounds)]
    first, second = (statistics.quantiles(times, n=100) for times in zip(*pairs, strict=True))
    return first, second


def measure(name: str, url: str, ask: Ask, runs: int, rounds: int) -> bool:
    """Asks all questions and prints a line for each; whether the lists were quick enough."""
    store = SqlStore(url)
    print(f"{name}\n{'':<36}{'p50':>8}{'p95':>8}{'p99':>8}   {'limit p50':>9}{'p95':>8}   {'ratio':>6}")
    is_quick = True
    for question in questions(runs, random.Random(7)):
        took, bare = take_turns(partial(question.ask, store), partial(question.bare, ask), rounds)
        is_quick = is_quick and (not question.is_list or took[94] <= LIMIT_MS)
        line = f"{question.name:<36}{took[49]:>8.2f}{took[94]:>8.2f}{took[98]:>8.2f}"
        print(f"{line}   {bare[49]:>9.2f}{bare[94]:>8.2f}   {took[49] / bare[49]:>5.1f}x")
    store.close()
    print()
    return is_quick


def cursor(place: int) -> str:
    """As ``next`` of a page is written."""
    return base64.urlsafe_b64encode(str(place).encode()).decode().rstrip("=")


def paths(runs: int, numbers: random.Random) -> dict[str, Callable[[], str]]:
    """What is asked for over HTTP, each time of another place."""

    def branch() -> str:
        repository, ref = labels(numbers.randrange(runs))
        return f"{LIST}&repository={repository}&ref={ref}"

    return {
        "newest 50": lambda: LIST,
        "newest 50 of a repository's branch": branch,
        "50 of any page": lambda: f"{LIST}&cursor={cursor(numbers.randrange(51, runs))}",
        "newest 50 that did not succeed": lambda: f"{LIST}&phase=failed&phase=cancelled",
    }


def ask_face(port: int, token: str, runs: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each list, over one connection. RuntimeError for an answer that is no page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(path: str) -> None:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200 or not json.loads(body)["items"]:
            raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")

    took: dict[str, list[float]] = {}
    for name, path in paths(runs, random.Random(11)).items():
        for _ in range(10):
            get(path())
        took[name] = [milliseconds(partial(get, path())) for _ in range(rounds)]
    return took


def measure_face(url: str, folder: Path, runs: int, rounds: int) -> bool:
    """Asks for the lists over HTTP and prints a line for each; whether they were quick enough."""
    folder.mkdir()
    face = ServedFace(folder, store=SqlStore(url))
    command = [sys.executable, __file__, "--ask", str(face.port), face.token(Role.VIEWER), str(runs), str(rounds)]
    took = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    face.end()
    print(f"{'GET /api/v1/runs':<36}{'p50':>8}{'p95':>8}{'p99':>8}")
    is_quick = True
    for name, values in took.items():
        at = statistics.quantiles(values, n=100)
        is_quick = is_quick and at[94] <= LIMIT_MS
        print(f"{name:<36}{at[49]:>8.2f}{at[94]:>8.2f}{at[98]:>8.2f}")
    print()
    return is_quick


def main() -> int:
    """Prints the tables; 1 where a list is too slow."""
    if sys.argv[1:2] == ["--ask"]:
        port, token, runs, rounds = sys.argv[2:]
        print(json.dumps(ask_face(int(port), token, int(runs), int(rounds))))
        return 0
    parser = argparse.ArgumentParser(description="a long history in the store")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=300)
    chosen = parser.parse_args()
    print(
        f"{chosen.runs:,} runs of {len(state_of_a_run()):,} bytes, {EVENTS_EACH * chosen.runs:,} events; milliseconds\n"
    )
    gc.collect()
    gc.freeze()  # as the server does once it has started: what it is made of is not looked through again and again,
    gc.set_threshold(50_000)  # nor are the thousands of small objects of one list
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        parts = (
            ("SQLite", f"sqlite:///{folder}/interlock.db", fill_sqlite, asking_sqlite),
            ("PostgreSQL, over a Unix socket", server.create(), fill_postgres, asking_postgres),
        )
        is_quick = True
        for name, url, fill, asking in parts:
            SqlStore(url).close()
            print(f"filled in {milliseconds(partial(fill, url, chosen.runs)) / 1000:.0f} s")
            is_quick = measure(name, url, asking(url), chosen.runs, chosen.rounds) and is_quick
            face = Path(folder, f"face of {name.partition(',')[0]}")
            is_quick = measure_face(url, face, chosen.runs, chosen.rounds) and is_quick
    print(f"a list of 50 must take at most {LIMIT_MS:g} ms (p95): {'it does' if is_quick else 'IT DOES NOT'}")
    return 0 if is_quick else 1


if __name__ == "__main__":
    sys.exit(main())

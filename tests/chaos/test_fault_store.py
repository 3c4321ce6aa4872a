"""Disks that are full, read-only, cut short or damaged, and locks that are held: nothing acknowledged is ever lost."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError
from tests.postgres import PostgresServer

from interlock.access.audit import Deed, first_break
from interlock.control.rows import write_state
from interlock.control.running.attempts import Attempt
from interlock.edges.blobs import LocalBlobs
from interlock.edges.store import SqlStore, postgres, sqlite
from interlock.errors import AlreadyExists, ArtifactFault, InterlockError, Refused, StoreFault
from interlock.source.notice import Notice
from interlock.system.files import write_atomically
from interlock.vocabulary import Fact, Kind, Write

MEGABYTE = 1 << 20


def insert(number: int, size: int = 300) -> Write:
    state = {"number": number, "text": "x" * size}
    return Write(
        kind=Kind.RUN,
        key=str(number),
        expected=0,
        phase="queued",
        state=state,
        because="inserted",
        identity=f"i{number}",
    )


def notice(number: int) -> Notice:
    return Notice(repository="flights", source="git", kind="push", delivery=f"{number:>200}")


def open_at(folder: Path) -> SqlStore:
    return SqlStore(f"sqlite:///{folder / 'interlock.db'}")


def keys(store: SqlStore) -> list[str]:
    return [row.key for row in store.rows(Kind.RUN)]


def is_whole(folder: Path) -> bool:
    connection = sqlite3.connect(folder / "interlock.db")
    answer = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    return answer == [("ok",)]


class SmallDisk:
    """A file system of a few megabytes, made of memory."""

    def __init__(self, folder: Path, size: str) -> None:
        self.folder = folder
        folder.mkdir()
        self.mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def mount(self, *words: str) -> None:
        done = subprocess.run(["mount", *words, self.folder], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"this machine does not let us mount a file system: {done.stderr.strip()}")

    def fill(self) -> None:
        """Takes all room that is left, but for a few bytes."""
        with (self.folder / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 4096)
            except OSError:
                return

    def free(self) -> None:
        (self.folder / "filler").unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path / "small", "2m")
    yield made
    made.unmount()


# --- S1: the disk is full ---


def test_a_full_disk_is_a_fault_reads_go_on_and_so_do_writes_once_there_is_room(disk: SmallDisk) -> None:
    store = open_at(disk.folder)
    acknowledged = 0
    disk.fill()
    with suppress(StoreFault):
        for number in range(1, 10_000):
            store.save(insert(number, 2000))
            acknowledged = number
    assert acknowledged < 9_999
    with pytest.raises(StoreFault, match="full"):
        store.save(insert(9_999, 2000))
    assert keys(store) == [str(number) for number in range(1, acknowledged + 1)]
    with pytest.raises(StoreFault):
        store.number(Kind.RUN)
    with pytest.raises(StoreFault):
        store.save(facts=[Fact("trace", "key", "x" * 100_000)])
    with pytest.raises(StoreFault, match="full"):
        store.note(*[notice(number) for number in range(1000)])
    assert store.pending(9) == []
    disk.free()
    store.note(notice(1))
    assert [kept for _, kept in store.pending(9)] == [notice(1)]
    store.save(insert(acknowledged + 1, 2000))
    store.save(facts=[Fact("trace", "key", 1)])
    assert keys(store) == [str(number) for number in range(1, acknowledged + 2)]
    assert len(store.events(Kind.RUN)) == acknowledged + 1
    store.close()
    assert is_whole(disk.folder)


def test_a_disk_that_fills_at_every_possible_write_loses_nothing_acknowledged(disk: SmallDisk) -> None:
    store = open_at(disk.folder)
    acknowledged: list[str] = []
    for room in range(0, 120_000, 4096):
        disk.fill()
        os.truncate(disk.folder / "filler", max(0, (disk.folder / "filler").stat().st_size - room))
        number = room // 4096
        try:
            store.save(insert(number, 20_000))
            acknowledged.append(str(number))
        except StoreFault:
            assert str(number) not in keys(store)
        assert keys(store) == acknowledged
        disk.free()
    assert acknowledged  # with enough room it went well
    store.close()
    again = open_at(disk.folder)
    assert keys(again) == acknowledged
    again.close()
    assert is_whole(disk.folder)


def test_artifacts_on_a_full_disk_are_a_fault_and_leave_nothing_half_written(disk: SmallDisk) -> None:
    blobs = LocalBlobs(disk.folder / "artifacts")
    kept = blobs.put_files({"a": b"kept"})
    disk.fill()
    with pytest.raises(ArtifactFault):
        blobs.put_bytes(os.urandom(MEGABYTE))
    assert list((disk.folder / "artifacts" / "incoming").iterdir()) == []
    assert blobs.has(kept)
    with pytest.raises(ArtifactFault):
        blobs.materialise(blobs.files(kept)["a"], str(disk.folder / "artifacts" / "x" / "y" / "z"))
    disk.free()
    content = os.urandom(MEGABYTE)
    assert blobs.read(blobs.put_bytes(content)) == content


def test_a_file_that_does_not_fit_leaves_the_old_one(disk: SmallDisk) -> None:
    path = disk.folder / "routes.json"
    write_atomically(path, b"old")
    disk.fill()
    with pytest.raises(OSError, match="space"):
        write_atomically(path, b"new" * MEGABYTE)
    assert path.read_bytes() == b"old"
    assert {entry.name for entry in disk.folder.iterdir()} == {"routes.json", "filler"}


# --- S3: the disk is read-only ---


def test_a_read_only_disk_is_a_fault_by_name_and_keeps_what_it_has(disk: SmallDisk) -> None:
    store = open_at(disk.folder)
    store.save(insert(1))
    store.close()
    disk.mount("-o", "remount,ro")
    try:
        with pytest.raises(StoreFault, match="Read-only"):
            open_at(disk.folder)
        with pytest.raises(ArtifactFault, match="Read-only"):
            LocalBlobs(disk.folder / "artifacts")
    finally:
        disk.mount("-o", "remount,rw")
    store = open_at(disk.folder)
    assert keys(store) == ["1"]
    store.close()


# --- S2: the file is cut or damaged ---


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A database with ten saves that are in its log alone, as after a crash."""
    place = tmp_path / "original"
    place.mkdir()
    store = open_at(place)
    for number in range(10):
        store.save(insert(number))
    copy = tmp_path / "crashed"
    shutil.copytree(place, copy)
    store.close()
    (copy / "interlock.db-shm").unlink()
    return copy


def test_a_log_that_is_cut_anywhere_loses_the_last_saves_alone(crashed: Path, tmp_path: Path) -> None:
    log = (crashed / "interlock.db-wal").read_bytes()
    cuts = sorted({*range(0, len(log), 8192 - 512), *range(max(0, len(log) - 8192), len(log), 512), len(log)})
    kept = []
    for cut in cuts:
        place = tmp_path / f"cut-{cut}"
        shutil.copytree(crashed, place)
        os.truncate(place / "interlock.db-wal", cut)
        store = open_at(place)
        found = keys(store)
        assert found == [str(number) for number in range(len(found))]
        assert [event.key for event in store.events(Kind.RUN)] == found
        store.save(insert(len(found)))
        store.check()
        store.close()
        kept.append(len(found))
        shutil.rmtree(place)
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (0, 10)


def test_a_save_is_in_the_log_whole_or_not_at_all(crashed: Path) -> None:
    store = open_at(crashed)
    last = store.save(insert(100), insert(101), insert(102))
    log = crashed / "interlock.db-wal"
    copy = crashed.with_name("copy")
    shutil.copytree(crashed, copy)
    store.close()
    assert log.parent.exists()
    (copy / "interlock.db-shm").unlink()
    os.truncate(copy / "interlock.db-wal", (copy / "interlock.db-wal").stat().st_size - 1)
    again = open_at(copy)
    assert not {row.key for row in last} & set(keys(again))
    again.close()


def told_by(store: SqlStore) -> object:
    """All that it tells but when: a moment is a number, and SQLite does not know another one from it."""
    rows = [row.model_copy(update={"created": 0.0, "updated": 0.0}) for row in store.rows(Kind.RUN)]
    events = [event.model_copy(update={"at": 0.0}) for event in store.events()]
    store.check()
    return rows, events


def test_a_byte_of_another_value_anywhere_is_a_named_fault_or_changes_nothing(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    for number in range(40):
        store.save(insert(number))
    before = told_by(store)
    store.close()
    content = (tmp_path / "interlock.db").read_bytes()
    numbers = random.Random(7)
    faults = 0
    silent: list[int] = []
    for page in range(0, len(content), 4096):
        for at in (page, page + 5, *(page + numbers.randrange(4096) for _ in range(5))):
            damaged = bytearray(content)
            damaged[at] ^= 0xFF
            (tmp_path / "interlock.db").write_bytes(damaged)
            try:
                store = open_at(tmp_path)
            except InterlockError:
                faults += 1
                continue
            try:
                silent += [at] if told_by(store) != before else []
            except InterlockError:
                faults += 1
            finally:
                store.close()
    assert silent == []
    assert faults > 10


def test_a_damaged_database_is_refused_at_the_start_with_the_command_that_mends_it(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    for number in range(200):
        store.save(insert(number))
    store.check()
    store.close()
    path = tmp_path / "interlock.db"
    content = bytearray(path.read_bytes())
    root = sqlite3.connect(path).execute("SELECT rootpage FROM sqlite_master WHERE name = 'rows'").fetchone()[0]
    content[(root - 1) * 4096 + 3] ^= 0x0F  # how many cells the table's first page holds
    path.write_bytes(content)
    store = open_at(tmp_path)
    with pytest.raises(Refused, match="damaged") as refused:
        store.check()
    store.close()
    assert f"sqlite3 {path} .recover" in refused.value.remedy
    assert refused.value.where == str(path)
    done = subprocess.run(
        [Path(sys.executable).parent / "interlock", "server", "--state", tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert ".recover" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "control.sock").exists()
    assert not (tmp_path / "data").exists()


def test_a_row_that_is_no_row_any_more_is_a_fault_that_names_the_database(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    store.save(insert(1))
    for spoilt in ("no json", '{"number": ', "[1]"):
        database = sqlite3.connect(tmp_path / "interlock.db")
        database.execute("UPDATE rows SET state = ?", (spoilt,))
        database.commit()
        database.close()
        with pytest.raises(StoreFault):
            store.rows(Kind.RUN)
        with pytest.raises(StoreFault):
            store.load(Kind.RUN, "1")
    store.close()


# --- S4: the lock is held ---


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SqlStore, subprocess.Popen[str]]]:
    """A store whose database another process has locked; it waits half a second, not 30."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.5)
    store = open_at(tmp_path)
    store.save(insert(1))
    program = f"""
import sqlite3
connection = sqlite3.connect({str(tmp_path / "interlock.db")!r}, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
input()
"""
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    yield store, holder
    holder.communicate("\n")
    store.close()


def test_a_lock_that_is_held_too_long_is_a_fault_and_not_a_crash(held: tuple[SqlStore, subprocess.Popen[str]]) -> None:
    store, holder = held
    with pytest.raises(StoreFault, match="locked"):
        store.save(insert(2))
    with pytest.raises(StoreFault, match="locked"):
        store.number(Kind.RUN)
    with pytest.raises(StoreFault, match="locked"):
        store.note(notice(1))
    assert keys(store) == ["1"]
    assert store.pending(9) == []
    holder.kill()
    holder.wait()
    store.save(insert(2))
    assert keys(store) == ["1", "2"]


def test_many_threads_behind_a_lock_each_get_their_answer(held: tuple[SqlStore, subprocess.Popen[str]]) -> None:
    store, holder = held
    saved: list[int] = []
    refused: list[int] = []

    def save(number: int) -> None:
        try:
            store.save(insert(number))
            saved.append(number)
        except StoreFault:
            refused.append(number)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(2, 6)]
    for thread in threads:
        thread.start()
    threads[0].join()
    holder.kill()
    holder.wait()
    for thread in threads:
        thread.join()
    assert sorted(saved + refused) == [2, 3, 4, 5]
    assert set(keys(store)) == {"1", *map(str, saved)}


# --- S7: PostgreSQL goes away and comes back ---


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as started:
        yield started


def end_connections(server: PostgresServer) -> int:
    """Ends all connections but its own; how many."""
    with server.connect() as connection:
        query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname LIKE 'interlock%'"
        found = connection.execute(query).fetchone()
    assert found is not None
    return int(found[0])


def test_connections_that_were_ended_while_idle_are_not_noticed(server: PostgresServer) -> None:
    store = SqlStore(server.create())
    store.save(insert(0))
    for number in range(1, 6):
        assert end_connections(server) > 0
        if number % 2:
            store.save(insert(number))
        else:
            store.note(notice(number))
            store.save(insert(number))
        assert end_connections(server) > 0
        assert keys(store) == [str(each) for each in range(number + 1)]
    store.close()


def save_until_it_is_there(store: SqlStore, number: int) -> int:
    """What a caller does who met a fault: asks again under the same identity; how many faults it met."""
    for faults in range(1000):
        try:
            store.save(insert(number), audit=[Deed(who="local:ada", action="begin", thing=str(number))])
        except AlreadyExists:
            return faults
        except StoreFault:
            continue
        return faults
    raise AssertionError(f"{number} was never saved")


def test_connections_that_are_ended_while_writing_lose_and_double_nothing(server: PostgresServer) -> None:
    store = SqlStore(server.create())
    over = threading.Event()

    def end_again_and_again() -> int:
        ended = 0
        while not over.wait(0.01):
            ended += end_connections(server)
        return ended

    with ThreadPoolExecutor(4) as pool:
        ended = pool.submit(end_again_and_again)
        try:
            faults = list(pool.map(partial(save_until_it_is_there, store), range(120)))
        finally:
            over.set()
    assert ended.result() > 0
    assert max(faults) < 1000
    assert sorted(map(int, keys(store))) == list(range(120))
    assert len(store.events()) == len(store.audit()) == 120
    assert first_break(store.audit()) is None
    assert sorted(int(entry.deed.thing) for entry in store.audit()) == list(range(120))
    store.close()


def test_a_server_that_is_restarted_is_found_again_without_opening_the_store_again(server: PostgresServer) -> None:
    store = SqlStore(server.create())
    store.save(insert(1))
    server.stop()
    with pytest.raises(StoreFault):
        store.save(insert(2))
    with pytest.raises(StoreFault):
        store.rows(Kind.RUN)
    server.start()
    store.save(insert(2))
    assert keys(store) == ["1", "2"]
    assert len(store.events()) == 2
    store.close()


def test_a_server_that_is_not_there_is_a_fault_that_keeps_the_password(tmp_path: Path) -> None:
    with pytest.raises(StoreFault) as fault:
        SqlStore(f"postgresql://ada:secret@/interlock?host={tmp_path}")
    assert "secret" not in str(fault.value)


def test_a_writer_that_stops_in_the_middle_holds_others_up_for_their_patience_alone(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "BUSY_SECONDS", 0.5)
    monkeypatch.setattr(postgres, "ABANDONED_SECONDS", 3)
    url = server.create()
    store = SqlStore(url)
    store.save(insert(1))
    other = SqlStore(url)
    stopped = other._writing()
    connection = stopped.__enter__()
    connection.execute("DELETE FROM rows")
    with pytest.raises(StoreFault, match="timeout"):
        store.save(insert(2))
    assert keys(store) == ["1"]  # who reads does not wait
    save_until_it_is_there(store, 2)
    with pytest.raises(DBAPIError, match="timeout") as late:
        connection.execute("DELETE FROM rows")
    with pytest.raises(StoreFault):
        stopped.__exit__(type(late.value), late.value, None)
    assert keys(store) == ["1", "2"]
    other.close()
    store.close()


# --- O2: writers that die ---


STORING = """
import os, sys
from interlock.edges import blobs
from interlock.edges.blobs import LocalBlobs, local

def die(*_):
    os.kill(os.getpid(), 9)

store = LocalBlobs(sys.argv[1])
if sys.argv[2] == "before the name":
    local.LocalBlobs._publish = staticmethod(die)
else:
    local.sync_folder = die
store.put_bytes(b"weights" * 1000)
"""


@pytest.mark.parametrize("moment", ["before the name", "before the folder is synced"])
def test_a_writer_that_dies_around_the_rename_leaves_all_or_nothing(tmp_path: Path, moment: str) -> None:
    place = tmp_path / "artifacts"
    blobs = LocalBlobs(place)
    done = subprocess.run([sys.executable, "-c", STORING, place, moment], check=False)
    assert done.returncode == -9
    named = [path for path in (place / "files").rglob("*") if path.is_file()]
    assert len(named) == (0 if moment == "before the name" else 1)
    digest = blobs.put_bytes(b"weights" * 1000)
    assert blobs.read(digest) == b"weights" * 1000
    assert len([path for path in (place / "files").rglob("*") if path.is_file()]) == 1


def test_what_a_claim_says_survives_its_owner(tmp_path: Path) -> None:
    program = f"""
import os
from interlock.control.rows import write_state
from interlock.control.running.attempts import Attempt
from interlock.edges.store import SqlStore
from interlock.vocabulary import Kind
store = SqlStore("sqlite:///{tmp_path / "interlock.db"}")
claim = write_state(
    Kind.ATTEMPT, "1/train/1", Attempt(owner="life 1"), expected=0, phase="running", because="claimed"
)
store.save(claim)
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    store = open_at(tmp_path)
    row = store.load(Kind.ATTEMPT, "1/train/1")
    assert row is not None
    assert Attempt.model_validate(row.state).owner == "life 1"
    claim = write_state(
        Kind.ATTEMPT, "1/train/1", Attempt(owner="life 2"), expected=0, phase="running", because="claimed"
    )
    with pytest.raises(StoreFault, match="exists"):
        store.save(claim)
    store.close()

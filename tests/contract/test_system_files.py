"""Files are whole or absent, and locks exclude."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.system.files import locked, try_lock, write_atomically

HOLDER = """
import sys, time
from pathlib import Path
from interlock.system.files import try_lock
lock = try_lock(Path(sys.argv[1]))
print("held" if lock else "refused", flush=True)
time.sleep(60)
"""


COUNTING = """
import time
from pathlib import Path
from interlock.system.files import locked

def count(lock, counter, times):
    for _ in range(times):
        with locked(lock):
            value = int(counter.read_text())
            time.sleep(0.0005)
            counter.write_text(str(value + 1))
"""


def test_content_and_mode_are_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "weights.json"
    write_atomically(path, b"one", mode=0o600)
    write_atomically(path, b"two", mode=0o640)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.json"]


def test_a_failed_write_leaves_the_old_content_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    (path / "inside").touch()
    with pytest.raises(OSError, match="file"):
        write_atomically(path, b"new")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "nowhere" / "file", b"")


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([letter]) * 200_000 for letter in b"abcd"]
    write_atomically(path, contents[0])
    seen: set[bytes] = set()
    has_ended = threading.Event()

    def read() -> None:
        while not has_ended.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for content in contents * 5:
        write_atomically(path, content)
    has_ended.set()
    reader.join()
    assert seen
    assert seen <= set(contents)


def test_locked_excludes_threads_and_processes(tmp_path: Path) -> None:
    lock, counter = tmp_path / "lock", tmp_path / "counter"
    counter.write_text("0")
    counting: dict[str, Callable[[Path, Path, int], None]] = {}
    exec(COUNTING, counting)  # the same words run here in threads and there in processes
    threads = [threading.Thread(target=counting["count"], args=(lock, counter, 20)) for _ in range(3)]
    script = f"{COUNTING}\ncount(Path({str(lock)!r}), Path({str(counter)!r}), 20)"
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    assert counter.read_text() == "100"


def test_locked_gives_the_lock_back_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ValueError, match="inside"), locked(path):
        raise ValueError("inside")
    lock = try_lock(path)
    assert lock is not None
    lock.close()


def test_try_lock_names_its_holder_and_refuses_a_second(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    path.parent.mkdir()
    path.write_text("a longer text of an earlier holder")
    with try_lock(path) or pytest.fail("the lock is free") as lock:
        assert path.read_text() == f"{os.getpid()}\n"
        assert try_lock(path) is None
        lock.close()
        lock.close()
        second = try_lock(path)
        assert second is not None
        second.close()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert try_lock(path) is None
        assert path.read_text() == f"{holder.pid}\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        lock = try_lock(path)
        assert lock is not None
        lock.close()

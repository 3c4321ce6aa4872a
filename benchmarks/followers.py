"""Following a log live: how long a line takes from being printed to each of 50 followers.

``python benchmarks/followers.py [SECONDS]``. One log grows by 2,000 lines a second, written as an executor writes it,
with 20 secrets to hide, each line with the time at which it was printed and one in a hundred with a secret; another
process follows it over 50 connections, subtracts, and looks for what it must not see.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.face import ServedFace

from interlock.access.caller import Role
from interlock.access.masking import Masker
from interlock.edges.executor.log import CappedLog

FOLLOWERS = 50
LINES = 2000
"""A second."""
TICK = 0.01
LIMIT = 0.100
DATA = b'data: "'
END = b"event: end"
SECRET_BEGINS = b"c2VjcmV0"
SECRETS = [f"{SECRET_BEGINS.decode()}{number:02}{'x9' * 12}" for number in range(20)]
LOG = "/api/v1/runs/1/stages/train/attempts/1/log/stream"


async def follow(port: int, token: str) -> tuple[list[float], list[int], int]:
    """Delays in seconds of the oldest line of all that came at once, how many lines each follower saw, and how many
    pieces had a secret in them.
    """
    delays: list[float] = []
    counts: list[int] = []
    told = 0

    async def one() -> None:
        nonlocal told
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {LOG} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        seen, rest, is_over = 0, b"", False
        while not is_over and (piece := await reader.read(1 << 20)):
            now = time.monotonic()
            whole, _, rest = (rest + piece).rpartition(b"\n\n")
            is_over = END in whole
            told += SECRET_BEGINS in whole
            begin = whole.find(DATA) + len(DATA)
            if begin >= len(DATA):  # the first line of a piece has waited longest
                delays.append(now - float(whole[begin : whole.index(b" ", begin)]))
                seen += whole.count(DATA)
        counts.append(seen)
        writer.close()

    await asyncio.gather(*(one() for _ in range(FOLLOWERS)))
    return delays, counts, told


def print_lines(path: Path, seconds: float) -> int:
    """Prints for so long; how many lines."""
    total = 0
    began = time.monotonic()
    with CappedLog(path) as log:
        log.masker = Masker(SECRETS)
        while (passed := time.monotonic() - began) < seconds:
            now, due = time.monotonic(), int(passed * LINES)
            log.write(b"".join(line(now, number) for number in range(total, due)))
            total = due
            time.sleep(TICK)
    return total


def line(now: float, number: int) -> bytes:
    """Such as a training prints."""
    end = "loss 0.1234" if number % 100 else f"token {SECRETS[number // 100 % len(SECRETS)]}"
    return f"{now} a line such as a training prints: {end}\n".encode()


def main() -> int:
    """Prints the figures; 1 where the limit is broken, a line was missed or a secret seen."""
    if sys.argv[1:2] == ["--follow"]:
        print(json.dumps(asyncio.run(follow(int(sys.argv[2]), sys.argv[3]))))
        return 0
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    with tempfile.TemporaryDirectory() as folder:
        face = ServedFace(Path(folder))
        face.add_run(1)
        face.begin_attempt(1)
        token = face.token(Role.VIEWER)
        command = [sys.executable, __file__, "--follow", str(face.port), token]
        following = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        told: list[str] = []
        reading = threading.Thread(target=lambda: told.append(following.communicate()[0]))
        reading.start()
        while b"interlock_followers 50\n" not in face.ask("GET", "/metrics", token=token).body:
            time.sleep(0.05)
        total = print_lines(face.log_path(1), seconds)
        face.end_attempt(1)
        reading.join()
        face.end()
    delays, counts, leaks = json.loads(told[0])
    delays.sort()
    late = delays[int(len(delays) * 0.99)]
    print(f"{FOLLOWERS} followers, {total} lines in {seconds:g} s; {sum(count == total for count in counts)} saw all")
    print(f"pieces with a secret in them: {leaks}")
    middle, most = delays[len(delays) // 2], delays[-1]
    print(f"delay: median {middle * 1000:.0f} ms, p99 {late * 1000:.0f} ms, most {most * 1000:.0f} ms")
    print(f"The limit is {LIMIT * 1000:g} ms for 99 of 100.")
    return 0 if late <= LIMIT and set(counts) == {total} and not leaks else 1


if __name__ == "__main__":
    sys.exit(main())

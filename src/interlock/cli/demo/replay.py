"""``python -m interlock.cli.demo.replay``: later months' flights as live requests, their outcomes as late labels.

Open loop: a request is due at its time whether or not earlier ones are answered. A flight is sent again, under another
id, only when all have been sent. Nothing is retried: what a client would have seen is what is counted.
"""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from interlock.cli.demo.dataset import Record, read_records, request_inputs
from interlock.system.files import write_atomically

MODEL, ENVIRONMENT = "flights", "production"
SENDERS = 32
PATIENCE_SECONDS = 10.0
LABELS_LATE_SECONDS = 6.0
"""What stands for the hours after which it is known whether a flight was late."""
LABELS_EVERY_SECONDS = 2.0
TALLY_EVERY_SECONDS = 0.5
REMEMBERED_LATENCIES = 20_000


@dataclass
class Book:
    """What happened so far; every method may be called by any thread."""

    folder: Path
    lock: threading.Lock = field(default_factory=threading.Lock)
    sent: int = 0
    served: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    labels: int = 0
    labels_failed: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_LATENCIES))

    def note(self, request: str, status: int, revision: str, seconds: float, reason: str) -> None:
        """One answer, or none (status 0). A failure is written down at once."""
        with self.lock:
            self.sent += 1
            if status == 200:
                self.served[revision] += 1
                self.latencies.append(seconds)
                return
            self.failed[revision] += 1
            failure = {"at": time.time(), "id": request, "status": status, "revision": revision, "reason": reason}
            with (self.folder / "failures.jsonl").open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(failure | {"seconds": round(seconds, 4)}) + "\n")

    def note_labels(self, count: int, are_stored: bool) -> None:
        """A batch of labels was sent."""
        with self.lock:
            if are_stored:
                self.labels += count
            else:
                self.labels_failed += count

    def save(self) -> None:
        """Writes the counts for whoever looks."""
        with self.lock:
            latencies = sorted(self.latencies) or [0.0]
            tally = {
                "sent": self.sent,
                "served": dict(self.served),
                "failed": dict(self.failed),
                "labels": self.labels,
                "labels_failed": self.labels_failed,
                "latency_p50_ms": latencies[len(latencies) // 2] * 1000,
                "latency_p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
            }
        write_atomically(self.folder / "tally.json", json.dumps(tally).encode())


class Caller:
    """One client with one connection, kept open."""

    def __init__(self, endpoint: str) -> None:
        address = urlsplit(endpoint)
        self._connection = http.client.HTTPConnection(
            address.hostname or "127.0.0.1", address.port, timeout=PATIENCE_SECONDS
        )

    def call(self, method: str, path: str, body: object = None) -> tuple[int, str, bytes]:
        """Status, revision and body of the answer; status 0 and the reason where there is none."""
        content = None if body is None else json.dumps(body).encode()
        try:
            self._connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            return answer.status, answer.headers.get("x-interlock-revision", ""), answer.read()
        except (OSError, http.client.HTTPException) as fault:
            self._connection.close()
            return 0, "", f"{type(fault).__name__}: {fault}".encode()


class Replay:
    """Sends flights at ``rate`` a second until ``end`` is set."""

    def __init__(self, endpoint: str, flights: list[Record], book: Book, rate: float) -> None:
        self._endpoint = endpoint
        self._flights = flights
        self._book = book
        self._rate = rate
        self._due: queue.Queue[tuple[str, Record] | None] = queue.Queue()
        self._outcomes: queue.Queue[tuple[float, str, int]] = queue.Queue()
        self.end = threading.Event()

    def run(self) -> None:
        """Waits until the model serves, then keeps the pace; returns when all that was sent is answered."""
        self._wait_until_served()
        senders = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        others = [threading.Thread(target=self._send_labels), threading.Thread(target=self._save)]
        for thread in (*senders, *others):
            thread.start()
        self._keep_pace()
        for _ in senders:
            self._due.put(None)
        for thread in (*senders, *others):
            thread.join()
        self._book.save()

    def _wait_until_served(self) -> None:
        caller = Caller(self._endpoint)
        while not self.end.is_set() and caller.call("GET", f"/v2/models/{MODEL}/ready")[0] != 200:
            self.end.wait(0.2)

    def _keep_pace(self) -> None:
        begun = time.monotonic()
        for number, (identity, flight) in enumerate(_endless(self._flights)):
            if self.end.wait(max(0.0, begun + number / self._rate - time.monotonic())):
                return
            self._due.put((identity, flight))

    def _send(self) -> None:
        caller = Caller(self._endpoint)
        while (due := self._due.get()) is not None:
            identity, flight = due
            # A client that wants the probability asks for it alone.
            request = {"id": identity, "inputs": request_inputs(flight), "outputs": [{"name": "probability"}]}
            begun = time.monotonic()
            status, revision, body = caller.call("POST", f"/v2/models/{MODEL}/infer", request)
            self._book.note(
                identity, status, revision, time.monotonic() - begun, "" if status == 200 else _reason(body)
            )
            self._outcomes.put((time.monotonic() + LABELS_LATE_SECONDS, identity, int(flight["late"])))

    def _send_labels(self) -> None:
        caller = Caller(self._endpoint)
        waiting: deque[tuple[float, str, int]] = deque()
        while not self.end.wait(LABELS_EVERY_SECONDS):
            while not self._outcomes.empty():
                waiting.append(self._outcomes.get())
            labels = []
            while waiting and waiting[0][0] <= time.monotonic():
                _, identity, label = waiting.popleft()
                labels.append({"id": identity, "label": label})
            if labels:
                status, _, _ = caller.call("POST", f"/labels/{MODEL}/{ENVIRONMENT}", {"labels": labels})
                self._book.note_labels(len(labels), status == 200)

    def _save(self) -> None:
        while not self.end.wait(TALLY_EVERY_SECONDS):
            self._book.save()


def _endless(flights: list[Record]) -> Iterator[tuple[str, Record]]:
    lap = 0
    while True:
        for flight in flights:
            yield f"{flight['id']}-{lap}", flight
        lap += 1


def _reason(body: bytes) -> str:
    """What an answer says about its failure, in one short line."""
    try:
        reason = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        reason = body.decode(errors="replace")
    return " ".join(reason.split())[:200]


def main() -> None:
    """Reads the command line and replays until SIGTERM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--endpoint", required=True, help="base URL of the environment")
    parser.add_argument("--flights", required=True, type=Path, help="CSV file of live flights")
    parser.add_argument("--folder", required=True, type=Path, help="where tally.json and failures.jsonl are written")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    options = parser.parse_args()
    replay = Replay(options.endpoint, read_records(options.flights), Book(options.folder), options.rate)

    def end(_number: int, _frame: FrameType | None) -> None:
        replay.end.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    replay.run()


if __name__ == "__main__":
    main()

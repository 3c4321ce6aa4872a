"""``python -m interlock.inference.labels``: stores what turned out to be true, by the id of the request.

``POST /labels/MODEL/ENVIRONMENT`` (or PUT) takes one label ``{"id", "label", "time"?}`` or ``{"labels": [...]}``, all
of them or none; or a file: ``text/csv`` with the columns ``id``, ``label`` and perhaps ``time``, or
``application/x-ndjson``, one such object a line. A label is a number, a boolean or a text; its time is in seconds since
1970. When 200 is answered they are on disk. The first label of an id wins: the same again is a ``duplicate``, another
one is ``contradictory``, which is written down as such and counted, and changes nothing. ``GET`` answers how many ids
have a label.

The log is ``FOLDER/MODEL/ENVIRONMENT.jsonl``, one JSON line a label. All ids are kept in memory, about 200 bytes each.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import fcntl
import io
import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import orjson

from .protocol.answers import Answer, refusal
from .protocol.bodies import UnreadableBody
from .wire.reading import Request
from .wire.serving import serve

PATH = re.compile(r"/labels/([a-z0-9][a-z0-9-]{0,62})/([a-z0-9][a-z0-9_-]{0,62})/?")
MOST_LABELS = 10_000
MOST_OF_A_FILE = 200_000
LONGEST_TEXT = 256

LabelValue: TypeAlias = "bool | int | float | str"


class Label(NamedTuple):
    """What was true for the request ``id``. ``time`` as the sender gave it, else when it arrived."""

    id: str
    label: LabelValue
    time: float


class Outcome(NamedTuple):
    """What became of the labels of one request; the three add up to their number."""

    accepted: int
    duplicate: int
    contradictory: int


class InvalidLabels(ValueError):
    """The client's labels are wrong; the text tells how."""


class LabelLog:
    """The labels of one environment: a file that only grows, and the first label of each id in memory."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self.first: dict[str, LabelValue] = {}
        self._length = self._read(path)
        _sync_folder(path.parent)

    def _read(self, path: Path) -> int:
        """Reads what is there; a torn last line was never answered for, and is written over."""
        length = 0
        with path.open("rb") as reader:
            for line in reader:
                if not line.endswith(b"\n"):
                    break
                length += len(line)
                record = orjson.loads(line)
                self.first.setdefault(record["id"], record["label"])
        return length

    def store(self, batches: Iterable[list[Label]]) -> list[Outcome]:
        """Writes all labels with one write and one fsync, and answers for each batch. OSError: nothing was stored."""
        new: dict[str, LabelValue] = {}
        lines: list[bytes] = []
        stored = [self._sort_out(batch, new, lines) for batch in batches]
        if lines:
            content = b"".join(lines)
            os.ftruncate(self._file, self._length)
            if os.pwrite(self._file, content, self._length) != len(content):
                raise OSError("the labels did not fit on the disk")
            os.fsync(self._file)
            self._length += len(content)
        self.first.update(new)
        return stored

    def _sort_out(self, batch: list[Label], new: dict[str, LabelValue], lines: list[bytes]) -> Outcome:
        counts = {"accepted": 0, "duplicate": 0, "contradictory": 0}
        for label in batch:
            known = self.first.get(label.id, new.get(label.id))
            if known is None:
                new[label.id] = label.label
                kind = "accepted"
            else:
                kind = "duplicate" if known == label.label else "contradictory"
            counts[kind] += 1
            if kind != "duplicate":
                record = {**label._asdict(), "is_contradictory": kind == "contradictory"}
                lines.append(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        return Outcome(**counts)


class LabelService:
    """Answers the requests. Labels that arrive while others are being written wait, and share the next write."""

    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs = {path: LabelLog(path) for path in sorted(folder.glob("*/*.jsonl"))}
        self._waiting: list[tuple[Path, list[Label], asyncio.Future[Outcome]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._is_ready = True

    def fail_readiness(self) -> None:
        """From now on ``/ready`` says no."""
        self._is_ready = False

    async def answer(self, request: Request) -> Answer:
        """Answers one request."""
        if request.path == "/ready":
            return Answer(200, b'{"ready":true}') if self._is_ready else refusal(503, "stopping", ("retry-after", "1"))
        match = PATH.fullmatch(request.path)
        if match is None:
            return refusal(404, "labels live at /labels/MODEL/ENVIRONMENT")
        path = self._folder / match[1] / f"{match[2]}.jsonl"
        if request.method == "GET":
            return Answer(200, orjson.dumps({"count": len(self._logs[path].first) if path in self._logs else 0}))
        if request.method not in {"POST", "PUT"}:
            return refusal(405, f"{request.method} is not for labels", ("allow", "GET, POST, PUT"))
        try:
            labels = read_body(request.read(), request.header("content-type") or "", time.time())
        except UnreadableBody as wrong:
            return refusal(wrong.status, str(wrong))
        except (InvalidLabels, orjson.JSONDecodeError) as wrong:
            return refusal(400, str(wrong))
        try:
            stored = await self._store(path, labels)
        except OSError as fault:
            return refusal(503, f"the labels could not be stored: {fault}", ("retry-after", "1"))
        return Answer(200, orjson.dumps(stored._asdict()))

    async def _store(self, path: Path, labels: list[Label]) -> Outcome:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Outcome] = loop.create_future()
        self._waiting.append((path, labels, done))
        if self._writing is None or self._writing.done():
            self._writing = loop.create_task(self._write())
        return await done

    async def _write(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            for path in dict.fromkeys(path for path, _, _ in waiting):
                group = [(labels, done) for other, labels, done in waiting if other == path]
                try:
                    stored = await asyncio.to_thread(self._store_now, path, [labels for labels, _ in group])
                except Exception as fault:  # noqa: BLE001 - whatever it was, it is the answer of those who wait
                    for _, done in group:
                        if not done.done():
                            done.set_exception(fault)
                else:
                    for (_, done), each in zip(group, stored, strict=True):
                        if not done.done():
                            done.set_result(each)

    def _store_now(self, path: Path, batches: list[list[Label]]) -> list[Outcome]:
        log = self._logs.get(path)
        if log is None:
            log = self._logs[path] = LabelLog(path)
        return log.store(batches)


def read_body(body: bytes, content_type: str, now: float) -> list[Label]:
    """The labels of a request's body. InvalidLabels, or JSONDecodeError, where it is not what it says it is."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/csv":
        entries = _rows_of(body)
    elif kind == "application/x-ndjson":
        entries = [orjson.loads(line) for line in body.splitlines() if line.strip()]
    else:
        return read_labels(orjson.loads(body), now)
    if not 0 < len(entries) <= MOST_OF_A_FILE:
        raise InvalidLabels(f"expected a file of 1 to {MOST_OF_A_FILE} labels, found {len(entries)}")
    return [_read_label(entry, place, now) for place, entry in enumerate(entries)]


def _rows_of(body: bytes) -> list[object]:
    """The rows of a CSV file by column; a label or time that JSON would read as a number or boolean is one."""
    try:
        header, *rows = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
    except (UnicodeDecodeError, csv.Error, ValueError) as wrong:
        raise InvalidLabels(f"the file is no CSV text in UTF-8 with a first line of names: {wrong}") from wrong
    entries: list[object] = []
    for place, row in enumerate(row for row in rows if row):
        if len(row) != len(header):
            raise InvalidLabels(f"label {place} has {len(row)} values, the first line {len(header)} names")
        named: dict[str, object] = dict(zip(header, row, strict=True))
        entries.append({name: value if name == "id" else _plain(str(value)) for name, value in named.items() if value})
    return entries


def _plain(text: str) -> object:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if isinstance(value, bool | int | float) else text


def read_labels(document: object, now: float) -> list[Label]:
    """The labels of a request. InvalidLabels names the first that is wrong, by its place."""
    entries = document.get("labels", [document]) if isinstance(document, dict) else None
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST_LABELS:
        raise InvalidLabels(f'expected {{"id", "label"}} or {{"labels": [...]}} with 1 to {MOST_LABELS} of them')
    return [_read_label(entry, place, now) for place, entry in enumerate(entries)]


def _read_label(entry: object, place: int, now: float) -> Label:
    if not isinstance(entry, dict):
        raise InvalidLabels(f"label {place} is not an object")
    if unknown := entry.keys() - {"id", "label", "time"}:
        raise InvalidLabels(f"label {place} has an unknown key {min(unknown)[:100]!r}")
    identity, label, moment = entry.get("id"), entry.get("label"), entry.get("time", now)
    if not isinstance(identity, str) or not 0 < len(identity) <= LONGEST_TEXT:
        raise InvalidLabels(f'label {place}: "id" must be a text of 1 to {LONGEST_TEXT} characters')
    if not isinstance(label, bool | int | float | str) or (isinstance(label, str) and len(label) > LONGEST_TEXT):
        raise InvalidLabels(f'label {place}: "label" must be a number, a boolean or a text')
    if isinstance(moment, bool) or not isinstance(moment, int | float):
        raise InvalidLabels(f'label {place}: "time" must be a number of seconds since 1970')
    return Label(identity, label, float(moment))


def main(arguments: list[str]) -> int:
    """Serves until SIGTERM; answers the exit code."""
    parser = argparse.ArgumentParser(prog="interlock.inference.labels", description="Stores labels on a Unix socket.")
    parser.add_argument("--socket", required=True, help="path of the Unix socket, at most 107 bytes")
    parser.add_argument("--folder", required=True, type=Path, help="where the labels are kept")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    with (options.folder / ".lock").open("wb") as lock:
        try:
            # Which label was first is known to one process only.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"interlock.inference.labels: another process keeps the labels of {options.folder}\n")
            return 1
        serve(LabelService(options.folder), options.socket)
    return 0


def _sync_folder(folder: Path) -> None:
    """Makes the names of new files and folders durable."""
    for each in (folder, folder.parent):
        opened = os.open(each, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

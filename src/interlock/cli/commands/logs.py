"""The command ``log``: what the stages of a run printed, up to now or until it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from interlock.cli.output import ExitCode, Line
from interlock.cli.session import Session, with_server
from interlock.errors import NotFound, Refused

if TYPE_CHECKING:
    from interlock.cli.reading import Reading
    from interlock.run.run import Run

NEXT_SECONDS = 0.3
"""How often a run that is followed is looked at while none of its stages runs."""


@click.command()
@click.argument("thing", metavar="RUN[/STAGE[/ATTEMPT]]")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--raw", is_flag=True, help="As it was printed, with every control character, and without titles.")
@with_server
def log(session: Session, thing: str, follow: bool, raw: bool) -> int:
    """What the stages of a run printed. With --json, one JSON object for each line."""
    number, stage, attempt = _parse_log(thing)
    with session.read() as reading:
        found = _load_run(reading, number)
        if stage is not None and stage not in found.stages:
            raise NotFound(f"run {number} has no stage {stage!r}", "log", f"it has {', '.join(found.stages) or 'none'}")
        show = _Show(session, raw)
        if follow:
            _follow(reading, number, stage, attempt, show)
        elif not _print_all(reading, found, stage, attempt, show):
            session.output.say(Line(f"nothing was executed yet: the run is {found.phase}", "dim"))
    return ExitCode.SUCCESS


def _parse_log(thing: str) -> tuple[str, str | None, int | None]:
    parts = thing.removeprefix("run/").split("/")
    is_attempt_right = len(parts) < 3 or parts[2].isdigit()
    if not parts[0].isdigit() or len(parts) > 3 or not is_attempt_right:
        raise Refused(f"not a run or stage: {thing!r}", "log", "write 12, 12/train or 12/train/1")
    return parts[0], parts[1] if len(parts) > 1 else None, int(parts[2]) if len(parts) == 3 else None


def _load_run(reading: Reading, number: str) -> Run:
    from interlock.cli.show import read_run
    from interlock.vocabulary import Kind

    row = reading.load(Kind.RUN, number)
    if row is None:
        raise NotFound(f"there is no run {number}", "log", "`interlock runs` lists them")
    return read_run(row)


class _Show:
    """Prints logs, each behind its title."""

    def __init__(self, session: Session, is_raw: bool) -> None:
        self._output = session.output
        self._is_raw = is_raw

    def log(self, title: str, attempt: str, lines: Iterable[str]) -> None:
        """One log as it comes."""
        if not self._is_raw:
            self._output.say(Line(f"--- {title}", "title"))
        is_there = False
        for line in lines:
            is_there = True
            if self._output.is_json:
                self._output.answer({"attempt": attempt, "line": line})
            elif self._is_raw:
                sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")
            else:
                self._output.repeat(line)
        if not (is_there or self._is_raw):
            self._output.say(Line("(no output is kept)", "dim"))


def _print_all(reading: Reading, run: Run, stage: str | None, attempt: int | None, show: _Show) -> bool:
    from interlock.cli.show import logs_of

    logs = logs_of(run, stage, attempt)
    for title, key in logs:
        show.log(title, key, reading.log(key))
    return bool(logs)


def _follow(reading: Reading, number: str, stage: str | None, attempt: int | None, show: _Show) -> None:
    """Prints each log as it grows, one after the other, until the run has ended: the same text as afterwards."""
    from interlock.cli.show import logs_of

    told: set[str] = set()
    while True:
        run = _load_run(reading, number)
        found = next(((title, key) for title, key in logs_of(run, stage, attempt) if key not in told), None)
        if found is not None:
            told.add(found[1])
            show.log(*found, _flushed(reading.follow(found[1])))
        elif run.phase.is_final or attempt is not None:
            return
        else:
            time.sleep(NEXT_SECONDS)


def _flushed(lines: Iterable[str]) -> Iterator[str]:
    """The same lines; each is on its way to whoever reads our output before the next is waited for."""
    for line in lines:
        yield line
        sys.stdout.flush()

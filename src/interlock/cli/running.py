"""The commands about one commit: ``validate``, ``plan``, ``run`` and ``log``.

What is heavy is imported by the command that uses it, so that its help is quick.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.group import Session, with_session
from interlock.cli.output import ExitCode, Line
from interlock.errors import NotFound, Refused

if TYPE_CHECKING:
    from interlock.app.reading import Reading
    from interlock.run.run import Run
    from interlock.vocabulary import Event

PIPELINE_FILE = "interlock.yaml"
FOLLOW_SECONDS = 0.2
"""How often a log that is followed is read."""

folder_argument = click.argument(
    "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".", required=False
)
overrides_option = click.option(
    "-S", "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Override a parameter: train.max_depth=4."
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=PIPELINE_FILE, required=False)
@with_session
def validate(session: Session, file: Path) -> int:
    """Check a pipeline FILE (interlock.yaml): every problem at once, with line, column and remedy."""
    from interlock.pipeline.resolve import read_pipeline

    path = file / PIPELINE_FILE if file.is_dir() else file
    if not path.is_file():
        raise Refused("there is no such file", str(path), "`interlock init` writes one from what it finds")
    read_pipeline(path.read_bytes(), str(path))
    session.output.say(Line(f"{path}: the pipeline file is valid", "good"))
    session.output.answer({"file": str(path), "is_valid": True})
    return ExitCode.SUCCESS


@click.command()
@folder_argument
@click.option("--revision", metavar="REV", help="Plan this commit instead of the working tree.")
@overrides_option
@with_session
def plan(session: Session, folder: Path, revision: str | None, overrides: tuple[str, ...]) -> int:
    """Show what a run of FOLDER would do: each stage runs, is reused, or depends on one that runs, and why."""
    from interlock.cli import show

    with session.output.progress("planning"), session.open_local() as local:
        planned = local.plan(folder, revision, overrides)
    session.output.say(*show.plan_lines(planned.plan, planned.stages))
    session.output.answer(
        {"commit": planned.commit.model_dump(mode="json"), **show.plan_json(planned.plan, planned.stages)}
    )
    return ExitCode.SUCCESS


@click.command()
@folder_argument
@overrides_option
@with_session
def run(session: Session, folder: Path, overrides: tuple[str, ...]) -> int:
    """Run the working tree at FOLDER, uncommitted changes included, from checks to gates. Needs no server."""
    from interlock.cli import show
    from interlock.vocabulary import Kind

    teller = show.RunTeller()
    with session.open_local() as local, session.read() as reading:

        def hear(event: Event) -> None:
            row = reading.store.load(Kind.RUN, event.key)
            if row is not None:
                session.output.note(*teller.tell(show.read_run(row)))

        with session.output.progress("running", is_told_otherwise=True):
            last = local.run(folder, overrides, hear)
    session.output.note(*teller.tell(last))
    session.output.say(*show.run_end(last))
    session.output.answer(last.model_dump(mode="json"))
    return show.exit_code_of(last)


@click.command()
@click.argument("thing", metavar="RUN[/STAGE[/ATTEMPT]]")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@with_session
def log(session: Session, thing: str, follow: bool) -> int:
    """What the stages of a run printed. With --json, one JSON object for each line."""
    from interlock.cli import show

    number, stage, attempt = _parse_log(thing)
    with session.read() as reading:
        found = _load_run(reading, number)
        if stage is not None and stage not in found.stages:
            raise NotFound(f"run {number} has no stage {stage!r}", "log", f"it has {', '.join(found.stages) or 'none'}")
        if follow:
            _follow(session, reading, number, stage)
            return ExitCode.SUCCESS
        logs = show.logs_of(found, stage, attempt)
        if not logs:
            session.output.say(Line(f"nothing was executed yet: the run is {found.phase}", "dim"))
        for title, key in logs:
            session.output.say(Line(f"--- {title}", "title"))
            path = reading.log_path(key)
            if not path.is_file():
                session.output.say(Line("(no log is kept)", "dim"))
                continue
            for line in path.read_text(errors="replace").splitlines():
                _print_line(session, key, line)
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

    row = reading.store.load(Kind.RUN, number)
    if row is None:
        raise NotFound(f"there is no run {number}", "log", "`interlock status` shows the last ones")
    return read_run(row)


def _print_line(session: Session, key: str, line: str) -> None:
    if session.output.is_json:
        session.output.answer({"attempt": key, "line": line})
    else:
        sys.stdout.write(f"{line}\n")


def _follow(session: Session, reading: Reading, number: str, stage: str | None) -> None:
    """Prints every log as it grows, each attempt that begins, until the run ends."""
    from interlock.cli.show import logs_of

    read: dict[str, int] = {}
    while True:
        found = _load_run(reading, number)
        for title, key in logs_of(found, stage, None):
            if key not in read:
                session.output.say(Line(f"--- {title}", "title"))
                read[key] = 0
            for line in _new_lines(reading.log_path(key), read, key, is_last=found.phase.is_final):
                _print_line(session, key, line)
        sys.stdout.flush()
        if found.phase.is_final:
            return
        time.sleep(FOLLOW_SECONDS)


def _new_lines(path: Path, read: dict[str, int], key: str, is_last: bool) -> Iterator[str]:
    """The whole lines written since the last look; at the last look also one without an end."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(read[key])
        content = file.read()
    whole = content if is_last else content[: content.rfind(b"\n") + 1]
    read[key] += len(whole)
    yield from whole.decode(errors="replace").splitlines()

"""The commands that look: ``status`` (what is now) and ``explain`` (why)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.group import Session, with_session
from interlock.cli.output import ExitCode, Line
from interlock.errors import NotFound

if TYPE_CHECKING:
    from interlock.app.reading import Reading
    from interlock.cli.story import Thing
    from interlock.inference.joined import Joined
    from interlock.vocabulary import Row

LAST_RUNS = 5


@click.command()
@with_session
def status(session: Session) -> int:
    """What is now: environments with their revisions and weights, open releases and rollouts, the last runs."""
    from interlock.cli import show
    from interlock.vocabulary import Kind

    with session.read() as reading:
        environments = reading.store.rows(Kind.ENVIRONMENT)
        releases = reading.store.rows(Kind.RELEASE, phases=("open", "waiting"))
        rollouts = reading.store.rows(Kind.ROLLOUT, phases=("progressing",))
        runs = reading.store.rows(Kind.RUN, newest=LAST_RUNS)
        with session.output.progress("joining predictions and labels"):
            quality = {row.key: _live_quality(reading.folder.data, row.key) for row in environments}
    lines: list[Line] = []
    for row in environments:
        lines += show.environment_lines(row, quality[row.key])
    if not environments:
        lines.append(Line("no environment yet", "dim"))
    lines += _section("releases under way", [show.release_line(row) for row in releases])
    lines += _section("rollouts under way", [show.rollout_line(row) for row in rollouts])
    lines += _section("last runs", [show.run_line(row) for row in runs])
    session.output.say(*lines)
    session.output.answer(
        {
            "environments": [
                {**show.row_json(row), "quality": {key: asdict(live) for key, live in quality[row.key].items()}}
                for row in environments
            ],
            "releases": [show.row_json(row) for row in releases],
            "rollouts": [show.row_json(row) for row in rollouts],
            "runs": [show.row_json(row) for row in runs],
        }
    )
    return ExitCode.SUCCESS


def _live_quality(data: Path, environment: str) -> dict[str, Joined]:
    """How right each revision of ``model/environment`` was, from the data plane's logs, by revision key."""
    from interlock.inference.joined import join

    predictions = data / "predictions" / environment.replace("/", ".")
    return join(predictions, data / "labels" / f"{environment}.jsonl")


def _section(title: str, lines: list[Line]) -> list[Line]:
    return [Line(title, "title"), *lines] if lines else []


@click.command()
@click.argument("thing", nargs=-1, required=True)
@with_session
def explain(session: Session, thing: tuple[str, ...]) -> int:
    """Why a THING is as it is: run/12, run/12/train, gate run/12, rollout/3, release/2, flights/production."""
    from interlock.cli.story import parse_thing

    wanted = parse_thing(thing)
    with session.read() as reading:
        row = reading.store.load(wanted.kind, wanted.key)
        if row is None:
            raise NotFound(
                f"there is no {wanted.kind} {wanted.key}", "explain", "`interlock status` shows what there is"
            )
        lines, answer = _tell(reading, wanted, row)
    session.output.say(*lines)
    session.output.answer(answer)
    return ExitCode.SUCCESS


def _tell(reading: Reading, wanted: Thing, row: Row) -> tuple[list[Line], dict[str, Any]]:
    from interlock.cli import show, story
    from interlock.vocabulary import Kind

    events = reading.store.events(wanted.kind, wanted.key)
    answer: dict[str, Any] = {"row": show.row_json(row)}
    if wanted.kind is not Kind.RUN:
        lines = [*story.headline(row), Line("decisions", "title"), *story.event_lines(events)]
    elif wanted.is_gate:
        return story.gate_story(show.read_run(row)), {"judgement": row.state.get("judgement")}
    elif wanted.stage is not None:
        attempts = reading.store.rows(Kind.ATTEMPT, prefix=f"{wanted.key}/{wanted.stage}/")
        events = story.of_stage(events, wanted.stage)
        events += [event for attempt in attempts for event in reading.store.events(Kind.ATTEMPT, attempt.key)]
        events.sort(key=lambda event: event.number)
        run = show.read_run(row)
        lines = story.stage_story(run, wanted.stage, events)
        answer = {"stage": wanted.stage, "run": wanted.key, **run.stages[wanted.stage].model_dump(mode="json")}
    else:
        lines = story.run_story(show.read_run(row), events)
    return lines, {**answer, "events": [event.model_dump(mode="json") for event in events]}

"""The commands that look: ``status`` (what is now), ``runs`` (what ran) and ``explain`` (why)."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from interlock.cli.output import ExitCode, Line
from interlock.cli.session import Session, with_server
from interlock.errors import NotFound

if TYPE_CHECKING:
    from interlock.cli.reading import Reading
    from interlock.cli.story import Thing
    from interlock.run.run import Run
    from interlock.vocabulary import Row

LAST_RUNS = 5
DAY, RENEW_DAYS = 86_400.0, 14
RUNS_SEARCHED = 100
RUN_PHASES = ("queued", "running", "held", "succeeded", "failed", "errored", "cancelled")


@click.command()
@with_server
def status(session: Session) -> int:
    """What is now: environments with their revisions and weights, open releases and rollouts, the last runs."""
    from interlock.cli import show, story
    from interlock.vocabulary import Kind

    with session.read() as reading:
        environments = reading.rows(Kind.ENVIRONMENT)
        releases = reading.rows(Kind.RELEASE, phases=("open", "waiting"))
        rollouts = reading.rows(Kind.ROLLOUT, phases=("progressing",))
        last = reading.runs(LAST_RUNS)
        certificates = reading.certificates() if environments else {}
        with session.output.progress("joining predictions and labels"):
            quality = {row.key: reading.quality(row.key) for row in environments}
    lines: list[Line] = []
    for row in environments:
        lines += show.environment_lines(row, quality[row.key])
    if not environments:
        lines.append(Line("no environment yet", "dim"))
    lines += _section("certificates", [_certificate_line(*one) for one in sorted(certificates.items())])
    lines += _section("releases under way", [show.release_line(row) for row in releases])
    lines += _section("rollouts under way", [line for row in rollouts for line in story.headline(row)])
    lines += _section("last runs", [show.run_line(run) for run in last])
    session.output.say(*lines)
    session.output.answer(
        {
            "environments": [
                {**show.row_json(row), "quality": {key: asdict(live) for key, live in quality[row.key].items()}}
                for row in environments
            ],
            "certificates": certificates,
            "releases": [show.row_json(row) for row in releases],
            "rollouts": [show.row_json(row) for row in rollouts],
            "runs": [run.model_dump(mode="json") for run in last],
        }
    )
    return ExitCode.SUCCESS


@click.command()
@click.option("--repository", metavar="NAME", help="Only those of this repository.")
@click.option("--ref", help="Only those of this branch, or full ref (refs/tags/v1).")
@click.option("--phase", "phases", multiple=True, type=click.Choice(RUN_PHASES), help="Only those in this phase.")
@click.option("-n", "newest", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@with_server
def runs(session: Session, repository: str | None, ref: str | None, phases: tuple[str, ...], newest: int) -> int:
    """List the newest runs, with filters."""
    from interlock.cli import show

    with session.read() as reading:
        found = reading.runs(newest, repository=repository, ref=ref and _full(ref), phases=phases or None)
    session.output.say(*(show.run_table(found) or [Line("no such run", "dim")]))
    session.output.answer({"runs": [run.model_dump(mode="json") for run in found]})
    return ExitCode.SUCCESS


def _full(ref: str) -> str:
    """A branch by its full name; what is one already stays."""
    return ref if ref.startswith("refs/") else f"refs/heads/{ref}"


def _certificate_line(name: str, until: float) -> Line:
    """What the front of an environment name shows, and how long it holds; marked when it is time to renew it."""
    from interlock.cli import show

    left = (until - time.time()) / DAY
    told = f"in {left:.0f} days" if left >= 1.0 else "within a day" if left > 0.0 else "too late"
    return Line(f"  {name}  renew it until {show.format_time(until)}, {told}", "warn" if left < RENEW_DAYS else "")


def _section(title: str, lines: list[Line]) -> list[Line]:
    return [Line(title, "title"), *lines] if lines else []


@click.command()
@click.argument("thing", nargs=-1, required=True)
@with_server
def explain(session: Session, thing: tuple[str, ...]) -> int:
    """Why a THING is as it is: run/12, run/12/train, train (a stage of the newest run), gate run/12, rollout/3,
    release/2, flights/production, monitor/flights/production.
    """
    from interlock.cli.story import parse_thing

    wanted = parse_thing(thing)
    with session.read() as reading:
        if not wanted.key and wanted.stage is not None:
            wanted = wanted._replace(key=_newest_with(reading, wanted.stage))
        row = reading.load(wanted.kind, wanted.key)
        if row is None:
            raise NotFound(
                f"there is no {wanted.kind} {wanted.key}", "explain", "`interlock status` shows what there is"
            )
        lines, answer = _tell(reading, wanted, row)
    session.output.say(*lines)
    session.output.answer(answer)
    return ExitCode.SUCCESS


def _newest_with(reading: Reading, stage: str) -> str:
    """The newest run that has this stage: of the repository that is named like this folder, else of any."""
    from interlock.cli.story import FORMS
    from interlock.vocabulary import Kind

    here = Path.cwd().name
    for run in sorted(reading.runs(RUNS_SEARCHED), key=lambda run: run.repository != here):
        row = reading.load(Kind.RUN, str(run.number))
        if row is not None and stage in cast("dict[str, object]", row.state.get("stages", {})):
            return row.key
    raise NotFound(f"none of the last {RUNS_SEARCHED} runs has a stage {stage!r}", "explain", f"write {FORMS}")


def _first_run(reading: Reading, run: Run, stage: str) -> Run | None:
    """The run in which a reused stage was executed, while it is known."""
    from interlock.cli import show
    from interlock.vocabulary import Kind

    reused = run.stages[stage].reused if stage in run.stages else None
    row = reading.load(Kind.RUN, reused.partition("/")[0]) if reused else None
    return show.read_run(row) if row else None


def _tell(reading: Reading, wanted: Thing, row: Row) -> tuple[list[Line], dict[str, Any]]:
    from interlock.cli import show, story
    from interlock.vocabulary import Kind

    events = reading.events(wanted.kind, wanted.key)
    answer: dict[str, Any] = {"row": show.row_json(row)}
    if wanted.kind is not Kind.RUN:
        lines = [*story.headline(row), Line("decisions", "title"), *story.event_lines(events)]
        if wanted.kind in (Kind.ROLLOUT, Kind.MONITOR):
            lines += story.replayed_lines(row, events)
        reverts = reading.events(Kind.REVERT, wanted.key) if wanted.kind is Kind.ROLLOUT else []
        if reverts:
            lines += [Line("revert", "title"), *story.event_lines(reverts)]
            answer["revert"] = [event.model_dump(mode="json") for event in reverts]
    elif wanted.is_gate:
        run = show.read_run(row)
        found = {name: row.state.get(name) for name in ("judgement", "data", "served")}
        return story.gate_story(run), {**found, "measured": story.measured(run), "production": run.production}
    elif wanted.stage is not None:
        run = show.read_run(row)
        events = story.of_stage(events, wanted.stage)
        for attempt in range(1, run.stages[wanted.stage].attempt + 1 if wanted.stage in run.stages else 1):
            events += reading.events(Kind.ATTEMPT, f"{wanted.key}/{wanted.stage}/{attempt}")
        events.sort(key=lambda event: event.number)
        lines = story.stage_story(run, wanted.stage, events, _first_run(reading, run, wanted.stage))
        answer = {"stage": wanted.stage, "run": wanted.key, **run.stages[wanted.stage].model_dump(mode="json")}
    else:
        lines = story.run_story(show.read_run(row), events)
    return lines, {**answer, "events": [event.model_dump(mode="json") for event in events]}

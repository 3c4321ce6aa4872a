"""The commands that ask a server for runs: ``trigger``, ``rerun``, ``cancel`` and ``approve``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from interlock.cli.output import ExitCode, Line
from interlock.cli.session import Session, with_server
from interlock.errors import Refused

if TYPE_CHECKING:
    from interlock.client.models import Row, RunState


@click.command()
@click.argument("repository")
@click.argument("ref", required=False)
@with_server
def trigger(session: Session, repository: str, ref: str | None) -> int:
    """Begin a run of a REF of a REPOSITORY: a branch, a tag or a full ref; its default branch where none is named."""
    with session.server() as client:
        _tell_begun(session, client.runs.trigger(repository, ref))
    return ExitCode.SUCCESS


@click.command()
@click.argument("run")
@click.option("--from", "stage", metavar="STAGE", help="Execute this stage and those after it, whatever is remembered.")
@with_server
def rerun(session: Session, run: str, stage: str | None) -> int:
    """Run the commit of RUN again, as a new run."""
    with session.server() as client:
        _tell_begun(session, client.runs.rerun(run_number(run), stage))
    return ExitCode.SUCCESS


@click.command()
@click.argument("run")
@click.option("--reason", default="", help="Why; stored with the decision.")
@with_server
def cancel(session: Session, run: str, reason: str) -> int:
    """End RUN, and every process it has started."""
    with session.server() as client:
        row = client.runs.cancel(run_number(run), reason or "asked for by hand")
    session.output.say(Line(f"run {row.key} is being cancelled", "good"))
    session.output.answer(row_json(row))
    return ExitCode.SUCCESS


@click.command()
@click.argument("thing")
@click.option(
    "--commit", "sha", metavar="SHA", help="Of a run: the commit you have looked at; refused where it is of another."
)
@click.option("--reason", help="Of a release or rollout: why; stored with the decision, and in the audit log.")
@with_server
def approve(session: Session, thing: str, sha: str | None, reason: str | None) -> int:
    """Give your leave to a THING that waits for it: the run 12 or run/12 of a commit from outside (this one commit and
    no other), release/3, or rollout/5.
    """
    kind, _, number = thing.rpartition("/")
    if kind in ("release", "rollout"):
        if sha is not None or not (number.isascii() and number.isdigit()):
            raise Refused(f"not a release or rollout: {thing!r}", "", "write release/3 or rollout/5, without --commit")
        return _approve_delivery(session, kind, int(number), reason or "looked at")
    if reason is not None:
        raise Refused("--reason is for releases and rollouts", "approve", "leave it out")
    with session.server() as client:
        run = run_number(thing)
        commit = sha or client.runs.get(run).state.commit.sha
        row = client.runs.approve(run, commit)
    session.output.say(Line(f"commit {commit[:10]} of run {row.key} is approved", "good"))
    session.output.answer(row_json(row))
    return ExitCode.SUCCESS


def _approve_delivery(session: Session, kind: str, number: int, reason: str) -> int:
    with session.server() as client:
        deliveries = client.deliveries
        told = deliveries.approve(number, reason) if kind == "release" else deliveries.steer(number, "approve", reason)
    session.output.say(Line(told, "good"), Line("follow it with: interlock status", "dim"))
    session.output.answer({"asked": f"{kind}/{number}", "told": told})
    return ExitCode.SUCCESS


def run_number(run: str) -> int:
    """The number of a run that is named ``12`` or ``run/12``; Refused where it is neither."""
    text = run.removeprefix("run/")
    if not (text.isascii() and text.isdigit()):
        raise Refused(f"not a run: {run!r}", "", "write 12 or run/12; `interlock runs` lists them")
    return int(text)


def _tell_begun(session: Session, row: Row[RunState]) -> None:
    commit = row.state.commit
    session.output.say(
        Line(f"run {row.key} of {commit.repository} ({commit.ref} {commit.sha[:10]}) has begun", "good"),
        Line(f"follow it with: interlock log {row.key} --follow", "dim"),
    )
    session.output.answer(row_json(row))


def row_json(row: Row[Any]) -> dict[str, Any]:
    """What a server answered, as ``--json`` prints a row."""
    state: dict[str, Any] = row.state.model_dump(mode="json")
    return {
        **state,
        "kind": row.kind,
        "key": row.key,
        "phase": row.phase,
        "created": row.created,
        "updated": row.updated,
    }

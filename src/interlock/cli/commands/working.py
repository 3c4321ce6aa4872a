"""The commands about a working tree: ``validate``, ``plan`` and ``run``.

What is heavy is imported by the command that uses it, so that its help is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli.output import ExitCode, Line
from interlock.cli.session import Session, with_session
from interlock.errors import Refused

if TYPE_CHECKING:
    from interlock.app.local import Local
    from interlock.run.run import Run

PIPELINE_FILE = "interlock.yaml"

folder_argument = click.argument(
    "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".", required=False
)
overrides_option = click.option(
    "-S", "--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Override a parameter: train.max_depth=4."
)

lock_option = click.option(
    "--lock", "is_locking", is_flag=True, help="First write the lock of the Python environment, and say what changed."
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path), default=PIPELINE_FILE, required=False)
@lock_option
@with_session
def validate(session: Session, file: Path, is_locking: bool) -> int:
    """Check a pipeline FILE (interlock.yaml): every problem at once, with line, column and remedy."""
    from interlock.pipeline.resolve import read_pipeline

    path = file / PIPELINE_FILE if file.is_dir() else file
    if not path.is_file():
        raise Refused("there is no such file", str(path), "`interlock init` writes one from what it finds")
    read_pipeline(path.read_bytes(), str(path))
    if is_locking:
        with session.open_local() as local:
            _write_lock(session, local, path.parent)
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
    from interlock.cli import show, story

    with session.output.progress("planning"), session.open_local() as local:
        planned = local.plan(folder, revision, overrides)
    session.output.say(*show.plan_lines(planned.plan, planned.stages), *story.expected_lines(planned.estimate))
    session.output.say(show.plan_summary(planned.stages, planned.against))
    session.output.answer(
        {
            "commit": planned.commit.model_dump(mode="json"),
            **show.plan_json(planned.plan, planned.stages),
            "summary": show.plan_summary(planned.stages, planned.against).text,
            "production": planned.against._asdict() if planned.against else None,
            "estimate": planned.estimate and planned.estimate.model_dump(mode="json"),
        }
    )
    return ExitCode.SUCCESS


@click.command()
@folder_argument
@overrides_option
@lock_option
@click.option(
    "--secrets-from",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Values of the secrets that stages name: a file of NAME=value lines, as .env.",
)
@click.option(
    "--sandbox",
    "sandbox_kind",
    type=click.Choice(["namespace", "none"]),
    default="namespace",
    help="none: stages see what you see. For a machine without user namespaces.",
)
@with_session
def run(
    session: Session,
    folder: Path,
    overrides: tuple[str, ...],
    is_locking: bool,
    secrets_from: Path | None,
    sandbox_kind: str,
) -> int:
    """Run the working tree at FOLDER, uncommitted changes included, from checks to gates. Needs no server."""
    from interlock.app.standing.note import recall

    is_asked_anew = is_locking or secrets_from is not None or sandbox_kind == "none"
    standing = None if is_asked_anew else recall(session.state, folder, {"overrides": overrides})
    if standing is not None:
        from interlock.cli.standing import standing_lines

        session.output.say(*standing_lines(standing))
        session.output.answer(standing)
        return ExitCode.SUCCESS
    return _run(session, folder, overrides, is_locking, secrets_from, sandbox_kind)


def _run(
    session: Session,
    folder: Path,
    overrides: tuple[str, ...],
    is_locking: bool,
    secrets_from: Path | None,
    sandbox_kind: str,
) -> int:
    from interlock.cli import show

    teller = show.RunTeller()

    def hear(run: Run) -> None:
        session.output.note(*teller.tell(run))

    with session.open_local(sandbox_kind) as local:
        if is_locking:
            _write_lock(session, local, folder)
        with session.output.progress("running", is_told_otherwise=True):
            last = local.run(folder, overrides, hear, secrets_from)
    session.output.note(*teller.tell(last))
    session.output.say(*show.run_end(last))
    session.output.answer(last.model_dump(mode="json"))
    return show.exit_code_of(last)


def _write_lock(session: Session, local: Local, folder: Path) -> None:
    with session.output.progress("locking the Python environment"):
        told = local.lock(folder)
    session.output.note(Line(told, "good"))

"""The command ``init``: looks at a repository and writes a pipeline file that works for it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click

from interlock.cli.output import ExitCode, Line
from interlock.cli.session import Session, with_session
from interlock.errors import Refused

PIPELINE_FILE = "interlock.yaml"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".", required=False)
@click.option("--train", metavar="SCRIPT", help="The program that trains, where it is not found by its name.")
@click.option("--evaluate", metavar="SCRIPT", help="The program that evaluates.")
@click.option("--force", is_flag=True, help="Write over the interlock.yaml that is there.")
@with_session
def init(session: Session, folder: Path, train: str | None, evaluate: str | None, force: bool) -> int:
    """Look at the repository in FOLDER and write an interlock.yaml that works for it.

    Nothing of the repository is run. Requirements without hashes are locked by uv into a file of their own.
    """
    from interlock.cli.init.dependencies import find_lock, find_python, project_name
    from interlock.cli.init.draft import write_draft
    from interlock.cli.init.programs import find_programs, list_files
    from interlock.cli.init.repository import inspect_repository
    from interlock.pipeline.resolve import read_pipeline

    target = folder / PIPELINE_FILE
    if target.exists() and not force:
        raise Refused("it is there already", str(target), "--force writes over it; `interlock validate` checks it")
    chosen = {name: _relative(folder, script) for name, script in (("train", train), ("evaluate", evaluate)) if script}
    python = find_python(folder)
    with session.output.progress("looking at the repository, and locking its packages if need be"):
        files = list_files(folder)
        programs = find_programs(folder, files, chosen)
        lock = find_lock(folder, python)
        found = inspect_repository(folder, files, programs, lock.packages)
    text = write_draft(project_name(folder), _branch(folder), python, lock, found)
    read_pipeline(text.encode(), str(target))
    target.write_text(text)
    unsolved = (*lock.unsolved, *found.unsolved)
    session.output.say(*(Line(f"  {what}") for what in (*lock.told, *found.told)))
    session.output.say(Line(f"wrote {target}", "good"))
    if unsolved:
        session.output.say(
            Line("not found, please fill in:", "warn"), *(Line(f"  {what}", "warn") for what in unsolved)
        )
    session.output.say(Line("next: `interlock plan`, then `interlock run`"))
    session.output.answer(
        {"file": str(target), "found": [*lock.told, *found.told], "unsolved": list(unsolved), "text": text}
    )
    return ExitCode.SUCCESS


def _relative(folder: Path, script: str) -> str:
    """A script as it was named, relative to the folder."""
    for path in (folder / script, Path(script)):
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            return path.resolve().relative_to(folder.resolve()).as_posix()
    raise Refused("there is no such program in the repository", script, "name it relative to the folder")


def _branch(folder: Path) -> str:
    """The branch that is checked out; ``main`` where there is none."""
    command = ["git", "-C", str(folder), "symbolic-ref", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else "main"

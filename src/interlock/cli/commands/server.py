"""The commands ``server`` (runs the control plane, or stops it) and ``hook`` (tells it of pushes)."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from pathlib import Path

import click

from interlock.cli.output import ExitCode, Line
from interlock.cli.session import Session, with_session
from interlock.errors import Refused


@click.group(invoke_without_command=True)
@click.option(
    "--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The server's configuration file."
)
@with_session
def server(session: Session, config: Path | None) -> int | None:
    """Run the control plane until it is told to stop (SIGTERM or Ctrl-C). The models serve on without it."""
    if click.get_current_context().invoked_subcommand is not None:
        if config is not None:
            raise click.UsageError("--config is for the start of the server, not for stopping it")
        return None
    from interlock.web.running import serve

    def say(text: str) -> None:
        session.output.say(Line(text))
        session.output.answer({"line": text})

    return serve(session.state, config, os.environ, say)


@server.command()
@click.option("--data-plane", is_flag=True, help="Stop the proxy and every replica too: nothing serves any more.")
@with_session
def stop(session: Session, data_plane: bool) -> int:
    """Stop the control plane. What serves goes on serving, unless --data-plane is given."""
    from interlock.app.server import stop as stop_server

    with session.output.progress("stopping"):
        told = stop_server(session.state, data_plane=data_plane)
    session.output.say(*(Line(line) for line in told))
    session.output.answer({"told": told})
    return ExitCode.SUCCESS


@server.command()
@with_session
def unit(session: Session) -> int:
    """Print a systemd unit that runs the server of this state folder as the user who asks."""
    from interlock.app.operating.unit import unit_text

    program = Path(sys.executable).with_name("interlock")
    command = [str(program), "server", "--state", str(session.state)]
    text = unit_text(command, session.state, getpass.getuser())
    session.output.say(Line(text.rstrip()))
    session.output.answer({"unit": text})
    return ExitCode.SUCCESS


@server.command()
@with_session
def alerts(session: Session) -> int:
    """Print alert rules for Prometheus, which reads them as a rule file."""
    from interlock.app.operating.alerts import RULES

    session.output.say(Line(RULES.rstrip()))
    session.output.answer({"rules": RULES})
    return ExitCode.SUCCESS


@server.command()
@click.argument("folder", type=click.Path(path_type=Path))
@with_session
def backup(session: Session, folder: Path) -> int:
    """Copy database, artifacts, keys and settings into FOLDER, not there yet; also while the server runs."""
    from interlock.app.backup import back_up
    from interlock.app.folder import StateFolder
    from interlock.app.settings import database_of

    with session.output.progress("copying"):
        back_up(session.state, folder, database_of(StateFolder(session.state)))
    session.output.say(Line(f"backed up to {folder}: guard it, the keys are in it", "good"))
    session.output.answer({"backup": str(folder)})
    return ExitCode.SUCCESS


@server.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--database", metavar="URL", help="An empty PostgreSQL database, where the backup came from one.")
@with_session
def restore(session: Session, folder: Path, database: str | None) -> int:
    """Make the state folder, which must be empty or not there, from the backup in FOLDER."""
    from interlock.app.backup import restore as restore_backup

    with session.output.progress("restoring"):
        restore_backup(folder, session.state, database)
    session.output.say(Line(f"restored into {session.state}", "good"))
    session.output.answer({"state": str(session.state)})
    return ExitCode.SUCCESS


@click.group()
@with_session
def hook(_session: Session) -> None:
    """The hook of git repositories on this machine."""


@hook.command("install")
@click.argument("repository", type=click.Path(path_type=Path, exists=True, file_okay=False))
@with_session
def install_hook(session: Session, repository: Path) -> int:
    """Let the git repository at REPOSITORY tell the server of the state folder of each push. Never refuses a push."""
    from interlock.client.install import NotInstalled, write_hook

    try:
        told = write_hook(_git_directory(repository), session.state)
    except NotInstalled as refused:
        raise Refused(refused.problem, str(repository), refused.remedy) from refused
    session.output.say(Line(told, "good"))
    session.output.answer({"told": told})
    return ExitCode.SUCCESS


def _git_directory(repository: Path) -> Path:
    command = ["git", "-C", str(repository), "rev-parse", "--absolute-git-dir"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise Refused("it is no git repository", str(repository), "name a repository, bare or with a working tree")
    return Path(found.stdout.removesuffix("\n"))

"""The command ``server``: runs the control plane, or stops it."""

from __future__ import annotations

from pathlib import Path

import click

from interlock.cli.group import Session, with_session
from interlock.cli.output import ExitCode, Line


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
    from interlock.app.server import serve

    def say(text: str) -> None:
        session.output.say(Line(text))
        session.output.answer({"line": text})

    return serve(session.state, config, say)


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

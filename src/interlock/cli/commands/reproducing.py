"""The command ``reproduce``: a registered model, made again from what its version says it was made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from interlock.cli.output import ExitCode, Line
from interlock.cli.session import Session, with_session

if TYPE_CHECKING:
    from interlock.run.reproduction.comparison import Reproduction
    from interlock.run.run import Run

EXIT_CODES = {"different": ExitCode.FAILED, "unknown": ExitCode.ERRORED}


@click.command()
@click.argument("name", metavar="MODEL[/VERSION]")
@with_session
def reproduce(session: Session, name: str) -> int:
    """Make a model again from its commit, lock, data and parameters, and compare it bit by bit.

    MODEL/3 is a version, MODEL@production what an environment serves, MODEL alone the one in production (or the
    newest); run/12 is what a run made. Every stage is executed anew. Where one makes something else, it is executed
    some times more to find out why. Nothing is registered or released.
    """
    from interlock.cli import show

    teller = show.RunTeller()

    def hear(run: Run) -> None:
        session.output.note(*teller.tell(run))

    with session.open_local() as local, session.output.progress("reproducing", is_told_otherwise=True):
        found = local.reproduce(name, hear, lambda line: session.output.note(Line(line, "warn")))
    session.output.say(*_lines(found))
    session.output.answer(found.model_dump(mode="json"))
    return EXIT_CODES.get(found.result, ExitCode.SUCCESS)


def _lines(found: Reproduction) -> list[Line]:
    """The products and their digests, or where it differs and why."""
    if found.result in ("identical", "rewritten"):
        lines = [Line(f"  {path}  {digest}", "dim") for path, digest in sorted(found.products.items())]
        return [*lines, Line(f"{found.result}: {found.because}", "good" if found.result == "identical" else "warn")]
    lines = [Line(f"  differs    {file}", "bad") for file in found.files]
    lines += [Line(f"  suspect    {suspect}", "warn") for suspect in found.suspects]
    return [*lines, Line(f"{found.result}: {found.because}", "bad")]

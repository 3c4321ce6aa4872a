"""``models retire`` and ``models restore``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from interlock.cli.output import ExitCode, Line, Style
from interlock.cli.session import Session, with_server
from interlock.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.access.recent import RecentCaller


@click.command()
@click.argument("model")
@click.option("--reason", required=True, help="Why; shown to whoever releases it again, and in the audit log.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask whether that is meant.")
@with_server
def retire(session: Session, model: str, reason: str, is_sure: bool) -> int:
    """Take MODEL away in all its environments: callers are answered 410, its replicas are freed, what is known stays.

    Who asked it lately is shown before.
    """
    with session.ask() as requests:
        callers = requests.retiring.callers(model)
        session.output.complain(*caller_lines(callers))
        if not is_sure:
            if session.output.is_json or not sys.stdin.isatty():
                raise Refused(f"{model} would be taken away from all who ask it", "", "say that it is meant: --yes")
            click.confirm(f"Take {model} away?", abort=True, err=True)
        told = requests.retiring.retire(model, reason)
        has_server = requests.has_server
    return _announce(session, model, told, has_server, callers)


@click.command()
@click.argument("model")
@click.option("--reason", required=True, help="Why; stored with the decision, and in the audit log.")
@with_server
def restore(session: Session, model: str, reason: str) -> int:
    """Bring a retired MODEL back: it serves again what it served when it was retired."""
    with session.ask() as requests:
        told = requests.retiring.restore(model, reason)
        has_server = requests.has_server
    return _announce(session, model, told, has_server, ())


def caller_lines(callers: Sequence[RecentCaller]) -> list[Line]:
    """Who asked a model lately, as far as a sample tells."""
    from interlock.cli.show import table

    if not callers:
        return [Line("the log of the front, a sample, has no request for it", "dim")]
    head: tuple[Sequence[str], Style] = (("asked by", "environment", "lines of the log", "last"), "title")
    rows: list[tuple[Sequence[str], Style]] = [
        ((one.who, one.environment, str(one.lines), one.last), "") for one in callers
    ]
    return [*table([head, *rows]), Line("the log has one request in a hundred, and all that failed", "dim")]


def _announce(session: Session, model: str, told: str, has_server: bool, callers: Sequence[RecentCaller]) -> int:
    session.output.say(Line(told, "good"))
    if not has_server:
        session.output.note(Line("no server is there: it carries this out when it is back", "warn"))
    asked = [one.model_dump(mode="json") for one in callers]
    session.output.answer({"model": model, "told": told, "is_server_there": has_server, "callers": asked})
    return ExitCode.SUCCESS

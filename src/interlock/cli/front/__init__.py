"""The commands about who may ask models at the front: ``key``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from interlock.cli.output import ExitCode, Line, Style
from interlock.cli.session import Session, with_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interlock.access.keys import ApiKey


@click.group()
@with_server
def key(_session: Session) -> None:
    """API keys, by which programs are known to models where the server's settings say ``api_keys: required``."""


@key.command("create")
@click.argument("name")
@click.option(
    "--model", "models", multiple=True, metavar="MODEL[/ENVIRONMENT]", help="Only for this one; else for all."
)
@click.option("--tester", "is_tester", is_flag=True, help="It may name the revision that answers.")
@click.option("--expires", metavar="WHEN", help="Until when it holds: 12h, 90d, 2027-01-31. Without it, until revoked.")
@with_server
def create_key(session: Session, name: str, models: tuple[str, ...], is_tester: bool, expires: str | None) -> int:
    """Make an API key for NAME and show it, this once."""
    from interlock.cli.asking import read_moment

    until = None if expires is None else read_moment(expires, "--expires", time.time())
    with session.ask() as requests:
        made, text = requests.keys.create(name, models, is_tester, until)
        has_server = requests.has_server
    # The key alone goes to standard output, so that it can be piped to where it is kept.
    opens = ", ".join(made.models) or "all models"
    session.output.complain(Line(f"key {made.key} for {made.name}, opens {opens}; it is not shown again:", "good"))
    session.output.say(Line(text))
    _tell_whether_now(session, has_server, "the front knows it")
    session.output.answer({**made.model_dump(mode="json"), "text": text})
    return ExitCode.SUCCESS


@key.command("list")
@with_server
def list_keys(session: Session) -> int:
    """List all API keys, without their text."""
    with session.ask() as requests:
        found = requests.keys.all()
    session.output.say(*key_lines(found, time.time()))
    session.output.answer({"keys": [one.model_dump(mode="json") for one in found]})
    return ExitCode.SUCCESS


@key.command("revoke")
@click.argument("number", metavar="KEY")
@with_server
def revoke_key(session: Session, number: str) -> int:
    """Let the API key KEY open nothing any more, at once."""
    with session.ask() as requests:
        requests.keys.revoke(number)
        has_server = requests.has_server
    session.output.say(Line(f"key {number} is revoked", "good"))
    _tell_whether_now(session, has_server, "the front refuses it")
    session.output.answer({"revoked": number})
    return ExitCode.SUCCESS


def key_lines(keys: Sequence[ApiKey], now: float) -> list[Line]:
    """All keys: whose, what they open, and until when."""
    from interlock.access.keys import holds
    from interlock.cli.show import format_time, table

    if not keys:
        return [Line("no API key was made yet", "dim")]
    head: tuple[Sequence[str], Style] = (("key", "name", "opens", "tester", "expires"), "title")
    listed: list[tuple[Sequence[str], Style]] = [head]
    for one in keys:
        is_good = holds(one, now)
        until = "never" if one.expires is None else format_time(one.expires)
        told = "revoked" if one.revoked is not None else until if is_good else "expired"
        opens = ", ".join(one.models) or "all models"
        listed.append(((one.key, one.name, opens, "yes" if one.is_tester else "-", told), "" if is_good else "dim"))
    return table(listed)


def _tell_whether_now(session: Session, has_server: bool, what: str) -> None:
    if not has_server:
        session.output.complain(Line(f"no server runs: {what} once one does", "warn"))

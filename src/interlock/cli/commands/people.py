"""The commands about people and what they may: ``token``, ``secret`` and ``audit``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from interlock.cli.output import ExitCode, Line
from interlock.cli.session import Session, with_server
from interlock.errors import Refused

ROLES = ("viewer", "developer", "maintainer", "operator", "admin")
LONGEST_SECRET = 64 * 1024


@click.group()
@with_server
def token(_session: Session) -> None:
    """Tokens, by which people and programs are known to the server."""


@token.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="Each may do all that those before it may.")
@click.option("--repository", "repositories", multiple=True, metavar="NAME", help="Only for this repository.")
@click.option("--environment", "environments", multiple=True, metavar="MODEL/ENVIRONMENT", help="Only for this one.")
@click.option("--expires", metavar="WHEN", help="Until when it holds: 12h, 90d, 2027-01-31. Without it, until revoked.")
@with_server
def create_token(
    session: Session,
    name: str,
    role: str,
    repositories: tuple[str, ...],
    environments: tuple[str, ...],
    expires: str | None,
) -> int:
    """Make a token for NAME and show it, this once."""
    from interlock.access.caller import Role
    from interlock.cli.asking import read_moment

    until = None if expires is None else read_moment(expires, "--expires", time.time())
    with session.ask() as requests:
        made, text = requests.create_token(name, Role(role), repositories, environments, until)
    # The token alone goes to standard output, so that it can be piped to where it is kept.
    session.output.complain(Line(f"token {made.key} for {made.name} ({made.role}); it is not shown again:", "good"))
    session.output.say(Line(text))
    session.output.answer({**made.model_dump(mode="json"), "token": text})
    return ExitCode.SUCCESS


@token.command("list")
@with_server
def list_tokens(session: Session) -> int:
    """List all tokens, without their text."""
    from interlock.cli import show

    with session.ask() as requests:
        found = requests.tokens()
    session.output.say(*show.token_lines(found, time.time()))
    session.output.answer({"tokens": [one.model_dump(mode="json") for one in found]})
    return ExitCode.SUCCESS


@token.command("revoke")
@click.argument("key")
@with_server
def revoke_token(session: Session, key: str) -> int:
    """Make the token KEY good for nothing, at once."""
    with session.ask() as requests:
        requests.revoke_token(key)
    session.output.say(Line(f"token {key} is revoked", "good"))
    session.output.answer({"revoked": key})
    return ExitCode.SUCCESS


@click.group()
@with_server
def secret(_session: Session) -> None:
    """Secrets, given only to trusted stages that name them."""


environment_option = click.option(
    "--environment",
    metavar="MODEL/ENVIRONMENT",
    help="Only for what is delivered there; else for the whole repository.",
)


@secret.command("set")
@click.argument("repository")
@click.argument("name")
@environment_option
@click.option("--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Else standard input.")
@with_server
def set_secret(session: Session, repository: str, name: str, environment: str | None, file: Path | None) -> int:
    """Keep a secret of a REPOSITORY under a NAME. Its value is read from standard input or a file, never from here.

    One line feed at its end is left out.
    """
    value = _read_secret(file)
    with session.ask() as requests:
        warning = requests.put_secret(repository, environment, name, value)
    session.output.say(Line(f"secret {name} of {environment or repository} is kept", "good"))
    if warning:
        session.output.note(Line(f"{name}: {warning}", "warn"))
    session.output.answer({"repository": repository, "environment": environment, "name": name, "warning": warning})
    return ExitCode.SUCCESS


@secret.command("list")
@click.argument("repository")
@with_server
def list_secrets(session: Session, repository: str) -> int:
    """List the names of a REPOSITORY's secrets; their values are shown to nobody."""
    with session.ask() as requests:
        found = requests.secrets(repository)
    lines = [Line(f"  {one.name}" + (f"  (only {one.environment})" if one.environment else "")) for one in found]
    session.output.say(*(lines or [Line("no secret is kept", "dim")]))
    session.output.answer({"secrets": [one.model_dump(mode="json") for one in found]})
    return ExitCode.SUCCESS


@secret.command("remove")
@click.argument("repository")
@click.argument("name")
@environment_option
@with_server
def remove_secret(session: Session, repository: str, name: str, environment: str | None) -> int:
    """Forget a secret of a REPOSITORY."""
    with session.ask() as requests:
        requests.remove_secret(repository, environment, name)
    session.output.say(Line(f"secret {name} of {environment or repository} is removed", "good"))
    session.output.answer({"repository": repository, "environment": environment, "name": name})
    return ExitCode.SUCCESS


newest_option = click.option("-n", "newest", type=click.IntRange(1), default=20, show_default=True, help="How many.")


@click.group(invoke_without_command=True)
@newest_option
@with_server
def audit(session: Session, newest: int) -> int | None:
    """Who did what, newest last. Works on the state folder too, without a server."""
    if click.get_current_context().invoked_subcommand is not None:
        return None
    return _list_audit(session, newest)


@audit.command("list")
@newest_option
@with_server
def list_audit(session: Session, newest: int) -> int:
    """List the newest entries."""
    return _list_audit(session, newest)


def _list_audit(session: Session, newest: int) -> int:
    from interlock.cli import show

    with session.read() as reading:
        entries = reading.audit(newest)
    session.output.say(*([show.audit_line(entry) for entry in entries] or [Line("nothing was done yet", "dim")]))
    session.output.answer({"entries": [entry.model_dump(mode="json") for entry in entries]})
    return ExitCode.SUCCESS


@audit.command()
@click.option("--head", default="", help="The head that was told earlier: the log must go on from there.")
@with_server
def verify(session: Session, head: str) -> int:
    """Recompute the chain of the whole log; exit code 1 where an entry was changed, removed or put in between.

    Its head is told. Keep it elsewhere: given back later, it shows whether the end of the log was cut off.
    """
    with session.read() as reading, session.output.progress("reading the audit log"):
        verdict = reading.verify_audit(head)
    if verdict.problem is None:
        session.output.say(Line("the audit log holds: every entry follows from the one before it", "good"))
        session.output.say(Line(f"its head is now {verdict.head or 'nothing: it is empty'}"))
    else:
        session.output.say(Line(f"the audit log does not hold: {verdict.problem}", "bad"))
    session.output.answer(verdict.model_dump(mode="json"))
    return ExitCode.SUCCESS if verdict.problem is None else ExitCode.FAILED


def _read_secret(file: Path | None) -> str:
    if file is None and sys.stdin.isatty():
        return str(click.prompt("value", hide_input=True, err=True))
    content = sys.stdin.buffer.read(LONGEST_SECRET + 1) if file is None else file.read_bytes()
    where = "standard input" if file is None else str(file)
    try:
        value = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as odd:
        raise Refused("a secret is text, and this is no UTF-8", where, "encode it, for example as base64") from odd
    if not value or len(content) > LONGEST_SECRET:
        raise Refused("it is empty" if not value else "it is longer than 64 KiB", where, "give the secret's value")
    return value

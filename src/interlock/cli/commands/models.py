"""The commands about models: ``models`` (registered ones, and one served by itself), ``release``, ``rollout`` (steers
one), ``rollback``, ``freeze`` and ``unfreeze``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from interlock.cli.commands.runs import row_json, run_number
from interlock.cli.front.retiring import restore, retire
from interlock.cli.output import ExitCode, Line
from interlock.cli.session import Session, with_server, with_session
from interlock.errors import NotFound, Refused
from interlock.pipeline.models.formats import MODEL_FORMATS

if TYPE_CHECKING:
    from interlock.app.alone.serving import Alone
    from interlock.cli.asking import Requests
    from interlock.cli.reading import Reading
    from interlock.vocabulary import Row


@click.group(invoke_without_command=True)
@with_server
def models(session: Session) -> int | None:
    """The registered model versions and where each of them serves."""
    if click.get_current_context().invoked_subcommand is not None:
        return None
    return _list_versions(session)


models.add_command(retire)
models.add_command(restore)


@models.command("list")
@with_server
def list_versions(session: Session) -> int:
    """List the registered model versions."""
    return _list_versions(session)


def _list_versions(session: Session) -> int:
    from interlock.cli import show
    from interlock.vocabulary import Kind

    with session.read() as reading:
        versions = reading.rows(Kind.VERSION)
        session.output.say(*show.version_lines(versions, reading.rows(Kind.ENVIRONMENT)))
        session.output.answer({"versions": [show.row_json(row) for row in versions]})
    return ExitCode.SUCCESS


@models.command()
@click.argument("name", metavar="MODEL@ENVIRONMENT")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@with_server
def pull(session: Session, name: str, folder: Path) -> int:
    """Write the model that MODEL@ENVIRONMENT serves (or MODEL@NUMBER) into DIR, and verify its signature."""
    from interlock.cli import show

    _require_empty(session, folder)
    with session.read() as reading:
        row = _find_version(reading, name)
        from interlock.app.pulling import pull as pull_version

        with session.output.progress(f"pulling {row.key}"):
            pull_version(session.state, show.read_version(row), folder)
    session.output.say(Line(f"{row.key} is in {folder}: its files are those that were signed", "good"))
    session.output.answer({"folder": str(folder.absolute()), **show.row_json(row)})
    return ExitCode.SUCCESS


@models.command()
@click.argument("name", metavar="MODEL@ENVIRONMENT")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@with_server
def attestations(session: Session, name: str, folder: Path) -> int:
    """Write what is signed of MODEL@ENVIRONMENT (or MODEL@NUMBER) into DIR: signature, statements, public key."""
    from interlock.cli import show

    _require_empty(session, folder)
    with session.read() as reading:
        row = _find_version(reading, name)
        from interlock.app.pulling import export_attestations

        files = export_attestations(session.state, show.read_version(row), folder)
    session.output.say(Line(f"what is signed of {row.key} is in {folder}: {', '.join(files)}", "good"))
    session.output.answer({"folder": str(folder.absolute()), "files": files, **show.row_json(row)})
    return ExitCode.SUCCESS


def _require_empty(session: Session, folder: Path) -> None:
    """The state folder is of this machine, and there is nothing that would be overwritten."""
    if session.address is not None:
        raise Refused("a model is pulled where its server runs", session.address.url, "run this there, with --state")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refused("it is there already and not empty", str(folder), "name a folder that is not there yet")


@models.command()
@click.argument("model", metavar="MODEL_DIR", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(1, 65535), help="The port of 127.0.0.1.  [default: 8000]")
@click.option("--socket", type=click.Path(path_type=Path), help="A Unix socket instead of a port.")
@click.option("--format", "named", type=click.Choice(MODEL_FORMATS), help="Else the names of the files tell it.")
@click.option("--golden", type=click.Path(path_type=Path), help="Golden requests; else golden.json in the folder.")
@click.option("--name", help="Its name in the paths; else the folder's.")
@click.option("--lock", type=click.Path(path_type=Path), help="uv.lock or requirements.txt; else the nearest above.")
@click.option("--python", type=click.Path(path_type=Path), help="An interpreter that has all packages already.")
@click.option("--sandbox", type=click.Choice(["namespace", "none"]), default="namespace", show_default=True)
@with_session
def serve(session: Session, model: Path, named: str | None, sandbox: str, **given: Any) -> int:
    """Serve the model in MODEL_DIR (or a file) by itself, until Ctrl-C: no server, run or pipeline file is needed."""
    from interlock.app.alone.serving import Asked
    from interlock.app.alone.serving import serve as serve_model

    if given["port"] and given["socket"]:
        raise click.UsageError("--port and --socket name two places: write one of them")
    if given["lock"] and given["python"]:
        raise click.UsageError("--lock and --python name two environments: write one of them")
    given["port"] = given["port"] or (None if given["socket"] else 8000)
    asked = Asked(model=model, format=named, sandbox=sandbox, **given)

    def say(text: str) -> None:
        session.output.note(Line(text, "dim"))

    serve_model(session.state, asked, say, lambda served: _tell_routes(session, served))
    return ExitCode.SUCCESS


ROUTES = (
    ("POST", "/v2/models/{name}/infer", "ask the model"),
    ("GET", "/v2/models/{name}", "names, types and shapes of its inputs and outputs"),
    ("GET", "/v2/models/{name}/ready", "whether it takes requests"),
    ("GET", "/v2/health/ready", "the same of the server"),
    ("GET", "/v2/health/live", "whether the server lives"),
    ("GET", "/v2", "the server and its extensions"),
    ("POST", "/v2/repository/index", "the models served here"),
    ("GET", "/interlock/stats", "requests, errors, memory"),
)
"""What can be asked of a model server, the most wanted first."""


def _tell_routes(session: Session, served: Alone) -> None:
    """Says where it is served and what can be asked there."""
    base = f"http://127.0.0.1:{served.port}" if served.socket is None else f"unix:{served.socket}"
    routes = [(method, path.format(name=served.name), what) for method, path, what in ROUTES]
    width = max(len(path) for _, path, _ in routes)
    session.output.say(
        Line(f"{served.name} ({served.format}) is served at {base}", "good"),
        *(Line(f"  {method:<5}{path:<{width}}  {what}") for method, path, what in routes),
        Line(f"  {served.digest}; Ctrl-C stops it", "dim"),
    )
    session.output.answer(
        {
            "name": served.name,
            "format": served.format,
            "digest": served.digest,
            "url": base,
            "routes": [{"method": method, "path": path} for method, path, _ in routes],
        }
    )


def _find_version(reading: Reading, name: str) -> Row:
    from interlock.cli import show
    from interlock.vocabulary import Kind

    model, at, place = name.partition("@")
    if not (model and at and place):
        raise Refused(
            f"not a model in an environment: {name!r}", "models pull", "write flights@production or flights@3"
        )
    key = f"{model}/{place}"
    if not place.isdigit():
        environment = reading.load(Kind.ENVIRONMENT, key)
        if environment is None:
            raise NotFound(f"there is no environment {key}", "models pull", "`interlock status` shows what there is")
        stable = show.stable_version(environment)
        if stable is None:
            raise NotFound(f"nothing is stable in {key} yet", "models pull", "`interlock explain` tells why")
        key = stable
    row = reading.load(Kind.VERSION, key)
    if row is None:
        raise NotFound(f"there is no model version {key}", "models pull", "`interlock models` lists them")
    return row


@click.command()
@click.argument("version", metavar="MODEL/NUMBER|RUN")
@click.option("--lift-quarantine", metavar="REASON", help="Release it although it was rolled back before.")
@click.option("--override", "gates", metavar="GATE", multiple=True, help="Let RUN past this gate, which did not pass.")
@click.option("--reason", default="", help="Why the gate is overridden; stored with the version and shown.")
@with_server
def release(session: Session, version: str, lift_quarantine: str | None, gates: tuple[str, ...], reason: str) -> int:
    """Send a registered model version through the environments, under the same rule that admits any other.

    With --override, that of a RUN which the named gates stopped.
    """
    if gates:
        return _override(session, version, gates, reason)
    if reason:
        raise Refused("--reason is that of an --override", "release", "add --override GATE, or leave it out")
    key = version.replace("@", "/")
    with session.ask() as requests:
        number = requests.release(key, lift_quarantine)
        _announce(session, f"release/{number}", f"release {number} of {key} has begun", requests.has_server)
    return ExitCode.SUCCESS


def _override(session: Session, run: str, gates: tuple[str, ...], reason: str) -> int:
    number = run_number(run)
    if not reason.strip():
        raise Refused("an override needs a reason", "release", "add --reason TEXT: it is stored and shown")
    with session.server() as client:
        row = client.runs.override(number, gates, reason)
    session.output.say(
        Line(f"run {row.key} goes on: {row.state.because}", "warn"),
        Line(f"follow it with: interlock explain run/{row.key}", "dim"),
    )
    session.output.answer(row_json(row))
    return ExitCode.SUCCESS


@click.command()
@click.argument("order", type=click.Choice(("pause", "resume", "promote", "abort", "retry")))
@click.argument("number", metavar="ROLLOUT")
@click.option("--reason", required=True, help="Why; stored with the decision, and in the audit log.")
@click.option("--lift-quarantine", metavar="REASON", help="Retry it although its digest was rolled back.")
@with_server
def rollout(session: Session, order: str, number: str, reason: str, lift_quarantine: str | None) -> int:
    """Steer the rollout 12 or rollout/12.

    Paused, it goes no further until it is resumed, and is still rolled back for harm. Promoted, its further steps are
    left out, unless harm is proven. Aborted, it is rolled back, and nothing else is. Retry begins one anew that ended
    without promotion.
    """
    if lift_quarantine and order != "retry":
        raise Refused(f"{order} lifts no quarantine", "--lift-quarantine", "leave it out")
    text = number.removeprefix("rollout/")
    if not (text.isascii() and text.isdigit()):
        raise Refused(f"not a rollout: {number!r}", "", "write 12 or rollout/12; `interlock status` lists them")
    with session.ask() as requests:
        told = requests.steer(int(text), order, reason, lift_quarantine)
        _announce(session, f"rollout/{text}", told, requests.has_server)
    return ExitCode.SUCCESS


@click.command()
@click.argument("environment", metavar="MODEL/ENVIRONMENT")
@click.option("--reason", default="asked for by hand", help="Why; stored with the decision.")
@with_server
def rollback(session: Session, environment: str, reason: str) -> int:
    """Take an environment back: out of the rollout under way, or to its previous revision."""
    return _ask_of(session, environment, lambda requests, key: requests.roll_back(key, reason))


@click.command()
@click.argument("environment", metavar="MODEL/ENVIRONMENT")
@click.option("--until", metavar="WHEN", help="12h, 3d or a date. Without it, until it is unfrozen.")
@click.option("--reason", required=True, help="Why; shown to everybody whose release waits.")
@with_server
def freeze(session: Session, environment: str, until: str | None, reason: str) -> int:
    """Let nothing go forward in an environment; a rollback is never held up."""
    from interlock.cli.asking import read_moment

    moment = None if until is None else read_moment(until, "--until", time.time())
    return _ask_of(session, environment, lambda requests, key: requests.freeze(key, reason, moment))


@click.command()
@click.argument("environment", metavar="MODEL/ENVIRONMENT")
@click.option("--reason", default="asked for by hand", help="Why; stored with the decision.")
@with_server
def unfreeze(session: Session, environment: str, reason: str) -> int:
    """Let an environment go forward again, after a freeze or a rollback by hand."""
    return _ask_of(session, environment, lambda requests, key: requests.unfreeze(key, reason))


def _ask_of(session: Session, environment: str, ask: Callable[[Requests, str], str]) -> int:
    """Asks for something in an environment, which people write with ``@`` too, and announces what that means."""
    key = environment.replace("@", "/")
    with session.ask() as requests:
        _announce(session, f"environment/{key}", ask(requests, key), requests.has_server)
    return ExitCode.SUCCESS


def _announce(session: Session, key: str, told: str, has_server: bool) -> None:
    """Says what was asked for, and whether somebody is there to carry it out."""
    session.output.say(Line(told, "good"))
    if has_server:
        session.output.say(Line("follow it with: interlock status", "dim"))
    else:
        session.output.note(Line("no server is there: it carries this out when it is back", "warn"))
    session.output.answer({"asked": key, "told": told, "is_server_there": has_server})

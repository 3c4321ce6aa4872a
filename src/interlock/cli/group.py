"""The group of all commands, loaded one at a time, and what every command shares: state, output, errors, exit codes."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from interlock.cli import COMMANDS, HELP
from interlock.cli.output import ExitCode, Line, Output
from interlock.errors import Fault, Refused, SeveralRefused, SignatureInvalid

if TYPE_CHECKING:
    from interlock.app.local import Local
    from interlock.app.reading import Reading

CallableT = TypeVar("CallableT", bound=Callable[..., Any])


class LazyGroup(click.Group):
    """Commands are named by a table; a command's module is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # Click's signature
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # Click's signature
        """The command of this name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(importlib.import_module(entry.module), entry.function)
        return command

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # Click's signature
        """The same text that is shown without Click."""
        formatter.write(HELP)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was meant; UsageError with the nearest name where there is none."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see `interlock --help`"
            raise click.UsageError(f"there is no command {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="interlock", message="interlock %(version)s")
def interlock() -> None:
    """CI/CD for machine-learning models."""


class Session:
    """What one command works with: the state folder and the output. ``open_local`` opens what plans and runs."""

    def __init__(self, state: Path, output: Output, open_local: Callable[[Path], Local]) -> None:
        self.state = state
        self.output = output
        self._open_local = open_local

    def read(self) -> Reading:
        """The rows of the state folder. Refused where nothing was ever kept there."""
        if not self.state.is_dir():
            raise Refused(
                "nothing was run here yet",
                str(self.state),
                "begin with `interlock run` or `interlock server`, or name another folder with --state",
            )
        from interlock.app.reading import Reading

        return Reading.open(self.state)

    def open_local(self) -> Local:
        """What plans and runs working trees; makes the state folder if need be."""
        return self._open_local(self.state)


def open_local(state: Path) -> Local:
    """The real thing; imported here because it brings the whole house."""
    from interlock.app.local import Local

    return Local(state)


def default_state() -> Path:
    """The state folder when none is named."""
    named = os.environ.get("INTERLOCK_STATE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "interlock"


def with_session(function: CallableT) -> CallableT:
    """Adds ``--state`` and ``--json`` to a command and hands it a Session as its first argument."""

    @click.option("--state", type=click.Path(path_type=Path, file_okay=False), help="The state folder.")
    @click.option("--json", "is_json", is_flag=True, help="JSON on standard output, and nothing else there.")
    @functools.wraps(function)
    def command(state: Path | None, is_json: bool, **arguments: Any) -> Any:
        context = click.get_current_context()
        # `interlock models --json list` means the same as `interlock models list --json`.
        above = context.parent.params if context.parent is not None else {}
        folder = state or above.get("state") or default_state()
        output = Output(is_json or bool(above.get("is_json")))
        session = Session(folder.absolute(), output, context.obj or open_local)
        return function(session, **arguments)

    return command  # type: ignore[return-value]  # the decorators above change its type


def run_command(arguments: Sequence[str], local: Callable[[Path], Local] | None = None) -> int:
    """Runs one command and answers its exit code. What went wrong is printed, the unexpected with its traceback."""
    output = Output("--json" in arguments)
    try:
        code = interlock.main(list(arguments), prog_name="interlock", standalone_mode=False, obj=local)
    except (click.Abort, KeyboardInterrupt):
        output.complain(Line("interrupted", "warn"))
        return ExitCode.INTERRUPTED
    except click.ClickException as problem:
        remedy = ""
        if isinstance(problem, click.UsageError) and problem.ctx is not None:
            remedy = f"see `{problem.ctx.command_path} --help`"
        return _refuse(output, Refused(problem.format_message(), "", remedy))
    except Refused as refused:
        return _refuse(output, refused)
    except SignatureInvalid as invalid:
        return _complain(output, "signature_invalid", str(invalid), ExitCode.FAILED)
    except Fault as fault:
        return _complain(output, type(fault).__name__, str(fault) or type(fault).__name__, ExitCode.ERRORED)
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.SUCCESS
    except Exception as unknown:  # noqa: BLE001  # Python's own exit code for it would read as a failed verdict
        traceback.print_exc()
        output.answer({"error": {"kind": type(unknown).__name__, "problem": str(unknown), "where": "", "remedy": ""}})
        return ExitCode.ERRORED
    return code if isinstance(code, int) else ExitCode.SUCCESS


def _refuse(output: Output, refused: Refused) -> int:
    several = refused.refusals if isinstance(refused, SeveralRefused) else (refused,)
    problems = [{"problem": one.problem or str(one), "where": one.where, "remedy": one.remedy} for one in several]
    for one in problems:
        output.complain(Line(": ".join(part for part in (one["where"], one["problem"]) if part), "bad"))
        if one["remedy"]:
            output.complain(Line(f"  {one['remedy']}", ""))
    first = {"kind": "refused", **problems[0]} if problems else {"kind": "refused"}
    output.answer({"error": {**first, "problems": [dict(one) for one in problems]}})
    return ExitCode.REFUSED


def _complain(output: Output, kind: str, problem: str, code: int) -> int:
    output.complain(Line(f"{kind}: {' '.join(problem.split())}", "bad"))
    output.answer({"error": {"kind": kind, "problem": problem, "where": "", "remedy": ""}})
    return code

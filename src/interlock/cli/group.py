"""The group of all commands, loaded one at a time, and how what went wrong is told: errors and exit codes."""

from __future__ import annotations

import difflib
import importlib
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interlock.cli import COMMANDS, HELP
from interlock.cli.output import ExitCode, Line, Output, end_unread
from interlock.client.errors import ApiError, ClientError
from interlock.errors import InterlockError, Refused, SeveralRefused, SignatureInvalid

if TYPE_CHECKING:
    from interlock.app.local import Local

__all__ = ["LazyGroup", "interlock", "run_command"]


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
        command: click.Command = getattr(importlib.import_module(f"interlock.cli.{entry.module}"), cmd_name)
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
    except (InterlockError, ClientError) as wrong:
        return _tell(output, wrong)
    except BrokenPipeError:
        end_unread()
        return ExitCode.SUCCESS
    except Exception as unknown:  # noqa: BLE001  # Python's own exit code for it would read as a failed verdict
        traceback.print_exc()
        output.answer({"error": {"kind": type(unknown).__name__, "problem": str(unknown), "where": "", "remedy": ""}})
        return ExitCode.ERRORED
    return code if isinstance(code, int) else ExitCode.SUCCESS


def _tell(output: Output, wrong: InterlockError | ClientError) -> int:
    """What went wrong here or at a server, in the same words."""
    if isinstance(wrong, Refused):
        return _refuse(output, wrong)
    if isinstance(wrong, ApiError) and wrong.is_refusal:
        return _refuse(output, SeveralRefused([Refused(one.problem, one.where, one.remedy) for one in wrong.problems]))
    if isinstance(wrong, SignatureInvalid):
        return _complain(output, "signature_invalid", str(wrong), ExitCode.FAILED)
    kind = wrong.kind if isinstance(wrong, ApiError) else type(wrong).__name__
    return _complain(output, kind, str(wrong) or kind, ExitCode.ERRORED)


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

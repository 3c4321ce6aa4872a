"""The command line. ``interlock --help`` is answered from the table below, before anything else is imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple


class CommandEntry(NamedTuple):
    """Where a command is: the module that holds it, its name there, and its help in one line."""

    module: str
    function: str
    summary: str


COMMANDS = {
    "init": CommandEntry("interlock.cli.init", "init", "Inspect a repository and write a working interlock.yaml."),
    "validate": CommandEntry("interlock.cli.running", "validate", "Check a pipeline file; every problem at once."),
    "plan": CommandEntry("interlock.cli.running", "plan", "Show which stages would run, which are reused, and why."),
    "run": CommandEntry(
        "interlock.cli.running", "run", "Run this working tree from checks to gates; no server needed."
    ),
    "server": CommandEntry("interlock.cli.server", "server", "Run the control plane, or stop it."),
    "status": CommandEntry("interlock.cli.looking", "status", "What is now: environments, releases, rollouts, runs."),
    "log": CommandEntry("interlock.cli.running", "log", "What the stages of a run printed."),
    "models": CommandEntry("interlock.cli.models", "models", "List the registered models; pull one into a folder."),
    "release": CommandEntry("interlock.cli.models", "release", "Send a model version through the environments."),
    "rollback": CommandEntry("interlock.cli.models", "rollback", "Take an environment back to its previous revision."),
    "explain": CommandEntry("interlock.cli.looking", "explain", "Why: the story of a run, stage, gate or rollout."),
    "demo": CommandEntry("interlock.cli.demo", "demo", "Watch a model go from push to production and back."),
}

HELP = "\n".join(
    [
        "Usage: interlock COMMAND [OPTIONS] [ARGUMENTS]...",
        "",
        "  CI/CD for machine-learning models: a git push goes in, a monitored production",
        "  model comes out, and goes back by itself when it misbehaves.",
        "",
        "Commands:",
        *(f"  {name:<10}{entry.summary}" for name, entry in COMMANDS.items()),
        "",
        "Every command takes --help, --json (JSON on standard output) and --state DIR",
        "(else $INTERLOCK_STATE, $XDG_STATE_HOME/interlock, ~/.local/state/interlock).",
        "",
        "Exit codes: 0 success, 1 a failed verdict, 2 refused, 3 undecided or held,",
        "4 errored, 130 interrupted.",
        "",
    ]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and answers its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in ([], ["--help"], ["-h"], ["help"]):
        sys.stdout.write(HELP)
        return 0
    from interlock.cli.group import run_command

    return run_command(words)

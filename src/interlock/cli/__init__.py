"""The command line. ``interlock --help`` is answered from the table below, before anything else is imported."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import NamedTuple


class CommandEntry(NamedTuple):
    """Where a command is: the module in ``commands`` (or beside it) that holds it, and its help in one line."""

    module: str
    summary: str


COMMANDS = {
    "init": CommandEntry("init", "Inspect a repository and write a working interlock.yaml."),
    "validate": CommandEntry("commands.working", "Check a pipeline file; every problem at once."),
    "plan": CommandEntry("commands.working", "Show which stages would run, which are reused, and why."),
    "run": CommandEntry("commands.working", "Run this working tree from checks to gates; no server needed."),
    "status": CommandEntry("commands.looking", "What is now: environments, releases, rollouts, runs."),
    "runs": CommandEntry("commands.looking", "List runs: of a repository, of a branch, in a phase."),
    "log": CommandEntry("commands.logs", "What the stages of a run printed."),
    "explain": CommandEntry("commands.looking", "Why: the story of a run, stage, gate or rollout."),
    "simulate": CommandEntry("simulating", "The odds of a canary before anyone trusts it."),
    "gate": CommandEntry("commands.gating", "Judge predictions that are at hand, alone or against others."),
    "trigger": CommandEntry("commands.runs", "Begin a run of a branch or tag now."),
    "rerun": CommandEntry("commands.runs", "Run a run's commit again, whole or from a stage on."),
    "cancel": CommandEntry("commands.runs", "End a run, and all its processes."),
    "approve": CommandEntry("commands.runs", "Give your leave: to a run, a release or a rollout."),
    "models": CommandEntry("commands.models", "List registered models; pull, serve or retire one."),
    "reproduce": CommandEntry("commands.reproducing", "Make a model again, compare it bit by bit, and say why not."),
    "release": CommandEntry("commands.models", "Send a model version through the environments."),
    "rollout": CommandEntry("commands.models", "Pause, resume, promote, abort or retry a rollout."),
    "rollback": CommandEntry("commands.models", "Take an environment back to its previous revision."),
    "freeze": CommandEntry("commands.models", "Let nothing go forward in an environment for now."),
    "unfreeze": CommandEntry("commands.models", "Let an environment go forward again."),
    "server": CommandEntry("commands.server", "Run the control plane, or stop it."),
    "hook": CommandEntry("commands.server", "Let a git repository tell the server of each push."),
    "token": CommandEntry("commands.people", "Make, list and revoke tokens for people and programs."),
    "key": CommandEntry("front", "Make, list and revoke API keys for programs that ask models."),
    "secret": CommandEntry("commands.people", "Keep secrets for stages: set, list, remove."),
    "audit": CommandEntry("commands.people", "Who did what; verify that nobody changed the log."),
    "demo": CommandEntry("demo", "Watch a model go from push to production and back."),
}

SECTIONS = {
    "Your working tree": ("init", "validate", "plan", "run", "gate", "simulate"),
    "Look": ("status", "runs", "log", "explain"),
    "Runs": ("trigger", "rerun", "cancel", "approve"),
    "Models": ("models", "reproduce", "release", "rollout", "rollback", "freeze", "unfreeze"),
    "Server and people": ("server", "hook", "token", "key", "secret", "audit"),
    "Play": ("demo",),
}


def _commands() -> list[str]:
    lines = []
    for title, names in SECTIONS.items():
        lines += [f"{title}:", *(f"  {name:<10}{COMMANDS[name].summary}" for name in names), ""]
    return lines


HELP = "\n".join(
    [
        "Usage: interlock COMMAND [OPTIONS] [ARGUMENTS]...",
        "",
        "  CI/CD for machine-learning models: a git push goes in, a monitored production",
        "  model comes out, and goes back by itself when it misbehaves.",
        "",
        *_commands(),
        "Every command takes --help, --json (JSON on standard output) and --state DIR",
        "(else $INTERLOCK_STATE, $XDG_STATE_HOME/interlock, ~/.local/state/interlock).",
        "Those that look or ask take --server URL (else $INTERLOCK_SERVER) instead, with",
        "the token in $INTERLOCK_TOKEN or --token-file.",
        "",
        "Exit codes: 0 success, 1 a failed verdict, 2 refused, 3 undecided or held,",
        "4 errored, 130 interrupted.",
        "",
    ]
)


GARBAGE = 20_000, 50, 50
"""Objects after which cycles are looked for, and how rarely among the older ones. What a start loads is a hundred
thousand objects that stay: to look through them every 700 takes a tenth of it.
"""


SWITCH_SECONDS = 0.0005
"""How long a thread that has something to do waits for another at most, in the place of Python's 5 ms: those of stages
do little between the calls for which they give way.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and answers its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in ([], ["--help"], ["-h"], ["help"]):
        sys.stdout.write(HELP)
        return 0
    if words[0] == "run":
        from interlock.cli.standing import answer

        code = answer(words[1:])
        if code is not None:
            return code
    gc.set_threshold(*GARBAGE)
    sys.setswitchinterval(SWITCH_SECONDS)
    from interlock.cli.group import run_command

    return run_command(words)

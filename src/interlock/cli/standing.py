"""A run whose end still stands, told from its state as JSON: neither Click nor the models of rows are loaded for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from interlock.app.standing.note import recall
from interlock.cli.output import ExitCode, Line, Output, end_unread


class Asked(NamedTuple):
    """What an ordinary ``interlock run`` is asked."""

    folder: str
    state: str
    overrides: tuple[str, ...]


def answer(words: Sequence[str]) -> int | None:
    """Tells the end of the run that still stands for the words after ``interlock run``, and answers its exit code.

    None, and nothing is told, where none does or the words ask for more: then Click reads them, and knows all of them.
    """
    asked = read_words(words)
    standing = None if asked is None else recall(asked.state, asked.folder, {"overrides": asked.overrides})
    if standing is None:
        return None
    try:
        Output().say(*standing_lines(standing))
    except BrokenPipeError:
        end_unread()
    return ExitCode.SUCCESS


def read_words(words: Sequence[str]) -> Asked | None:
    """What the words ask where they are a folder, a state folder and overrides; None for all others."""
    folders, states, overrides = list[str](), list[str](), list[str]()
    places = {"--state": states, "-S": overrides, "--set": overrides}
    left = iter(words)
    for word in left:
        name, is_joined, value = word.partition("=")
        if name == "-S" and is_joined:
            return None  # to Click its value begins with "="
        if name in places:
            value = value if is_joined else next(left, "-")
        elif word.startswith("-"):
            return None
        else:
            name, value = "", word
        if value.startswith("-") or not value:
            return None
        places.get(name, folders).append(value)
    folder, state = (folders or ["."])[-1], (states or [default_state()])[-1]
    if len(folders) > 1 or not os.path.isdir(folder):
        return None
    return Asked(folder, os.path.abspath(state), tuple(overrides))


def default_state() -> str:
    """The state folder when none is named."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.environ.get("INTERLOCK_STATE") or f"{base}/interlock"


def standing_lines(run: Mapping[str, Any]) -> list[Line]:
    """Every stage with its reason, every gate with its verdict, and why nothing was run."""
    commit = run["commit"]
    lines = [
        Line(f"{commit['repository']} as run {run['number']} found it: {commit['ref']} {commit['sha'][:10]}", "title")
    ]
    for name, stage in run["stages"].items():
        lines.append(Line(f"  {name:<14} {stage['phase']:<10} {stage['because']}", "dim"))
    results = (run["judgement"] or {}).get("results", [])
    lines += [Line("gates", "title")] if results else []
    lines += [Line(f"  {result['verdict']:<10} {result['gate']}: {result['because']}", "good") for result in results]
    return [*lines, Line(f"run {run['number']} {run['phase']}: {run['because']}", "good")]

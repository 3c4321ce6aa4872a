"""A run whose end still stands, told from its state as JSON: nothing of how rows are shaped is imported for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from interlock.cli.output import Line


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

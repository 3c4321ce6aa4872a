"""The text of the pipeline file that ``interlock init`` writes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from interlock.cli.init.dependencies import LockFound
from interlock.cli.init.repository import Repository, StageFound
from interlock.pipeline.models.formats import format_of

_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./ =-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "~", ""})


def write_draft(name: str, branch: str, python: str, lock: LockFound, found: Repository) -> str:
    """A pipeline file of all that was found; what was not is a comment that says what to fill in."""
    unsolved = (*lock.unsolved, *found.unsolved)
    lines = ["# Written by `interlock init` from what this repository holds. Check it with `interlock validate`."]
    lines += [f"# To fill in: {what}" for what in unsolved]
    lines += ["version: 1", f"on: {{push: {{branches: [{quote(branch)}]}}}}"]
    of_lock = f", lock: {quote(lock.path)}" if lock.path else ""
    lines.append(f"python: {{version: {quote(python)}{of_lock}}}")
    unit = f", {{name: unit, cmd: {quote(found.test_command)}}}" if found.test_command else ""
    lines.append(f"checks: [syntax, imports, dependencies{unit}]")
    lines += _data_lines(found)
    lines.append("stages:")
    for stage in found.stages:
        lines += _stage_lines(stage)
    lines += _model_lines(name, found)
    lines += _gate_lines(found.stages)
    if found.model:
        lines += [
            "# Without `deploy` a version is registered and can be fetched with `interlock models pull`. To serve it:",
            "# deploy:",
            "#   staging: {strategy: rolling}",
            "#   production:",
            "#     requires: [staging]",
            "#     strategy: {canary: {steps: [{set_weight: 5}, {analysis: {for: 15m}}, {set_weight: 100}]}}",
        ]
    return "\n".join(lines) + "\n"


def quote(text: str) -> str:
    """A text as YAML, in quotes where it would mean something else without."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and text == text.strip():
        return text
    # Not as JSON: YAML does not put two halves of a character together.
    return '"' + "".join(_escape(letter) for letter in text) + '"'


def _escape(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"


def _list(items: Sequence[str]) -> str:
    return f"[{', '.join(quote(item) for item in items)}]"


def _data_lines(found: Repository) -> list[str]:
    if not found.data:
        return []
    lines = [
        "# A schema for each (columns, types, ranges) stops bad data before any training; `disjoint_from` keeps the"
    ]
    lines += ["# holdout apart from what was trained on.", "data:"]
    return lines + [f"  {name}: {{path: {quote(path)}}}" for name, path in found.data]


def _stage_lines(stage: StageFound) -> list[str]:
    lines = [f"  {stage.name}:", f"    cmd: {quote(stage.command)}"]
    for key, items in (
        ("params", stage.params),
        ("outs", stage.outs),
        ("metrics", stage.metrics),
    ):
        if items:
            lines.append(f"    {key}: {_list(items)}")
    if stage.predictions:
        lines.append(f"    predictions: {quote(stage.predictions)}")
    return lines


def _model_lines(name: str, found: Repository) -> list[str]:
    if found.model is None:
        return ["# model: {name: " + name + ", path: PATH, format: skops}    # PATH is one of the outs of a stage"]
    named = {"skops": "skops", "joblib": "joblib", "pickle": "joblib"}.get(found.model.how)
    kind = format_of(found.model.path, named)
    golden = ", golden: golden.json" if "golden.json" in found.files else ""
    return [f"model: {{name: {name}, path: {quote(found.model.path)}, format: {kind}{golden}}}"]


def _gate_lines(stages: Sequence[StageFound]) -> list[str]:
    names = [metric for stage in stages if stage.metrics for metric in stage.facts.metrics]
    if not any(stage.metrics for stage in stages):
        return []
    lines = ["# What a model must reach is yours to say:", "# gates:"]
    lines += [f"#   - {{metric: {quote(name)}, min: 0.0}}" for name in names[:5] or ["METRIC"]]
    if any(stage.predictions for stage in stages):
        lines.append(f"#   - {{metric: {quote((names or ['METRIC'])[0])}, against: production, margin: 0.01}}")
    return lines

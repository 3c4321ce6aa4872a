"""Checks of a dataset that need no other time: what is repeated, shared with the holdout, told by one column, old."""

from __future__ import annotations

import math

from interlock.gate.data.subject import SMALLEST_TABLE, Answer, CannotTell, Finding, Subject, listed
from interlock.gate.data.summaries import Shared
from interlock.pipeline.plan import CheckPlan
from interlock.vocabulary import Json, Verdict

RARE_BY_CHANCE = 0.001
"""Likes that a row may have by chance where repeated rows are asked for without being written."""

CERTAIN = 4.0
"""Standard errors by which more of a holdout must be in the training data than chance tells: once in 30,000 times."""

SMALLEST_CLASS = 20
_MOST_TOLD, _MOST_TOLD_OF_QUANTITY = 0.99, 0.999


def duplicates(check: CheckPlan, subject: Subject) -> Answer:
    """At most ``max`` of the rows repeat another; tables whose rows agree by chance only where that is written."""
    repeated, rows = subject.table.repeated, subject.table.rows
    if repeated is None:
        return CannotTell("it has no column beside its id")
    if not check.is_written and (rows < SMALLEST_TABLE or repeated.by_chance > RARE_BY_CHANCE):
        return CannotTell(f"rows may well agree by chance: each has {repeated.by_chance:.2g} likes")
    share, most = repeated.rows / rows, check.limits["max"]
    evidence: dict[str, Json] = {
        "repeated": repeated.rows,
        "rows": rows,
        "share": share,
        "max": most,
        "by_chance": repeated.by_chance,
    }
    said = f"{repeated.rows} of {rows} rows repeat another ({share:.1%})"
    return _at_most(share, most, said, evidence, f"{most:.1%}")


def overlap(check: CheckPlan, subject: Subject) -> Answer:
    """At most ``max`` of the holdout's rows are in training data as they are, beyond what is usual."""
    counts = {name: (one, one.exact, one.usual_exact) for name, one in subject.table.shared.items()}
    return _shared(check, counts, "are in it too", "the id aside")


def near_duplicates(check: CheckPlan, subject: Subject) -> Answer:
    """At most ``max`` of the holdout's rows are nearly in training data, beyond what is usual."""
    counts = {name: (one, one.near, one.usual_near) for name, one in subject.table.shared.items()}
    return _shared(check, counts, "have a near like in it", "rounded, in all columns but one")


def leakage(check: CheckPlan, subject: Subject) -> Answer:
    """No column tells more than ``max`` of the label."""
    label = subject.table.label
    if label is None:
        return CannotTell("it names no label")
    rarest = min(label.classes.values(), default=label.rows)
    if label.rows < SMALLEST_TABLE or (label.kind == "classes" and rarest < SMALLEST_CLASS):
        needed = f"{SMALLEST_TABLE} rows and {SMALLEST_CLASS} of each class at least"
        return CannotTell(f"{label.rows} rows with a label, {rarest} of the rarest class, are too few: {needed}")
    most = check.limits.get("max", _MOST_TOLD if label.kind == "classes" else _MOST_TOLD_OF_QUANTITY)
    told = {
        name: column.told
        for name, column in subject.table.columns.items()
        if column.told is not None and name not in check.ignore
    }
    if not told:
        return CannotTell("no column can be asked for what it tells of the label")
    ordered = sorted(told, key=lambda name: (-told[name].strength, name))
    evidence: dict[str, Json] = {
        "label": label.name,
        "max": most,
        "columns": len(told),
        "strongest": {name: told[name].strength for name in ordered[:5]},
        "measure": told[ordered[0]].measure,
    }
    leaks = [
        f"{name} alone tells {label.name}: {told[name].measure} {told[name].strength:.4f} is above {most:g}"
        for name in ordered
        if told[name].strength > most
    ]
    if leaks:
        remedy = "; if it is known before the label, write it to `leakage: {ignore: [...]}`"
        return Finding(Verdict.FAIL, listed(leaks) + remedy, evidence)
    first = ordered[0]
    said = f"{first} tells most of {label.name}: {told[first].measure} {told[first].strength:.4f}, at most {most:g}"
    return Finding(Verdict.PASS, said, evidence)


def freshness(check: CheckPlan, subject: Subject) -> Answer:
    """The newest time of ``column`` lies at most ``max_age`` seconds back."""
    column = subject.table.columns.get(check.column or "")
    if column is None:
        return CannotTell(f"there is no column {check.column}")
    if column.kind != "datetime" or not column.quantiles:
        return CannotTell(f"the column {check.column} holds no times (ISO 8601)")
    age, most = subject.now - column.quantiles[-1], check.limits["max_age"]
    evidence: dict[str, Json] = {"newest": column.quantiles[-1], "age": age, "max_age": most}
    if age < -86_400.0:
        return CannotTell(f"the newest {check.column} lies {-age / 86_400.0:.1f} days in the future")
    said = f"the newest {check.column} is {max(0.0, age) / 86_400.0:.2f} days old"
    return _at_most(age, most, said, evidence, f"{most / 86_400.0:g} days")


def _at_most(value: float, most: float, said: str, evidence: dict[str, Json], told: str) -> Finding:
    if value > most:
        return Finding(Verdict.FAIL, f"{said}, above {told}", evidence)
    return Finding(Verdict.PASS, f"{said}, at most {told}", evidence)


def _shared(check: CheckPlan, counts: dict[str, tuple[Shared, int, int]], verb: str, how: str) -> Answer:
    if not counts:
        return CannotTell("it is not the holdout, or there is no training data to compare with")
    most, evidence = check.limits["max"], dict[str, Json]()
    found: list[str] = []
    kept: list[str] = []
    for name, (shared, count, usual_count) in counts.items():
        share, usual = count / shared.rows, usual_count / shared.usual_rows
        pooled = (count + usual_count) / (shared.rows + shared.usual_rows)
        error = math.sqrt(pooled * (1.0 - pooled) * (1.0 / shared.rows + 1.0 / shared.usual_rows))
        evidence[name] = {
            "rows": shared.rows,
            "found": count,
            "share": share,
            "usual": usual,
            "standard_error": error,
            "max": most,
        }
        said = f"{name}: {count} of {shared.rows} rows {verb} ({how}; {share:.1%}, usual are {usual:.1%})"
        (found if share - usual > most and share - usual > CERTAIN * error else kept).append(said)
    if found:
        return Finding(Verdict.FAIL, f"{listed(found)}, above {most:.1%}", evidence)
    return Finding(Verdict.PASS, listed(kept), evidence)

"""Checks of a dataset against the accepted one: kinds, empty cells, constants, classes, rows, and drift of any kind."""

from __future__ import annotations

import numpy as np

from interlock.gate.data.distances import Distance, distance, holm, of_counts
from interlock.gate.data.subject import (
    Answer,
    CannotTell,
    Finding,
    Pair,
    Subject,
    listed,
    pairs,
    references,
    too_small,
)
from interlock.gate.data.summaries import NUMERIC, LabelSummary, TableSummary
from interlock.pipeline.plan import CheckPlan
from interlock.vocabulary import Json, Verdict

SURPRISING = 1e-4
"""The p-value below which a change of empty cells or of classes is taken for one, whatever its size."""


def types(check: CheckPlan, subject: Subject) -> Answer:
    """Every column is of the kind that it is elsewhere; whole and other numbers count as one."""
    others = references(subject)
    if not others:
        return CannotTell(subject.no_accepted)
    changed = []
    for told, other in others.items():
        for pair in pairs(check, subject.table, other):
            kinds = {pair.new.kind, pair.old.kind}
            if len(kinds) > 1 and not kinds <= NUMERIC and "empty" not in kinds:
                changed.append(f"{pair.column} is {pair.new.kind}, and {pair.old.kind} in {told}")
    evidence: dict[str, Json] = {"columns": len(subject.table.columns), "compared_with": list(others)}
    if changed:
        return Finding(Verdict.FAIL, listed(changed), evidence)
    return Finding(Verdict.PASS, f"every column is of the kind that it is in {' and '.join(others)}", evidence)


def nulls(check: CheckPlan, subject: Subject) -> Answer:
    """The share of empty cells of no column rose by more than ``max_rise``."""
    accepted = _accepted(subject)
    if isinstance(accepted, CannotTell):
        return accepted
    most, risen, evidence = check.limits["max_rise"], [], dict[str, Json]()
    worst = ("no column", 0.0)
    for pair in pairs(check, subject.table, accepted):
        share, before = pair.new.nulls / subject.table.rows, pair.old.nulls / accepted.rows
        worst = max(worst, (pair.column, share - before), key=lambda one: one[1])
        if share - before > most:
            risen.append(f"{share:.1%} of {pair.column} are empty, and {before:.1%} were")
            evidence[pair.column] = {"share": share, "accepted": before}
    evidence |= {"max_rise": most, "largest_rise": worst[1]}
    if risen:
        return Finding(Verdict.FAIL, f"{listed(risen)}: a rise above {most:.1%}", evidence)
    return Finding(Verdict.PASS, f"the share of empty cells rose most in {worst[0]}, by {worst[1]:.1%}", evidence)


def constant(check: CheckPlan, subject: Subject) -> Answer:
    """No column that varied is constant; with ``max`` also not more than so many are at all."""
    columns = subject.table.columns
    constants = [name for name, one in columns.items() if one.distinct <= 1 and name not in check.ignore]
    most, accepted = check.limits.get("max"), subject.accepted
    if most is None and accepted is None:
        return CannotTell(subject.no_accepted)
    varied = {name for name in constants if accepted and _has_varied(accepted, name, subject.table.filled(name))}
    evidence: dict[str, Json] = {"constant": [*constants], "varied": [*sorted(varied)], "max": most}
    if varied:
        return Finding(
            Verdict.FAIL, f"{listed(sorted(varied))} has one value, and varied in the accepted data", evidence
        )
    if most is not None and len(constants) > most:
        return Finding(
            Verdict.FAIL, f"{len(constants)} columns have one value ({listed(constants)}), above {most:g}", evidence
        )
    return Finding(
        Verdict.PASS,
        f"{len(constants)} columns have one value, as before" if constants else "every column varies",
        evidence,
    )


def balance(check: CheckPlan, subject: Subject) -> Answer:
    """Two classes at least, each with ``min`` of the rows; their shares moved by ``max_shift`` at most."""
    label = subject.table.label
    if label is None or label.kind == "quantity":
        return CannotTell("it names no label" if label is None else f"{label.name} is no class")
    if not check.is_written and too_small(subject.table):
        return CannotTell(too_small(subject.table))
    least = check.limits["min"]
    shares = {name: count / label.rows for name, count in label.classes.items()}
    evidence: dict[str, Json] = {"classes": dict(label.classes), "min": least, "max_shift": check.limits["max_shift"]}
    if len(shares) < 2:
        return Finding(Verdict.FAIL, f"{label.name} has one class only: {listed(list(shares))}", evidence)
    rarest = min(shares, key=lambda name: (shares[name], name))
    said = f"the rarest class {rarest} has {shares[rarest]:.2%} of the rows"
    if shares[rarest] < least:
        return Finding(Verdict.FAIL, f"{said}, below {least:.2%}", evidence)
    moved = _shift(label, subject)
    if moved is None:
        return Finding(
            Verdict.PASS, f"{said}; {subject.no_accepted or 'the accepted label is of another kind'}", evidence
        )
    evidence |= {"shift": moved.value, "p_value": moved.p_value}
    if moved.value > check.limits["max_shift"] and moved.p_value < SURPRISING:
        because = (
            f"the classes moved by {moved.value:.1%} since the accepted data, above {check.limits['max_shift']:.1%}"
        )
        return Finding(Verdict.FAIL, because, evidence)
    return Finding(Verdict.PASS, f"{said}, the classes moved by {moved.value:.1%}", evidence)


def volume(check: CheckPlan, subject: Subject) -> Answer:
    """The number of rows is between ``min_ratio`` and ``max_ratio`` of the accepted one's."""
    if subject.accepted is None:
        return CannotTell(subject.no_accepted)
    rows, before = subject.table.rows, subject.accepted.rows
    ratio, least, most = rows / before, check.limits["min_ratio"], check.limits.get("max_ratio")
    evidence: dict[str, Json] = {"rows": rows, "accepted": before, "min_ratio": least, "max_ratio": most}
    said = f"{rows} rows, and {before} in the accepted data: {ratio:.2f} times as many"
    if ratio < least:
        return Finding(Verdict.FAIL, f"{said}, below {least:g}", evidence)
    if most is not None and ratio > most:
        return Finding(Verdict.FAIL, f"{said}, above {most:g}", evidence)
    return Finding(Verdict.PASS, said, evidence)


def drift(check: CheckPlan, subject: Subject) -> Answer:
    """No column moved by more than ``max``, where the chance that one seems to although none has is ``alpha``."""
    accepted = _accepted(subject)
    if isinstance(accepted, CannotTell):
        return accepted
    found = {
        pair.column: apart for pair in pairs(check, subject.table, accepted) if (apart := _apart(pair)) is not None
    }
    if not found:
        return CannotTell("no column can be compared with the accepted data")
    adjusted = holm({name: apart.p_value for name, apart in found.items()})
    most, alpha = check.limits["max"], check.limits["alpha"]
    ordered = sorted(found, key=lambda name: (-found[name].value, name))
    evidence: dict[str, Json] = {"max": most, "alpha": alpha, "columns": len(found)}
    for name in ordered[:5]:
        apart = found[name]
        evidence[name] = {
            "distance": apart.value,
            "measure": apart.measure,
            "psi": apart.psi,
            "p_value": apart.p_value,
            "p_adjusted": adjusted[name],
        }
    moved = [
        f"{name} moved by {found[name].value:.3f} ({found[name].measure}, PSI {found[name].psi:.2f})"
        for name in ordered
        if found[name].value > most and adjusted[name] <= alpha
    ]
    if moved:
        return Finding(
            Verdict.FAIL, f"{listed(moved)}: above {most:g}, at alpha {alpha:g} over {len(found)} columns", evidence
        )
    first = ordered[0]
    said = f"{first} moved most, by {found[first].value:.3f} of at most {most:g} (adjusted p {adjusted[first]:.2g})"
    return Finding(Verdict.PASS, said, evidence)


def _has_varied(accepted: TableSummary, name: str, rows: int) -> bool:
    """Whether a column of the accepted data varies so much that chance does not make ``rows`` of it all the same."""
    column = accepted.columns.get(name)
    if column is None or column.distinct < 2:
        return False
    most = max((count for count, _ in column.categories.values()), default=0)
    return bool((most / max(1, accepted.filled(name))) ** rows < SURPRISING) or not rows


def _apart(pair: Pair) -> Distance | None:
    return distance(pair.new, pair.old, pair.rows, pair.old_rows)


def _shift(label: LabelSummary, subject: Subject) -> Distance | None:
    before = subject.accepted.label if subject.accepted else None
    if before is None or before.kind != label.kind:
        return None
    names = sorted({*label.classes, *before.classes})
    counts, olds = [np.array([one.classes.get(name, 0) for name in names], dtype=np.float64) for one in (label, before)]
    return of_counts(counts, olds)


def _accepted(subject: Subject) -> TableSummary | CannotTell:
    """The accepted data, where there is enough of it and of the new to compare."""
    accepted = subject.accepted
    if accepted is None:
        return CannotTell(subject.no_accepted)
    small = too_small(subject.table, accepted)
    return CannotTell(small) if small else accepted

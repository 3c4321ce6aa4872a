"""The checks of all datasets of a plan, judged once their summaries are there: before anything is trained.

A check that the file names must be decided: without evidence it is undecided, and what it asks of accepted data passes
only where it is known that nothing was accepted yet. One that is asked by itself is left out where there is nothing to
decide it with, and the reason is kept; but a summary that cannot be read leaves every check undecided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from interlock.gate.data import alone, changes, patterns
from interlock.gate.data.subject import Answer, CannotTell, Subject
from interlock.gate.data.summaries import TableSummary, read_summary
from interlock.gate.judge import NO_PRODUCTION
from interlock.gate.judgement import Checked, GateResult
from interlock.pipeline.plan import CheckPlan, DataPlan
from interlock.vocabulary import Json, Verdict

Check: TypeAlias = Callable[[CheckPlan, Subject], Answer]

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "types": changes.types,
        "nulls": changes.nulls,
        "constant": changes.constant,
        "duplicates": alone.duplicates,
        "overlap": alone.overlap,
        "near_duplicates": alone.near_duplicates,
        "leakage": alone.leakage,
        "balance": changes.balance,
        "volume": changes.volume,
        "swapped_columns": patterns.swapped_columns,
        "units": patterns.units,
        "categories": patterns.categories,
        "time_shift": patterns.time_shift,
        "drift": changes.drift,
        "freshness": alone.freshness,
    }
)
"""Every check by its name in the pipeline file."""

NOTHING_ACCEPTED: Final = "no data was accepted yet"


def judge_data(datasets: Sequence[DataPlan], report: Json, accepted: Json, production: str, now: float) -> Checked:
    """Every check of every dataset. ``report`` and ``accepted`` are reports of the data probe: this run's, and that of
    the run which made the model in ``production``, None where it is not kept. ``now`` in seconds since 1970.
    """
    tables: dict[str, TableSummary] = {}
    results: list[GateResult] = []
    left_out: dict[str, str] = {}
    asked = [dataset for dataset in datasets if dataset.checks]
    for dataset in datasets if asked else ():  # what is not asked anything may be training data of what is
        table, because = read_summary(report, dataset.name)
        if table is not None:
            tables[dataset.name] = table
            continue
        results += [
            GateResult(gate=title_of(dataset, check), verdict=Verdict.UNDECIDED, because=because)
            for check in dataset.checks
        ]
    for dataset in asked:
        if dataset.name not in tables:
            continue
        subject = _subject(dataset.name, tables, accepted, production, now)
        for check in dataset.checks:
            answer, title = CHECKS[check.name](check, subject), title_of(dataset, check)
            if not isinstance(answer, CannotTell):
                results.append(
                    GateResult(gate=title, verdict=answer.verdict, because=answer.because, evidence=answer.evidence)
                )
            elif not check.is_written:
                left_out[title] = answer.because
            else:
                is_first = answer.because == NOTHING_ACCEPTED
                verdict = Verdict.PASS if is_first else Verdict.UNDECIDED
                results.append(GateResult(gate=title, verdict=verdict, because=answer.because))
    return Checked(results=tuple(results), left_out=left_out)


def tell_replaced(datasets: Sequence[DataPlan], report: Json, accepted: Json) -> tuple[str, ...]:
    """The datasets with id and label, on whose rows models are judged, that hold something else than in production.

    ``report`` and ``accepted`` as for ``judge_data``. One that either has no digest of is not told.
    """
    judging = [dataset.name for dataset in datasets if dataset.id and dataset.label]
    pairs = [(name, _digest(accepted, name), _digest(report, name)) for name in judging]
    return tuple(
        f"the dataset {name} does not hold what production's run was judged on"
        for name, was, now in pairs
        if was is not None and now is not None and was != now
    )


def _digest(report: Json, name: str) -> str | None:
    table = report.get(name) if isinstance(report, dict) else None
    digest = table.get("digest") if isinstance(table, dict) else None
    return digest if isinstance(digest, str) else None


def title_of(dataset: DataPlan, check: CheckPlan) -> str:
    """The check in a few words, unique within a plan."""
    return f"{check.name} of {dataset.name}"


def _subject(name: str, tables: Mapping[str, TableSummary], accepted: Json, production: str, now: float) -> Subject:
    before, because = None, NOTHING_ACCEPTED
    if production != NO_PRODUCTION:
        before, because = read_summary(accepted, name)
        because = f"it is not known what data was accepted: {because}" if accepted is None else because
    ours = tables[name]
    training = {other: tables[other] for other in ours.shared if other in tables}
    return Subject(name, ours, before, because, training, now)

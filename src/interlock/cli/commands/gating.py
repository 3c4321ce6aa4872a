"""The command ``gate``: predictions in files, judged as a run judges them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from interlock.cli.output import ExitCode
from interlock.cli.session import Session, with_session
from interlock.errors import Refused

if TYPE_CHECKING:
    from interlock.vocabulary import Verdict

LABELS = 20
"""Labels of at most so many different values are taken for classes where no metric is named."""


class _Rows(NamedTuple):
    """What the probe found, and the name of the file that is compared with."""

    report: dict[str, Any]
    baseline: str | None


@click.command()
@click.option("--candidate", required=True, type=click.Path(path_type=Path), help="CSV or Parquet: id, prediction, ...")
@click.option("--baseline", type=click.Path(path_type=Path), help="The same of what it is compared with.")
@click.option("--holdout", type=click.Path(path_type=Path), help="The labels. Else a column of the predictions.")
@click.option("--id", "key", default="id", show_default=True, help="The holdout's column that names a row.")
@click.option("--label", default="label", show_default=True, help="The column with the truth.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="accuracy, auc, f1, f1_macro, log_loss, rmse, mae, row_loss...; repeatable.",
)
@click.option("--condition", "conditions", multiple=True, help="As `n - o > 0.02 +/- 0.01`, of ease.ml/ci; repeatable.")
@click.option("--margin", type=click.FloatRange(0), default=0.0, help="How much worse it may be. 0: proven better.")
@click.option("--alpha", type=click.FloatRange(0, 0.5, min_open=True), default=0.05, show_default=True)
@click.option("--min", "least", type=float, help="The least that passes.")
@click.option("--max", "most", type=float, help="The most that passes; with --gap-between the widest gap.")
@click.option("--slice", "slices", multiple=True, metavar="COLUMN[/N]", help="A column to slice by; `found` for all.")
@click.option("--gap-between", metavar="COLUMN", help="Bound by --max how far the metric differs between groups.")
@with_session
def gate(
    session: Session,
    candidate: Path,
    baseline: Path | None,
    holdout: Path | None,
    key: str,
    label: str,
    metrics: tuple[str, ...],
    conditions: tuple[str, ...],
    margin: float,
    alpha: float,
    least: float | None,
    most: float | None,
    slices: tuple[str, ...],
    gap_between: str | None,
) -> int:
    """Judge predictions in files: with limits, or against those of another model on the same rows.

    The files are as a stage writes them: id, prediction, perhaps probability, row_loss and columns to slice by. No
    server, state folder or pipeline file is needed.
    """
    from interlock.cli import show
    from interlock.gate.judge import NO_PRODUCTION, judge
    from interlock.pipeline.gates.conditional import gate_on_condition
    from interlock.pipeline.gates.conditions import read_condition
    from interlock.pipeline.plan import GatePlan, SlicePlan
    from interlock.vocabulary import Verdict

    asked = [gate_on_condition(read_condition(text).text) for text in conditions]
    compares = bool(slices) or any(condition.against for condition in asked)
    _check_limits({"--margin": margin, "--alpha": alpha, "--min": least, "--max": most})
    if baseline is None and (compares or (least is None and most is None and not asked)):
        raise Refused(
            "there is nothing to judge by", "gate", "add --baseline FILE, or a limit: --min, --max or --condition"
        )
    cut = "found" if slices == ("found",) else tuple(SlicePlan(**_slice(text)) for text in slices)
    wanted = GatePlan(metric="", slices=cut, gap_between=gap_between).columns
    losses = [name for name in metrics if name.startswith("row_loss")]
    rows = _measure(candidate, baseline, (holdout, key, label), [*wanted, *losses])
    for metric in metrics or ([] if asked else _usual(rows)):
        if least is not None or most is not None:
            asked.append(GatePlan(metric=metric, min=least, max=most, gap_between=gap_between, alpha=alpha))
        if rows.baseline is not None:
            asked.append(GatePlan(metric=metric, against="production", margin=margin, alpha=alpha, slices=cut))
    judgement = judge(asked, {"measurements": rows.report}, rows.baseline or NO_PRODUCTION)
    session.output.say(*show.gate_lines(judgement))
    session.output.answer({"verdict": judgement.verdict, **judgement.model_dump(mode="json")})
    codes: dict[Verdict, ExitCode] = {Verdict.FAIL: ExitCode.FAILED, Verdict.UNDECIDED: ExitCode.HELD}
    return codes.get(judgement.verdict, ExitCode.SUCCESS)


def _check_limits(given: Mapping[str, float | None]) -> None:
    for option, number in given.items():
        if number is not None and not math.isfinite(number):
            raise Refused(f"{number} is no finite number", option, "write a number like 0.01")


def _slice(text: str) -> dict[str, Any]:
    column, _, parts = text.rpartition("/")
    if not column or not parts.isdigit():
        return {"column": text}
    if not 2 <= int(parts) <= 100:
        raise Refused(f"{parts} is no number of parts", f"--slice {text}", "write COLUMN/N, N from 2 to 100")
    return {"column": column, "quantiles": int(parts)}


def _measure(
    candidate: Path, baseline: Path | None, labels: tuple[Path | None, str, str], columns: Sequence[str]
) -> _Rows:
    """The rows of both files beside their labels, as a run's own probe joins them. Refused where they do not fit."""
    from interlock.probes.measurements import measure

    holdout, key, label = labels
    source = holdout or _labelled(candidate, baseline, label)
    found = measure(
        {
            "metrics": [],
            "predictions": str(candidate),
            "holdout": {"path": str(source), "id": key if holdout else "id", "label": label},
            "baseline_predictions": str(baseline) if baseline else None,
            "baseline_name": baseline.name if baseline else None,
            "columns": list(columns),
        }
    )
    if not found["passed"]:
        remedy = "the files need the columns id and prediction, and labels: name them with --label and --id"
        raise Refused(str(found["because"]), str(candidate), remedy)
    report: dict[str, Any] = found["report"]
    beyond = ((report["rows"] or {}).get("baseline") or {}).get("unknown_ids", 0)
    if holdout is None and beyond:
        problem = f"the baseline has {beyond} rows that have no label"
        raise Refused(problem, str(candidate), "judge both on the same rows, or name the labels: --holdout FILE")
    return _Rows(report, baseline.name if baseline else None)


def _labelled(candidate: Path, baseline: Path | None, label: str) -> Path:
    """The file that has the labels: the baseline's before the candidate's, which must not choose its own."""
    from interlock.probes.data_table import UnreadableTable, read_table

    for path in (baseline, candidate):
        try:
            if path is not None and label in read_table(str(path)).cells.columns:
                return path
        except UnreadableTable as error:
            raise Refused(f"{path}: {error}", str(path), "write a CSV or Parquet file with a header") from None
    raise Refused(
        f"no file has a column {label}", str(candidate), "add it, or name the labels: --holdout FILE --label NAME"
    )


def _usual(rows: _Rows) -> list[str]:
    """The metrics that are meant where none is named: classes are counted, numbers measured."""
    labels = set(rows.report["rows"]["labels"])
    if len(labels) > LABELS or not labels >= set(rows.report["rows"]["candidate"]["prediction"]):
        return ["rmse"]
    has_chances = rows.report["rows"]["candidate"]["probability"] is not None and len(labels) == 2
    return ["accuracy", "auc"] if has_chances else ["accuracy"]

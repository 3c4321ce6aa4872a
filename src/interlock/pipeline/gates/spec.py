"""The keys of one gate."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag

from interlock.errors import Refused
from interlock.pipeline.gates.conditions import read_condition
from interlock.pipeline.rules.values import Alpha, Choice, Section, Text, shape_of, shape_of_list, wrong

MOST_SLICES = 200
"""The most columns that one gate may slice by."""


class SliceSpec(Section):
    """A column that cuts the rows into parts. A text alone is the column."""

    column: Text
    """The column, of the holdout or the predictions."""
    quantiles: Annotated[int, Field(ge=2, le=100)] | None = None
    """Into how many parts of equal size a column of numbers is cut. Without it: one slice for each value, and four
    parts where there are more than 20 values."""


Slice: TypeAlias = Annotated[
    Annotated[Text, Tag("<text>")] | Annotated[SliceSpec, Tag("<mapping>")], Discriminator(shape_of)
]


class ReuseSpec(Section):
    """How often the rows of the holdout may be asked, before who develops has learned them."""

    commits: Annotated[int, Field(ge=1, le=1_000_000)]
    """The most commits that are judged with one holdout by this metric. After them the gate is undecided until the
    holdout has new rows. A commit that is run again counts once."""
    adaptivity: Annotated[str, Choice(("full", "first_change"))] = "full"
    """`full`: everybody sees each result. `first_change`: only a pass is news, and the first one retires the
    holdout, which needs fewer rows."""
    scores: Annotated[str, Choice(("ladder", "exact"))] = "ladder"
    """What people are shown of the metric. `ladder`: a score made worse by 2 standard errors, where that beats the best
    one shown by 2.7, rounded to them, and no other number that tells it (after Blum and Hardt 2015). `exact`: all
    numbers."""


def _readable(text: str) -> str:
    try:
        return read_condition(text).text
    except Refused as refused:
        raise wrong(refused.problem, refused.remedy) from None


ConditionText: TypeAlias = Annotated[Text, AfterValidator(_readable)]


class ConditionSpec(Section):
    """A condition of ease.ml/ci. A text alone is what has to hold."""

    holds: ConditionText
    """Clauses joined by `/\\`, such as `n - o > 0.02 +/- 0.01`: n and o are the accuracies of the new model and of the
    one in production, d the share of rows on which they differ; each clause is known up to its tolerance."""
    reliability: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.99
    """The chance that all answers about one holdout are right."""
    mode: Annotated[str, Choice(("fp-free", "fn-free"))] = "fp-free"
    """What becomes of what is too close to tell: `fp-free` does not pass it, `fn-free` does."""
    adaptivity: Annotated[str, Choice(("full", "first_change"))] = "full"
    """`full`: everybody sees each result. `first_change`: the first pass retires the holdout; that needs fewer rows."""
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """How many commits one holdout has to bear: with fewer rows than that takes the gate is undecided from the first.
    Without it, as many as the rows bear."""


class GateSpec(Section):
    """A rule over one measurement: a limit, or a comparison with the model in production."""

    metric: Text = ""
    """The measurement; needed unless there is a condition. A name in a metrics file, a row metric (`accuracy`, `auc`,
    `f1`, `f1_macro`, `log_loss`, `rmse`, `mae`), or one of the model as served. Against production also a loss of your
    own: a column `row_loss` or `row_loss_NAME` of the predictions."""
    min: float | None = None
    """The least that passes."""
    max: float | None = None
    """The most that passes."""
    against: Annotated[str, Choice(("production",))] | None = None
    """Compare with this model."""
    margin: Annotated[float, Field(ge=0.0)] | None = None
    """How much worse than the other it may be, proven with confidence 1 - alpha on the same rows. Without it, or 0, it
    has to be proven better."""
    alpha: Alpha | None = None
    """The chance to pass a model that is worse than the margin or the ratio allows; of slices and gaps, to fail one
    that is not. Without it 0.05."""
    max_ratio: Annotated[float, Field(gt=0.0)] | None = None
    """The most that its ratio to the other may be, of a measurement of the served model, proven with confidence
    1 - alpha: both servers are asked in turn on one machine."""
    min_ratio: Annotated[float, Field(gt=0.0)] | None = None
    """The least that its ratio to the other may be, of `throughput_rps`."""
    slices: (
        Annotated[
            Annotated[Annotated[str, Choice(("found",), remedy="write found, or list columns")], Tag("<text>")]
            | Annotated[list[Slice], Field(min_length=1, max_length=MOST_SLICES), Tag("<list>")],
            Discriminator(shape_of_list),
        ]
        | None
    ) = None
    """Columns whose slices must not be proven worse than production. Holm's correction holds the chance of a false
    alarm over all slices of all gates at alpha, and a slice that lost no more than the margin never blocks. `found`:
    every column of holdout and predictions."""
    gap_between: Text | None = None
    """A column of groups: `max` bounds how far the metric differs between them. Also `precision`, `recall`,
    `positive_rate` and `false_positive_rate` have gaps."""
    reuse: ReuseSpec | None = None
    """How often one holdout may be asked. Without it the uses are counted and shown, and bound nothing."""
    condition: (
        Annotated[
            Annotated[ConditionText, Tag("<text>")] | Annotated[ConditionSpec, Tag("<mapping>")],
            Discriminator(shape_of),
        ]
        | None
    ) = None
    """A condition of ease.ml/ci over accuracies, instead of metric and limits. How often one holdout may be asked
    follows from its rows, and nothing is shown but whether it passed."""

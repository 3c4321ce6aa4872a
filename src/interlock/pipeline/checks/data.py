"""The checks of a dataset as they are written: each is a mapping of its limits, or ``off``.

A check that is not written is asked all the same where a false alarm is very unlikely, and with the defaults below.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias, TypeVar

from pydantic import Discriminator, Field, Tag

from interlock.pipeline.rules.values import Alpha, Choice, Duration, Section, Text, shape_of

Off: TypeAlias = Annotated[str, Choice(("off",), remedy="write off, or a mapping of limits: {max: 0.2}")]
Share: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]
SectionT = TypeVar("SectionT")
Switch: TypeAlias = Annotated[
    Annotated[Off, Tag("<text>")] | Annotated[SectionT, Tag("<mapping>")], Discriminator(shape_of)
]


class TypesSpec(Section):
    """A column that held numbers holds texts: whatever reads it makes something else of it."""

    ignore: list[Text] = []
    """Columns that may change."""


class NullsSpec(Section):
    """A column lost many of its values: a join or a sensor broke."""

    max_rise: Share = 0.2
    """The most that a column's share of empty cells may rise."""
    ignore: list[Text] = []
    """Columns that are not asked about."""


class ConstantSpec(Section):
    """A column that varied has one value: it tells a model nothing, and is usually a default that was filled in."""

    max: Annotated[int, Field(ge=0)] | None = None
    """The most columns of one value there may be at all. Without this key: any number that never varied."""
    ignore: list[Text] = []
    """Columns that may be constant."""


class DuplicatesSpec(Section):
    """Rows are there twice: an export was appended to itself, and what is repeated weighs more than it should."""

    max: Share = 0.1
    """The largest share of rows that may repeat another, the `id` aside. Without this section tables in which rows
    agree by chance are not asked."""


class OverlapSpec(Section):
    """Rows of the holdout were trained on: what is measured there is memory."""

    max: Share = 0.01
    """The largest share of holdout rows that training data may hold too, beyond what is usual among its own rows."""


class NearDuplicatesSpec(Section):
    """Rows of the holdout were trained on in a slightly different form: rounded, or with one column changed."""

    max: Share = 0.05
    """The largest share of holdout rows with such a like in training data, beyond what is usual among its own rows."""


class LeakageSpec(Section):
    """One column tells the label: it was probably written down after it, and will not be there when serving."""

    max: Share | None = None
    """The most that a column alone may tell: as AUC for two classes, as lambda for more, as rank correlation for a
    number. Without this key 0.99, and 0.999 for a number."""
    ignore: list[Text] = []
    """Columns that may tell the label."""


class BalanceSpec(Section):
    """A class is missing or rare, or the classes are not as frequent as they were: the label was made otherwise."""

    min: Share = 0.0
    """The smallest share that each class must have."""
    max_shift: Share = 0.25
    """The most that the classes' shares may have moved, as total variation."""


class VolumeSpec(Section):
    """There are far fewer rows, or more, than there were: a part of an export is missing, or was joined wrongly."""

    min_ratio: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """The least that the number of rows may be of the accepted one's."""
    max_ratio: Annotated[float, Field(ge=1.0)] | None = None
    """The most that it may be. Without this key: any number."""


class FreshnessSpec(Section):
    """The newest row is old: an export stopped, and a model is trained on the past."""

    column: Text
    """The column of times."""
    max_age: Duration
    """The most that the newest of them may lie back when the run is judged."""


class DriftSpec(Section):
    """A column's values are spread otherwise than they were, whatever the reason."""

    max: Share = 0.1
    """The distance that is let be, however certain: Kolmogorov and Smirnov's of numbers, total variation of others."""
    alpha: Alpha = 0.01
    """The chance that any of the columns is told to have moved although none has (Holm over all of them)."""
    ignore: list[Text] = []
    """Columns that may move."""


class PatternSpec(Section):
    """A change that looks like a certain mistake; small ones, and those that chance explains, are let be."""

    max: Share = 0.1
    """The distance between the two distributions below which the pattern is not looked for."""
    ignore: list[Text] = []
    """Columns that are not asked about."""


class DataChecksSpec(Section):
    """What a dataset is asked. Each is `off`, or a mapping of its limits. What is said of accepted data is that of the
    run which made the model in production; the patterns also compare a holdout with its training data.
    """

    types: Switch[TypesSpec] | None = None
    """Each column is of the kind that it was. Asked unless `off`."""
    nulls: Switch[NullsSpec] | None = None
    """No column lost many of its values since the accepted data. Asked unless `off`."""
    constant: Switch[ConstantSpec] | None = None
    """No column that varied in the accepted data is constant. Asked unless `off`."""
    duplicates: Switch[DuplicatesSpec] | None = None
    """Few rows repeat another. Asked unless `off`."""
    overlap: Switch[OverlapSpec] | None = None
    """The holdout's rows are not in the training data, by digest. Asked unless `off`."""
    near_duplicates: Switch[NearDuplicatesSpec] | None = None
    """Nor are rows that agree with them after rounding in all columns but one. Asked unless `off`."""
    leakage: Switch[LeakageSpec] | None = None
    """No single column tells the label. Asked unless `off`."""
    balance: Switch[BalanceSpec] | None = None
    """The classes are there, and about as frequent as in the accepted data. Asked unless `off`."""
    volume: Switch[VolumeSpec] | None = None
    """There are about as many rows as in the accepted data. Asked unless `off`."""
    swapped_columns: Switch[PatternSpec] | None = None
    """No two columns have exchanged their values. Asked unless `off`."""
    units: Switch[PatternSpec] | None = None
    """No column is the old one times a factor between units (60, 1000, 2.54), or in another scale of temperature. Asked
    unless `off`."""
    categories: Switch[PatternSpec] | None = None
    """No column's categories are coded anew. Asked unless `off`."""
    time_shift: Switch[PatternSpec] | None = None
    """No column's hours of the day are shifted by two hours or more (one is summer time). Asked unless `off`."""
    drift: Switch[DriftSpec] | None = None
    """No column has moved far from the accepted data. Asked only where it is written, for data may well move."""
    freshness: Switch[FreshnessSpec] | None = None
    """The newest row is young enough. Asked only where it is written."""

"""From the checks that are written to those that are asked, with nothing left open."""

from __future__ import annotations

from collections.abc import Iterator

from interlock.pipeline.datasets.checks import (
    BalanceSpec,
    ConstantSpec,
    DataChecksSpec,
    DuplicatesSpec,
    LeakageSpec,
    NearDuplicatesSpec,
    NullsSpec,
    OverlapSpec,
    PatternSpec,
    TypesSpec,
    VolumeSpec,
)
from interlock.pipeline.plan import DataCheckPlan
from interlock.pipeline.rules.values import Section

UNWRITTEN: tuple[tuple[str, Section], ...] = (
    ("types", TypesSpec()),
    ("nulls", NullsSpec()),
    ("constant", ConstantSpec()),
    ("duplicates", DuplicatesSpec()),
    ("overlap", OverlapSpec()),
    ("near_duplicates", NearDuplicatesSpec()),
    ("leakage", LeakageSpec()),
    ("balance", BalanceSpec()),
    ("volume", VolumeSpec()),
    ("swapped_columns", PatternSpec()),
    ("units", PatternSpec()),
    ("categories", PatternSpec()),
    ("time_shift", PatternSpec()),
)
"""The checks that are asked without being written."""


def data_checks(spec: DataChecksSpec) -> tuple[DataCheckPlan, ...]:
    """Every check that is asked, in the order of the reference page."""
    return tuple(_asked(spec))


def _asked(spec: DataChecksSpec) -> Iterator[DataCheckPlan]:
    unwritten = dict(UNWRITTEN)
    for name in DataChecksSpec.model_fields:
        written = getattr(spec, name)
        section = written or unwritten.get(name)
        if not isinstance(section, Section):
            continue
        values = section.model_dump(exclude_none=True)
        ignored, column = values.pop("ignore", ()), values.pop("column", None)
        yield DataCheckPlan(
            name=name,
            is_written=written is not None,
            limits={key: float(value) for key, value in values.items()},
            ignore=tuple(ignored),
            column=column,
        )

"""From the checks that are written to those that are asked, with nothing left open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from interlock.pipeline.checks import data
from interlock.pipeline.checks.serving import ConsistencySpec, ServingChecksSpec, TargetSpec
from interlock.pipeline.plan import CheckPlan
from interlock.pipeline.rules.values import Section

UNWRITTEN: Mapping[str, type[Section]] = MappingProxyType(
    {
        "types": data.TypesSpec,
        "nulls": data.NullsSpec,
        "constant": data.ConstantSpec,
        "duplicates": data.DuplicatesSpec,
        "overlap": data.OverlapSpec,
        "near_duplicates": data.NearDuplicatesSpec,
        "leakage": data.LeakageSpec,
        "balance": data.BalanceSpec,
        "volume": data.VolumeSpec,
        "swapped_columns": data.PatternSpec,
        "units": data.PatternSpec,
        "categories": data.PatternSpec,
        "time_shift": data.PatternSpec,
    }
)
"""The checks of data that are asked without being written."""


def data_checks(spec: data.DataChecksSpec) -> tuple[CheckPlan, ...]:
    """Every check of a dataset that is asked, in the order of the reference page."""
    return tuple(_asked(spec, UNWRITTEN))


def serving_checks(spec: ServingChecksSpec) -> tuple[CheckPlan, ...]:
    """Every check of a served model that is asked."""
    consistency = dict.fromkeys(ServingChecksSpec.model_fields, ConsistencySpec)
    return tuple(_asked(spec, {**consistency, "target": TargetSpec}))


def _asked(spec: Section, unwritten: Mapping[str, type[Section]]) -> Iterator[CheckPlan]:
    for name in type(spec).model_fields:
        written = getattr(spec, name)
        section = written or (unwritten[name]() if name in unwritten else None)
        if not isinstance(section, Section):
            continue
        values = section.model_dump(exclude_none=True)
        ignored, column = values.pop("ignore", ()), values.pop("column", None)
        yield CheckPlan(
            name=name,
            is_written=written is not None,
            limits={key: float(value) for key, value in values.items()},
            ignore=tuple(ignored),
            column=column,
        )

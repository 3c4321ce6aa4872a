"""How a commit stands against what is in production now, whatever was committed in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from interlock.control.rows import load_state
from interlock.control.running.lookups import Lookups
from interlock.control.running.seeing import PRODUCTION
from interlock.later import Later
from interlock.ports import Store
from interlock.run.run import Run
from interlock.vocabulary import Kind

if TYPE_CHECKING:
    from interlock.delivery import environment as environments
    from interlock.registry import version as versions
else:  # needed where the plan has a model
    environments, versions = Later("interlock.delivery.environment"), Later("interlock.registry.version")


class Against(NamedTuple):
    """A model version in production, the run that made it, and what its stages used that is not the same now."""

    title: str
    run: str
    differences: tuple[str, ...]


def find_production(store: Store, model: str) -> tuple[versions.ModelVersion, Run] | None:
    """The version of the model that production serves, and the run that made it; None where either is not known."""
    environment, _ = load_state(store, Kind.ENVIRONMENT, f"{model}/{PRODUCTION}", environments.Environment)
    if environment is None or environment.stable is None:
        return None
    key = f"{model}/{environment.stable.version}"
    version, _ = load_state(store, Kind.VERSION, key, versions.ModelVersion)
    made_by, _ = load_state(store, Kind.RUN, version.run if version else "", Run)
    return None if version is None or made_by is None else (version, made_by)


def compare_with_production(store: Store, lookups: Lookups, run: Run) -> Against | None:
    """For a run that is only asked about; None where its model is in no production that is known here.

    Compared are the stages that make the model and the data before them. What they make is not: whether it would be
    another is known only when they have run.
    """
    if run.plan.model is None:
        return None
    there = find_production(store, run.plan.model.name)
    if there is None:
        return None
    version, made_by = there
    found: dict[str, None] = {}
    for stage in run.plan.stages:
        before = made_by.stages.get(stage.name)
        if stage.kind not in ("data", "stage"):
            continue
        if before is None or before.key is None:
            found[f"the stage {stage.name} is new"] = None
            continue
        attempt = before.reused or made_by.attempt_key(stage.name)
        differences = lookups.compare(run, stage, before.key, attempt)
        found |= dict.fromkeys((f"how {stage.name} was executed is forgotten",) if differences is None else differences)
    names = {stage.name for stage in run.plan.stages}
    gone = [stage.name for stage in made_by.plan.stages if stage.kind == "stage" and stage.name not in names]
    return Against(version.title, version.run, (*found, *(f"the stage {name} is gone" for name in gone)))

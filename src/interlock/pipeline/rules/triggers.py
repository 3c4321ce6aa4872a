"""What must hold between the keys of a file that say when it runs, and with what."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from interlock.pipeline.document import Problem
from interlock.pipeline.spec import FileSpec


def check_until(spec: FileSpec) -> Iterator[Problem]:
    """Runs of pull requests end with a stage that there is."""
    until = spec.on.pull_request.until if spec.on.pull_request else None
    stages = spec.stages.values()
    known = ["data"] * bool(spec.data) + list(spec.stages) + ["served"] * (spec.model is not None)
    known += ["measurements"] * any(stage.metrics or stage.predictions for stage in stages)
    if until is not None and until not in known:
        close = difflib.get_close_matches(until, known, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"use one of: {', '.join(known) or '(there is none)'}"
        yield Problem(("on", "pull_request", "until"), f"{until} is no stage of this file", remedy)


def check_time_zone(spec: FileSpec) -> Iterator[Problem]:
    """A time zone belongs to a schedule."""
    if "time_zone" in spec.on.model_fields_set and spec.on.schedule is None:
        yield Problem(("on", "time_zone"), "there is no schedule for time_zone", "add `schedule`, or remove it")


def check_refresh(spec: FileSpec) -> Iterator[Problem]:
    """Only what comes over the network grows old."""
    for name, stage in spec.stages.items():
        if stage.refresh is not None and not stage.network:
            problem = f"{name} does not use the network, so it runs again when something of it changes"
            yield Problem(("stages", name, "refresh"), problem, "remove refresh, or add `network: true`")


def check_secrets(spec: FileSpec) -> Iterator[Problem]:
    """A stage is given each variable once."""
    for name, stage in spec.stages.items():
        for index, secret in enumerate(stage.secrets):
            if secret in stage.env:
                place = ("stages", name, "secrets", index)
                yield Problem(place, f"{secret} is given by env already", "remove it from env, or from secrets")

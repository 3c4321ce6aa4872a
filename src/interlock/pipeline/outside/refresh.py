"""When a stage that uses the network runs again although nothing that can be seen has changed.

What it reads out there is in no key, so without the key ``refresh`` it always runs. With a duration what it made is
reused while it is young enough. With a command a stage of its own runs that one first, always; what it prints is a
product that the stage is given, and so a part of its key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from interlock.pipeline.plan import RefreshPlan, StagePlan
from interlock.pipeline.spec import StageSpec
from interlock.pipeline.trace import Trace

OWN_FOLDER = ".interlock/"
"""Where products lie that Interlock's own stages make."""

ALWAYS = "it may use the network, and what it reads there cannot be seen"

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"), (1.0, "s"))
_ASK = """mkdir -p {folder} && ( {command}
) > {path} || exit
test -s {path} || {{ echo "refresh: the command printed nothing, so it tells no version" >&2; exit 1; }}"""


def refresh_of(stage: StageSpec) -> RefreshPlan | None:
    """What the file says; None is always."""
    if stage.refresh is None or stage.refresh == "always":
        return None
    if isinstance(stage.refresh, float):
        return RefreshPlan(after=stage.refresh)
    return RefreshPlan(command=stage.refresh.cmd)


def version_path(stage: str) -> str:
    """Where the version lies that the stage's command printed."""
    return f"{OWN_FOLDER}{stage}.version"


def with_version(stage: StagePlan) -> tuple[StagePlan, ...]:
    """The stage; where a command tells the version of what is out there, after another that runs that command.

    The name of that one holds a point: no stage of a file has such a one.
    """
    if stage.refresh is None or stage.refresh.command is None:
        return (stage,)
    path = version_path(stage.name)
    command = _ASK.format(folder=OWN_FOLDER, command=stage.refresh.command, path=path)
    kept = {"needs": stage.needs, "deps": stage.deps, "params": stage.params, "env": stage.env}
    asking = {**kept, "network": True, "secrets": stage.secrets, "resources": stage.resources, "timeout": stage.timeout}
    first = StagePlan(name=f"{stage.name}.version", kind="stage", command=command, outs=(path,), **asking)
    after = {"needs": (*stage.needs, first.name), "deps": (*stage.deps, path)}
    return (first, stage.model_copy(update=after))


def young_enough(
    stage: StagePlan, traces: Sequence[Trace], reruns: Collection[int], now: float
) -> tuple[list[Trace], str]:
    """Which earlier executions of the same key may be reused, and why none may (else ``""``).

    Those of ``reruns``, the runs that this one runs again, always may. The age of one counts from its beginning.
    """
    if not stage.network or (stage.refresh is not None and stage.refresh.command is not None):
        return list(traces), ""
    after = stage.refresh.after if stage.refresh is not None else None
    if after is None:
        kept = [trace for trace in traces if int(trace.run) in reruns]
        return kept, "" if kept else ALWAYS
    kept = [trace for trace in traces if int(trace.run) in reruns or 0.0 <= _age(trace, now) < after]
    if kept or not traces:
        return kept, ""
    return [], f"what it read over the network is {_told(_age(traces[0], now))} old (refresh: {_told(after)})"


def how_old(stage: StagePlan, hit: Trace, now: float) -> str:
    """What is added to the reason of a reuse that depends on an age; ``""`` for any other."""
    if not stage.network or stage.refresh is None or stage.refresh.after is None:
        return ""
    return f", read {_told(_age(hit, now))} ago (refresh: {_told(stage.refresh.after)})"


def _age(trace: Trace, now: float) -> float:
    return now - (trace.made - trace.seconds)


def _told(seconds: float) -> str:
    size, unit = next((one for one in _UNITS if abs(seconds) >= one[0]), _UNITS[-1])
    return f"{seconds / size:.0f}{unit}" if seconds % size == 0 else f"{seconds / size:.1f}{unit}"

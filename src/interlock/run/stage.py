"""What an executor is asked to do for one attempt of one stage, and what it answers."""

from __future__ import annotations

from interlock.pipeline.gates.served import Measuring
from interlock.pipeline.plan import DataPlan, ModelPlan, PythonPlan, StagePlan
from interlock.run.conditions import Conditions
from interlock.source.commit import Commit
from interlock.vocabulary import Digest, Json, Phase, Stored


class Baseline(Stored):
    """The production model version that a candidate is measured beside.

    ``model``, ``lock``, ``predictions`` and ``golden`` are artifacts; ``name`` is for people (``flights v3``);
    ``python`` and ``lock`` say together which environment it is served in; ``made_by`` is the key of the run that made
    it. ``predictions`` are those that it left of the candidate's holdout. With ``golden`` it is asked for them now, by
    requests like those.
    """

    name: str
    model: Digest
    lock: Digest
    python: PythonPlan = PythonPlan()
    format: str
    predictions: Digest | None = None
    golden: Digest | None = None
    made_by: str = ""


class StageRequest(Stored):
    """One attempt. ``attempt`` is ``run/stage/number``; ``inputs`` are artifacts placed in the workspace by path.

    ``project`` is the folder of the pipeline file within the commit; all other paths are relative to it. ``secrets_of``
    names whose secrets the stage is given (``repository`` or ``repository/environment``), those that ``stage.secrets``
    lists; None where it is not trusted with any. ``gpus`` are the graphics processors that it may use, by name.
    ``data_of`` names the repository whose places ``fetch`` may read; None where it may read none. ``columns`` are what
    gates need of predictions and holdout beside the usual; ``*`` is all; ``measuring`` is what they need of the served
    model.
    """

    attempt: str
    stage: StagePlan
    commit: Commit
    project: str = ""
    python: PythonPlan
    inputs: dict[str, Digest] = {}
    data: tuple[DataPlan, ...] = ()
    model: ModelPlan | None = None
    baseline: Baseline | None = None
    endpoint: str | None = None
    secrets_of: str | None = None
    gpus: tuple[str, ...] = ()
    data_of: str | None = None
    columns: tuple[str, ...] = ()
    measuring: Measuring = Measuring()


class Problem(Stored):
    """One thing wrong with the user's code or data, and where. ``line`` counts from 1."""

    message: str
    path: str | None = None
    line: int | None = None
    is_warning: bool = False

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.path, self.line) if part is not None)
        return f"{place}: {self.message}" if place else self.message


class StageOutcome(Stored):
    """How an attempt ended.

    ``reads`` are the files of the project that were read (whoever read them), ``listings`` the folders whose names were
    seen; ``products`` the artifacts made, by declared path; ``report`` what a built-in stage measured. ``seconds`` is
    wall
    time, ``cpu_seconds`` user and system time of all its processes, ``peak_memory`` the most bytes of memory they
    had together, ``bytes_read`` and ``bytes_written`` what their calls moved, cached or not (None where unknown).
    ``sandbox`` is the level of isolation it really had. ``conditions`` are those of a user's stage;
    ``is_deterministic``: whether it made the same when it was executed twice, None where it was not.
    """

    phase: Phase
    because: str
    exit_code: int | None = None
    seconds: float = 0.0
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None
    reads: tuple[str, ...] = ()
    listings: tuple[str, ...] = ()
    changed_inputs: tuple[str, ...] = ()
    products: dict[str, Digest] = {}
    report: Json = None
    problems: tuple[Problem, ...] = ()
    sandbox: str = ""
    conditions: Conditions | None = None
    is_deterministic: bool | None = None


KEPT = (
    "products",
    "report",
    "problems",
    "seconds",
    "cpu_seconds",
    "peak_memory",
    "bytes_read",
    "bytes_written",
    "sandbox",
)
"""What of an attempt's outcome is kept in its stage run."""

"""The plan: the frozen resolution of one commit's ``interlock.yaml``.

A plan holds no default left open and no name unresolved; it is stored with the run and never read from the file again.
Durations are seconds, sizes bytes, shares fractions of 1 unless a field says percent.
"""

from __future__ import annotations

from typing import Final, Literal

from interlock.pipeline.canaries.plan import StrategyPlan
from interlock.pipeline.models.formats import ModelFormat, serving_purpose
from interlock.pipeline.monitoring.plan import MonitoringPlan
from interlock.source.triggers import Triggers
from interlock.vocabulary import Json, Stored

FOUND: Final = "found"
"""Slices by every column that there is."""

StageKind = Literal["check", "data", "stage", "measure"]
"""``check``: before any training. ``data``: fetched, checked. ``stage``: the user's. ``measure``: what gates judge."""

Builtin = Literal["dependencies", "syntax", "imports", "fetch", "data", "served", "measurements"]
"""Stages that Interlock brings: lock against project file; parse; resolve imports; data that no commit holds; schemas;
the model as served; metrics and predictions brought into the canonical form that gates judge."""


class Resources(Stored):
    """What one stage may use. ``memory`` and ``disk`` in bytes; None is no limit of the plan's own."""

    cpu: float = 1.0
    memory: int | None = None
    gpu: int = 0
    processes: int = 4096
    disk: int | None = None


class RefreshPlan(Stored):
    """When a stage that uses the network runs again although nothing else changed; exactly one field is set.

    ``after`` so many seconds; or when what ``command`` prints is another: a stage of its own runs it.
    """

    after: float | None = None
    command: str | None = None


class StagePlan(Stored):
    """One stage. Exactly one of ``command`` and ``builtin`` is set.

    ``needs`` names the stages that must have succeeded; ``params`` is the resolved mapping of the dotted names the
    stage declared (None when it declared none, so that it sees the whole parameter file). ``secrets`` names those that
    it is given as environment variables. ``determinism``: it is executed twice, and both must make the same. With
    ``inputs`` strict it is shown only what it declares; ``frozen`` is never run again; ``retries`` bounds how often it
    is tried again after a fault. ``sources`` says for each path that ``fetch`` brings where it lives. Without
    ``refresh`` a stage that uses the network always runs. All paths are relative to the folder of the pipeline file.
    """

    name: str
    kind: StageKind
    command: str | None = None
    builtin: Builtin | None = None
    needs: tuple[str, ...] = ()
    deps: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    predictions: str | None = None
    params: dict[str, Json] | None = None
    env: dict[str, str] = {}
    network: bool = False
    resources: Resources = Resources()
    timeout: float = 3600.0
    secrets: tuple[str, ...] = ()
    determinism: Literal["check"] | None = None
    inputs: Literal["auto", "strict"] = "auto"
    frozen: bool = False
    retries: int = 2
    sources: dict[str, str] = {}
    refresh: RefreshPlan | None = None

    @property
    def products(self) -> tuple[str, ...]:
        """Every path the stage must leave behind: outs, metrics, predictions. A built-in stage only reads the last."""
        if self.builtin is not None:
            return self.outs
        return tuple(dict.fromkeys((*self.outs, *self.metrics, *((self.predictions,) if self.predictions else ()))))


class PythonPlan(Stored):
    """The user's Python environment. ``lock`` is ``uv.lock`` or a ``requirements.txt`` with hashes."""

    version: str = ">=3.11"
    lock: str = "uv.lock"


class CheckPlan(Stored):
    """One check of a dataset, or of a served model: its ``limits`` by name, columns that it leaves out, and perhaps the
    one it is about.

    ``is_written``: the file names it, so that it must be decided; else it is asked where it can be.
    """

    name: str
    is_written: bool = False
    limits: dict[str, float] = {}
    ignore: tuple[str, ...] = ()
    column: str | None = None


class DataPlan(Stored):
    """One dataset; ``schema_path`` names its schema, ``disjoint_from`` another dataset that shares no row with it."""

    name: str
    path: str
    schema_path: str | None = None
    id: str | None = None
    label: str | None = None
    disjoint_from: str | None = None
    checks: tuple[CheckPlan, ...] = ()


class ModelPlan(Stored):
    """The model a pipeline makes: folder or file ``path``; ``golden`` names its golden requests, ``rate`` says how many
    of them a second its latency is measured with, open loop.

    ``may_be_exported``: what is measured and served is an ONNX graph of it, where that is proven to answer the same;
    ``holdout`` is a table of the commit that it is proven on.
    """

    name: str
    path: str
    format: ModelFormat
    golden: str | None = None
    rate: float | None = None
    checks: tuple[CheckPlan, ...] = ()
    may_be_exported: bool = False
    holdout: str | None = None


class SlicePlan(Stored):
    """Rows cut by a column: by its values, or by ``quantiles`` parts of equal size."""

    column: str
    quantiles: int | None = None

    @property
    def title(self) -> str:
        """The column, and how it is cut."""
        return self.column if self.quantiles is None else f"{self.column}/{self.quantiles}"


class ReusePlan(Stored):
    """How often a test set may be asked: for so many ``commits``; with ``first_change`` only until one passes.

    With the ``scores`` on a ladder no number is shown but one that beats the best shown before by a step, made worse
    by two standard errors.
    """

    commits: int
    adaptivity: Literal["full", "first_change"] = "full"
    scores: Literal["exact", "ladder"] = "exact"


class ConditionPlan(Stored):
    """A condition of ease.ml/ci that ``holds`` for a candidate to pass, known with this reliability for each of
    ``steps`` commits together; without steps, for as many as the rows bear.
    """

    holds: str
    reliability: float = 0.99
    mode: Literal["fp-free", "fn-free"] = "fp-free"
    adaptivity: Literal["full", "first_change"] = "full"
    steps: int | None = None


class GatePlan(Stored):
    """One gate: limits (``min``, ``max``), or a comparison with production (``margin`` and ``alpha``, or
    ``max_ratio``, of throughput ``min_ratio``).

    ``slices`` are the parts of the rows on which the candidate must not be proven worse: ``found`` is every column that
    predictions and holdout have. With ``gap_between`` a column, ``max`` bounds how far its groups are apart. ``reuse``
    bounds how many commits may be judged on one test set. A ``condition`` is a rule of its own over accuracies.
    """

    metric: str
    min: float | None = None
    max: float | None = None
    against: Literal["production"] | None = None
    margin: float = 0.0
    alpha: float = 0.05
    max_ratio: float | None = None
    min_ratio: float | None = None
    slices: tuple[SlicePlan, ...] | Literal["found"] = ()
    gap_between: str | None = None
    reuse: ReusePlan | None = None
    condition: ConditionPlan | None = None

    @property
    def title(self) -> str:
        """The gate in a few words, unique within a plan."""
        if self.condition is not None:
            return f"{self.condition.holds}, {self.condition.mode}, reliability {self.condition.reliability:g}"
        if self.against:
            rule = " ".join(f"{name} {ratio:g}" for name, ratio in self.ratios.items()) or f"margin {self.margin:g}"
            sliced = self.slices if isinstance(self.slices, str) else ", ".join(part.title for part in self.slices)
            return f"{self.metric} against {self.against}, {rule}{', slices ' if sliced else ''}{sliced}"
        gap = f" gap between {self.gap_between}" if self.gap_between else ""
        limits = [f"{name} {limit:g}" for name, limit in (("min", self.min), ("max", self.max)) if limit is not None]
        return f"{self.metric}{gap} {' '.join(limits)}"

    @property
    def ratios(self) -> dict[str, float]:
        """Its limits on the ratio to production, by key."""
        both = (("max_ratio", self.max_ratio), ("min_ratio", self.min_ratio))
        return {name: ratio for name, ratio in both if ratio is not None}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of predictions and holdout that it needs beside the usual ones; ``*`` is all."""
        sliced = ("*",) if isinstance(self.slices, str) else tuple(part.column for part in self.slices)
        loss = (self.metric,) if is_row_loss(self.metric) and self.against else ()
        return (*loss, *((self.gap_between,) if self.gap_between else ()), *sliced)


def is_row_loss(metric: str) -> bool:
    """Whether it is a loss that the predictions give for each row: a column ``row_loss`` or ``row_loss_NAME``."""
    return metric == "row_loss" or metric.startswith("row_loss_")


class CommandPlan(Stored):
    """A named command, run against a live endpoint. ``secrets`` are given to it by name."""

    name: str
    command: str
    timeout: float = 600.0
    secrets: tuple[str, ...] = ()


class ScalingPlan(Stored):
    """Replicas by load: at most ``most``, so that requests take no longer than ``latency_ms`` (None: no gate says)."""

    most: int
    latency_ms: float | None = None


class SurgePlan(Stored):
    """How replicas are replaced by those of another revision: so many more than there shall be may exist at once, and
    so many fewer may serve.
    """

    max_surge: int
    max_unavailable: int


class WindowPlan(Stored):
    """A time in which an environment moves forward: from each time of the cron expression ``opens`` for ``seconds``."""

    opens: str
    seconds: float
    time_zone: str = "UTC"


class EnvironmentPlan(Stored):
    """How the model is delivered to one environment. ``replicas`` are the fewest where there is ``scaling``;
    ``memory`` (bytes) and ``cpu`` (cores) are what one may use. Without ``surge`` all of the new revision's stand
    beside those of the old. Without ``windows`` it may always move forward. So many people give their ``approvals``
    before a release enters.
    ``monitoring`` says how what is promoted is watched.
    """

    name: str
    requires: tuple[str, ...] = ()
    strategy: StrategyPlan = StrategyPlan()
    checks: tuple[CommandPlan, ...] = ()
    replicas: int = 2
    scaling: ScalingPlan | None = None
    memory: int | None = None
    cpu: float | None = None
    surge: SurgePlan | None = None
    windows: tuple[WindowPlan, ...] = ()
    monitoring: MonitoringPlan = MonitoringPlan()
    approvals: int = 0


class ConcurrencyPlan(Stored):
    """Runs of one ``group`` go one after the other; ``cancel_superseded``: an older one is cancelled for a newer."""

    group: str
    cancel_superseded: bool = False


class Plan(Stored):
    """Everything a run will do, in order. ``stages`` is topologically sorted, ``deploy`` in order of delivery.

    ``project`` is the folder of the pipeline file relative to the repository's root (``""`` is the root); every path in
    the plan is relative to it.
    """

    project: str = ""
    triggers: Triggers = Triggers()
    concurrency: ConcurrencyPlan | None = None
    python: PythonPlan = PythonPlan()
    data: tuple[DataPlan, ...] = ()
    stages: tuple[StagePlan, ...] = ()
    model: ModelPlan | None = None
    gates: tuple[GatePlan, ...] = ()
    deploy: tuple[EnvironmentPlan, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that gates need beside id, label, prediction and probability; ``*`` is all."""
        return tuple(sorted({column for gate in self.gates for column in gate.columns}))

    @property
    def purposes(self) -> tuple[str, ...]:
        """The purposes of the Python environments that a run may need: of its stages, and of what serves its model."""
        serve = serving_purpose(self.model.format) if self.model else "serve"
        more = ("export", serving_purpose("onnx")) if self.model and self.model.may_be_exported else ()
        return ("build", serve, *more)

    def purpose_of(self, stage: StagePlan) -> str:
        """The purpose of the Python environment that the stage's result depends on."""
        build, serve, *_ = self.purposes
        return serve if stage.builtin == "served" else build

    def stage(self, name: str) -> StagePlan:
        """The stage of this name; KeyError if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

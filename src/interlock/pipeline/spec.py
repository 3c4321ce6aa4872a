"""The keys of ``interlock.yaml``: their types, their defaults and what they mean.

What one value may be is said in ``rules.values``, what must hold between values in ``rules.work`` and
``rules.delivery``. What is not known is refused and never ignored. The reference page and the JSON Schema are made from
these models and their docstrings.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag

from interlock.pipeline.canaries.spec import MOST_APPROVALS, Strategy
from interlock.pipeline.checks.data import DataChecksSpec
from interlock.pipeline.checks.serving import ServingChecksSpec
from interlock.pipeline.gates.spec import GateSpec
from interlock.pipeline.models.formats import LATER_FORMATS, MODEL_FORMATS
from interlock.pipeline.monitoring.spec import Monitoring, MonitoringSpec
from interlock.pipeline.replicas.spec import Replicas
from interlock.pipeline.rules.patterns import (
    Cron,
    DataHome,
    DataPlace,
    GroupName,
    PathPatterns,
    RefPatterns,
    Refresh,
    TimeZone,
)
from interlock.pipeline.rules.values import (
    Choice,
    Duration,
    ModelName,
    ParamName,
    Path,
    Secrets,
    Section,
    Size,
    StageName,
    Text,
    Variable,
    ends_with,
    named,
    shape_of,
    shape_of_list,
    written_text,
)

BUILTIN_CHECKS = ("syntax", "imports", "dependencies")
BUILTIN_STAGES = (*BUILTIN_CHECKS, "fetch", "data", "served", "measurements")
TABLES = (".csv", ".csv.gz", ".parquet")
MOST = 200
"""The most datasets, gates, environments or checks that one file may hold."""
MOST_STAGES = 1000
"""The most stages."""


class PushSpec(Section):
    """Runs for pushed commits and tags."""

    branches: RefPatterns = ["main"]
    """Branches whose pushes begin a run. Where only `tags` are listed, pushes to branches begin none."""
    tags: RefPatterns | None = None
    """Tags whose pushes begin a run."""
    paths: PathPatterns | None = None
    """Only pushes to branches that change one of these files begin a run. Without this key: any push."""


class PullRequestSpec(Section):
    """Runs for pull and merge requests."""

    branches: RefPatterns = ["**"]
    """The branches that they go into."""
    paths: PathPatterns | None = None
    """Only those that change one of these files. Without this key: all."""
    until: StageName | None = None
    """The stage that they end with: it runs with all that it needs, and the checks and the data. What comes after it is
    left out, and so are gates on what is not measured then. Without this key: everything but delivery."""


Schedule: TypeAlias = Annotated[
    Annotated[Cron, Tag("<text>")] | Annotated[list[Cron], Field(min_length=1, max_length=MOST), Tag("<list>")],
    Discriminator(shape_of_list),
]


class OnSpec(Section):
    """What begins a run. A commit whose message holds `[skip ci]`, `[ci skip]`, `[no ci]` or `[skip interlock]` begins
    none for its push, tag or pull request.
    """

    push: PushSpec = PushSpec()
    """Pushes to branches and of tags. Without this key: pushes to `main`."""
    pull_request: PullRequestSpec | None = None
    """Pull and merge requests. `pull_request: {}` takes all of them. Without this key: none."""
    schedule: Schedule | None = None
    """Runs of the default branch at times: a cron expression or several, each of five fields, as `0 3 * * 1`."""
    time_zone: TimeZone = "UTC"
    """The time zone of `schedule`, as `Europe/Berlin`."""
    data: Annotated[list[DataPlace], Field(min_length=1, max_length=MOST)] | None = None
    """Runs of the default branch when data changes there: paths of the server's machine (`/srv/data/flights`) and
    prefixes of object stores (`s3://bucket/flights/`)."""


class ConcurrencySpec(Section):
    """Runs that go one after the other. A text alone is the group."""

    group: GroupName
    """Runs of one group go one after the other."""
    cancel_superseded: bool = False
    """Whether an older run of the group is cancelled when a newer one begins."""


class PythonSpec(Section):
    """The Python environment of all stages."""

    version: Annotated[Text, *named(r"[\w.,<>=!~* ]*[0-9][\w.,<>=!~* ]*", "3.12, or a range like >=3.11")] = ">=3.11"
    """The interpreter's version, or a range of versions."""
    lock: Annotated[Path, ends_with("uv.lock", ".txt")] | None = None
    """The lock file: `uv.lock`, or a `requirements.txt` with hashes. Without it `uv.lock` is looked for, then
    `requirements.txt`."""


class CheckSpec(Section):
    """A command that must exit with 0."""

    name: StageName
    """Its name in runs and messages."""
    cmd: Text
    """The command line, run in the project's folder."""
    timeout: Duration = 600.0
    """How long it may take."""


class LiveCheckSpec(Section):
    """A command that is run against a live endpoint, and must exit with 0."""

    name: StageName
    """Its name in rollouts and messages."""
    cmd: Text
    """The command line, run in the project's folder. The endpoint's address is `INTERLOCK_ENDPOINT`."""
    timeout: Duration = 600.0
    """How long it may take."""
    secrets: Secrets = []
    """Secrets of the environment, or of its repository, that it is given as environment variables of these names: an
    API key of the front, say."""


BuiltinCheck: TypeAlias = Annotated[
    str, Choice(BUILTIN_CHECKS, remedy=f"use {', '.join(BUILTIN_CHECKS)}, or a command: {{name: unit, cmd: pytest -q}}")
]
Check: TypeAlias = Annotated[
    Annotated[BuiltinCheck, Tag("<text>")] | Annotated[CheckSpec, Tag("<mapping>")], Discriminator(shape_of)
]


class DataSpec(Section):
    """A dataset that is validated before any training."""

    path: Path
    """Where stages see it: a CSV or Parquet file. With `from` also any other file, or a folder: it is not validated."""
    home: Annotated[DataHome | None, Field(alias="from")] = None
    """Where it lives when it is no file of the commit: a path of the project that git does not hold, a path of the
    machine (`/srv/data/train.parquet`), a `.dvc` file, or an object store (`s3://bucket/train.parquet`). On a server
    only places that its settings list may be read. Without this key a `.dvc` file beside the path is looked for."""
    schema_path: Annotated[Path | None, Field(alias="schema")] = None
    """The file with its schema: columns, types, ranges, categories."""
    id: Text | None = None
    """The column that names a row."""
    label: Text | None = None
    """The column with the truth that the model predicts."""
    disjoint_from: Text | None = None
    """Another dataset that shares no row with this one."""
    checks: DataChecksSpec = DataChecksSpec()
    """What it is asked besides, against itself, the training data, and the data that was accepted last."""


class RefreshSpec(Section):
    """A command that tells the version of what a stage reads over the network."""

    cmd: Text
    """The command line, run with the stage's network and secrets. What it prints is the version."""


class ResourcesSpec(Section):
    """What a stage may use."""

    cpu: Annotated[float, Field(gt=0.0, le=1024.0)] = 1.0
    """Cores."""
    memory: Size | None = None
    """Memory that all its processes may use together. Without this key: the machine's."""
    processes: Annotated[int, Field(ge=16, le=4194304)] = 4096
    """Processes and threads that it may have at once."""
    disk: Size | None = None
    """What it may add to its folder on the disk. Without this key: half of what is free when it starts."""
    gpu: Annotated[int, Field(ge=0, le=64)] = 0
    """NVIDIA graphics processors, which it has to itself. A stage that asks for none sees none."""


class StageSpec(Section):
    """A step of the work: a command with what it needs and what it makes."""

    cmd: Text
    """The command line, run in a private copy of the project's folder."""
    deps: list[Path] | None = None
    """Files, folders and products of other stages that it uses. Without this key: the products of every stage above it
    in the file (except those that themselves wait for it). What it reads of the commit is found by itself."""
    outs: list[Path] = []
    """Files and folders that it makes."""
    metrics: list[Annotated[Path, ends_with(".json", ".yaml", ".yml", ".csv")]] = []
    """Files of numbers that it makes, for gates."""
    predictions: Annotated[Path, ends_with(*TABLES)] | None = None
    """A file that it makes with one row for each row of the holdout: id, prediction, perhaps a probability
    (of more than two classes `probability_CLASS` for each)."""
    params: list[ParamName] | None = None
    """The parameters of `params.yaml` that it uses, by dotted name. Without this key it sees the whole file."""
    env: dict[Variable, Annotated[str, BeforeValidator(written_text)]] = {}
    """Environment variables."""
    network: bool = False
    """Whether it may use the network."""
    refresh: (
        Annotated[Annotated[Refresh, Tag("<text>")] | Annotated[RefreshSpec, Tag("<mapping>")], Discriminator(shape_of)]
        | None
    ) = None
    """When a stage with `network` runs again although nothing else changed: `always`, or once what it made is older
    than a duration (`24h`), or when what a command prints is another. Without this key: always."""
    resources: ResourcesSpec = ResourcesSpec()
    """What it may use of the machine."""
    timeout: Duration = 3600.0
    """How long it may take."""
    secrets: Secrets = []
    """Secrets of the repository that it is given as environment variables of these names, in runs of trusted refs."""
    determinism: Annotated[Literal["check"], Choice(("check",))] | None = None
    """`check`: it is executed twice, and fails where the two made different products."""
    inputs: Annotated[str, Choice(("auto", "strict"))] = "auto"
    """How undeclared reads are treated. `auto`: whatever the stage reads is observed and counts, declared or not.
    `strict`: it is shown only what `deps` lists, its parameters, and the files that its command names; for anything
    else it fails, with the line to add."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often it is tried again after a fault that is not its own (of the machine, the disk, Interlock), each time
    after a longer pause. A command that fails is never tried again."""
    frozen: bool = False
    """Whether it never runs again: its newest result is used, whatever changed since, and every plan and run says so.
    Refused while it has no result."""


class ModelSpec(Section):
    """The model that is registered and served. A text alone is its path."""

    path: Path
    """The file or folder that holds it, one of some stage's `outs`."""
    name: ModelName | None = None
    """Its name. Without it the project's folder is asked, then the repository's name."""
    format: Annotated[str, Choice(MODEL_FORMATS, LATER_FORMATS)] | None = None
    """How it was saved: `joblib` is pickle, too; `xgboost` and `lightgbm` are their own files; `mlflow` is a folder
    with an MLmodel; `python` a file with a class of yours. Without it the ending of the path tells; else `skops`."""
    golden: Path | None = None
    """A file with requests and the answers expected; latency is measured with them."""
    export: Annotated[str, Choice(("auto", "off"))] = "auto"
    """`auto`: a model of scikit-learn, XGBoost or LightGBM with golden requests is served as ONNX where that is proven
    to give the same answers and to be faster; `off`: it is served as it is."""
    rate: Annotated[float, Field(gt=0.0, le=10_000.0)] | None = None
    """Requests a second at which limits on latency are measured: they arrive at random times, whether or not earlier
    ones are answered. Without it one caller asks, the next request after the answer."""
    checks: ServingChecksSpec = ServingChecksSpec()
    """What the served model is asked besides."""


class WindowSpec(Section):
    """A time in which an environment moves forward."""

    opens: Cron
    """When it opens: a cron expression of five fields, as `0 8 * * 1-5`."""
    duration: Annotated[Duration, Field(alias="for")]
    """How long it stays open: `8h`."""
    time_zone: TimeZone = "UTC"
    """The time zone of `opens`, as `Europe/Berlin`."""


class EnvironmentSpec(Section):
    """One environment that the model is delivered to."""

    requires: list[Text] = []
    """Environments above it that must have promoted the model version first."""
    strategy: Strategy = "rolling"
    """How it moves to a new revision."""
    replicas: Replicas = 2
    """How many processes serve: a number, or a mapping with bounds between which the load decides."""
    checks: list[LiveCheckSpec] = []
    """Commands run against the live endpoint; one that fails rolls back."""
    approvals: Annotated[int, Field(ge=0, le=MOST_APPROVALS)] = 0
    """How many different people must approve of a release before it enters: `interlock approve release/N`."""
    windows: Annotated[list[WindowSpec], Field(min_length=1, max_length=MOST)] | None = None
    """Times in which rollouts begin and gain weight; a rollback needs none. Without this key: always."""
    monitoring: Monitoring = MonitoringSpec()
    """How a promoted revision is watched. Without this key it is all the same, and what is found is only told."""


class FileSpec(Section):
    """The whole file."""

    version: Literal[1]
    """The version of this format: 1."""
    on: OnSpec = OnSpec()
    """What begins a run."""
    concurrency: (
        Annotated[
            Annotated[GroupName, Tag("<text>")] | Annotated[ConcurrencySpec, Tag("<mapping>")], Discriminator(shape_of)
        ]
        | None
    ) = None
    """Runs of this file that wait for one another. Without this key: none do."""
    python: PythonSpec = PythonSpec()
    """The Python environment of all stages."""
    checks: Annotated[list[Check], Field(max_length=MOST)] | None = None
    """What is verified before any training, in this order; the first failure ends the run. Each is one of `syntax`,
    `imports`, `dependencies`, or a command. Without this key: those three, and `pytest -q tests` if there are tests."""
    data: Annotated[dict[StageName, DataSpec], Field(max_length=MOST)] = {}
    """Datasets by name, validated before any training."""
    stages: Annotated[dict[StageName, StageSpec], Field(max_length=MOST_STAGES)] = {}
    """The work, by name. Stages that do not need one another run in parallel."""
    model: (
        Annotated[Annotated[Path, Tag("<text>")] | Annotated[ModelSpec, Tag("<mapping>")], Discriminator(shape_of)]
        | None
    ) = None
    """The model that the stages make."""
    gates: Annotated[list[GateSpec], Field(max_length=MOST)] = []
    """The rules that a model must pass before it is registered."""
    deploy: Annotated[dict[ModelName, EnvironmentSpec], Field(max_length=MOST)] = {}
    """The environments by name, in the order of delivery."""

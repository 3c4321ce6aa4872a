"""What one attempt runs: the user's command or a built-in probe, and the little of the machine it may see."""

from __future__ import annotations

import json
import math
import re
import resource
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from interlock.errors import Refused
from interlock.pipeline.locks.packages import packages_in
from interlock.pipeline.models.formats import SERVED_MODEL, serving_purpose
from interlock.pipeline.plan import ModelPlan, StagePlan
from interlock.pipeline.resolve import holdout_of
from interlock.ports import Blobs, Environments, Git, Isolation
from interlock.run.stage import Baseline, StageRequest
from interlock.vocabulary import Digest, Json

STARTED, TIMES, SETTINGS, REPORT = "started", "times", "settings.json", "report.json"
"""Files of the exchange folder: proof that the sandbox came up, what was used, and a probe's two files."""

LIBRARIES = ("scikit-learn", "xgboost", "xgboost-cpu", "lightgbm")
"""Whose models are exported."""

ONNX = serving_purpose("onnx")

ASKING = ("served", "measurements")
"""Built-in stages that start model servers."""

OPEN_FILES = 65536
"""How many files a process of a stage may have open, where this machine lets anybody have so many."""

CLOCK = re.compile(r"(\d+)m([\d.]+)s")

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

RUNNER = """echo started > "$1/started"
{ echo 500 > /proc/$$/oom_score_adj; } 2>/dev/null
times_file="$1/times"; shift
trap : TERM
"$@"
code=$?
{ times; while read -r line; do echo "$line"; done < /proc/$$/io; } > "$times_file"
exit $code"""
"""Stays the parent of the stage: says that it began, offers it first to the kernel when memory ends, and notes its
processor times and what it read and wrote, children included. TERM is for the stage to handle."""


READER = """eval "$(/bin/cat)"
exec < /dev/null
"""
"""Before the runner where a stage is given secrets: they come through a pipe that is empty once it was read, so that
they are on no command line and in no file."""


class Paths(NamedTuple):
    """Folders of one attempt as the machine sees them (``outside``) or as the stage sees them (``inside``)."""

    project: str
    exchange: str
    baseline: str
    package: str


def paths_inside(outside: Paths, project: str, is_isolated: bool) -> Paths:
    """The same for every attempt where there is a sandbox; without one a stage sees what is there."""
    if not is_isolated:
        return outside
    return Paths(f"/workspace/{project}".rstrip("/"), "/interlock/exchange", "/interlock/baseline", "/interlock")


class Program(NamedTuple):
    """Command line, interpreters to show (the first is the stage's own), and a probe's settings."""

    argv: tuple[str, ...]
    interpreters: tuple[str, ...]
    settings: dict[str, Json] | None = None


class Programs:
    """Makes the program of a request; environments it needs are built on the way."""

    def __init__(self, git: Git, blobs: Blobs, environments: Environments) -> None:
        self._git, self._blobs, self._environments = git, blobs, environments

    def make(self, request: StageRequest, inside: Paths, outside: Paths, say: Callable[[str], None]) -> Program:
        """Refused or EnvironmentFault where an environment cannot be built, ArtifactFault for a torn baseline."""
        builtin = request.stage.builtin
        if builtin in ("data", "measurements", "served"):
            python, shown = sys.executable, (sys.executable,)
        else:
            python = python_in(self.prepare(request, "build", say))
            shown = (python,)
        if builtin is None:
            return Program(("/bin/sh", "-c", request.stage.command or ""), shown)
        settings, more = self._settings(request, inside, outside, say)
        files = (f"{inside.exchange}/{SETTINGS}", f"{inside.exchange}/{REPORT}")
        return Program((python, "-m", "interlock.probes", builtin, *files), (*shown, *more), settings)

    def lock_files(self, request: StageRequest) -> dict[str, bytes]:
        """The files of the commit that its environment is made of."""

        def read(paths: Sequence[str]) -> dict[str, bytes]:
            prefix = f"{request.project}/" if request.project else ""
            found = self._git.read(request.commit, [prefix + path for path in paths])
            return {path.removeprefix(prefix): content for path, content in found.items()}

        return self._environments.lock_files(request.python, read)

    def prepare(self, request: StageRequest, purpose: str, say: Callable[[str], None]) -> str:
        """The folder of the commit's environment for a purpose."""
        return self._environments.ensure(request.python, self.lock_files(request), purpose, say)

    def check(self, request: StageRequest, say: Callable[[str], None]) -> tuple[str, ...]:
        """The built-in ``dependencies``: the lock is right and can be installed; answers the files it read.

        A model's serving environment is built too, so that a conflict with the model server is known before training.
        """
        files = self.lock_files(request)
        self._environments.check(request.python, files)
        say(f"{request.python.lock} fits")
        for purpose in ("build", serving_purpose(request.model.format)) if request.model else ("build",):
            self._environments.ensure(request.python, files, purpose, say)
        folder = Path(request.python.lock).parent
        return tuple(sorted(str(folder / name) for name in files))

    def _settings(
        self, request: StageRequest, inside: Paths, outside: Paths, say: Callable[[str], None]
    ) -> tuple[dict[str, Json], tuple[str, ...]]:
        """What the probe is told, and further interpreters that it needs."""
        stage = request.stage
        if stage.builtin in ("syntax", "imports"):
            return {"entries": list(stage.deps)}, ()
        if stage.builtin == "data":
            return _settings_of_data(request), ()
        if stage.builtin == "measurements":
            return self._settings_of_measurements(request, inside, outside, say)
        return self._settings_of_served(request, inside, outside, say)

    def _settings_of_measurements(
        self, request: StageRequest, inside: Paths, outside: Paths, say: Callable[[str], None]
    ) -> tuple[dict[str, Json], tuple[str, ...]]:
        holdout, baseline = holdout_of(request.data), request.baseline
        beside = baseline.predictions if baseline else None
        if beside is not None:
            self._show(beside, f"{outside.baseline}/predictions")
        settings: dict[str, Json] = {
            "metrics": list(request.stage.metrics),
            "predictions": request.stage.predictions,
            "holdout": holdout.model_dump(mode="json") if holdout else None,
            "columns": list(request.columns),
            "baseline_predictions": f"{inside.baseline}/predictions" if beside is not None else None,
            "baseline_served": None,
            "baseline_name": baseline.name if baseline else None,
        }
        if baseline is None or baseline.golden is None:
            return settings, ()
        served = self._settings_of_baseline(baseline, inside, outside, say)
        self._show(baseline.golden, f"{outside.baseline}/golden.json")
        settings["baseline_served"] = {
            "model": {**served, "golden": f"{inside.baseline}/golden.json"},
            "inference_folder": f"{inside.package}/interlock/inference",
        }
        return settings, (str(served["python"]),)

    def _settings_of_served(
        self, request: StageRequest, inside: Paths, outside: Paths, say: Callable[[str], None]
    ) -> tuple[dict[str, Json], tuple[str, ...]]:
        model = request.model
        if model is None:
            raise Refused("there is no model to serve", "model", "name the model in interlock.yaml")
        python = python_in(self.prepare(request, serving_purpose(model.format), say))
        export, exporting = self._settings_of_export(request, model, say)
        settings: dict[str, Json] = {
            "model": model.model_dump(mode="json", exclude={"checks"}),
            "digest": self._digest_at(request.inputs, model.path, outside),
            "python": python,
            "inference_folder": f"{inside.package}/interlock/inference",
            "baseline": None,
            "export": export,
            "offline": _settings_of_offline(request),
        }
        baseline, measuring = request.baseline, request.measuring
        if baseline is None or not measuring.is_compared:
            alone = measuring.alone().model_dump(mode="json", exclude={"is_compared"})
            return {**settings, **alone}, (python, *exporting)
        settings |= measuring.model_dump(mode="json", exclude={"is_compared"})
        beside = self._settings_of_baseline(baseline, inside, outside, say)
        return {**settings, "baseline": beside}, (python, str(beside["python"]), *exporting)

    def _settings_of_export(
        self, request: StageRequest, model: ModelPlan, say: Callable[[str], None]
    ) -> tuple[dict[str, Json] | None, tuple[str, ...]]:
        """How an ONNX graph is made of the model and served, or why none is made; None where none may be."""
        if not model.may_be_exported:
            return None, ()
        if not packages_in(self.lock_files(request)).keys() & LIBRARIES:
            none = f"its lock has none of {', '.join(LIBRARIES)}"
            return {"out": SERVED_MODEL, "because": f"no ONNX is made of it: {none}"}, ()
        try:
            exporting, serving = (python_in(self.prepare(request, one, say)) for one in ("export", ONNX))
        except Refused as refused:
            return {"out": SERVED_MODEL, "because": f"no ONNX is made of it: {refused.problem}"}, ()
        settings: dict[str, Json] = {"out": SERVED_MODEL, "python": exporting, "serving": serving, "because": None}
        return settings, (exporting, serving)

    def _settings_of_baseline(
        self, baseline: Baseline, inside: Paths, outside: Paths, say: Callable[[str], None]
    ) -> dict[str, Json]:
        """The baseline's model, and the interpreter of the environment that its own lock gives."""
        files = {name: self._blobs.read(digest) for name, digest in self._blobs.files(baseline.lock).items()}
        environment = self._environments.ensure(baseline.python, files, serving_purpose(baseline.format), say)
        self._show(baseline.model, f"{outside.baseline}/model")
        return {
            "name": baseline.name,
            "path": f"{inside.baseline}/model",
            "format": baseline.format,
            "python": python_in(environment),
            "digest": baseline.model,
        }

    def _digest_at(self, inputs: Mapping[str, Digest], path: str, outside: Paths) -> Digest:
        """The artifact at a path, which may be a part of a larger one."""
        wanted = Path(path)
        for placed, digest in inputs.items():
            if wanted == Path(placed):
                return digest
            if wanted.is_relative_to(placed):
                whole = Path(outside.baseline).with_name("whole")
                self._blobs.materialise(digest, str(whole))
                return self._blobs.put(str(whole / wanted.relative_to(placed)))
        raise Refused("no stage made the model", path, "let a stage's outs name the path of the model")

    def _show(self, digest: Digest, target: str) -> None:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        self._blobs.materialise(digest, target)


def _settings_of_data(request: StageRequest) -> dict[str, Json]:
    """Without the checks: what a dataset is asked is judged by the control plane."""
    holdout = holdout_of(request.data)
    datasets: list[Json] = [data.model_dump(mode="json", exclude={"checks"}) for data in request.data]
    return {"data": datasets, "holdout": holdout.name if holdout else None}


def _settings_of_offline(request: StageRequest) -> Json:
    """The predictions and the holdout that the served model is asked for; None where it is not."""
    holdout = holdout_of(request.data)
    if request.stage.predictions is None or holdout is None:
        return None
    return {"predictions": request.stage.predictions, "holdout": {"path": holdout.path, "id": holdout.id}}


class WasUsed(NamedTuple):
    """Processor seconds of a stage that ended by itself, and the bytes that its calls read and wrote."""

    cpu_seconds: float
    read: int
    written: int


def what_was_used(noted: bytes) -> WasUsed:
    """What the runner noted: both lines of a shell's ``times``, the second the stage's, and proc_pid_io(5)."""
    lines = noted.decode("ascii", "replace").splitlines()
    clock = CLOCK.findall(lines[1]) if len(lines) > 1 else []
    moved = dict(line.split(": ", 1) for line in lines[2:] if line.rpartition(": ")[2].isdigit())
    seconds = sum(int(minutes) * 60 + float(rest) for minutes, rest in clock)
    return WasUsed(seconds, int(moved.get("rchar", 0)), int(moved.get("wchar", 0)))


def most_open_files() -> int:
    """OPEN_FILES, or less where the hard limit is lower."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)


def ulimits(processes: int | None) -> str:
    """Lines for the shell before the runner. ``processes``: a bound that the kernel keeps for an ordinary user; shells
    have two letters for it.
    """
    lines = [f"ulimit -n {most_open_files()}"]
    lines += [f"ulimit -u {processes} 2>/dev/null || ulimit -p {processes}"] if processes is not None else []
    return "".join(f"{line}\n" for line in lines)


def exports(secrets: Mapping[str, str]) -> bytes:
    """The lines that make secrets variables of the shell that reads them, and of what it starts."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in secrets.items()).encode()


def isolate(
    request: StageRequest,
    program: Program,
    outside: Paths,
    inside: Paths,
    shown: Mapping[str, str],
    *,
    has_secrets: bool = False,
    devices: Sequence[str] = (),
    processes: int | None = None,
) -> Isolation:
    """What the sandbox is asked for. ``shown`` are files of this machine by the path at which the project has them;
    ``has_secrets``: the program reads ``exports`` from its input first; ``processes``: a bound that nobody else keeps.
    """
    package = Path(outside.package) / "interlock"
    read_only = [(place, f"{inside.project}/{path}") for path, place in shown.items()]
    if program.settings is not None:
        Path(outside.exchange, SETTINGS).write_text(json.dumps(program.settings), encoding="utf-8")
        parts = ["__init__.py", "probes", *(["inference"] if request.stage.builtin in ASKING else [])]
        read_only += [(str(package / name), f"{inside.package}/interlock/{name}") for name in parts]
        if Path(outside.baseline).is_dir():
            read_only.append((outside.baseline, inside.baseline))
    script = ulimits(processes) + READER * has_secrets + RUNNER
    return Isolation(
        argv=("/bin/sh", "-c", script, "sh", inside.exchange, *program.argv),
        folder=inside.project,
        env=variables(request, program, inside),
        read_only=tuple(read_only),
        writable=((outside.project, inside.project), (outside.exchange, inside.exchange)),
        interpreters=program.interpreters,
        devices=tuple(devices),
        network=request.stage.network or request.endpoint is not None,
    )


def variables(request: StageRequest, program: Program, inside: Paths) -> dict[str, str]:
    """The whole environment of a stage: nothing of the server's own is in it."""
    environment, threads = environment_of(program), str(threads_of(request.stage))
    found = {
        "PATH": f"{environment}/bin:/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": environment,
        "HOME": "/tmp",  # noqa: S108 - private to the stage in a sandbox
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        **dict.fromkeys(THREADS, threads),
    }
    if request.endpoint is not None:
        found["INTERLOCK_ENDPOINT"] = request.endpoint
    found |= request.stage.env
    found |= {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(request.gpus),
    }  # its own, and no others
    if program.settings is not None:  # a probe is found here, and never in the folder that it looks at
        found |= {"PYTHONPATH": inside.package, "PYTHONSAFEPATH": "1"}
    return found


def environment_of(program: Program) -> str:
    """The folder of the program's own environment."""
    return str(Path(program.interpreters[0]).parent.parent)


def threads_of(stage: StagePlan) -> int:
    """How many threads numerical libraries are told to use."""
    return max(1, math.ceil(stage.resources.cpu))


def python_in(environment: str) -> str:
    """The interpreter of an environment's folder."""
    return str(Path(environment) / "bin" / "python")

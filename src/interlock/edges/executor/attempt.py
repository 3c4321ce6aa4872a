"""One attempt from its request to its outcome, in the thread that calls it."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeAlias

from pydantic import BaseModel, ValidationError

from interlock.access.masking import Masker
from interlock.errors import ExecutorFault, Fault, Refused, SeveralRefused
from interlock.pipeline.inputs.declared import remedy_for
from interlock.ports import Blobs, Bounds, Cell, Environments, Git, Sandbox
from interlock.run.sameness import compared
from interlock.run.stage import Problem, StageOutcome, StageRequest
from interlock.system.machine import conditions_of
from interlock.vocabulary import Digest, Json, Phase

from .blame import blame, name_of_exit
from .log import CappedLog
from .processes import OWN_PROCESSES, TIMED_OUT, Brake, Ended, Launch, Limits, gate_of, run_watched
from .programs import (
    REPORT,
    STARTED,
    TIMES,
    Paths,
    Programs,
    environment_of,
    exports,
    isolate,
    most_open_files,
    paths_inside,
    threads_of,
    what_was_used,
)
from .workspace import Workspace, read_left_behind, shown, store_products, walk

NO_MORE_PROCESSES = (os.strerror(errno.EAGAIN), "Cannot fork", "can't start new thread")
"""What the C library, a shell and Python say where the kernel refuses them another process or thread."""


class Braked(Exception):
    """The attempt was told to end while it was being prepared."""


class Found(BaseModel):
    """What a probe writes down."""

    passed: bool
    because: str
    problems: tuple[Problem, ...] = ()
    report: Json = None


Say: TypeAlias = Callable[[str], None]
"""Puts a line into the log."""


class Parts(NamedTuple):
    """What an attempt is run with.

    ``package`` is the folder that holds ``interlock/probes``; ``secrets`` answers values by name, ``devices`` the
    device files of graphics processors, ``datasets`` brings data (see LocalExecutor).
    """

    git: Git
    blobs: Blobs
    environments: Environments
    sandbox: Sandbox
    package: Path
    sees_reads: bool
    secrets: Callable[[str, Sequence[str]], Mapping[str, str]]
    devices: Callable[[Sequence[str]], Sequence[str]]
    datasets: Callable[[StageRequest, Say, Callable[[], None]], tuple[dict[str, Digest], str]]


def run_attempt(parts: Parts, request: StageRequest, folder: Path, log_path: Path, brake: Brake) -> StageOutcome:
    """Runs it in ``folder``, which it makes and the caller removes. Never raises: trouble of ours is ``errored``."""
    began = time.monotonic()
    masker = Masker(())

    def ended(phase: Phase, because: str, problems: tuple[Problem, ...] = ()) -> StageOutcome:
        return StageOutcome(phase=phase, because=because, seconds=time.monotonic() - began, problems=problems)

    try:
        with CappedLog(log_path) as log:
            try:
                folder.mkdir(mode=0o700)
                secrets = _grant(parts, request)
                masker = log.masker = Masker(secrets.values())
                outcome = _Attempt(parts, request, secrets, folder, log, brake).run()
                if request.stage.determinism == "check" and outcome.phase is Phase.SUCCEEDED:
                    log.say("it is executed again, to see whether it makes the same")
                    again = _Attempt(parts, request, secrets, folder / "again", log, brake).run()
                    outcome = compared(outcome, again, parts.blobs)
            except Braked:
                phase, because = brake.pulled or (Phase.CANCELLED, "stopped")
                outcome = ended(phase, because)
            except Refused as refused:
                outcome = ended(Phase.FAILED, str(refused).replace("\n", "; "), problems_of(refused))
            log.say(f"{outcome.phase}: {outcome.because}")
    except (Fault, OSError) as fault:
        outcome = ended(Phase.ERRORED, str(fault))
    except Exception as error:  # noqa: BLE001 - whatever breaks in here, the attempt has to end, and not as the user's fault
        outcome = ended(Phase.ERRORED, f"a defect in the executor: {type(error).__name__}: {error}")
    return _masked(outcome, masker).model_copy(update={"seconds": outcome.seconds or time.monotonic() - began})


def _grant(parts: Parts, request: StageRequest) -> Mapping[str, str]:
    """The secrets that the stage names, where it is trusted with any."""
    if request.secrets_of is None or not request.stage.secrets:
        return {}
    return parts.secrets(request.secrets_of, request.stage.secrets)


def _masked(outcome: StageOutcome, masker: Masker) -> StageOutcome:
    """What is told and stored of an attempt, without its secrets."""
    problems = tuple(
        problem.model_copy(
            update={
                "message": masker.mask_text(problem.message),
                "path": None if problem.path is None else masker.mask_text(problem.path),
            }
        )
        for problem in outcome.problems
    )
    return outcome.model_copy(update={"because": masker.mask_text(outcome.because), "problems": problems})


class _Attempt:
    """The steps of ``run_attempt``, in order, and what they share."""

    def __init__(
        self,
        parts: Parts,
        request: StageRequest,
        secrets: Mapping[str, str],
        folder: Path,
        log: CappedLog,
        brake: Brake,
    ) -> None:
        self._parts, self._request, self._log, self._brake = parts, request, log, brake
        self._secrets = secrets
        self._outside = Paths(
            str(folder / "project"), str(folder / "exchange"), str(folder / "baseline"), str(parts.package)
        )
        self._is_isolated = parts.sandbox.is_namespace
        self._folder = folder
        self._inside = paths_inside(self._outside, request.project, self._is_isolated)
        self._programs = Programs(parts.git, parts.blobs, parts.environments)

    def run(self) -> StageOutcome:
        if self._request.stage.builtin == "dependencies":
            return self._check_dependencies()
        if self._request.stage.builtin == "fetch":
            products, because = self._parts.datasets(self._request, self._say, self._obey_brake)
            return StageOutcome(phase=Phase.SUCCEEDED, because=because, products=products)
        resources = self._request.stage.resources
        # The kernel may take a while to make room in a control group, so this comes first. Only the user's own stages
        # can say how many cores they need.
        cores = resources.cpu if self._request.stage.kind == "stage" else None
        bounds = Bounds(resources.memory, resources.processes, cores)
        with closing(self._parts.sandbox.cell(bounds, network=self._has_network)) as cell:
            return self._run_in(cell)

    def _run_in(self, cell: Cell) -> StageOutcome:
        for path in (self._outside.project, self._outside.exchange):
            Path(path).mkdir(parents=True)
        program = self._programs.make(self._request, self._inside, self._outside, self._say)
        self._obey_brake()
        workspace = Workspace(
            Path(self._outside.project),
            self._parts.git,
            self._parts.blobs,
            self._request,
            self._parts.sees_reads,
            may_show=self._is_isolated,
        )
        bounds = self._request.stage.resources
        # For an ordinary user the namespace counts its own processes; without one it would be all of this user's.
        is_alone = self._is_isolated and not cell.keeps_bounds
        isolation = isolate(
            self._request,
            program,
            self._outside,
            self._inside,
            workspace.shown,
            has_secrets=bool(self._secrets),
            devices=self._parts.devices(self._request.gpus),
            processes=bounds.processes + OWN_PROCESSES if is_alone else None,
        )
        limits = Limits(self._request.stage.timeout, bounds.memory, bounds.processes, bounds.disk, str(self._folder))
        with gate_of(cell) as gate:
            isolation = isolation.model_copy(update={"gate": gate[0] if gate else None})
            start = self._parts.sandbox.start(isolation)
            launch = Launch(start, self._is_isolated, exports(self._secrets), gate)
            self._obey_brake()
            ended = run_watched(launch, self._log, limits, self._brake, cell)
        outcome = self._conclude(ended, workspace)
        if self._request.stage.builtin is not None:
            return outcome
        conditions = conditions_of(environment_of(program), threads_of(self._request.stage))
        return outcome.model_copy(update={"conditions": conditions})

    @property
    def _has_network(self) -> bool:
        return self._request.stage.network or self._request.endpoint is not None

    def _check_dependencies(self) -> StageOutcome:
        reads = self._programs.check(self._request, self._say)
        return StageOutcome(
            phase=Phase.SUCCEEDED, because=f"{self._request.python.lock} fits and is installed", reads=reads
        )

    def _conclude(self, ended: Ended, workspace: Workspace) -> StageOutcome:
        exchange = Path(self._outside.exchange)
        if read_left_behind(exchange / STARTED) is None:
            raise ExecutorFault(f"the sandbox did not start: {self._log.read_tail().strip() or ended.exit_code}")
        observed = workspace.observe()
        used = what_was_used(read_left_behind(exchange / TIMES) or b"")
        outcome = StageOutcome(
            phase=Phase.SUCCEEDED,
            because=f"finished in {ended.seconds:.1f} s",
            exit_code=ended.exit_code,
            seconds=ended.seconds,
            cpu_seconds=max(ended.cpu_seconds, used.cpu_seconds),
            peak_memory=ended.peak_memory,
            bytes_read=max(ended.read, used.read),
            bytes_written=max(ended.written, used.written),
            reads=observed.reads,
            listings=observed.listings,
            changed_inputs=observed.changed_inputs,
            problems=tuple(
                Problem(message="the stage changed a file that it was given", path=path, is_warning=True)
                for path in observed.changed_inputs
            ),
            sandbox=self._parts.sandbox.level,
        )
        if ended.forced is not None:
            phase, because = ended.forced
            is_late = because.startswith(TIMED_OUT)
            said = blame(self._log.read_tail(), self._inside.project, ()).line if is_late else ""
            because += f": {said}{hint}" if (hint := self._hint(said)) else ""
            return outcome.model_copy(update={"phase": phase, "because": because})
        if self._request.stage.builtin is not None:
            return self._read_report(outcome, exchange / REPORT, workspace)
        if ended.exit_code != 0:
            return self._blame(outcome, workspace)
        undeclared = self._undeclared(workspace, outcome, is_warning=True)
        return self._keep_products(outcome.model_copy(update={"problems": (*outcome.problems, *undeclared)}), workspace)

    def _read_report(self, outcome: StageOutcome, path: Path, workspace: Workspace) -> StageOutcome:
        """A probe that could not measure is our failure; what it found is the user's."""
        content = read_left_behind(path)
        if outcome.exit_code != 0 or content is None:
            said = blame(self._log.read_tail(), self._inside.project, ()).line
            raise ExecutorFault(f"the probe {self._request.stage.builtin} ended with {outcome.exit_code}: {said}")
        try:
            found = Found.model_validate(json.loads(content))
        except (ValueError, ValidationError) as error:
            raise ExecutorFault(f"the probe {self._request.stage.builtin} wrote a report that is none") from error
        outcome = outcome.model_copy(
            update={
                "phase": Phase.SUCCEEDED if found.passed else Phase.FAILED,
                "because": found.because,
                "problems": (*found.problems, *outcome.problems),
                "report": found.report,
            }
        )
        return self._keep_products(outcome, workspace) if found.passed else outcome

    def _blame(self, outcome: StageOutcome, workspace: Workspace) -> StageOutcome:
        assert outcome.exit_code is not None
        found = blame(self._log.read_tail(), self._inside.project, workspace.files)
        because = ": ".join(part for part in (name_of_exit(outcome.exit_code), found.line) if part)
        because += self._hint(found.line)
        undeclared = self._undeclared(workspace, outcome)
        because = "; ".join((because, *(problem.message for problem in undeclared)))
        problems = (*undeclared, *found.problems, *outcome.problems)
        return outcome.model_copy(update={"phase": Phase.FAILED, "because": because, "problems": problems})

    def _hint(self, said: str) -> str:
        """Which of its limits a stage met, by what it said at its end; empty where that tells of none."""
        if os.strerror(errno.EMFILE) in said:
            return f" (it may have {most_open_files()} open at once)"
        if any(text in said for text in NO_MORE_PROCESSES):
            return f" (it may have {self._request.stage.resources.processes} processes: resources.processes)"
        return ""

    def _undeclared(
        self, workspace: Workspace, outcome: StageOutcome, *, is_warning: bool = False
    ) -> tuple[Problem, ...]:
        """What a stage with strict inputs looked for and was not shown, with the line to add."""
        found = workspace.undeclared(self._log.read_tail(), self._inside.project, outcome.reads)
        if not found:
            return ()
        message = f"inputs are strict: {remedy_for(self._request.stage.name, found)}"
        return (Problem(message=message, path=found[0].seen_at, line=found[0].line, is_warning=is_warning),)

    def _keep_products(self, outcome: StageOutcome, workspace: Workspace) -> StageOutcome:
        try:
            self._refuse_secret_names(workspace)
            products, missing = store_products(workspace, self._parts.blobs, self._request.stage.products)
        except Refused as refused:
            problems = (*problems_of(refused), *outcome.problems)
            return outcome.model_copy(update={"phase": Phase.FAILED, "because": str(refused), "problems": problems})
        if not missing:
            return outcome.model_copy(update={"products": products})
        because = f"it ended well but did not make {', '.join(missing)}"
        problems = tuple(
            Problem(message="the stage declares this product and did not make it", path=one) for one in missing
        )
        return outcome.model_copy(
            update={"phase": Phase.FAILED, "because": because, "problems": (*problems, *outcome.problems)}
        )

    def _refuse_secret_names(self, workspace: Workspace) -> None:
        """Names of files are shown to everybody; an artifact cannot be kept under others than it has."""
        for path in self._request.stage.products if self._secrets else ():
            place = workspace.product(path)
            names = "\n".join(shown(name) for name, _ in walk(place)) if place is not None and place.is_dir() else ""
            if self._log.masker.mask_text(names) != names:
                raise Refused("the name of a file in it holds a secret", path, "give the file another name")

    def _say(self, line: str) -> None:
        self._log.say(line)
        self._obey_brake()

    def _obey_brake(self) -> None:
        if self._brake.pulled is not None:
            raise Braked


def problems_of(refused: Refused) -> tuple[Problem, ...]:
    """A refusal as problems, with the path and line it names."""
    if isinstance(refused, SeveralRefused):
        return tuple(problem for one in refused.refusals for problem in problems_of(one))
    path, _, line = refused.where.partition(":")
    message = refused.problem + (f" ({refused.remedy})" if refused.remedy else "")
    return (Problem(message=message, path=path or None, line=int(line) if line.isdigit() else None),)

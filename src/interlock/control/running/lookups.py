"""Whether a stage has to run: brings what the pipeline room decides together with the store and git."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from interlock.control.reusing.sources import Sources, is_told_by
from interlock.control.reusing.view import View
from interlock.errors import Refused
from interlock.pipeline.inputs.declared import visible_files
from interlock.pipeline.inputs.differences import Known, differences
from interlock.pipeline.inputs.names import Folders
from interlock.pipeline.inputs.packages import Packages, read_packages
from interlock.pipeline.inputs.sources import Source, importable
from interlock.pipeline.keys import (
    in_short,
    is_python_command,
    is_unchanged,
    key_of,
    look_up,
    makers_in,
    mark_of,
    marks_of,
)
from interlock.pipeline.outside.refresh import how_old, young_enough
from interlock.pipeline.plan import DataPlan, StagePlan
from interlock.pipeline.rules.graph import folders_around
from interlock.pipeline.trace import RULES, KeyInputs, Lookup, Trace
from interlock.ports import Blobs, Environments, Git, Store
from interlock.run.run import Run
from interlock.run.stage import Baseline, StageOutcome
from interlock.source.commit import Commit, Tree
from interlock.vocabulary import Digest, Fact, Json, Phase

LOOKS = "it looks at where the data lives"
UNSEEN = "it runs without namespaces, and what it reads outside its folder cannot be seen"
TREES_KEPT = 8
"""Trees of recent commits, and identities of environments, that are kept in memory."""


class Lookups:
    """Computes keys and finds earlier executions. ``program`` identifies the code of built-in stages; ``now`` is wall
    time. Unless it ``sees_all`` that stages read, commands are executed in every run.
    """

    def __init__(
        self,
        store: Store,
        git: Git,
        blobs: Blobs,
        environments: Environments,
        *,
        platform: str,
        program: str,
        now: Callable[[], float] = time.time,
        sees_all: bool = True,
    ) -> None:
        self._store = store
        self._git = git
        self._blobs = blobs
        self._environments = environments
        self._platform = platform
        self._program = program
        self._now = now
        self._sees_all = sees_all
        self._guard = threading.Lock()
        self._trees: dict[tuple[str, str], Tree] = {}
        self._folders: dict[tuple[str, str], Folders] = {}
        self._identities: dict[tuple[Digest, str, str, str], str] = {}
        self._sources = Sources(store)

    def look_up(self, run: Run, stage: StagePlan, baseline: Baseline | None) -> Lookup:
        """Whether the stage must run for this run, and why."""
        inputs = self.inputs_of(run, stage, baseline)
        if stage.frozen:
            return self._look_up_frozen(run, stage, inputs)
        traces = self._recall(run, "trace", key_of(inputs))
        traces, because = young_enough(stage, traces, run.reruns, self._now())
        because = LOOKS if stage.builtin == "fetch" else because
        if not self._sees_all and stage.command is not None and not because:
            traces = [trace for trace in traces if int(trace.run) in run.reruns]
            because = "" if traces else UNSEEN
        if because:
            return Lookup(key=key_of(inputs), hit=None, because=because, differences=(because,))
        is_checked = stage.determinism == "check"
        if is_checked:
            traces = sorted(traces, key=lambda trace: not trace.is_deterministic)
        history = [] if traces else self._recall(run, "history", _history_key(run, stage))
        view = self._view(run, stage)
        found = look_up(inputs, traces, history, view.current, self._known(run, view))
        if found.hit is None:
            return found
        if is_checked and not found.hit.is_deterministic:
            because = f"run {found.hit.run} did not check that it is deterministic"
            return Lookup(key=found.key, hit=None, because=because, differences=(because,))
        if not self._is_kept(found.hit):
            because = f"evicted: what it made in run {found.hit.run} is not kept any more"
            return Lookup(key=found.key, hit=None, because=because, differences=(because,))
        because = found.because + how_old(stage, found.hit, self._now())
        failed = self._like(run, stage, inputs, "failure")
        return found.model_copy(update={"because": f"{because}; {_flaky(failed, 'failed')}" if failed else because})

    def contradiction(self, run: Run, stage: StagePlan, phase: Phase) -> str | None:
        """Where the same inputs ended the other way in another run: that the stage is flaky, and which run it was."""
        if stage.builtin == "fetch":
            return None  # what it looks at is in no key
        space, told = ("failure", "failed") if phase is Phase.SUCCEEDED else ("trace", "succeeded")
        other = self._like(run, stage, self.inputs_of(run, stage, run.baseline), space)
        return _flaky(other, told) if other else None

    def facts_of(self, run: Run, stage: StagePlan, outcome: StageOutcome, made: float) -> list[Fact]:
        """To be remembered of an attempt: what it used and made where it succeeded, so that its like is not run again;
        that it failed, so that a stage which does both is found out. Runs from outside remember for themselves.
        """
        if stage.builtin == "fetch":
            return []
        view = self._view(run, stage)
        trace = self._trace(run, stage, outcome, made, view)
        fact: Json = trace.model_dump(mode="json")
        if outcome.phase is not Phase.SUCCEEDED:
            return [Fact("failure", _scoped(run.scope, key_of(trace.inputs)), fact)]
        words = self._sources.facts_of(trace.reads, view.read([path for path in trace.reads if path.endswith(".py")]))
        if trace.inputs.environment:
            words += self._sources.facts_of_packages(trace.inputs.environment, lambda: self._packages(run))
        return [
            *words,
            Fact("trace", _scoped(run.scope, key_of(trace.inputs)), fact),
            Fact("history", _scoped(run.scope, _history_key(run, stage)), fact),
        ]

    def compare(self, run: Run, stage: StagePlan, key: str, attempt: str) -> tuple[str, ...] | None:
        """What differs from the execution ``attempt`` of this key, products of earlier stages aside; None where it is
        not remembered.
        """
        inputs = self.inputs_of(run, stage, None)
        view = self._view(run, stage)
        for trace in self._recall(run, "trace", key):
            if trace.attempt == attempt:
                alike = inputs.model_copy(update={"artifacts": trace.inputs.artifacts})
                return tuple(differences(alike, trace, view.current(trace), self._known(run, view)))
        return None

    def _look_up_frozen(self, run: Run, stage: StagePlan, inputs: KeyInputs) -> Lookup:
        """The newest result of all, whatever changed since. Refused where there is none."""
        view = self._view(run, stage)
        for trace in self._recall(run, "history", _history_key(run, stage)):
            if set(trace.products) == set(stage.products) and self._is_kept(trace):
                found = tuple(differences(inputs, trace, view.current(trace), self._known(run, view)))
                although = f", although {in_short(found)}" if found else ""
                because = f"frozen: reused from run {trace.run}{although}"
                return Lookup(key=key_of(inputs), hit=trace, because=because, differences=found)
        remedy = "remove `frozen: true` for one run, so that it has a result"
        raise Refused("the stage is frozen, and there is no result of it to use", f"stages.{stage.name}", remedy)

    def _trace(self, run: Run, stage: StagePlan, outcome: StageOutcome, made: float, view: View) -> Trace:
        inputs = self.inputs_of(run, stage, run.baseline)
        placed = tuple(path.rstrip("/") for path in inputs.artifacts)
        reads = {path for path in outcome.reads if path in view.tree and not _is_within(path, placed)}
        listings = set(outcome.listings)
        for dep in stage.deps:
            folder = dep.rstrip("/")
            if folder in view.tree:
                reads.add(folder)
            elif not _is_within(folder, placed):
                within = [path for path in view.tree if _is_within(path, (folder,))]
                reads.update(within)
                above = {str(parent) for path in within for parent in PurePosixPath(path).parents}
                listings |= {folder, *(parent for parent in above if _is_within(parent, (folder,)))}
        if stage.builtin is None:  # what another look at the clock, or another machine, would make it import
            reads |= importable([path for path in reads if path.endswith(".py")], view.tree.keys(), view.read)
        if stage.params is not None:
            reads.discard("params.yaml")
        prints = view.fingerprint(sorted(reads), sorted(listings))
        return Trace(
            inputs=inputs,
            reads=prints.reads,
            listings=prints.listings,
            products=outcome.products,
            report=outcome.report if isinstance(outcome.report, str) else None,
            run=run.key,
            attempt=run.attempt_key(stage.name),
            seconds=outcome.seconds,
            made=made,
            is_deterministic=outcome.is_deterministic is True,
            sources=marks_of(prints.reads, view.tree),
            rules=RULES,
        )

    def inputs_of(self, run: Run, stage: StagePlan, baseline: Baseline | None) -> KeyInputs:
        """All that the stage's result depends on and that is known before it runs."""
        return KeyInputs(
            stage=stage.name,
            command=stage.command,
            program=f"{stage.builtin} {self._program}" if stage.builtin else None,
            params=stage.params,
            env=stage.env,
            environment=self._environment(run, run.plan.purpose_of(stage)),
            artifacts=artifacts_for(run, stage) | _beside(run, stage, baseline),
            settings=_settings(run, stage),
            products=stage.products,
            network=stage.network,
            platform=self._platform,
            inputs=stage.inputs,
        )

    def project_paths(self, commit: Commit, project: str) -> Tree:
        """The files of the commit below ``project``, by path relative to it."""
        known = self._trees.get((commit.tree, project))
        if known is None:
            prefix = f"{project}/" if project else ""
            known = {
                path.removeprefix(prefix): entry
                for path, entry in self._git.tree(commit).items()
                if path.startswith(prefix)
            }
            with self._guard:
                if len(self._trees) >= TREES_KEPT:
                    self._trees.pop(next(iter(self._trees)))
                self._trees[commit.tree, project] = known
        return known

    def read_project(self, commit: Commit, project: str, paths: Sequence[str]) -> dict[str, bytes]:
        """Contents of files of the project, by path relative to it."""
        prefix = f"{project}/" if project else ""
        contents = self._git.read(commit, [prefix + path for path in paths])
        return {path.removeprefix(prefix): content for path, content in contents.items()}

    def _is_kept(self, trace: Trace) -> bool:
        digests = [*trace.products.values(), *((trace.report,) if trace.report else ())]
        return all(self._blobs.has(digest) for digest in digests)

    def _view(self, run: Run, stage: StagePlan) -> View:
        """The project as the stage sees it."""
        commit, project = run.commit, run.plan.project
        whole = self.project_paths(commit, project)
        tree = visible_files(stage, run.plan.python, whole)
        folders = self._folders.get((commit.tree, project)) if tree is whole else Folders(tree)
        if folders is None:
            folders = Folders(tree)
            with self._guard:
                if len(self._folders) >= TREES_KEPT:
                    self._folders.pop(next(iter(self._folders)))
                self._folders[commit.tree, project] = folders

        def contents(paths: Sequence[str]) -> Mapping[str, bytes]:
            return self.read_project(commit, project, paths)

        def read(paths: Iterable[str]) -> dict[str, Source]:
            return self._sources.read(tree, contents, paths)

        is_python = stage.builtin is None and is_python_command(stage.command or "", tree.keys())
        return View(tree, folders, read, is_python, is_own=stage.builtin is not None)

    def _known(self, run: Run, view: View) -> Known:
        def definitions(path: str, fingerprint: str) -> Mapping[str, str] | None:
            source = view.read([path]).get(path)
            if source is not None and is_told_by(fingerprint, source, mark_of(view.tree.get(path))):
                return source.definitions
            return self._sources.definitions(fingerprint)

        def packages(environment: str) -> Packages | None:
            is_todays = environment in (self._environment(run, purpose) for purpose in run.plan.purposes)
            return self._packages(run) if is_todays else self._sources.packages(environment)

        return Known(makers_in(run.plan), definitions, packages)

    def _packages(self, run: Run) -> Packages:
        return read_packages(self._environments.version(run.plan.python), self._lock_files(run))

    def _lock_files(self, run: Run) -> dict[str, bytes]:
        files = {} if run.lock is None else self._blobs.files(run.lock)
        return {path: self._blobs.read(digest) for path, digest in files.items()}

    def _environment(self, run: Run, purpose: str) -> str:
        if run.lock is None:
            return ""
        python = run.plan.python
        asked = (run.lock, python.version, python.lock, purpose)
        known = self._identities.get(asked)
        if known is None:
            known = self._environments.identify(python, self._lock_files(run), purpose)
            with self._guard:
                if len(self._identities) >= TREES_KEPT:
                    self._identities.pop(next(iter(self._identities)))
                self._identities[asked] = known
        return known

    def _like(self, run: Run, stage: StagePlan, inputs: KeyInputs, space: str) -> Trace | None:
        """The newest of these executions, in another run, whose inputs were all the same."""
        view = self._view(run, stage)
        for trace in self._recall(run, space, key_of(inputs)):
            if trace.run != run.key and is_unchanged(trace, view.current(trace)):
                return trace
        return None

    def _recall(self, run: Run, space: str, key: str) -> list[Trace]:
        """What is remembered for everybody, and before it what the run's own scope remembers."""
        keys = [_scoped(run.scope, key), key] if run.scope else [key]
        return [Trace.model_validate(fact) for key in keys for fact in self._store.recall(space, key)]


def artifacts_for(run: Run, stage: StagePlan) -> dict[str, Digest]:
    """The products of earlier stages that this stage depends on, by the path where they were made."""
    deps = {dep.rstrip("/") for dep in stage.deps}
    around = deps.union(*map(folders_around, deps))
    artifacts: dict[str, Digest] = {}
    for need in stage.needs:  # whoever makes what a stage depends on is among them
        for path, digest in run.stages[need].products.items():
            made = path.rstrip("/")
            if made in around or not deps.isdisjoint(folders_around(made)):
                artifacts[path] = digest
    return artifacts


def _is_within(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _scoped(scope: str, key: str) -> str:
    return f"{scope} {key}" if scope else key


def _flaky(other: Trace, told: str) -> str:
    return f"flaky: the same inputs {told} in run {other.run}"


def _history_key(run: Run, stage: StagePlan) -> str:
    return f"{run.commit.repository}:{run.plan.project}:{stage.name}"


def _settings(run: Run, stage: StagePlan) -> dict[str, Json]:
    if stage.builtin == "fetch":
        return {"sources": dict(stage.sources)}
    if stage.secrets:  # what was made without them is no result of one that is given them
        return {"secrets": list(stage.secrets) if run.is_trusted else []}
    if stage.builtin in ("data", "measurements"):
        columns: list[Json] = [*run.plan.columns] if stage.builtin == "measurements" else []
        return {"data": [_dumped(plan) for plan in run.plan.data], **({"columns": columns} if columns else {})}
    if stage.builtin == "served" and run.plan.model is not None:
        model = run.plan.model.model_dump(mode="json", exclude={"checks"})
        beside: dict[str, Json] = {"data": [_dumped(plan) for plan in run.plan.data]} if stage.predictions else {}
        return {"model": model, "measuring": run.measuring.model_dump(mode="json"), **beside}
    return {}


def _dumped(plan: DataPlan) -> dict[str, Json]:
    """The dataset as the probe is told of it: its checks are judged here, and change nothing that is measured."""
    dumped: dict[str, Json] = plan.model_dump(mode="json", exclude={"checks"})
    return dumped


def _beside(run: Run, stage: StagePlan, baseline: Baseline | None) -> dict[str, Digest]:
    """What of the production model a measuring stage is given, under names for people."""
    if baseline is None:
        return {}
    if stage.builtin == "served" and run.measuring.is_compared:
        return {"the production model": baseline.model, "the production model's environment": baseline.lock}
    if stage.builtin == "measurements" and baseline.predictions is not None:
        return {"the production model's predictions": baseline.predictions}
    if stage.builtin == "measurements" and baseline.golden is not None:
        served = {"the production model": baseline.model, "the production model's environment": baseline.lock}
        return {**served, "the production model's golden requests": baseline.golden}
    return {}

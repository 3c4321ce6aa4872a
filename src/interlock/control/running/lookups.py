"""Whether a stage has to run: brings what the pipeline room decides together with the store and git."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from interlock.pipeline.keys import (
    differences,
    fingerprint_listings,
    fingerprint_reads,
    is_python_command,
    key_of,
    look_up,
    makers_in,
)
from interlock.pipeline.plan import DataPlan, StagePlan
from interlock.pipeline.trace import KeyInputs, Lookup, Trace
from interlock.ports import Blobs, Environments, Git, Store
from interlock.run.run import Run
from interlock.run.stage import Baseline, StageOutcome
from interlock.source.commit import Commit, Tree
from interlock.vocabulary import Digest, Fact, Json, Phase

TREES_KEPT = 8
"""Trees of recent commits, and identities of environments, that are kept in memory."""


class Lookups:
    """Computes keys and finds earlier executions. ``program`` identifies the code of built-in stages."""

    def __init__(
        self, store: Store, git: Git, blobs: Blobs, environments: Environments, *, platform: str, program: str
    ) -> None:
        self._store = store
        self._git = git
        self._blobs = blobs
        self._environments = environments
        self._platform = platform
        self._program = program
        self._guard = threading.Lock()
        self._trees: dict[tuple[str, str], Tree] = {}
        self._fingerprints: dict[str, str] = {}
        self._identities: dict[tuple[Digest, str, str, str], str] = {}

    def look_up(self, run: Run, stage: StagePlan, baseline: Baseline | None) -> Lookup:
        """Whether the stage must run for this run, and why."""
        inputs = self.inputs_of(run, stage, baseline)
        traces = self._recall(run, "trace", key_of(inputs))
        if stage.network:
            traces = [trace for trace in traces if int(trace.run) in run.reruns]  # the same commit, asked for again
        if stage.network and not traces:
            because = "it may use the network, and what it reads there cannot be seen"
            return Lookup(key=key_of(inputs), hit=None, because=because, differences=(because,))
        is_checked = stage.determinism == "check"
        if is_checked:
            traces = sorted(traces, key=lambda trace: not trace.is_deterministic)
        history = [] if traces else self._recall(run, "history", _history_key(run, stage))
        found = look_up(inputs, traces, history, lambda trace: self._current(run, stage, trace), makers_in(run.plan))
        if found.hit is None:
            return found
        if is_checked and not found.hit.is_deterministic:
            because = f"run {found.hit.run} did not check that it is deterministic"
            return Lookup(key=found.key, hit=None, because=because, differences=(because,))
        if not self._is_kept(found.hit):
            because = f"what it made in run {found.hit.run} is not kept any more"
            return Lookup(key=found.key, hit=None, because=because, differences=(because,))
        failed = self._like(run, stage, inputs, "failure")
        return found.model_copy(update={"because": f"{found.because}; {_flaky(failed, 'failed')}"}) if failed else found

    def contradiction(self, run: Run, stage: StagePlan, phase: Phase) -> str | None:
        """Where the same inputs ended the other way in another run: that the stage is flaky, and which run it was."""
        space, told = ("failure", "failed") if phase is Phase.SUCCEEDED else ("trace", "succeeded")
        other = self._like(run, stage, self.inputs_of(run, stage, run.baseline), space)
        return _flaky(other, told) if other else None

    def facts_of(self, run: Run, stage: StagePlan, outcome: StageOutcome, made: float) -> list[Fact]:
        """To be remembered of an attempt: what it used and made where it succeeded, so that its like is not run again;
        that it failed, so that a stage which does both is found out. Runs from outside remember for themselves.
        """
        trace = self._trace(run, stage, outcome, made)
        fact: Json = trace.model_dump(mode="json")
        if outcome.phase is not Phase.SUCCEEDED:
            return [Fact("failure", _scoped(run.scope, key_of(trace.inputs)), fact)]
        return [
            Fact("trace", _scoped(run.scope, key_of(trace.inputs)), fact),
            Fact("history", _scoped(run.scope, _history_key(run, stage)), fact),
        ]

    def _trace(self, run: Run, stage: StagePlan, outcome: StageOutcome, made: float) -> Trace:
        inputs = self.inputs_of(run, stage, run.baseline)
        tree = self._project_tree(run)
        placed = tuple(path.rstrip("/") for path in inputs.artifacts)
        reads = {path for path in outcome.reads if path in tree and not _is_within(path, placed)}
        listings = set(outcome.listings)
        for dep in stage.deps:
            folder = dep.rstrip("/")
            if folder in tree:
                reads.add(folder)
            elif not _is_within(folder, placed):
                within = [path for path in tree if _is_within(path, (folder,))]
                reads.update(within)
                above = {str(parent) for path in within for parent in PurePosixPath(path).parents}
                listings |= {folder, *(parent for parent in above if _is_within(parent, (folder,)))}
        if stage.params is not None:
            reads.discard("params.yaml")
        read_prints, listing_prints = self._fingerprint(run, stage, sorted(reads), sorted(listings))
        return Trace(
            inputs=inputs,
            reads=read_prints,
            listings=listing_prints,
            products=outcome.products,
            report=outcome.report if isinstance(outcome.report, str) else None,
            run=run.key,
            attempt=run.attempt_key(stage.name),
            seconds=outcome.seconds,
            made=made,
            is_deterministic=outcome.is_deterministic is True,
        )

    def inputs_of(self, run: Run, stage: StagePlan, baseline: Baseline | None) -> KeyInputs:
        """All that the stage's result depends on and that is known before it runs."""
        return KeyInputs(
            stage=stage.name,
            command=stage.command,
            program=f"{stage.builtin} {self._program}" if stage.builtin else None,
            params=stage.params,
            env=stage.env,
            environment=self._environment(run, "serve" if stage.builtin == "served" else "build"),
            artifacts=artifacts_for(run, stage) | _beside(stage, baseline),
            settings=_settings(run, stage),
            products=stage.products,
            network=stage.network,
            platform=self._platform,
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

    def _project_tree(self, run: Run) -> Tree:
        return self.project_paths(run.commit, run.plan.project)

    def _fingerprint(
        self, run: Run, stage: StagePlan, reads: Sequence[str], listings: Sequence[str]
    ) -> tuple[dict[str, str], dict[str, str]]:
        tree = self._project_tree(run)

        def contents(paths: Sequence[str]) -> Mapping[str, bytes]:
            return self.read_project(run.commit, run.plan.project, paths)

        is_python = stage.builtin is None and is_python_command(stage.command or "", tree.keys())
        return (
            fingerprint_reads(reads, tree, contents, is_python, self._fingerprints),
            fingerprint_listings(listings, tree),
        )

    def _environment(self, run: Run, purpose: str) -> str:
        if run.lock is None:
            return ""
        asked = (run.lock, run.plan.python.version, run.plan.python.lock, purpose)
        known = self._identities.get(asked)
        if known is None:
            files = {path: self._blobs.read(digest) for path, digest in self._blobs.files(run.lock).items()}
            known = self._environments.identify(run.plan.python, files, purpose)
            with self._guard:
                if len(self._identities) >= TREES_KEPT:
                    self._identities.pop(next(iter(self._identities)))
                self._identities[asked] = known
        return known

    def _current(self, run: Run, stage: StagePlan, trace: Trace) -> tuple[dict[str, str], dict[str, str]]:
        """The fingerprints of what the trace read, as the run's commit has it."""
        return self._fingerprint(run, stage, sorted(trace.reads), sorted(trace.listings))

    def _like(self, run: Run, stage: StagePlan, inputs: KeyInputs, space: str) -> Trace | None:
        """The newest of these executions, in another run, whose inputs were all the same."""
        for trace in self._recall(run, space, key_of(inputs)):
            if trace.run != run.key and not any(differences(inputs, trace, self._current(run, stage, trace), {})):
                return trace
        return None

    def _recall(self, run: Run, space: str, key: str) -> list[Trace]:
        """What is remembered for everybody, and before it what the run's own scope remembers."""
        keys = [_scoped(run.scope, key), key] if run.scope else [key]
        return [Trace.model_validate(fact) for key in keys for fact in self._store.recall(space, key)]


def artifacts_for(run: Run, stage: StagePlan) -> dict[str, Digest]:
    """The products of earlier stages that this stage depends on, by the path where they were made."""
    artifacts: dict[str, Digest] = {}
    for earlier in run.stages.values():
        for path, digest in earlier.products.items():
            made = path.rstrip("/")
            if any(_is_within(dep.rstrip("/"), (made,)) or _is_within(made, (dep.rstrip("/"),)) for dep in stage.deps):
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
    if stage.secrets:  # what was made without them is no result of one that is given them
        return {"secrets": list(stage.secrets) if run.is_trusted else []}
    if stage.builtin in ("data", "measurements"):
        return {"data": [_dumped(plan) for plan in run.plan.data]}
    if stage.builtin == "served" and run.plan.model is not None:
        return {"model": run.plan.model.model_dump(mode="json")}
    return {}


def _dumped(plan: DataPlan) -> dict[str, Json]:
    dumped: dict[str, Json] = plan.model_dump(mode="json")
    return dumped


def _beside(stage: StagePlan, baseline: Baseline | None) -> dict[str, Digest]:
    """What of the production model a measuring stage is given, under names for people."""
    if baseline is None:
        return {}
    if stage.builtin == "served":
        return {"the production model": baseline.model, "the production model's environment": baseline.lock}
    if stage.builtin == "measurements" and baseline.predictions is not None:
        return {"the production model's predictions": baseline.predictions}
    return {}

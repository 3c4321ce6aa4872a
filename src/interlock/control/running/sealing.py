"""Seals a model whose gates have passed: a signature over its bytes, provenance over how it was made."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from interlock.control.rows import read_state
from interlock.control.running.attempts import Attempt
from interlock.control.running.lookups import Lookups
from interlock.errors import ArtifactFault, SignatureInvalid
from interlock.later import Later
from interlock.pipeline.models.formats import SERVED_MODEL
from interlock.pipeline.outside.refresh import OWN_FOLDER
from interlock.ports import Blobs, Signing, Store
from interlock.registry.attestation import (
    Claim,
    attest_provenance,
    attest_summary,
    digest_set,
    first_problem,
    provenance_problem,
    summary_problem,
)
from interlock.run.run import Run, Sealed, StageRun
from interlock.vocabulary import Digest, Fact, Json, Kind, Verdict, canonical

if TYPE_CHECKING:
    from interlock.registry import version as versions
else:
    versions = Later("interlock.registry.version")


class Delivered(NamedTuple):
    """A model that is ready to be registered, and what was found when it was exported (None: that was not tried)."""

    digest: Digest
    format: str
    export: Json


class Measured(NamedTuple):
    """How the model's inputs and outputs lay when it was measured as served: an artifact, or why there is none."""

    reference: Digest | None
    because: str


class Sealing:
    """Makes and finds seals, and the version that a sealed run registers. ``builder`` names this installation."""

    def __init__(self, store: Store, blobs: Blobs, signing: Signing, lookups: Lookups, builder: str) -> None:
        self._store = store
        self._blobs = blobs
        self._signing = signing
        self._lookups = lookups
        self._builder = builder

    def serving(self, run: Run) -> Digest | None:
        """What this run's model would serve as; None while it is not made.

        Runs of equal digest would deliver the same bytes, in the same environment, past the same gates, the same way.
        """
        model = run.plan.model
        product = run.product(model.path) if model else None
        if model is None or product is None:
            return None
        serving: Json = {
            "model": model.model_dump(mode="json"),
            "digest": product,  # what may be exported of it follows from it
            "golden": self._golden(run),
            "lock": run.lock,
            "python": run.plan.python.model_dump(mode="json"),
            "gates": [gate.model_dump(mode="json") for gate in run.plan.gates],
            "deploy": [plan.model_dump(mode="json") for plan in run.plan.deploy],
            "outputs": {name: made for name, stage_run in run.stages.items() if (made := _made(run, name, stage_run))},
        }
        return Digest(f"blake3:{blake3(canonical(serving)).hexdigest()}")

    def find(self, run: Run) -> Sealed | None:
        """The run's seal, if it was made."""
        facts = self._store.recall("seal", run.key, newest=1)
        return Sealed.model_validate(facts[0]) if facts else None

    def seal(self, run: Run, now: float) -> None:
        """Signs the run's model and attests its provenance; done again after a crash it gives another valid seal."""
        delivered = self._delivered(run)
        if delivered is None:
            return
        digest = delivered.digest
        with tempfile.TemporaryDirectory(prefix="seal-") as scratch:
            folder = Path(scratch) / "model"
            materialise_folder(self._blobs, digest, folder)
            signature = self._blobs.put_bytes(self._signing.sign(str(folder)))
        claim = self._claim(run, digest)
        provenance = self._blobs.put_bytes(self._signing.attest(self._provenance(run, claim, delivered, now)))
        standing = run.judgement.standing if run.judgement else Verdict.UNDECIDED
        summary = self._blobs.put_bytes(self._signing.attest(attest_summary(claim, standing, provenance, now)))
        sealed = Sealed(signature=signature, provenance=provenance, summary=summary)
        self._store.save(facts=[Fact("seal", run.key, sealed.model_dump(mode="json"))])

    def problem_with(self, version: versions.ModelVersion) -> str | None:
        """Why the version's signature does not hold over the stored bytes; None where it does."""
        with tempfile.TemporaryDirectory(prefix="verify-") as scratch:
            folder = Path(scratch) / "model"
            try:
                materialise_folder(self._blobs, version.digest, folder)
                self._signing.verify(str(folder), self._blobs.read(version.signature))
            except (SignatureInvalid, ArtifactFault) as problem:
                return str(problem)
        return None

    def provenance_problem(self, version: versions.ModelVersion) -> str | None:
        """Why the version's provenance does not hold for it; None where it does."""
        try:
            statement = self._signing.read(self._blobs.read(version.provenance))
        except (SignatureInvalid, ArtifactFault) as problem:
            return str(problem)
        return provenance_problem(version.claim, statement, self._builder)

    def summary_problem(self, version: versions.ModelVersion, now: float, *, is_first: bool) -> str | None:
        """Why the version's summary does not let it in; None where it does. ``is_first``: it was not there before."""
        if version.summary is None:
            return "it has none; run its commit again"
        try:
            statement = self._signing.read(self._blobs.read(version.summary))
        except (SignatureInvalid, ArtifactFault) as problem:
            return str(problem)
        said = summary_problem(version.claim, statement, version.provenance)
        return said or (first_problem(version.claim, statement, now) if is_first else None)

    def version(self, run: Run, sealed: Sealed, now: float) -> versions.ModelVersion:
        """The model version that this run registers."""
        plan = run.plan
        model, serving, delivered = plan.model, self.serving(run), self._delivered(run)
        if model is None or delivered is None or serving is None or run.lock is None or run.judgement is None:
            raise ArtifactFault(f"run {run.key} has no model to register")
        predictions = next((stage.predictions for stage in plan.stages if stage.predictions), None)
        measured = self._measured(run)
        return versions.ModelVersion(
            model=model.name,
            number=1 + len(self._store.rows(Kind.VERSION, prefix=f"{model.name}/")),
            digest=delivered.digest,
            lock=run.lock,
            python=plan.python,
            format=delivered.format,
            golden=self._golden(run),
            reference=measured.reference,
            reference_because=measured.because,
            predictions=run.product(predictions) if predictions else None,
            metrics=_metrics(run),
            judgement=run.judgement,
            repository=run.commit.repository,
            ref=run.commit.ref,
            commit=run.commit.sha,
            run=run.key,
            plan=run.plan_digest,
            serving=serving,
            signature=sealed.signature,
            provenance=sealed.provenance,
            summary=sealed.summary,
            is_trusted=run.is_trusted,
            deploy=plan.deploy,
            made=now,
        )

    def _delivered(self, run: Run) -> Delivered | None:
        """The model that was measured as served, and would be delivered; None before it is known."""
        model = run.plan.model
        made = run.product(model.path) if model else None
        if model is None or made is None:
            return None
        if not model.may_be_exported:
            return Delivered(made, model.format, None)
        served, left = run.stages["served"], run.product(SERVED_MODEL)
        if served.report is None or left is None:
            return None
        told = json.loads(self._blobs.read(served.report)).get("export")
        is_exported = isinstance(told, dict) and told.get("is_exported") is True
        return Delivered(left, "onnx", told) if is_exported else Delivered(made, model.format, told)

    def _measured(self, run: Run) -> Measured:
        served = run.stages.get("served")
        if served is None or served.report is None:
            return Measured(None, "the model was not measured as served")
        candidate = json.loads(self._blobs.read(served.report)).get("candidate") or {}
        found = candidate.get("reference", {"because": "it has no golden requests, or no holdout with predictions"})
        if "because" in found:
            return Measured(None, str(found["because"]))
        return Measured(self._blobs.put_bytes(canonical(found)), "")

    def _golden(self, run: Run) -> Digest | None:
        """The golden requests: made by a stage, or a file of the commit."""
        golden = run.plan.model.golden if run.plan.model else None
        if golden is None:
            return None
        made = run.product(golden)
        if made is not None:
            return made
        content = self._lookups.read_project(run.commit, run.plan.project, [golden])
        return self._blobs.put_bytes(content[golden]) if golden in content else None

    def _made(self, run: Run, name: str) -> dict[str, Json]:
        """Which attempt made a stage's products, in which sandbox and under which conditions."""
        stage_run = run.stages[name]
        attempt = run.attempt_key(name) if stage_run.attempt else stage_run.reused
        row = self._store.load(Kind.ATTEMPT, attempt) if attempt else None
        outcome = read_state(row, Attempt).outcome if row else None
        conditions = outcome.conditions if outcome else None
        return {
            "key": stage_run.key,
            "attempt": attempt,
            "sandbox": stage_run.sandbox,
            "conditions": conditions.model_dump(mode="json") if conditions else None,
            "deterministic": outcome.is_deterministic if outcome else None,
        }

    def _claim(self, run: Run, digest: Digest) -> Claim:
        """What the version will say of itself."""
        return Claim(
            model=run.plan.model.name if run.plan.model else "",
            digest=digest,
            repository=run.commit.repository,
            ref=run.commit.ref,
            commit=run.commit.sha,
            run=run.key,
            plan=run.plan_digest,
            deploy=run.plan.deploy,
            reference=self._measured(run).reference,
        )

    def _provenance(self, run: Run, claim: Claim, delivered: Delivered, now: float) -> dict[str, Json]:
        """Which commit, plan, inputs and sandbox made these bytes.

        It says past which gates a person let them, and how an exported model was proven to answer as the original.
        """
        stages: dict[str, Json] = {name: self._made(run, name) for name in run.stages}
        homes = {path: home for stage in run.plan.stages for path, home in stage.sources.items()}
        overrides: Json = [override.model_dump(mode="json") for override in run.overrides]
        data = [_resource(home, path, run.product(path)) for path, home in homes.items()]
        made: dict[str, Json] = {
            "stages": stages,
            "lock": run.lock,
            "overrides": overrides,
            "export": delivered.export,
        }
        return attest_provenance(claim, self._builder, run.plan.project, now, made, data)


def materialise_folder(blobs: Blobs, digest: Digest, folder: Path) -> None:
    """The artifact as a folder: a lone file becomes the folder's one file, named ``model``."""
    if "" in blobs.files(digest):
        folder.mkdir(parents=True)
        blobs.materialise(digest, str(folder / "model"))
    else:
        blobs.materialise(digest, str(folder))


def _resource(place: str, path: str, digest: Digest | None) -> Json:
    """Data that was fetched, as the statement names it."""
    return {"uri": place, "name": path, "digest": digest_set(digest or Digest(""))}


def _made(run: Run, stage: str, stage_run: StageRun) -> dict[str, Json]:
    """What a stage of the user's made: not the data that was fetched for it, nor the version of what it read."""
    if run.plan.stage(stage).builtin is not None:
        return {}
    return {path: digest for path, digest in stage_run.products.items() if not path.startswith(OWN_FOLDER)}


def _metrics(run: Run) -> dict[str, float]:
    """The measured metrics as the gates' evidence has them."""
    judgement = run.judgement
    metrics: dict[str, float] = {}
    for gate, result in zip(run.plan.gates, judgement.results if judgement else (), strict=False):
        value = result.evidence.get("candidate", result.evidence.get("value"))
        if isinstance(value, int | float) and not isinstance(value, bool):
            metrics.setdefault(gate.metric, float(value))
    return metrics

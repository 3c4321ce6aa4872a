"""A model version: the signed, gated result of one run."""

from __future__ import annotations

from interlock.gate.judgement import Judgement
from interlock.pipeline.plan import EnvironmentPlan, PythonPlan
from interlock.registry.attestation import Claim
from interlock.vocabulary import Digest, Stored


class ModelVersion(Stored):
    """One registered model version.

    ``digest`` is the model's artifact, ``lock`` the artifact that holds the files its environment is made of (for the
    interpreter ``python`` asks for), ``plan`` the digest of the plan, ``serving`` of what is delivered (model, lock,
    format, golden requests and delivery plan): two versions of equal ``serving`` would serve alike. ``signature``,
    ``provenance`` and ``summary`` are artifacts; versions of earlier releases have no summary. So is ``reference``, how
    its inputs and outputs lay when it was made; ``reference_because`` is why there is none.
    """

    model: str
    number: int
    digest: Digest
    lock: Digest
    python: PythonPlan = PythonPlan()
    format: str
    golden: Digest | None = None
    reference: Digest | None = None
    reference_because: str = "an earlier release of Interlock made it"
    predictions: Digest | None = None
    metrics: dict[str, float] = {}
    judgement: Judgement
    repository: str
    ref: str
    commit: str
    run: str
    plan: Digest
    serving: Digest
    signature: Digest
    provenance: Digest
    summary: Digest | None = None
    is_trusted: bool
    deploy: tuple[EnvironmentPlan, ...] = ()
    made: float

    @property
    def key(self) -> str:
        """Its key in the store, ``model/number``."""
        return f"{self.model}/{self.number}"

    @property
    def claim(self) -> Claim:
        """What its attestations have to say too."""
        return Claim(
            model=self.model,
            digest=self.digest,
            repository=self.repository,
            ref=self.ref,
            commit=self.commit,
            run=self.run,
            plan=self.plan,
            deploy=self.deploy,
            reference=self.reference,
        )

    @property
    def title(self) -> str:
        """Its name for people, ``flights v3``."""
        return f"{self.model} v{self.number}"

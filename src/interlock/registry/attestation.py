"""What is attested of a model version, as in-toto statements over its digest, and what in them has to agree with it.

Provenance says how the model was made (SLSA provenance 1.0, https://slsa.dev/spec/v1.0/provenance); the summary that
it passed its gates, and by which policy (https://slsa.dev/spec/v1.0/verification_summary). Both are signed when a run
is sealed. What the row of a version says is believed only as far as they say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from blake3 import blake3

from interlock.pipeline.plan import EnvironmentPlan
from interlock.vocabulary import Digest, Json, Stored, Verdict, canonical

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
SUMMARY = "https://slsa.dev/verification_summary/v1"
BUILD_TYPE = "https://interlock.dev/pipeline/v1"
VERIFIER = "https://interlock.dev/gates/v1"
PARAMETERS = frozenset({"ref", "plan", "project"})
"""The external parameters of a build; one that is not known may have changed what was made."""
OLDEST_SECONDS = 30 * 86400.0
"""How long after its gates a version may first come into an environment."""


class Claim(Stored):
    """What a version says of itself, and its attestations have to say too. ``run`` is the key of the run;
    ``reference`` the artifact that says how the model's inputs and outputs lay when it was made.
    """

    model: str
    digest: Digest
    repository: str
    ref: str
    commit: str
    run: str
    plan: Digest
    deploy: tuple[EnvironmentPlan, ...]
    reference: Digest | None = None

    @property
    def resource(self) -> str:
        """How a summary names what it is of."""
        return f"{self.repository}#{self.model}/run/{self.run}"

    @property
    def policy(self) -> Digest:
        """Of the frozen plan, which has the gates, and of how it is delivered, as far as the file says so."""
        deploy: list[Json] = [plan.model_dump(mode="json", exclude_defaults=True) for plan in self.deploy]
        return Digest(f"blake3:{blake3(canonical([self.plan, deploy])).hexdigest()}")


def attest_provenance(
    claim: Claim, builder: str, project: str, now: float, made: dict[str, Json], data: Sequence[Json]
) -> dict[str, Json]:
    """How the model was made: by ``builder``, of the commit and ``data``; ``made`` is what else is known of it."""
    source: Json = {"uri": claim.repository, "digest": {"gitCommit": claim.commit}}
    definition: dict[str, Json] = {
        "buildType": BUILD_TYPE,
        "externalParameters": {"ref": claim.ref, "plan": claim.plan, "project": project},
        "internalParameters": {**made, "reference": claim.reference},
        "resolvedDependencies": [source, *data],
    }
    details: dict[str, Json] = {
        "builder": {"id": builder},
        "metadata": {"invocationId": f"run/{claim.run}", "finishedOn": _moment(now)},
    }
    return _statement(claim, PROVENANCE, {"buildDefinition": definition, "runDetails": details})


def attest_summary(claim: Claim, standing: Verdict, provenance: Digest, now: float) -> dict[str, Json]:
    """That the version's gates say ``standing``, by its policy; ``provenance`` is the artifact that was looked at."""
    predicate: dict[str, Json] = {
        "verifier": {"id": VERIFIER},
        "timeVerified": _moment(now),
        "resourceUri": claim.resource,
        "policy": {"uri": f"{claim.repository}/run/{claim.run}/plan", "digest": digest_set(claim.policy)},
        "inputAttestations": [{"uri": PROVENANCE, "digest": digest_set(provenance)}],
        "verificationResult": "PASSED" if standing is Verdict.PASS else "FAILED",
        "verifiedLevels": ["SLSA_BUILD_LEVEL_1"],
        "slsaVersion": "1.0",
    }
    return _statement(claim, SUMMARY, predicate)


def provenance_problem(claim: Claim, statement: Json, builder: str) -> str | None:
    """What the provenance says otherwise than the version; None where it says the same.

    Of the builder's name only what stands before the walls of its sandbox has to be the same.
    """
    problem = _other_subject(claim, statement, PROVENANCE)
    if problem is not None:
        return problem
    definition, details = _at(statement, "predicate", "buildDefinition"), _at(statement, "predicate", "runDetails")
    parameters, source = _at(definition, "externalParameters"), _first(_at(definition, "resolvedDependencies"))
    unknown = sorted(set(parameters) - PARAMETERS) if isinstance(parameters, dict) else ["none at all"]
    if unknown:
        return f"it was made with parameters that are not known: {', '.join(unknown)}"
    pairs = (
        ("by", str(_at(details, "builder", "id")).partition("/")[0], builder.partition("/")[0]),
        ("as", _at(definition, "buildType"), BUILD_TYPE),
        ("in repository", _at(source, "uri"), claim.repository),
        ("of commit", _at(source, "digest", "gitCommit"), claim.commit),
        ("of ref", _at(parameters, "ref"), claim.ref),
        ("by plan", _at(parameters, "plan"), claim.plan),
        ("by", _at(details, "metadata", "invocationId"), f"run/{claim.run}"),
        ("with reference", _at(definition, "internalParameters", "reference"), claim.reference),
    )
    return next((f"it was made {what} {is_so}, not {said}" for what, is_so, said in pairs if is_so != said), None)


def summary_problem(claim: Claim, statement: Json, provenance: Digest) -> str | None:
    """What the summary says otherwise than the version, or against it; None where it passed."""
    problem = _other_subject(claim, statement, SUMMARY)
    if problem is not None:
        return problem
    said = _at(statement, "predicate")
    result, seen = _at(said, "verificationResult"), _first(_at(said, "inputAttestations"))
    if _at(said, "verifier", "id") != VERIFIER:
        return f"it is the word of {_at(said, 'verifier', 'id')}"
    if _at(said, "resourceUri") != claim.resource:
        return f"it is of {_at(said, 'resourceUri')}, not of {claim.resource}"
    if _at(seen, "digest") != digest_set(provenance):
        return "it is of another provenance"
    return None if result == "PASSED" else f"it says {result}"


def first_problem(claim: Claim, statement: Json, now: float) -> str | None:
    """What the summary says against a version that has not been in the environment before: another policy, or age."""
    said = _at(statement, "predicate")
    if _at(said, "policy", "digest") != digest_set(claim.policy):
        return "it is by another policy: gates or delivery were changed since"
    try:
        age = now - datetime.fromisoformat(str(_at(said, "timeVerified"))).timestamp()
    except ValueError:
        return f"it is of no time: {_at(said, 'timeVerified')}"
    oldest = OLDEST_SECONDS / 86400
    return None if age <= OLDEST_SECONDS else f"it is {age / 86400:.0f} days old, at most {oldest:.0f} are taken"


def digest_set(digest: Digest) -> dict[str, Json]:
    """A digest as in-toto writes it."""
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


def _statement(claim: Claim, kind: str, predicate: dict[str, Json]) -> dict[str, Json]:
    subject: Json = {"name": claim.model, "digest": digest_set(claim.digest)}
    return {"_type": STATEMENT, "subject": [subject], "predicateType": kind, "predicate": predicate}


def _other_subject(claim: Claim, statement: Json, kind: str) -> str | None:
    told = _at(statement, "_type"), _at(statement, "predicateType")
    if told != (STATEMENT, kind):
        return f"it is a {told[1]}"
    of = _at(_first(_at(statement, "subject")), "digest")
    return None if of == digest_set(claim.digest) else f"it is of {of}, not of {digest_set(claim.digest)}"


def _at(value: Any, *path: str) -> Any:
    """What stands there; None where nothing does."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _moment(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

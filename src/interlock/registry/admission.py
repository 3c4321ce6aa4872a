"""The one rule that lets a model version into an environment. There is no other way in."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.registry.version import ModelVersion
from interlock.vocabulary import Stored, Verdict


class Evidence(Stored):
    """What is known of a version when it asks to be admitted.

    ``signature_problem`` is None where the signature was checked over the very bytes and holds, ``provenance_problem``
    and ``summary_problem`` where those are signed and say what the version says; ``copy_of`` is an older version that
    the same run registered; ``quarantine`` the reason the digest was rolled back for; ``retired`` who took the model
    away, None where nobody did; ``served_in`` the environments where this digest was promoted; ``owner`` the repository
    that registered the first version of the model, None where that is not known.
    """

    signature_problem: str | None
    provenance_problem: str | None = None
    summary_problem: str | None = None
    copy_of: str | None = None
    quarantine: str | None = None
    retired: str | None = None
    served_in: tuple[str, ...] = ()
    owner: str | None = None


class Admission(Stored):
    """Whether the version may come in, and why."""

    is_admitted: bool
    because: str


def admit(environment: str, requires: Sequence[str], version: ModelVersion, evidence: Evidence) -> Admission:
    """Whether ``version`` may serve in ``environment``; the first condition that does not hold is the reason.

    ``requires`` names the environments in which the same digest must have been promoted before.
    """
    missing = [name for name in requires if name not in evidence.served_in]
    conditions = (
        (version.is_trusted, f"its ref {version.ref} is not trusted to deploy"),
        (
            evidence.owner in (None, version.repository),
            f"the name {version.model} is that of a model of {evidence.owner}: choose another one for yours",
        ),
        (
            version.judgement.standing is Verdict.PASS,
            f"its gates say {version.judgement.standing}: {version.judgement.because}",
        ),
        (evidence.signature_problem is None, f"its signature does not hold: {evidence.signature_problem}"),
        (evidence.provenance_problem is None, f"its provenance does not hold: {evidence.provenance_problem}"),
        (evidence.summary_problem is None, f"its summary does not hold: {evidence.summary_problem}"),
        (evidence.copy_of is None, f"it is {evidence.copy_of} under another number"),
        (evidence.quarantine is None, f"its digest is quarantined: {evidence.quarantine}"),
        (evidence.retired is None, f"{version.model} is {evidence.retired}; interlock models restore brings it back"),
        (not missing, f"this digest was not promoted in {', '.join(missing)}"),
    )
    for holds, because in conditions:
        if not holds:
            return Admission(is_admitted=False, because=f"{version.title} is not admitted to {environment}: {because}")
    is_gated = version.judgement.verdict is Verdict.PASS
    told = "gated, signed, not quarantined" if is_gated else f"signed, not quarantined; {version.judgement.because}"
    return Admission(is_admitted=True, because=f"{version.title} is admitted to {environment}: trusted, {told}")

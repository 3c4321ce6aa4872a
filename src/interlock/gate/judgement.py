"""What a gate answers, with the evidence a person can read and recompute."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.vocabulary import Json, Stored, Verdict


class GateResult(Stored):
    """One gate's verdict. ``because`` is one line; ``evidence`` holds every number that led to it."""

    gate: str
    verdict: Verdict
    because: str
    evidence: dict[str, Json] = {}


class Override(Stored):
    """A person's word that a model goes on although this gate did not pass."""

    gate: str
    by: str
    reason: str

    def __str__(self) -> str:
        """Who, and why, for people."""
        return f"overridden by {self.by}: {self.reason}"


class Judgement(Stored):
    """All gates of one plan. Fails if one fails; else undecided if one is undecided; else passes.

    ``overrides`` change no verdict: they say which of them do not stop the model, by whose word and why.
    """

    results: tuple[GateResult, ...] = ()
    overrides: tuple[Override, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of the results; an empty judgement passes, for no gate was asked for."""
        return _worst(self.results)

    @property
    def objections(self) -> tuple[GateResult, ...]:
        """The results that did not pass and that nobody overrode."""
        overridden = {override.gate for override in self.overrides}
        return tuple(
            result for result in self.results if result.verdict is not Verdict.PASS and result.gate not in overridden
        )

    @property
    def standing(self) -> Verdict:
        """The verdict of what nobody overrode: whether the model may go on."""
        return _worst(self.objections)

    def override_of(self, result: GateResult) -> Override | None:
        """The word by which a result that did not pass stops nothing; None where it passed, or stops the model."""
        if result.verdict is Verdict.PASS:
            return None
        return next((override for override in self.overrides if override.gate == result.gate), None)

    @property
    def because(self) -> str:
        """The reasons of the worst results, in one line; once all that did not pass is overridden, by whom and why."""
        if not self.results:
            return "no gate was asked for"
        if self.verdict is Verdict.PASS:
            return f"all {len(self.results)} gates passed"
        standing = self.standing
        if standing is Verdict.PASS:
            told = [
                f"{result.gate} {override} ({result.verdict}: {result.because})"
                for result in self.results
                if (override := self.override_of(result)) is not None
            ]
            return f"{len(self.results) - len(told)} of {len(self.results)} gates passed; {'; '.join(told)}"
        worst = [result for result in self.objections if result.verdict is standing]
        return "; ".join(f"{result.gate}: {result.because}" for result in worst)


class Checked(Judgement):
    """The verdicts of checks; ``left_out`` says of others why there was nothing to decide them with."""

    left_out: dict[str, str] = {}


def _worst(results: Sequence[GateResult]) -> Verdict:
    verdicts = {result.verdict for result in results}
    return next((verdict for verdict in (Verdict.FAIL, Verdict.UNDECIDED) if verdict in verdicts), Verdict.PASS)

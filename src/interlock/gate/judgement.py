"""What a gate answers, with the evidence a person can read and recompute."""

from __future__ import annotations

from interlock.vocabulary import Json, Stored, Verdict


class GateResult(Stored):
    """One gate's verdict. ``because`` is one line; ``evidence`` holds every number that led to it."""

    gate: str
    verdict: Verdict
    because: str
    evidence: dict[str, Json] = {}


class Judgement(Stored):
    """All gates of one plan. Fails if one fails; else undecided if one is undecided; else passes."""

    results: tuple[GateResult, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of the results; an empty judgement passes, for no gate was asked for."""
        verdicts = {result.verdict for result in self.results}
        for verdict in (Verdict.FAIL, Verdict.UNDECIDED):
            if verdict in verdicts:
                return verdict
        return Verdict.PASS

    @property
    def because(self) -> str:
        """The reasons of the worst results, in one line."""
        worst = [result for result in self.results if result.verdict is self.verdict]
        if not worst:
            return "no gate was asked for"
        if self.verdict is Verdict.PASS:
            return f"all {len(worst)} gates passed"
        return "; ".join(f"{result.gate}: {result.because}" for result in worst)


class Checked(Judgement):
    """The verdicts of checks; ``left_out`` says of others why there was nothing to decide them with."""

    left_out: dict[str, str] = {}

    @property
    def objections(self) -> tuple[GateResult, ...]:
        """The results that did not pass."""
        return tuple(result for result in self.results if result.verdict is not Verdict.PASS)

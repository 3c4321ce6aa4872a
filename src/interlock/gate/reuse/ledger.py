"""The uses of one test set by one metric: counted, bounded by a budget, and at last spent.

Whoever sees results of a test set and tries again learns the test set: after 1,000 tries of a model that knows nothing,
the best seen accuracy is 71 % where 50 % is true. Pass or fail alone still leaks (63 %). So uses are counted for each
holdout, by its digest, and metric:

=============================================  ===================================================
the run has used it already                    it is told the same again, and nothing is spent
retired, or as many uses as the budget has     spent: no verdict, whatever the numbers say
else                                           one more use; ``first_change`` retires it at a pass
=============================================  ===================================================
"""

from __future__ import annotations

import math

from interlock.gate.reuse.sizes import Adaptivity
from interlock.vocabulary import Decision, Stored, Verdict

_ROUNDING = 1e-9  # 0.82 is 41 steps of 0.02, though not as binary fractions
_WARNS_BELOW = 0.2  # of the budget: from here on the reason asks for a new holdout


class Use(Stored):
    """One look at the test set: by which run, and what it was told."""

    run: str
    verdict: Verdict
    shown: float | None = None


class Ledger(Stored):
    """The uses of the holdout of this digest by one metric. ``budget`` is how many it bears (``sizes.steps_borne``).

    ``shown`` is the Ladder's: the best score that was let out, rounded.
    """

    holdout: str
    metric: str
    budget: int
    adaptivity: Adaptivity = "full"
    uses: tuple[Use, ...] = ()
    is_retired: bool = False
    shown: float | None = None

    @property
    def left(self) -> int:
        """How many uses are left."""
        return 0 if self.is_retired else max(0, self.budget - len(self.uses))

    @property
    def spent(self) -> str:
        """Why it may not be used any more; empty while it may."""
        if self.is_retired:
            return f"this test set is spent: {self.uses[-1].run} passed on it, and its pass was news; use a new holdout"
        if self.left == 0:
            return f"this test set is spent: {len(self.uses)} of {self.budget} uses by {self.metric}; use a new holdout"
        return ""

    def of(self, run: str) -> Use | None:
        """What the run was told, if it has used the test set."""
        return next((use for use in self.uses if use.run == run), None)


def spend(
    ledger: Ledger, run: str, verdict: Verdict, score: float, step: float, *, is_higher_better: bool
) -> Decision[Ledger]:
    """The ledger after one more look, which found ``verdict`` and ``score``; ``step`` is that of the Ladder."""
    before = ledger.of(run)
    if before is not None:
        return Decision(state=ledger, because=f"{run} has used this test set already: {before.verdict}")
    if ledger.spent:
        return Decision(state=ledger, because=ledger.spent)
    shown = climb(ledger.shown, score, step, is_higher_better=is_higher_better)
    used = ledger.model_copy(
        update={
            "uses": (*ledger.uses, Use(run=run, verdict=verdict, shown=shown)),
            "shown": shown,
            "is_retired": ledger.adaptivity == "first_change" and verdict is Verdict.PASS,
        }
    )
    because = f"use {len(used.uses)} of {used.budget} of this test set by {used.metric}"
    if used.spent:
        because += "; it is spent now"
    elif used.left < _WARNS_BELOW * used.budget:
        because += f"; {used.left} left, make a new holdout"
    return Decision(state=used, because=because)


def climb(shown: float | None, score: float, step: float, *, is_higher_better: bool) -> float | None:
    """The score that may be shown: the best that was let out so far, unless the new one beats it by a whole step.

    The Ladder (Blum and Hardt 2015), whose scores stay within about one step of the truth however often one asks.
    What is shown is rounded to the step, towards the worse. A score that is not finite shows nothing new.
    """
    if not math.isfinite(score):
        return shown
    if shown is not None and (score - shown if is_higher_better else shown - score) < step * (1.0 - _ROUNDING):
        return shown
    steps = score / step
    return (math.floor(steps + _ROUNDING) if is_higher_better else math.ceil(steps - _ROUNDING)) * step

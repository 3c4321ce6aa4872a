"""The uses of one test set by one metric: counted, bounded by a budget, and at last spent.

Whoever sees results of a test set and tries again learns the test set: after 1,000 tries of a model that knows nothing,
the best seen accuracy is 71 % where 50 % is true. Pass or fail alone still leaks (63 %). So uses are counted for each
holdout, by its digest, and metric:

=============================================  ===================================================
the commit has used it already                 it is told the same again, and nothing is spent
retired, or as many uses as the budget has     spent: no verdict, whatever the numbers say
else                                           one more use; ``first_change`` retires it at a pass
=============================================  ===================================================
"""

from __future__ import annotations

import math

from interlock.gate.reuse.sizes import Adaptivity
from interlock.vocabulary import Decision, Stored, Verdict

_ROUNDING = 1e-9  # 0.82 is 41 steps of 0.02, though not as binary fractions
_WARNS_BELOW = 0.2  # of the budget: from here on the reason asks for new rows
_REMEDY = "bring new holdout rows"


class Use(Stored):
    """One look at the test set: of which commit, what it was told, and, on a ladder, the best score shown then."""

    commit: str
    verdict: Verdict
    shown: float | None = None


class Ledger(Stored):
    """The uses of the holdout of this digest by one metric. ``budget`` is how many it bears (``sizes.steps_borne``);
    None where nobody has said so: then they are only counted.
    """

    holdout: str
    metric: str
    budget: int | None = None
    adaptivity: Adaptivity = "full"
    uses: tuple[Use, ...] = ()

    @property
    def passed(self) -> Use | None:
        """The pass that retired it, with ``first_change``."""
        passes = (use for use in self.uses if use.verdict is Verdict.PASS)
        return next(passes, None) if self.adaptivity == "first_change" else None

    @property
    def left(self) -> int | None:
        """How many uses are left; None where there is no budget."""
        return None if self.budget is None else 0 if self.passed else max(0, self.budget - len(self.uses))

    @property
    def spent(self) -> str:
        """Why it may not be used any more; empty while it may."""
        if self.left != 0:
            return ""
        if self.passed is not None:
            return (
                f"this test set is spent: {self.passed.commit[:10]} passed {self.metric}, and that is news; {_REMEDY}"
            )
        count = f"{len(self.uses)} {'commit was' if len(self.uses) == 1 else 'commits were'} judged with it"
        return f"this test set is spent: {count} by {self.metric}, its budget is {self.budget}; {_REMEDY}"

    @property
    def told(self) -> str:
        """How often it was used, for people."""
        count = len(self.uses)
        number = f"{count} use{'' if count == 1 else 's'}" if self.budget is None else f"{count} of {self.budget} uses"
        return f"{number} of this test set by {self.metric}"

    def of(self, commit: str) -> Use | None:
        """What the commit was told, if it has used the test set."""
        return next((use for use in self.uses if use.commit == commit), None)


def spend(ledger: Ledger, commit: str, verdict: Verdict) -> Decision[Ledger]:
    """The ledger after one more look, which found ``verdict``."""
    before = ledger.of(commit)
    if before is not None:
        because = f"{ledger.told}; {commit[:10]} is among them: {before.verdict}"
        return Decision(state=ledger, because=because)
    if ledger.spent:
        return Decision(state=ledger, because=ledger.spent)
    used = ledger.model_copy(update={"uses": (*ledger.uses, Use(commit=commit, verdict=verdict))})
    because = used.told
    if used.spent:
        because += "; it is spent now"
    elif used.budget is not None and used.left is not None and used.left < _WARNS_BELOW * used.budget:
        because += f"; {used.left} left, {_REMEDY}"
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

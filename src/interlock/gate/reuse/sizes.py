r"""How many rows a condition needs, so that all of its answers are right with the reliability that was asked for.

By Hoeffding's inequality, for a clause of k variables with factors c (the tolerance split so that all need the same):
``rows = (sum |c|)^2 * -ln(share) / (2 * tolerance^2)`` with ``share = (1 - reliability) / (k * clauses * H)`` for H
steps whose results nobody who develops sees (``none``), and 2^H in the place of H where everybody does (``full``).
``first_change`` needs as many as ``none``: after the first pass, which alone is news, the test set is retired.

Where the predictions are known to differ little, ``d < A +/- B /\ n - o > C +/- E``, Bennett's inequality needs far
fewer: ``rows = (ln H - ln((1 - reliability) / 4)) / (p * h(E / p))`` with p = A + 2 B and h(u) = (1 + u) ln(1 + u) - u,
and labels only for the rows on which the predictions differ (ease.ml/ci, MLSys 2019).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from interlock.pipeline.gates.conditions import Clause, Condition

Adaptivity = Literal["none", "full", "first_change"]

MOST_STEPS = 10**9
"""Where a test set is so large that it would bear more uses than this, so many are given."""


class Sizes(NamedTuple):
    """What a condition needs: ``rows`` with labels (``labels`` of them where only differing rows need one), and
    ``unlabelled`` rows to begin with.
    """

    rows: int
    labels: int
    unlabelled: int
    method: str


def rows_needed(condition: Condition, reliability: float, steps: int, adaptivity: Adaptivity) -> int:
    """The rows that the condition needs by Hoeffding's inequality."""
    clauses = condition.clauses
    spent = _log_of_steps(steps, adaptivity)
    return max(math.ceil(_unrounded(clause, len(clauses), reliability, spent)) for clause in clauses)


def steps_borne(condition: Condition, rows: int, reliability: float, adaptivity: Adaptivity) -> int:
    """How often so many rows, all with labels, may be asked the condition; 0 where they are too few for once."""

    def are_enough(steps: int) -> bool:
        needed = sizes_needed(condition, reliability, steps, adaptivity)
        return max(needed.rows, needed.unlabelled) <= rows

    if not are_enough(1):
        return 0
    low, high = 1, 2
    while high < MOST_STEPS and are_enough(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if are_enough(middle):
            low = middle
        else:
            high = middle
    return min(low, MOST_STEPS)


def sizes_needed(condition: Condition, reliability: float, steps: int, adaptivity: Adaptivity) -> Sizes:
    """The least that is known to do: Bennett's where the condition bounds how much the models differ."""
    plain = rows_needed(condition, reliability, steps, adaptivity)
    pair = _differing_little(condition)
    if pair is not None:
        bound, gain = pair
        share = bound.constant + 2.0 * bound.tolerance
        spent = _log_of_steps(steps, adaptivity)
        fewer = math.ceil((spent - math.log((1.0 - reliability) / 4.0)) / (share * _bennett(gain.tolerance / share)))
        if fewer < plain:
            first = math.ceil((spent - math.log((1.0 - reliability) / 2.0)) / (2.0 * bound.tolerance**2))
            return Sizes(fewer, math.ceil(share * fewer), max(fewer, first), "Bennett")
    return Sizes(plain, plain, 0, "Hoeffding")


def _unrounded(clause: Clause, clauses: int, reliability: float, spent: float) -> float:
    factors = clause.factors.values()
    reach = sum(abs(factor) for factor in factors)
    surprise = math.log(len(factors) * clauses) + spent - math.log(1.0 - reliability)
    return reach**2 * surprise / (2.0 * clause.tolerance**2)


def _log_of_steps(steps: int, adaptivity: Adaptivity) -> float:
    return steps * math.log(2.0) if adaptivity == "full" else math.log(steps)


def _differing_little(condition: Condition) -> tuple[Clause, Clause] | None:
    """The clauses ``d < A`` and ``n - o > C``, where the condition consists of them."""
    bound = [clause for clause in condition.clauses if clause.factors == {"d": 1.0} and not clause.is_above]
    gain = [clause for clause in condition.clauses if clause.factors == {"n": 1.0, "o": -1.0}]
    return (bound[0], gain[0]) if len(condition.clauses) == 2 and bound and gain else None


def _bennett(ratio: float) -> float:
    return (1.0 + ratio) * math.log1p(ratio) - ratio

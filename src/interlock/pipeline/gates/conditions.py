r"""Conditions in the language of ease.ml/ci (MLSys 2019): ``n - o > 0.02 +/- 0.01 /\ d < 0.1 +/- 0.01``.

``n`` is the accuracy of the new model, ``o`` that of the old one, ``d`` the share of rows on which their predictions
differ. Each clause bounds a sum of them by a constant, known up to its tolerance:

===================================  ============  ===========
value of the sum                     ``> C +/- E``  ``< C +/- E``
===================================  ============  ===========
above C + E                          true          false
below C - E                          false         true
else                                 unknown       unknown
===================================  ============  ===========

A condition is false where one clause is, true where all are, else unknown. An unknown one is not accepted by
``fp-free`` (nothing false is ever accepted), and accepted by ``fn-free`` (nothing true is ever rejected).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from interlock.errors import Refused
from interlock.vocabulary import Stored

Mode = Literal["fp-free", "fn-free"]
Variable = Literal["n", "o", "d"]

_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?"
_CLAUSE = re.compile(
    rf"\s*(?P<sum>.+?)\s*(?P<sign>[<>])\s*(?P<constant>[+-]?\s*{_NUMBER})\s*\+/-\s*(?P<tolerance>{_NUMBER})\s*"
)
_TERM = re.compile(rf"\s*(?P<sign>[+-]?)\s*(?:(?P<factor>{_NUMBER})\s*\*\s*)?(?P<variable>[nod])\s*")
_REMEDY = "write clauses like `n - o > 0.02 +/- 0.01`, joined by /\\; the variables are n, o and d"


class Clause(Stored):
    """A sum of variables compared with a constant, known up to ``tolerance``."""

    factors: dict[Variable, float]
    is_above: bool
    constant: float
    tolerance: float

    def holds(self, values: Mapping[Variable, float]) -> bool | None:
        """Whether it holds for these estimates; None where they are too close to tell."""
        beyond = sum(factor * values[name] for name, factor in self.factors.items()) - self.constant
        if abs(beyond) <= self.tolerance:
            return None
        return (beyond > 0.0) == self.is_above


class Condition(Stored):
    """Clauses that must all hold. ``text`` is how it was written."""

    text: str
    clauses: tuple[Clause, ...]

    def holds(self, values: Mapping[Variable, float]) -> bool | None:
        """Whether all clauses hold; None where that cannot be told."""
        found = {clause.holds(values) for clause in self.clauses}
        return False if False in found else None if None in found else True

    def accepts(self, values: Mapping[Variable, float], mode: Mode) -> bool:
        """Whether it is accepted: what is unknown is by ``fn-free``, and is not by ``fp-free``."""
        holds = self.holds(values)
        return mode == "fn-free" if holds is None else holds

    @property
    def is_of_production(self) -> bool:
        """Whether it cannot be told without a model in production."""
        return any({"o", "d"} & clause.factors.keys() for clause in self.clauses)


def read_condition(text: str) -> Condition:
    """The condition that is written. Refused where it is none."""
    return Condition(text=" ".join(text.split()), clauses=tuple(_read_clause(part) for part in text.split("/\\")))


def _read_clause(text: str) -> Clause:
    match = _CLAUSE.fullmatch(text)
    if match is None:
        raise Refused(f"`{text.strip()}` is no clause", "condition", _REMEDY)
    tolerance = float(match["tolerance"])
    if not 0.0 < tolerance < 1.0:
        raise Refused(f"the tolerance {tolerance:g} is not between 0 and 1", "condition", "write a tolerance like 0.01")
    return Clause(
        factors=_read_sum(match["sum"]),
        is_above=match["sign"] == ">",
        constant=float(match["constant"].replace(" ", "")),
        tolerance=tolerance,
    )


def _read_sum(text: str) -> dict[Variable, float]:
    factors: dict[Variable, float] = {}
    place = 0
    while place < len(text):
        match = _TERM.match(text, place)
        variable: Variable | None = next(
            (name for name in ("n", "o", "d") if match and match["variable"] == name), None
        )
        if match is None or variable is None or (place and not match["sign"]):
            raise Refused(f"`{text[place:].strip()}` is no sum of n, o and d", "condition", _REMEDY)
        factor = float(match["factor"] or 1.0) * (-1.0 if match["sign"] == "-" else 1.0)
        factors[variable] = factors.get(variable, 0.0) + factor
        place = match.end()
    if not any(factors.values()):
        raise Refused(f"`{text.strip()}` is nothing, whatever the models do", "condition", _REMEDY)
    return {name: factor for name, factor in factors.items() if factor}

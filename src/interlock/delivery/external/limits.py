"""Plain limits on values that come without a sample: a gauge, a number that a command prints.

Such a value has no known chance of being off by luck, so nothing is claimed of false alarms, and no share of alpha is
spent on it. What is claimed is said in full: at every look of so many seconds, the newest included, the value was
beyond its limit (harm), or within it (safe).

``judge`` in one table; the first row that fits decides:

=====================================================  =========================================================
the answers                                            then
=====================================================  =========================================================
none yet, the last one has a problem, or is late       undecided; what was seen before counts no more
beyond the limit at each look of ``seconds``           fail
within it at each look of ``seconds``                  pass
otherwise                                              undecided
=====================================================  =========================================================
"""

from __future__ import annotations

from interlock.gate.judgement import GateResult
from interlock.vocabulary import Json, Stored, Verdict

LATE = 3.0
"""How many times the interval between two looks an answer may be old, or apart from the one before."""


class Limit(Stored):
    """A value has to be from ``min`` to ``max``: what is so for ``seconds`` counts. ``every`` is between two looks."""

    metric: str
    min: float | None = None
    max: float | None = None
    seconds: float = 60.0
    every: float = 15.0
    is_dry_run: bool = False

    @property
    def bounds(self) -> str:
        """Its limits, for people."""
        both = (("min", self.min), ("max", self.max))
        return " ".join(f"{name} {bound:g}" for name, bound in both if bound is not None)

    def holds(self, value: float) -> bool:
        """Whether the value is within."""
        return not ((self.min is not None and value < self.min) or (self.max is not None and value > self.max))


class Standing(Stored):
    """How a limit stands: its newest answer (``at``, ``value``), ``since`` when it ``is_within`` or is not, how many
    ``looks`` on end that is, and the ``problem`` where nothing is known.
    """

    at: float | None = None
    value: float | None = None
    since: float = 0.0
    is_within: bool = False
    looks: int = 0
    problem: str = "it was not asked yet"


def look(limit: Limit, standing: Standing, at: float, value: float | None, problem: str) -> Standing:
    """How it stands after one answer; one that is no newer than the last changes nothing."""
    if standing.at is not None and at <= standing.at:
        return standing
    if value is None:
        return Standing(at=at, problem=problem)
    is_within = limit.holds(value)
    is_apart = standing.at is None or at - standing.at > LATE * limit.every
    goes_on = not is_apart and not standing.problem and standing.is_within == is_within
    return Standing(
        at=at,
        value=value,
        since=standing.since if goes_on else at,
        is_within=is_within,
        looks=standing.looks + 1 if goes_on else 1,
        problem="",
    )


def grow_old(limit: Limit, standing: Standing, now: float) -> Standing:
    """How it stands now: an answer that is too old is none any more."""
    if standing.at is None or standing.problem or now - standing.at <= LATE * limit.every:
        return standing
    return Standing(at=standing.at, problem=f"its last answer is older than {LATE * limit.every:g} s")


def judge(limit: Limit, standing: Standing) -> GateResult:
    """What the limit says now (the table above)."""
    evidence: dict[str, Json] = {
        "method": "a plain limit, held for a time; no chance of a false alarm is claimed",
        "limit": limit.bounds,
        "value": standing.value,
        "looks": standing.looks,
        "seconds": limit.seconds,
    }

    def result(verdict: Verdict, because: str) -> GateResult:
        return GateResult(gate=limit.metric, verdict=verdict, because=f"{limit.metric} {because}", evidence=evidence)

    if standing.problem or standing.at is None:
        return result(Verdict.UNDECIDED, f"is not known: {standing.problem}")
    lasted = standing.at - standing.since
    where = "within" if standing.is_within else "beyond"
    told = f"is {standing.value:g}, {where} its limit ({limit.bounds}) at {standing.looks} looks in {lasted:.0f} s"
    if lasted < limit.seconds:
        return result(Verdict.UNDECIDED, f"{told}; {limit.seconds:g} s are needed")
    return result(Verdict.PASS if standing.is_within else Verdict.FAIL, told)


def with_limits(result: GateResult, limits: tuple[Limit, ...], standings: tuple[Standing, ...]) -> GateResult:
    """What the analysis of counted metrics says, and what the limits say beside it: the worst verdict counts."""
    told, evidence, verdict = [result.because], dict(result.evidence), result.verdict
    judged: dict[str, Json] = {}
    for limit, standing in zip(limits, standings, strict=True):
        one = judge(limit, standing)
        judged[limit.metric] = one.evidence | {"verdict": one.verdict, "is_dry_run": limit.is_dry_run}
        if limit.is_dry_run:
            told += [f"a dry run would roll back: {one.because}"] if one.verdict is Verdict.FAIL else []
        elif one.verdict is Verdict.FAIL and verdict is not Verdict.FAIL:
            told, verdict = [one.because, *told], Verdict.FAIL
        else:
            told.append(one.because)
            verdict = Verdict.UNDECIDED if verdict is Verdict.PASS and one.verdict is not Verdict.PASS else verdict
    because = "; ".join(told)
    return result.model_copy(
        update={"verdict": verdict, "because": because, "evidence": {**evidence, "limits": judged}}
    )

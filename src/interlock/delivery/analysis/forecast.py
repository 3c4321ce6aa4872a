"""What an amount of traffic can show, before there is any."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from interlock.delivery.analysis.wealth import RATIO_WEIGHTS, RATIOS
from interlock.pipeline.canaries.plan import ERROR_RATE, StrategyPlan


class Visible(NamedTuple):
    """The least ``ratio`` of error rates that shows at a ``weight`` (percent) in so many minutes; None: none does.

    Where it ``is_mirror`` the weight is the share of requests that are copied.
    """

    weight: int
    minutes: float
    ratio: float | None
    is_mirror: bool = False

    @property
    def place(self) -> str:
        """For people."""
        return f"a mirror of {self.weight} %" if self.is_mirror else f"{self.weight} %"


def visible_errors(strategy: StrategyPlan, per_minute: float, rate: float) -> Iterator[Visible]:
    """For each mirror and weight what so many requests a minute, to both sides, show of errors while it lasts.

    ``rate`` is the share of stable's that fail. Nothing where errors are not judged.
    """
    judged = next(
        (metric for metric in strategy.analysis.metrics if metric.metric == ERROR_RATE and not metric.dry_run), None
    )
    if judged is None:
        return
    seconds: dict[int, float] = {}
    weight = 0
    for step in strategy.steps:
        weight = step.set_weight or weight
        lasting = (step.analysis or 0.0) + (step.pause or 0.0)
        if lasting and weight < 100:
            seconds[weight] = seconds.get(weight, 0.0) + lasting
    alpha = strategy.analysis.alpha / strategy.analysis.counting / (1 if judged.max is None else 2)
    for mirror in [step.mirror for step in strategy.steps if step.mirror is not None]:
        copied = per_minute * mirror.seconds / 60.0 * mirror.percent / 100.0
        ratio = smallest_ratio(copied, copied, rate, judged.max_ratio, alpha)
        yield Visible(mirror.percent, mirror.seconds / 60.0, ratio, is_mirror=True)
    for weight, lasting in seconds.items():
        requests = per_minute * lasting / 60.0
        candidate = requests * weight / 100.0
        ratio = smallest_ratio(candidate, requests - candidate, rate, judged.max_ratio, alpha)
        yield Visible(weight, lasting / 60.0, ratio)


def smallest_ratio(
    candidate_requests: float, stable_requests: float, rate: float, tolerated: float, alpha: float
) -> float | None:
    """How many times stable's error ``rate`` the candidate's has to be, so that about every second one is found.

    Found means that the evidence expected of so many requests reaches 1/alpha, bet on the first tick (half of the
    wealth) and one alternative; ``tolerated`` as in ``ratio_gains``. None where not even a candidate that always
    fails is found.
    """
    least, most = tolerated, 1.0 / rate
    if candidate_requests <= 0.0 or not _is_found(candidate_requests, stable_requests, rate, most, tolerated, alpha):
        return None
    for _ in range(60):
        middle = (least + most) / 2.0
        if _is_found(candidate_requests, stable_requests, rate, middle, tolerated, alpha):
            most = middle
        else:
            least = middle
    return most


def _is_found(n1: float, n0: float, rate: float, ratio: float, tolerated: float, alpha: float) -> bool:
    x1, x0 = n1 * rate * ratio, n0 * rate
    weighted = n1 * tolerated
    best = -math.inf
    for alternative, weight in zip(RATIOS, RATIO_WEIGHTS, strict=True):
        shrunk = math.log((weighted + n0) / (weighted * alternative + n0))
        best = max(best, math.log(0.5 * weight) + (x1 + x0) * shrunk + x1 * math.log(alternative))
    return best >= -math.log(alpha)

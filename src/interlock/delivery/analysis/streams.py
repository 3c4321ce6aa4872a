"""One metric of an analysis: its rule, and all evidence of it so far.

Every *channel* compares events of both sides: errors, wrong labels, answers slower than one of stable's own quantiles,
or the requests that only one side answered right. Strata are compared each within itself, and their evidence is added
up; beside that, each stratum alone has a share of the wealth, so that harm to one of them is seen too.

Strata part the requests: each is in one of them. Slices do not: what is in a slice is in the whole as well, and may be
in other slices. So a slice has its share of the wealth and is never added up, which would count a request twice. That
is sound under the same alpha, for an average of e-processes is one whatever connects them (``wealth``), and leaves the
whole as it is judged without slices, also where one side does not tell who is in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from interlock.delivery.analysis.bets import NO_BETS, limit_bets, log_wealth, paired_safety_gains, safety_gains
from interlock.delivery.analysis.gains import Side, limit_gains, odds_gains, paired_gains, ratio_gains
from interlock.delivery.analysis.latency import QUANTILES, Histogram, exceeding, limit_bin, tolerance_bins
from interlock.delivery.analysis.spread import Spread
from interlock.delivery.analysis.ticks import WHOLE, Counts, Latencies, Pairs, Seen
from interlock.delivery.analysis.wealth import PAIR_RATIOS, RATIOS, EProcess, paired_process
from interlock.vocabulary import Stored

STRATA_SHARE = 0.2
"""The share of a metric's wealth that bets on harm to one stratum or slice alone, where there are such."""
_FORGETS = 180.0  # seconds after which what is expected of the next tick weighs half


class Rule(Stored):
    """How one metric is judged; ``share`` is its part of the wealth (the shares of all rules add up to 1).

    ``rate``: the candidate's rate may be ``max_ratio`` times the stable one, and no more than ``max``; where both sides
    were asked the same the evidence is of pairs. ``agreement``: of the requests that both answered it may answer no
    larger share than ``max`` otherwise; less than ``margin`` of them must be proven. ``latency``: its
    answers may take ``max_ratio`` times as long, at stable's own ``quantiles``, and no larger share than is above the
    middle one of them more than ``max`` milliseconds. ``pairs``: it may be alone wrong as often as stable is alone
    wrong. ``margin`` must be proven to promote: of a rate, of answers above the middle quantile, of pairs. ``spreads``
    says by channel how far replicas differ by themselves. A dry run decides nothing. What comes ``delay`` seconds late
    is judged on probation only. Where it ``is_alone`` nothing is compared, for no stable side has traffic: the
    candidate's rate has to be proven to be below ``max``, or above it. ``slices`` name parts of the requests, one of
    which may be harmed alone.
    """

    metric: str
    kind: Literal["rate", "latency", "pairs", "agreement"] = "rate"
    share: float = Field(default=1.0, gt=0.0, le=1.0)
    max_ratio: float = Field(default=1.0, gt=0.0)
    margin: float = Field(default=0.01, ge=0.0, le=1.0)
    max: float | None = None
    spreads: dict[str, Spread] = {}
    quantiles: tuple[float, ...] = QUANTILES
    is_dry_run: bool = False
    delay: float = 0.0
    is_alone: bool = False
    slices: tuple[str, ...] = ()

    @property
    def quantile(self) -> float:
        """The quantile whose exceedances are counted for the margin and the limit."""
        return self.quantiles[len(self.quantiles) // 2]

    @property
    def limit(self) -> float | None:
        """The share of requests that may be events at all."""
        return 1.0 - self.quantile if self.kind == "latency" and self.max is not None else self.max


class Expected(Stored):
    """What the stable side did lately: events and requests, older ones weighing less."""

    events: float = 0.0
    requests: float = 0.0

    def after(self, stable: Side, seconds: float) -> Expected:
        """With one more tick."""
        fade = 2.0 ** (-seconds / _FORGETS)
        return Expected(events=self.events * fade + stable[0], requests=self.requests * fade + stable[1])


class Stream(Stored):
    """The evidence of one metric: harm by name of the question, bets on safety, and what thresholds are taken from.

    ``totals`` are all events that were judged, of latencies those above the middle quantile; ``sliced`` those of each
    slice that was seen.
    """

    harm: dict[str, EProcess]
    bets: tuple[float, ...] = NO_BETS
    histograms: dict[str, Histogram] = {}
    expected: dict[str, Expected] = {}
    totals: Counts = Counts()
    sliced: dict[str, Counts] = {}

    @property
    def log_safety(self) -> float:
        """The logarithm of the e-value for promotion."""
        return log_wealth(self.bets)

    @property
    def harm_value(self) -> float:
        """The e-value for harm: the mean over the questions, and that over single strata and slices."""
        whole = [process.value for name, process in self.harm.items() if " in " not in name]
        parts = [process.value for name, process in self.harm.items() if " in " in name]
        mean = sum(whole) / len(whole)
        return mean if not parts else (1.0 - STRATA_SHARE) * mean + STRATA_SHARE * sum(parts) / len(parts)


def channels_of(rule: Rule) -> tuple[str, ...]:
    """What is compared of it with the stable side: of an agreement nothing, which is of both."""
    if rule.kind == "agreement":
        return ()
    return tuple(map(_channel, rule.quantiles)) if rule.kind == "latency" else (rule.metric,)


def _channel(quantile: float) -> str:
    return f"p{100 * quantile:g}"


def begin_stream(rule: Rule, strata: tuple[str, ...], horizon: int) -> Stream:
    """A stream without evidence. ``strata`` are the named ones, beside all other requests."""
    fresh = paired_process(horizon) if rule.kind == "pairs" else EProcess(horizon=horizon)
    if rule.is_alone:
        return Stream(harm={"max": fresh})
    names = list(channels_of(rule))
    names += [f"{channel} in {part}" for channel in channels_of(rule) for part in (*strata, *rule.slices)]
    if rule.max is not None:
        names.append("max")
    return Stream(harm=dict.fromkeys(names, fresh))


def grow(stream: Stream, rule: Rule, seen: Mapping[str, Seen], seconds: float) -> Stream:
    """The stream with what one tick brings, by stratum and slice; other kinds than the rule's say nothing."""
    if rule.is_alone:
        return _grow_alone(stream, rule, seen)
    strata = {name: counts for name, counts in seen.items() if name not in rule.slices}
    return _grow_slices(_grow_beside(stream, rule, strata, seconds), rule, seen)


def _grow_beside(stream: Stream, rule: Rule, seen: Mapping[str, Seen], seconds: float) -> Stream:
    """The stream where the candidate is compared with stable."""
    harm = dict(stream.harm)
    bets = stream.bets
    expected = dict(stream.expected)
    totals = stream.totals
    sums: dict[str, tuple[float, ...]] = {}
    divisors: dict[str, float | None] = {}
    proving = _channel(rule.quantile) if rule.kind == "latency" else rule.metric
    for channel, stratum, candidate, stable in _sides(stream, rule, seen):
        place = channel if stratum == WHOLE else f"{channel} in {stratum}"
        divisor = _divisor(rule.spreads.get(channel), expected.get(place), candidate, seconds)
        expected[place] = expected.get(place, Expected()).after(stable, seconds)
        if channel == proving:
            divisors[stratum] = divisor
        if divisor is None:
            continue
        if channel in harm:
            gains = tuple([gain / divisor for gain in _gains(rule, candidate, stable, seen.get(stratum))])
            sums[channel] = gains if channel not in sums else _added(sums[channel], gains)
            if place in harm and stratum != WHOLE:
                harm[place] = harm[place].grow(gains)
        if channel == proving:
            safety = _safety(rule, candidate, stable, seen.get(stratum))
            bets = _added(bets, tuple([gain / divisor for gain in safety]))
            totals = _counted(totals, candidate, stable)
    for stratum, candidate in _limited(rule, seen):
        divisor = divisors.get(stratum, None if rule.spreads else 1.0)
        if divisor is not None and rule.limit is not None:
            harm["max"] = harm["max"].grow([gain / divisor for gain in limit_gains(candidate, rule.limit)])
    for channel, gains in sums.items():
        harm[channel] = harm[channel].grow(gains)
    learnt = _learnt(stream, seen, seconds)
    return Stream(harm=harm, bets=bets, histograms=learnt, expected=expected, totals=totals, sliced=stream.sliced)


def _grow_slices(stream: Stream, rule: Rule, seen: Mapping[str, Seen]) -> Stream:
    """The stream with what befell each slice by itself; what one side has no requests of says nothing."""
    harm, sliced = dict(stream.harm), dict(stream.sliced)
    slices = {name: seen[name] for name in rule.slices if name in seen}
    for channel, name, candidate, stable in _sides(stream, rule, slices):
        place = f"{channel} in {name}"
        harm[place] = harm[place].grow(_gains(rule, candidate, stable, seen[name]))
        sliced[name] = _counted(sliced.get(name, Counts()), candidate, stable)
    return stream.model_copy(update={"harm": harm, "sliced": sliced}) if slices else stream


def _grow_alone(stream: Stream, rule: Rule, seen: Mapping[str, Seen]) -> Stream:
    """The stream where the candidate is held against its limit and nothing else."""
    limit = rule.limit
    assert limit is not None, "without a stable side there has to be a limit"
    process, bets, totals = stream.harm["max"], stream.bets, stream.totals
    for _, candidate in _limited(rule, seen):
        process = process.grow(limit_gains(candidate, limit))
        bets = _added(bets, limit_bets(candidate, limit))
        totals = _counted(totals, candidate, (0, 0))
    return Stream(harm={"max": process}, bets=bets, totals=totals)


def learn_only(stream: Stream, seen: Mapping[str, Seen], seconds: float) -> Stream:
    """The stream after a tick that is not judged: thresholds learn from the stable side all the same."""
    return stream.model_copy(update={"histograms": _learnt(stream, seen, seconds)})


def _sides(stream: Stream, rule: Rule, seen: Mapping[str, Seen]) -> Iterator[tuple[str, str, Side, Side]]:
    for stratum, counts in seen.items():
        if isinstance(counts, Counts) and rule.kind == "rate":
            yield rule.metric, stratum, counts.candidate, counts.stable
        elif isinstance(counts, Pairs) and rule.kind != "latency" and counts.pairs:
            both = counts.both if rule.kind == "rate" else 0
            yield rule.metric, stratum, (counts.worse + both, counts.pairs), (counts.better + both, counts.pairs)
        elif isinstance(counts, Latencies) and rule.kind == "latency" and stratum in stream.histograms:
            requests = sum(counts.candidate.values()), sum(counts.stable.values())
            later = tolerance_bins(rule.max_ratio)
            edges = stream.histograms[stratum].thresholds(rule.quantiles)
            for channel, edge in zip(channels_of(rule), edges, strict=True):
                if edge is not None:
                    slow = exceeding(counts.candidate, edge + later), exceeding(counts.stable, edge)
                    yield channel, stratum, (slow[0], requests[0]), (slow[1], requests[1])


def _limited(rule: Rule, seen: Mapping[str, Seen]) -> Iterator[tuple[str, Side]]:
    """What the candidate alone did, by stratum, where there is a limit: events that are too many at some share."""
    if rule.max is None:
        return
    for stratum, counts in seen.items():
        if isinstance(counts, Counts) and rule.kind == "rate":
            yield stratum, counts.candidate
        elif isinstance(counts, Pairs) and rule.kind in ("rate", "agreement"):
            yield stratum, (counts.worse + counts.both, counts.pairs)
        elif isinstance(counts, Latencies) and rule.kind == "latency":
            slow = exceeding(counts.candidate, limit_bin(rule.max))
            yield stratum, (slow, sum(counts.candidate.values()))


def _gains(rule: Rule, candidate: Side, stable: Side, seen: Seen | None) -> tuple[float, ...]:
    if isinstance(seen, Pairs):
        ratios = PAIR_RATIOS if rule.kind == "pairs" else RATIOS
        return paired_gains(seen.worse, seen.better, seen.both, rule.max_ratio, ratios)
    if rule.kind == "latency":
        return odds_gains(candidate, stable)
    return ratio_gains(candidate, stable, rule.max_ratio)


def _safety(rule: Rule, candidate: Side, stable: Side, seen: Seen | None) -> tuple[float, ...]:
    if isinstance(seen, Pairs):
        return paired_safety_gains(seen.worse, seen.better, seen.pairs, rule.margin)
    return safety_gains(candidate, stable, rule.margin)


def _divisor(spread: Spread | None, expected: Expected | None, candidate: Side, seconds: float) -> float | None:
    """What the tick's evidence is divided by; None where nothing is expected yet and replicas are known to differ."""
    if spread is None:
        return 1.0
    if expected is None or expected.requests == 0.0:
        return None
    return spread.divisor(expected.events / expected.requests * candidate[1] / seconds)


def _learnt(stream: Stream, seen: Mapping[str, Seen], seconds: float) -> dict[str, Histogram]:
    histograms = dict(stream.histograms)
    for stratum, counts in seen.items():
        if isinstance(counts, Latencies):
            histograms[stratum] = histograms.get(stratum, Histogram()).add(counts.stable, seconds)
    return histograms


def _counted(totals: Counts, candidate: Side, stable: Side) -> Counts:
    return Counts(
        candidate_requests=totals.candidate_requests + candidate[1],
        candidate_events=totals.candidate_events + candidate[0],
        stable_requests=totals.stable_requests + stable[1],
        stable_events=totals.stable_events + stable[0],
    )


def _added(one: tuple[float, ...], other: tuple[float, ...]) -> tuple[float, ...]:
    return tuple([a + b for a, b in zip(one, other, strict=True)])

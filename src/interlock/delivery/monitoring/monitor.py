"""A monitor: the stable revision of an environment, watched for as long as it serves.

It moves with the counts of each look: they fill blocks of three clocks (tick, part, period), and a block that is over
is judged by the questions of its clock. The rules, in this order:

| question | its block | then |
|---|---|---|
| quiet | nobody asked anything | nothing |
| quiet | learnt anew in each environment, and the first period is not over | its widest distance is learnt |
| quiet | lately above its bound | from the next block on it is bet that it stays there |
| quiet | the e-value reaches what is needed | its alert fires |
| firing | three times in a row lately below its bound | its alert is resolved; evidence begins anew |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from interlock.delivery.monitoring.bets import Bets
from interlock.delivery.monitoring.questions import PARTS, Clock, Counts, Question, seconds_of
from interlock.pipeline.monitoring.plan import MonitoringPlan, OnBreach
from interlock.vocabulary import Decision, Json, Stored

CLOCKS: tuple[Clock, ...] = ("tick", "part", "period")
RECENT_ROWS = 100.0
"""What is lately so is told by at least so many rows, and by a block."""
DOUBT_ROWS = 30.0
"""Rows as they should be that are added before anything is suspected: few rows prove nothing."""
CALM_BLOCKS = 3


class Block(Stored):
    """What came since a moment (wall seconds), by column."""

    since: float
    counts: dict[str, Counts] = {}


class Watched(Stored):
    """The evidence of one question. ``recent`` is what came lately, ``calm`` for how many blocks it was well.

    ``widest`` is the farthest from the reference that a block was in the first period, of which ``learnt`` are over.
    """

    bets: Bets = Bets()
    recent: tuple[float, ...] = ()
    calm: int = 0
    widest: float = 0.0
    learnt: int = 0


class Alert(Stored):
    """What is not well since a moment (wall seconds), and why. ``acted`` is what was done about it, once it was."""

    key: str
    metric: str
    column: str
    on_breach: OnBreach
    since: float
    because: str
    acted: str = ""


class Turn(Stored):
    """What an alert turned on at ``at`` (wall seconds): ``counts`` of a block, what the ``question`` about them knew
    ``before``, and the alert that ``fired`` before and that ``fires`` after it (None: none).
    """

    at: float
    question: Question
    counts: Counts
    before: Watched
    fired: Alert | None
    fires: Alert | None


class Monitor(Stored):
    """Of ``environment``: the ``revision`` (a key) watched since ``started``. ``alerts`` are those that fire,
    ``turns`` what began or ceased to at the last look.

    ``unwatched`` is why the columns are not compared with a reference; empty where they are.
    """

    environment: str
    revision: str
    title: str
    plan: MonitoringPlan = MonitoringPlan()
    unwatched: str = ""
    started: float
    blocks: dict[str, Block] = {}
    watched: dict[str, Watched] = {}
    alerts: dict[str, Alert] = {}
    turns: tuple[Turn, ...] = ()
    because: str = ""


def begin_monitor(
    environment: str, revision: str, title: str, plan: MonitoringPlan, unwatched: str, now: float
) -> Monitor:
    """A monitor without evidence."""
    blocks = {clock: Block(since=now) for clock in CLOCKS}
    monitor = Monitor(
        environment=environment,
        revision=revision,
        title=title,
        plan=plan,
        unwatched=unwatched,
        started=now,
        blocks=blocks,
    )
    return monitor.model_copy(update={"because": summarise(monitor)})


def advance(
    monitor: Monitor, questions: Sequence[Question], counts: Mapping[str, Counts], now: float
) -> Decision[Monitor]:
    """The monitor after what came since the last look, by column; ``now`` in wall seconds."""
    blocks, watched, alerts = dict(monitor.blocks), dict(monitor.watched), dict(monitor.alerts)
    turns: list[Turn] = []
    for clock in CLOCKS:
        block = _filled(blocks[clock], counts)
        blocks[clock] = block
        if now - block.since < seconds_of(clock, monitor.plan.period):
            continue
        blocks[clock] = Block(since=now)
        for question in questions:
            if question.clock == clock and question.column in block.counts:
                counts_of_it = question.examine(block.counts[question.column])
                known, fired = watched.get(question.key, Watched()), alerts.get(question.key)
                _judge(question, counts_of_it, watched, alerts, now)
                fires = alerts.get(question.key)
                if fires != fired:
                    turn = Turn(at=now, question=question, counts=counts_of_it, before=known, fired=fired, fires=fires)
                    turns.append(turn)
    after = monitor.model_copy(update={"blocks": blocks, "watched": watched, "alerts": alerts, "turns": tuple(turns)})
    because = summarise(after)
    return Decision(state=after.model_copy(update={"because": because}), because=because)


def judge_again(turn: Turn) -> Alert | None:
    """The alert that fires by what was stored of its turn; None where none does."""
    watched, key = {turn.question.key: turn.before}, turn.question.key
    alerts = {} if turn.fired is None else {key: turn.fired}
    _judge(turn.question, turn.counts, watched, alerts, turn.at)
    return alerts.get(key)


def summarise(monitor: Monitor) -> str:
    """How it stands, for people."""
    apart = f"; not monitored: {monitor.unwatched}" if monitor.unwatched else ""
    if not monitor.alerts:
        return f"{monitor.title}: nothing is found{apart}"
    told = "; ".join(f"{alert.key}: {alert.because}{alert.acted and ', ' + alert.acted}" for alert in _sorted(monitor))
    return f"{monitor.title}: {told}{apart}"


def evidence_of(monitor: Monitor, questions: Sequence[Question]) -> dict[str, Json]:
    """By question with evidence its e-value and the one that is needed, what was won most first."""
    found = [(question, monitor.watched.get(question.key, Watched()).bets) for question in questions]
    found.sort(key=lambda pair: -pair[1].value / pair[0].needed)
    return {question.key: [bets.value, question.needed] for question, bets in found if bets.suspicions}


def _sorted(monitor: Monitor) -> list[Alert]:
    return sorted(monitor.alerts.values(), key=lambda alert: (alert.since, alert.key))


def _filled(block: Block, counts: Mapping[str, Counts]) -> Block:
    filled = dict(block.counts)
    for column, more in counts.items():
        known = filled.get(column)
        filled[column] = more if known is None else tuple(a + b for a, b in zip(known, more, strict=True))
    return block.model_copy(update={"counts": filled})


def _judge(
    question: Question, counts: Counts, watched: dict[str, Watched], alerts: dict[str, Alert], now: float
) -> None:
    """One question after one block; ``watched`` and ``alerts`` are changed."""
    rows = sum(counts)
    if not rows:
        return
    before = watched.get(question.key, Watched())
    if question.is_learnt and before.learnt < PARTS:
        apart = _apart(counts, question.shares)
        watched[question.key] = before.model_copy(
            update={"learnt": before.learnt + 1, "widest": max(before.widest, apart)}
        )
        return
    places, bound = _chosen(question, before.recent, before.widest)
    share = sum(counts[place] for place in places) / rows
    bets = before.bets.settle(share, bound)
    recent = _recent(before.recent, counts)
    is_suspected = _is_suspected(question, recent, before.widest)
    calm = 0 if is_suspected else before.calm + 1
    if question.key in alerts:
        bets = bets.model_copy(update={"is_on": False})
        if calm >= CALM_BLOCKS:
            del alerts[question.key]
            bets = Bets()
    elif bets.value >= question.needed:
        because = f"{_told(question, places, share, bound)}, e-value {bets.value:.3g} of {question.needed:.3g}"
        rule = question.rule
        alerts[question.key] = Alert(
            key=question.key,
            metric=rule.metric,
            column=question.column,
            on_breach=rule.on_breach,
            since=now,
            because=because,
        )
        bets = bets.model_copy(update={"is_on": False})
    else:
        bets = bets.suspect(is_suspected)
    watched[question.key] = before.model_copy(update={"recent": recent, "bets": bets, "calm": calm})


def _apart(counts: Counts, shares: Sequence[float]) -> float:
    """How far a block is from the reference (total variation), less what chance does on average: the mean of
    ``|found - share|`` of independent rows is about sqrt(2 share (1 - share) / (pi rows)).
    """
    rows = sum(counts)
    found = sum(abs(count / rows - share) for count, share in zip(counts, shares, strict=True))
    chance = sum(math.sqrt(2.0 * share * (1.0 - share) / (math.pi * rows)) for share in shares)
    return max(0.0, found - chance) / 2.0


def _recent(before: tuple[float, ...], counts: Counts) -> tuple[float, ...]:
    """What came lately: the block, and as much from before it as makes RECENT_ROWS rows at most."""
    if not before:
        return tuple(map(float, counts))
    fade = min(1.0, max(0.0, RECENT_ROWS - sum(counts)) / sum(before))
    return tuple(one * fade + count for one, count in zip(before, counts, strict=True))


def _chosen(question: Question, lately: tuple[float, ...], widest: float) -> tuple[list[int], float]:
    """Which places of the counts are looked at in the next block, by what came before, and the bound of their share."""
    if not question.shares:
        return [0], question.bound
    recent, rows = lately or (0.0,) * len(question.shares), sum(lately)
    places = [place for place, share in enumerate(question.shares) if recent[place] > share * rows]
    return places, sum(question.shares[place] for place in places) + question.bound + widest


def _is_suspected(question: Question, recent: tuple[float, ...], widest: float) -> bool:
    places, bound = _chosen(question, recent, widest)
    usual = sum(question.shares[place] for place in places) if question.shares else 0.0
    rows = sum(recent)
    share = (sum(recent[place] for place in places) + DOUBT_ROWS * usual) / (rows + DOUBT_ROWS)
    return bound < share


def _told(question: Question, places: Sequence[int], share: float, bound: float) -> str:
    """What was found, for people."""
    tolerated = f"at most {100.0 * bound:.2g} % are tolerated"
    if question.shares:
        usual = sum(question.shares[place] for place in places)
        return f"{100.0 * share:.2g} % of its values are where {100.0 * usual:.2g} % of the reference are, {tolerated}"
    limit = question.rule.max or 0.0
    what = {
        "missing": "of its values are missing",
        "unseen": "of its values were never seen",
        "out_of_range": "of its values are outside of all that was seen",
        "error_rate": "of the requests fail",
        "saturation": f"of the time a replica has more than {limit:g} requests in flight",
        "accuracy": "of the labelled answers are wrong",
    }.get(question.rule.metric, f"of the answers take longer than {limit:g} ms")
    return f"{100.0 * share:.2g} % {what}, {tolerated}"

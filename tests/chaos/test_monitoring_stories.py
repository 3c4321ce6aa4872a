"""Stories of what is watched in production, and of models that are taken away; and planted mistakes in their rules.

What must hold is said in the words of the promise. Every test run plays one of them; ``make histories`` plays all, and
looks for every mistake.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.histories import Broken
from tests.plant import ADA, DEPLOY, Plant, Rules
from tests.planted import ROOMS, Mistake, modules_with
from tests.watched import WHERE, World

from interlock.control.rows import load_state, write_environment
from interlock.delivery.environment import Environment
from interlock.delivery.monitoring.reference import ColumnReference, Reference
from interlock.delivery.revision import CounterSeen, ObservedSeen, ReplicaSeen
from interlock.errors import InterlockError
from interlock.pipeline.monitoring.plan import DAY, MonitoringPlan, MonitorRulePlan
from interlock.vocabulary import Kind

WATCHING = (
    "delivery.monitoring.bets",
    "delivery.monitoring.questions",
    "delivery.monitoring.monitor",
    "delivery.monitoring.messages",
    "delivery.monitoring.tallies",
    "control.monitoring.monitoring",
    "control.monitoring.retraining",
)
RETIRING = ("control.front.retiring", *ROOMS)
WELL = {"input.x": (0, 0, *[30] * 10), "output.prediction": (0, 0, 150, 150)}
BROKEN = {"input.x": (300, 0, *[0] * 10), "output.prediction": (0, 0, 150, 150)}
Modules = Mapping[str, Any]


def holds(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise Broken(otherwise)


def money_story(modules: Modules, _: Path) -> None:
    """Where the truth is at the bound, at most one life in twenty ever has twenty times its money."""
    bets, drawn = modules["delivery.monitoring.bets"].Bets, random.Random(7)
    rich = sum(_is_rich(bets(), drawn) for _ in range(300))
    holds(rich <= 15 + 3 * 15**0.5, f"{rich} of 300 lives without a cause are rich, one in twenty may be")
    monitor, questions = modules["delivery.monitoring.monitor"], modules["delivery.monitoring.questions"]
    rule = MonitorRulePlan(metric="error_rate", max=0.2)
    asked = questions.Question("errors", rule, "errors", "tick", 0.2, 20.0, 0)
    plan, fired = MonitoringPlan(rules=(rule,)), 0
    for _ in range(100):
        state = monitor.begin_monitor(WHERE, "r1", "small v1", plan, "", 0.0)
        for minute in range(100):
            events = sum(drawn.random() < 0.2 for _ in range(10))
            state = monitor.advance(state, (asked,), {"errors": (events, 10 - events)}, 60.0 * (minute + 1)).state
            if state.alerts:
                fired += 1
                break
    holds(fired <= 5 + 3 * 5**0.5, f"{fired} of 100 lives without a cause are told of, one in twenty may be")


def _is_rich(bets: Any, drawn: random.Random) -> bool:
    """Whether it ever has twenty times its money, where each suspicion is of the block before."""
    share = 0.0
    for _ in range(150):
        bets = bets.suspect(share > 0.2)
        share = float(drawn.random() < 0.2)
        bets = bets.settle(share, 0.2)
        if bets.value >= 20.0:
            return True
    return False


def share_story(modules: Modules, _: Path) -> None:
    """All questions together spend half of alpha; the reference's own chance is added to what is tolerated."""
    questions = modules["delivery.monitoring.questions"]
    columns = tuple(
        ColumnReference(name=f"input.c{number}", is_number=True, strange=0.01, counts=(5, 0, 10, 10))
        for number in range(20)
    )
    plan = MonitoringPlan()
    asked = questions.questions_of(plan, Reference(rows=25, columns=columns), 0.9, 25)
    spent = sum(1.0 / question.needed for question in asked)
    holds(spent <= plan.alpha / 2.0, f"{spent:g} of alpha {plan.alpha:g} is spent on the live numbers")
    for metric, found in (("missing", 0.2), ("out_of_range", 0.01), ("accuracy", 0.1), ("drift", 0.0)):
        of_metric = [question for question in asked if question.rule.metric == metric]
        bare = found + max((question.rule.max or question.rule.margin or 0.0) for question in of_metric or asked)
        holds(all(one.bound > bare + 0.01 for one in of_metric), f"{metric}: 25 rows of reference are taken for truth")


def day_story(modules: Modules, _: Path) -> None:
    """What each day brings is no news; few rows, and none, say nothing."""
    monitor, questions = modules["delivery.monitoring.monitor"], modules["delivery.monitoring.questions"]
    column = ColumnReference(name="input.x", is_number=True, strange=0.0, counts=(0, 0, 200_000, 200_000))
    plan = MonitoringPlan(alpha=0.9)
    asked = questions.questions_of(plan, Reference(rows=400_000, columns=(column,)), None, 400_000)
    state = monitor.begin_monitor(WHERE, "r1", "small v1", plan, "", 0.0)
    for hour in range(20 * 24):
        counts = (0, 0, 400, 0) if hour % 24 < 12 else (0, 0, 0, 400)
        state = monitor.advance(state, asked, {"input.x": counts}, DAY / 24 * (hour + 1)).state
        holds(not state.alerts, f"in hour {hour} the day is told of: {state.because}")
    few = monitor.begin_monitor(WHERE, "r1", "small v1", plan, "", 0.0)
    for minute in range(3):
        few = monitor.advance(few, asked, {"input.x": (1, 0, 0, 0)}, 60.0 * (minute + 1)).state
    holds(not any(one.bets.suspicions for one in few.watched.values()), "three rows raise a suspicion")


def breach_story(modules: Modules, _: Path) -> None:
    """What breaks is told once, resolved once after it is well for a while, and told again; nothing else is done."""
    world = World(watching=modules["control.monitoring.monitoring"])
    world.deliver()
    world.look(WELL, 5)
    took = []
    for turn in (1, 3):
        took.append(_minutes_until(world, BROKEN, turn, 30))
        world.look(BROKEN, 5)
        holds(len(world.messages()) == turn, "what fires is told of twice")
        world.look(WELL, 2)
        holds(len(world.messages()) == turn, "it is resolved at once")
        world.look(WELL, 5)
        holds(len(world.messages()) == turn + 1, "it is not resolved, or twice")
        world.look(WELL, 30)
    holds(abs(took[0] - took[1]) <= 2, f"it takes {took[0]} minutes, and then {took[1]}: evidence lives on")
    holds(not world.store.rows(Kind.ROLLOUT), "an alert that shall only tell began a rollout")
    holds(world.environment().freeze is None, "an alert that shall only tell froze the environment")


def back_story(modules: Modules, _: Path) -> None:
    """A breach that rolls back does it once, not beside a rollout, and the next push does not bring it again."""
    world = World(watching=modules["control.monitoring.monitoring"])
    world.deliver("rollback")
    world.look(WELL, 3)
    _set_rollout(world, 7)
    world.look(BROKEN, 20)
    holds(not world.store.rows(Kind.ROLLOUT), "it rolls back beside a rollout that is under way")
    _set_rollout(world, None)
    world.look(BROKEN)
    holds(len(world.store.rows(Kind.ROLLOUT)) == 1, "it does not roll back")
    holds(world.environment().freeze is not None, "it rolls back, and the next push brings it again")
    holds(len(world.store.rows(Kind.QUARANTINE)) == 1, "it rolls back, and its digest may come again")
    _set_rollout(world, None)
    world.look(BROKEN, 5)
    holds(len(world.store.rows(Kind.ROLLOUT)) == 1, "it rolls back twice")
    holds(len(world.messages()) == 1, "it is told of twice")


def again_story(modules: Modules, _: Path) -> None:
    """A control plane that comes back knows what fired; another revision begins with nothing."""
    world = World(watching=modules["control.monitoring.monitoring"])
    world.deliver("retrain")
    world.look(WELL, 3)
    world.look(BROKEN, 20)
    world.live()
    world.look(BROKEN, 2)
    holds(len(world.messages()) == 1, "who comes back tells of it again")
    retraining = modules["control.monitoring.retraining"].Retraining(world.store, None, {})
    retraining.one_pass()
    told = world.monitor()
    holds("not trained anew" in told.because, f"nobody says that it is not trained anew: {told.because}")
    version = world.store.version(Kind.MONITOR, WHERE)
    retraining.one_pass()
    holds(world.store.version(Kind.MONITOR, WHERE) == version, "it is asked for twice")
    environment, expected = load_state(world.store, Kind.ENVIRONMENT, WHERE, Environment)
    assert environment is not None
    world.stable = world.revision(3, reference=world.stable.reference)
    world.store.save(write_environment(environment.model_copy(update={"stable": world.stable}), expected, "promoted"))
    world.look(WELL)
    holds(not world.monitor().alerts, "another revision is blamed for the one before")
    holds([one.state for one in world.messages()] == ["firing", "resolved"], "what was replaced still fires")


def count_story(modules: Modules, _: Path) -> None:
    """What began anew, or fell, is no evidence; what a replica of another revision counted is not ours."""
    tallies = modules["delivery.monitoring.tallies"]
    rules = (MonitorRulePlan(metric="error_rate", max=0.1),)

    def tally(epoch: str, *counts: int, requests: int, errors: int) -> Any:
        seen = {"r1.0": ObservedSeen(epoch=epoch, rows=1, columns={"input.x": counts})}
        return tallies.Tally(1.0, seen, CounterSeen(epoch=epoch, requests=requests, errors=errors), None, None, None, 1)

    before = tally("a", 5, 0, 5, requests=100, errors=50)
    widths = {"input.x": 3}
    anew = tallies.counts_between(rules, widths, before, tally("b", 6, 0, 9, requests=200, errors=60))
    holds(anew == {"input.x": (6, 0, 9)}, f"counters that began anew say {anew}")
    fell = tallies.counts_between(rules, widths, before, tally("a", 4, 0, 9, requests=90, errors=55))
    holds(fell == {}, f"counters that fell say {fell}")
    grew = tallies.counts_between(rules, widths, before, tally("a", 6, 0, 9, requests=200, errors=60))
    holds(grew == {"input.x": (1, 0, 4), "error_rate": (10, 90)}, f"counters that grew say {grew}")


def retired_story(modules: Modules, folder: Path) -> None:
    """Nothing of a retired model serves or comes in; restored it serves what it served, and what is new may come."""
    plant = Plant(folder)
    staging, production = DEPLOY
    for number in (1, 2):
        plant.register(number, deploy=(staging, production.model_copy(update={"approvals": number - 1})))
    rules = Rules(*(modules[f"control.{room}"] for room in ("loop", *(f"delivering.{one}" for one in DELIVERING))))
    plant.loop, plant.requests = plant.begin(plant.store, plant.proxy, plant.replicas, rules)
    plant.deliver(1)
    retiring = modules["control.front.retiring"].Retiring(plant.store, lambda: plant.now, lambda: ())
    plant.release(2)
    plant.turn(1)
    holds(_is_refused(lambda: retiring.retire(ADA, "small", "old")), "it is retired in the middle of a rollout")
    plant.turn(20)
    waiting = plant.last(Kind.RELEASE)
    holds(waiting.phase == "waiting", f"release 2 does not wait for leave: {waiting.phase}")
    retiring.retire(ADA, "small", "nobody asks it")
    holds(_is_refused(lambda: retiring.retire(ADA, "small", "again")), "it is retired twice")
    plant.requests.approve(ADA, 2, "looked at")
    names = list(plant.replicas.observe("small/production"))
    for name in names:
        plant.replicas.set_seen(name, ReplicaSeen(is_running=False, is_ready=False, restarts=9, problem="no memory"))
    plant.turn(20)
    seen = plant.proxy.observe("small/production")
    holds((seen.is_retired, seen.weights, seen.endpoints) == (True, {}, {}), "a retired model has traffic")
    holds(not plant.replicas.observe("small/production"), "a retired model has replicas")
    holds(plant.last(Kind.RELEASE).phase == "stopped", "a release goes on into a retired model")
    holds(_is_refused(lambda: plant.release(1)), "a retired model is released")
    holds(not any(row.phase == "progressing" for row in plant.store.rows(Kind.ROLLOUT)), "a retired model moves")
    retiring.restore(ADA, "small", "wanted")
    holds(_is_refused(lambda: retiring.restore(ADA, "small", "again")), "it is restored twice")
    plant.turn(20)
    stable = plant.environment("production").stable
    holds(stable.version == 1, f"restored it serves version {stable.version}")
    holds(plant.proxy.observe("small/production").weights == {stable.key: 100}, "restored it serves nobody")
    holds(not _is_refused(lambda: plant.release(2)), "restored it takes nothing new")


DELIVERING = ("deliveries", "dataplane", "requests")


def _minutes_until(world: World, counts: Mapping[str, tuple[int, ...]], messages: int, most: int) -> int:
    for minute in range(most):
        world.look(counts)
        if len(world.messages()) == messages:
            return minute
    raise Broken(f"after {most} minutes nothing is told")


def _set_rollout(world: World, number: int | None) -> None:
    environment, version = load_state(world.store, Kind.ENVIRONMENT, WHERE, Environment)
    assert environment is not None
    changed = environment.model_copy(update={"rollout": number, "candidate": None})
    world.store.save(write_environment(changed, version, "a rollout"))


def _is_refused(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except InterlockError:
        return True
    return False


STORIES: dict[str, Callable[[Modules, Path], None]] = {
    "money": money_story,
    "share": share_story,
    "day": day_story,
    "breach": breach_story,
    "back": back_story,
    "again": again_story,
    "count": count_story,
    "retired": retired_story,
}
BETS, ASKED, MONITOR, MESSAGES, TALLIES = (
    f"delivery.monitoring.{name}" for name in ("bets", "questions", "monitor", "messages", "tallies")
)
WATCHED, TRAINED = "control.monitoring.monitoring", "control.monitoring.retraining"
ENVIRONMENT, FRONT = "delivery.environment", "control.front.retiring"
MISTAKES = {
    # --- false alarms ---
    "a win pays more than is fair": (
        "money",
        Mistake(BETS, "(share - bound) / bound", "(share - 0.5 * bound) / bound"),
    ),
    "each suspicion has all the money": ("money", Mistake(BETS, "1.0 / (number * (number + 1))", "1.0")),
    "a suspicion is of the block that it bets on": (
        "money",
        Mistake(
            MONITOR,
            "before.bets.settle(share, bound)",
            "before.bets.suspect(share > bound).settle(share, bound)",
        ),
    ),
    "a lost bet is forgotten": (
        "money",
        Mistake(BETS, "wealth * (1.0 + stake", "max(wealth, 1.0 / len(STAKES)) * (1.0 + stake"),
    ),
    "each rule has all of alpha": ("share", Mistake(ASKED, "/ 2.0 / len(plan.rules)", "/ 2.0")),
    "each column has all of its rule's": ("share", Mistake(ASKED, "alpha / len(of_rule)", "alpha")),
    "what is missing of the reference is the truth": (
        "share",
        Mistake(ASKED, "highest_share(column.missing, rows, alpha)", "column.missing"),
    ),
    "what is strange of the reference is the truth": (
        "share",
        Mistake(ASKED, "highest_share(min(1.0, column.strange), known, alpha)", "min(1.0, column.strange)"),
    ),
    "bins of the reference are the truth": (
        "share",
        Mistake(ASKED, "most_apart(len(column.shares), sum(column.counts[FIRST:]), alpha) + limit", "limit"),
    ),
    "the accuracy of the holdout is the truth": (
        "share",
        Mistake(ASKED, "highest_share(1.0 - accuracy, rows, alpha)", "(1.0 - accuracy)"),
    ),
    "the first day is not learnt": ("day", Mistake(MONITOR, "before.learnt < PARTS", "before.learnt < 0")),
    "few rows are proof": ("day", Mistake(MONITOR, "DOUBT_ROWS = 30.0", "DOUBT_ROWS = 0.0")),
    # --- what is told ---
    "what fires is over at once": ("breach", Mistake(MONITOR, "calm >= CALM_BLOCKS", "calm >= 1")),
    "what fires is never over": ("breach", Mistake(MONITOR, "calm >= CALM_BLOCKS", "calm >= 1000")),
    "evidence lives on": ("breach", Mistake(MONITOR, "            bets = Bets()\n", "")),
    "what fires is told of each time": ("back", Mistake(MESSAGES, "key not in old]", "bool(key)]")),
    "what is over is not told of": ("breach", Mistake(MESSAGES, "key not in after.alerts]", "not key]")),
    # --- what is done ---
    "all that is told rolls back": ("breach", Mistake(WATCHED, 'alert.on_breach == "rollback"', "alert.on_breach")),
    "nothing rolls back": ("back", Mistake(WATCHED, 'alert.on_breach == "rollback"', 'alert.on_breach == ""')),
    "it rolls back again": ("back", Mistake(WATCHED, '== "rollback" and not alert.acted]', '== "rollback"]')),
    "it rolls back beside a rollout": (
        "back",
        Mistake(WATCHED, "if not asking or environment.rollout is not None:", "if not asking:"),
    ),
    "it rolls back and freezes nothing": ("back", Mistake(WATCHED, 'update={"freeze": freeze}', "update={}")),
    "it is trained anew again": ("again", Mistake(TRAINED, '== "retrain" and not alert.acted]', '== "retrain"]')),
    "who comes back begins anew": (
        "again",
        Mistake(
            WATCHED,
            "saved is not None and saved.revision == stable.key:",
            "saved is not None and saved.revision == stable.key and not saved.alerts:",
        ),
    ),
    "evidence is of whoever serves": (
        "again",
        Mistake(WATCHED, "saved is not None and saved.revision == stable.key:", "saved is not None:"),
    ),
    # --- what is no evidence ---
    "a counter that began anew goes on": (
        "count",
        Mistake(
            TALLIES,
            "after is None or before.epoch != after.epoch:\n        return None\n    errors",
            "after is None:\n        return None\n    errors",
        ),
    ),
    "a replica that began anew goes on": ("count", Mistake(TALLIES, "and last.epoch == seen.epoch", "and last.epoch")),
    "a counter that fell counts": ("count", Mistake(TALLIES, "and min(counts) >= 0", "and counts")),
    # --- models that are taken away ---
    "who is retired serves": (
        "retired",
        Mistake(
            ENVIRONMENT,
            "if environment.retirement is not None:\n        return Desired",
            "if environment.retirement == '':\n        return Desired",
        ),
    ),
    "the front is not told": ("retired", Mistake(ENVIRONMENT, "if wish.is_retired:", "if wish.is_retired == '':")),
    "who is retired in a rollout": (
        "retired",
        Mistake(FRONT, "if environment.rollout is not None:", "if environment.rollout == 0:"),
    ),
    "who is retired is admitted": ("retired", Mistake("registry.admission", "(evidence.retired is None,", "(True,")),
    "who is retired is released": (
        "retired",
        Mistake(FRONT, "if because is not None:\n        raise", "if because == '':\n        raise"),
    ),
    "nobody is ever restored": (
        "retired",
        Mistake(
            FRONT,
            '"retirement": retirement, "because"',
            '"retirement": Retirement(by="", reason="", at=0.0), "because"',
        ),
    ),
    "it is retired twice": ("retired", Mistake(FRONT, "if not changing:", "if not found:")),
}
IS_EVERY = os.environ.get("MISTAKES") == "every"


def _modules(story: str, mistake: Mistake | None) -> dict[str, ModuleType]:
    return modules_with(RETIRING if story == "retired" else WATCHING, mistake)


@pytest.mark.parametrize("name", STORIES if IS_EVERY else ("retired",))
def test_a_story_ends_as_it_must(tmp_path: Path, name: str) -> None:
    STORIES[name](_modules(name, None), tmp_path)


@pytest.mark.parametrize("name", MISTAKES if IS_EVERY else ("it rolls back again", "each column has all of its rule's"))
def test_a_planted_mistake_breaks_a_story(tmp_path: Path, name: str) -> None:
    story, mistake = MISTAKES[name]
    with pytest.raises(Broken) as broken:
        STORIES[story](_modules(story, mistake), tmp_path)
    print(broken.value)

"""The rules of rollouts over random histories: no promise is broken, everything ends; and planted mistakes are found.

What must hold stands in tests/histories.py, and in tests/strategies.py of the other strategies, in the words of the
promises. Every test run tells a few histories of the right rules, and looks for those mistakes that show at once;
``make histories`` tells a thousand of each, and looks for all.
"""

import os
from collections import Counter

import pytest
from tests.histories import Workshop
from tests.planted import Mistake, rules_with
from tests.strategies import BEGUN, StrategyWorkshop

HISTORIES = int(os.environ.get("HISTORIES", "4"))
IS_EVERY = os.environ.get("MISTAKES") == "every"
MOST_TRIES = 400
"""Histories until a mistake must have shown itself."""

ROLLOUT, EVIDENCE, ENVIRONMENT, HOLDING, RELEASE = (
    f"delivery.{name}" for name in ("advance", "looks.evidence", "environment", "holding", "release")
)
PROBATION = "delivery.stages.probation"
DELIVERIES, DATAPLANE, BACK, QUARANTINE, REQUESTS = (
    f"control.delivering.{name}" for name in ("deliveries", "dataplane", "going_back", "quarantine", "requests")
)
REPLACING, LIMITS, ENGINE = (f"delivery.{name}" for name in ("replacing", "external.limits", "analysis.engine"))
BEGINNING, PAIRS, MIRRORING = "delivery.rollout", "delivery.looks.pairs", "delivery.looks.mirroring"
MISTAKES = {
    # --- when a rollout moves ---
    "a wish is not heard": Mistake(ROLLOUT, "if rollout.wish is not None:", "if rollout.wish == '':"),
    "a wish ends in another way": Mistake(
        ROLLOUT, "RolloutPhase.ROLLED_BACK, rollout.wish", "RolloutPhase.CANCELLED, rollout.wish"
    ),
    "a newer release does not matter": Mistake(
        ROLLOUT, "if seen.superseded_by is not None and", "if seen.superseded_by == 0 and"
    ),
    "a quarantine does not matter": Mistake(ROLLOUT, "if seen.quarantine is not None:", "if seen.quarantine == '':"),
    "a freeze does not matter": Mistake(ROLLOUT, "if held is not None:", "if held == '':"),
    "a freeze matters at the first step only": Mistake(
        ROLLOUT, "if held is not None:", "if held is not None and rollout.step == 0:"
    ),
    "proven harm does not matter": Mistake(
        ROLLOUT, "if result.verdict is Verdict.FAIL:", "if result.verdict is Verdict.FAIL and result.because == '':"
    ),
    "crashes do not matter": Mistake(ROLLOUT, "replica.restarts >= CRASHES", "replica.restarts >= CRASHES + 10"),
    "the deadline is later": Mistake(ROLLOUT, "> rollout.deadline:", "> 3 * rollout.deadline:"),
    "the deadline goes on while it is held": Mistake(
        ROLLOUT, "now - rollout.started - rollout.stood >", "now - rollout.started >"
    ),
    "a step's time goes on while it is held": Mistake(ROLLOUT, "rollout.since + stood", "rollout.since"),
    "the proxy need not be read": Mistake(ROLLOUT, "if plane.problem is not None:", "if plane.problem == '':"),
    "the candidate need not be healthy": Mistake(
        ROLLOUT, "if rollout.weight == 0 and not _is_healthy", "if rollout.weight < 0 and not _is_healthy"
    ),
    "one healthy replica is enough": Mistake(
        ROLLOUT, "return all(\n        (endpoint", "return any(\n        (endpoint"
    ),
    "a weight need not be in force": Mistake(ROLLOUT, "if in_force != rollout.weight:", "if in_force > 100:"),
    "a step is over sooner": Mistake(ROLLOUT, "if left > 0:", "if left > 2:"),
    "a step's time is the rollout's": Mistake(ROLLOUT, '+ 1, "since": now,', '+ 1, "since": rollout.started,'),
    "a step is left out": Mistake(ROLLOUT, '"step": rollout.step + 1', '"step": rollout.step + 2'),
    "an analysis needs no request": Mistake(ROLLOUT, "and not _was_exposed(rollout, rollout.analysis)", "and False"),
    "all traffic needs no proof": Mistake(ROLLOUT, "if weight < 100 or", "if weight <= 100 or"),
    "no verdict is good enough": Mistake(
        ROLLOUT, "None if result.verdict is Verdict.PASS", "None if result.verdict is not Verdict.FAIL"
    ),
    "the sides are exchanged": Mistake(
        EVIDENCE,
        '{"stable": seen[stable.key], "candidate": seen[candidate.key]}',
        '{"stable": seen[candidate.key], "candidate": seen[stable.key]}',
    ),
    "nothing is compared": Mistake(BEGINNING, "if is_compared else None", "if not is_compared else None"),
    "the last step is not all traffic": Mistake(
        BEGINNING, "return (*strategy.steps, everything)", "return strategy.steps"
    ),
    "it ends before the last step": Mistake(
        ROLLOUT,
        "if rollout.step < len(rollout.steps):\n        return",
        "if rollout.step < len(rollout.steps) - 1:\n        return",
    ),
    "an end leaves the weight": Mistake(
        ROLLOUT,
        "100 if phase is RolloutPhase.PROMOTED else 0",
        "100 if phase is RolloutPhase.PROMOTED else rollout.weight",
    ),
    # --- when requests are copied ---
    "a mirror is over at once": Mistake(MIRRORING, "if left > 0.0:", "if left > 1000.0:"),
    "a mirror needs no pairs": Mistake(MIRRORING, "if rollout.pairs == 0:", "if rollout.pairs < 0:"),
    "a mirror need not be in force": Mistake(ROLLOUT, "if copied != rollout.mirrored:", "if copied > 100:"),
    "a mirror's time begins before it is in force": Mistake(
        ROLLOUT, "since = now if is_copying else rollout.since", "since = rollout.since"
    ),
    "a mirror is left out": Mistake(
        ROLLOUT, "is_begun = rollout.mirrored == step.mirror.percent", "is_begun = bool(step.mirror.percent)"
    ),
    "copies are counted as those of stable": Mistake(
        PAIRS, "growth.pairs, growth.failed, growth.recovered", "growth.pairs, growth.recovered, growth.failed"
    ),
    "pairs are not seen": Mistake(EVIDENCE, "paired=plane.paired.get(candidate.key)", "paired=None"),
    "a mirror goes on beside a weight": Mistake(
        ROLLOUT, '"weight": weight, "mirrored": 0, "because": because}', '"weight": weight, "because": because}'
    ),
    "a rollback goes on copying": Mistake(
        ENVIRONMENT,
        '{environment.stable.key: 100} if environment.stable else {},\n            "mirrors": {},',
        '{environment.stable.key: 100} if environment.stable else {},\n            "mirrors": environment.mirrors,',
    ),
    "copies are given to the sick": Mistake(
        ENVIRONMENT, "all(_has_healthy(key, seen) for key in wish.mirrors)", "bool(wish)"
    ),
    "copies are no lease": Mistake(
        ENVIRONMENT, "given = {**environment.mirrors, **environment.weights}", "given = environment.weights"
    ),
    "who is given copies may leave": Mistake(
        ENVIRONMENT, "seen.weights.get(key, 0) > 0 or key in seen.mirrors:", "seen.weights.get(key, 0) > 0:"
    ),
    # --- probation ---
    "there is no probation": Mistake(ROLLOUT, "if rollout.probation and", "if not rollout.probation and"),
    "nothing is held back": Mistake(PROBATION, '"weight": 100 - rollout.holdback', '"weight": 100'),
    "late labels do not count": Mistake(PROBATION, '"judges_late": True', '"judges_late": False'),
    "a probation ends without proof": Mistake(
        PROBATION, "result.verdict is not Verdict.PASS", "result.verdict is Verdict.FAIL"
    ),
    "a probation is over sooner": Mistake(PROBATION, "if now >= end:", "if now >= end - 3.0:"),
    "a probation is waited for without an end": Mistake(PROBATION, "now > end + rollout.deadline:", "now < 0.0:"),
    "a probation is given up when its time is over": Mistake(PROBATION, "now > end + rollout.deadline:", "now > end:"),
    "a probation has the deadline of the steps": Mistake(
        ROLLOUT,
        "if rollout.is_on_probation:\n        return",
        "if rollout.is_on_probation and now - rollout.started <= rollout.deadline:\n        return",
    ),
    "on probation the sick are promoted": Mistake(
        ROLLOUT, "if waits_for is None and not _is_healthy", "if waits_for == '' and not _is_healthy"
    ),
    "on probation the data plane may be as it likes": Mistake(
        ROLLOUT, "rollout, seen.superseded_by, waits_for, now", "rollout, seen.superseded_by, None, now"
    ),
    "a newer release gives up what is on probation": Mistake(ROLLOUT, " and not rollout.is_on_probation:", ":"),
    "a release that is elsewhere ends a probation": Mistake(
        DELIVERIES, "(one.here.name) == rollout.environment", "(one.here.name) != rollout.environment"
    ),
    "any newer release ends a probation": Mistake(
        DELIVERIES, "self._waiting_release(rollout)", "self._newest_release(rollout.candidate.model)"
    ),
    "on probation the clock goes on while it is held": Mistake(
        ROLLOUT,
        "    rollout = _timed(_going_on(rollout, now), seen.plane, now)\n    if rollout.is",
        "    rollout = rollout if rollout.is_on_probation else _timed(_going_on(rollout, now), seen.plane, now)\n"
        "    if rollout.is",
    ),
    "a rollback on probation freezes nothing": Mistake(
        ENVIRONMENT, "if rollout.phase is not RolloutPhase.ROLLED_BACK or", "if rollout.phase is not None or"
    ),
    # --- when an environment may go forward ---
    "a freeze is over before its time": Mistake(HOLDING, "now >= freeze.until", "now >= freeze.until - 10"),
    "a freeze without an end is none": Mistake(
        HOLDING, "if freeze is None or (", "if freeze is None or freeze.until is None or ("
    ),
    "a window is longer": Mistake(HOLDING, "now - window.seconds,", "now - window.seconds - 60,"),
    # --- what an environment desires ---
    "a number is used twice": Mistake(
        ENVIRONMENT, '"revisions": rollout.candidate.number', '"revisions": environment.revisions'
    ),
    "there is no way back": Mistake(ENVIRONMENT, "return environment.previous if is_same else stable", "return None"),
    "the way back is to the same": Mistake(
        ENVIRONMENT, "return environment.previous if is_same else stable", "return stable"
    ),
    "a promotion moves nothing": Mistake(ENVIRONMENT, '"stable": rollout.candidate,', '"stable": environment.stable,'),
    "a rollback keeps the weights": Mistake(
        ENVIRONMENT, "{environment.stable.key: 100} if environment.stable else {}", "environment.weights"
    ),
    "a candidate is not started": Mistake(
        ENVIRONMENT, "for revision in (stable, candidate) if", "for revision in (stable,) if"
    ),
    "a weight is no lease": Mistake(ENVIRONMENT, "is_leased = has_way_back and", "is_leased = not has_way_back and"),
    "traffic is sent to the sick": Mistake(ENVIRONMENT, "any(endpoint.is_healthy for", "any(True for"),
    "who has traffic may leave": Mistake(
        ENVIRONMENT,
        "if seen.weights.get(key, 0) > 0 or key in seen.mirrors:\n            continue",
        "if seen.weights.get(key, 0) > 100:\n            continue",
    ),
    "who is busy may leave": Mistake(ENVIRONMENT, "elif any(endpoint.active for", "elif any(False for"),
    "replicas leave before their endpoints": Mistake(
        ENVIRONMENT, "elif key in seen.endpoints:", "elif key not in seen.endpoints:"
    ),
    "things are taken away unseen": Mistake(ENVIRONMENT, "if seen.problem is None:", "if seen.problem != '':"),
    "who is dead goes back in a rollout too": Mistake(
        ENVIRONMENT, "environment.is_dead and environment.rollout is None and", "environment.is_dead and"
    ),
    # --- when a release moves ---
    "a newer release does not stop the older": Mistake(RELEASE, "if seen.newer is not None:", "if seen.newer == 0:"),
    "a failed staging does not matter": Mistake(
        RELEASE, "seen.rollout not in (None, RolloutPhase.PROMOTED)", "seen.rollout in (RolloutPhase.PROGRESSING,)"
    ),
    "the quarantined are admitted": Mistake("registry.admission", "(evidence.quarantine is None,", "(True,"),
    # --- what is done about it ---
    "a busy environment is not": Mistake(
        DELIVERIES, "busy_with = environment.rollout if environment else None", "busy_with = None"
    ),
    "a release does not see the freeze": Mistake(
        DELIVERIES, "held_because(environment.freeze if environment else None, release", "held_because(None, release"
    ),
    "a rollout does not see the freeze": Mistake(
        DELIVERIES, "held_because(environment.freeze, rollout.windows", "held_because(None, rollout.windows"
    ),
    "the way back is held": Mistake(DELIVERIES, "self._now()) if rollout.release else None", "self._now())"),
    "a rollback quarantines nothing": Mistake(
        DELIVERIES, "phase is RolloutPhase.ROLLED_BACK and seen", "phase is RolloutPhase.CANCELLED and seen"
    ),
    "traffic goes back to where it was": Mistake(
        DELIVERIES, "give_traffic_back(followed,", "give_traffic_back(environment,"
    ),
    "an environment does not follow": Mistake(DELIVERIES, "if followed != environment:", "if followed is None:"),
    "an environment follows the loser": Mistake(
        DELIVERIES, "write_environment(followed, environment_expected,", "write_environment(followed, -1,"
    ),
    "the way back may be quarantined": Mistake(BACK, "if blocked is not None:", "if blocked == '':"),
    "the way back past a bad one may be quarantined": Mistake(
        BACK, "and revision.model_digest not in blocked:", "and revision.model_digest not in ():"
    ),
    "the way back past a bad one leads nowhere": Mistake(
        BACK, "if one.model_digest != environment.stable.model_digest", "if one.model_digest is not None"
    ),
    "the way back is of the same number": Mistake(BACK, "environment.revisions + 1", "environment.revisions"),
    "a quarantine is none": Mistake(QUARANTINE, "phase=BLOCKED,", "phase=LIFTED,"),
    "a rollback freezes nothing": Mistake(
        REQUESTS,
        'freeze = Freeze(by=caller.name, reason=f"rolled back: {reason}")',
        "freeze = None",
    ),
    "an act is of no version": Mistake(DATAPLANE, "act.weights, version)", "act.weights, 0)"),
    "an act is of the newest version, not of that it was decided at": Mistake(
        DATAPLANE,
        "for act in acts:\n                self._act(environment, act, version,",
        "for act in acts:\n                self._act(environment, act, self._store.version(Kind.ENVIRONMENT, key),",
    ),
}
MISTAKES_OF_STRATEGIES = {
    # --- when replicas are replaced ---
    "who has no room is started beside": Mistake(REPLACING, "if seen.stable > replacement.stable:", "if False:"),
    "a replica that starts gets traffic": Mistake(REPLACING, "if missing > 0:", "if missing > 9:"),
    "more may exist than there is room for": Mistake(
        REPLACING, "starting = min(room, all_ - replacement.candidate)", "starting = all_ - replacement.candidate"
    ),
    "all of stable leave at once": Mistake(
        REPLACING, "fewest = max(0, all_ - replacement.max_unavailable - moved)", "fewest = 0"
    ),
    "who makes room goes on being sent requests": Mistake(BEGINNING, "and self.replacement.is_gap)", "and False)"),
    "the way back needs no room": Mistake(ENVIRONMENT, "room is None or len(wish.revisions) != 1", "wish is not None"),
    # --- with values of elsewhere ---
    "an unknown value is good enough": Mistake(
        LIMITS, 'Verdict.UNDECIDED, f"is not known', 'Verdict.PASS, f"is not known'
    ),
    "one look is harm enough": Mistake(
        LIMITS, "if lasted < limit.seconds:", "if standing.is_within and lasted < limit.seconds:"
    ),
    "one look is safety enough": Mistake(
        LIMITS, "if lasted < limit.seconds:", "if not standing.is_within and lasted < limit.seconds:"
    ),
    "limits are not heard": Mistake(ENGINE, "if analysis.limits else result", "if False else result"),
    # --- with approvals ---
    "nobody lets a release in": Mistake(
        RELEASE, "if here is None\n            else", "if here is None or here.approvals\n            else"
    ),
    "a step waits for nobody": Mistake(
        ROLLOUT, "held = rollout.unapproved(rollout.step) if held is None else held", "held = held"
    ),
    # --- when blue becomes green ---
    "checks come after": Mistake(ROLLOUT, "_checks_before_traffic(rollout, seen) or _next_step", "_next_step"),
    "checks need ask nothing": Mistake(ROLLOUT, "counter.requests == 0", "counter.requests < 0"),
    "stable is not kept": Mistake(ROLLOUT, "step.pause or step.keep or 0.0", "step.pause or 0.0"),
    "harm at the limit does not matter": Mistake(
        ROLLOUT, "if result.verdict is Verdict.FAIL:", "if result.verdict is Verdict.FAIL and result.because == '':"
    ),
}


ENDS = ("promoted", "rolled_back", "superseded", "on probation")
AT_ONCE = (
    "the candidate need not be healthy",
    "a window is longer",
    "a number is used twice",
    "there is no way back",
    "a weight is no lease",
    "replicas leave before their endpoints",
    "an environment does not follow",
    "nothing is held back",
)
"""Mistakes that the first history shows."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("histories"))


@pytest.fixture(scope="module")
def strategies(tmp_path_factory: pytest.TempPathFactory) -> StrategyWorkshop:
    return StrategyWorkshop(tmp_path_factory.mktemp("strategies"))


def test_over_random_histories_every_promise_holds_and_everything_ends(workshop: Workshop) -> None:
    happened = _happened(workshop, HISTORIES)
    assert min(happened[name] for name in (*ENDS, "killed", "overtaken")) > 0


@pytest.mark.skipif(HISTORIES < 100, reason="make histories")
def test_over_random_histories_of_other_strategies_the_same(strategies: StrategyWorkshop) -> None:
    happened = _happened(strategies, HISTORIES)
    assert min(happened[name] for name in (*BEGUN, "promoted", "rolled_back", "killed", "overtaken")) > 0


def _happened(workshop: Workshop | StrategyWorkshop, histories: int) -> Counter[str]:
    """How often everything came about in so many histories."""
    found: Counter[str] = Counter()
    for seed in range(histories):
        history = workshop.tell(seed)
        found += history.watch.ends + history.calls.told
    print(f"{histories} histories: {dict(found)}")
    return found


@pytest.mark.parametrize("name", MISTAKES if IS_EVERY else AT_ONCE)
def test_a_planted_mistake_breaks_a_promise(workshop: Workshop, name: str) -> None:
    _is_found(workshop, MISTAKES[name])


@pytest.mark.parametrize("name", MISTAKES_OF_STRATEGIES if IS_EVERY else ())
def test_a_planted_mistake_in_other_strategies_breaks_a_promise(strategies: StrategyWorkshop, name: str) -> None:
    _is_found(strategies, MISTAKES_OF_STRATEGIES[name])


def _is_found(workshop: Workshop | StrategyWorkshop, mistake: Mistake) -> None:
    rules = rules_with(mistake)
    for seed in range(MOST_TRIES):
        try:
            workshop.tell(seed, rules)
        except AssertionError as broken:
            print(broken)
            return
    pytest.fail(f"{MOST_TRIES} histories did not show it")


def test_modules_loaded_anew_without_a_mistake_break_nothing(strategies: StrategyWorkshop) -> None:
    strategies.tell(0, rules_with(None))

"""The reuse of a test set: conditions, the rows they need to the unit, uses that are counted, scores on a ladder."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import Refused
from interlock.gate.judgement import GateResult, Judgement
from interlock.gate.reuse.counting import Asked, new_uses, with_uses
from interlock.gate.reuse.ledger import Ledger, Use, climb, spend
from interlock.gate.reuse.sizes import MOST_STEPS, rows_needed, sizes_needed, steps_borne
from interlock.pipeline.gates.conditions import Clause, read_condition
from interlock.pipeline.plan import GatePlan, ReusePlan
from interlock.vocabulary import Verdict

PASS, FAIL, UNDECIDED = Verdict.PASS, Verdict.FAIL, Verdict.UNDECIDED

# reliability, tolerance: n > c without and with full adaptivity, n - o > c without and with, 32 steps
TABLE = [
    (0.99, 0.1, 404, 1340, 1753, 5496),
    (0.99, 0.05, 1615, 5358, 7012, 21984),
    (0.99, 0.025, 6457, 21429, 28045, 87933),
    (0.99, 0.01, 40355, 133930, 175282, 549581),
    (0.999, 0.1, 519, 1455, 2214, 5957),
    (0.999, 0.05, 2075, 5818, 8854, 23826),
    (0.999, 0.025, 8299, 23271, 35414, 95302),
    (0.999, 0.01, 51868, 145443, 221333, 595633),
    (0.9999, 0.1, 634, 1570, 2674, 6417),
    (0.9999, 0.05, 2536, 6279, 10696, 25668),
    (0.9999, 0.025, 10141, 25113, 42782, 102670),
    (0.9999, 0.01, 63381, 156956, 267385, 641684),
    (0.99999, 0.1, 749, 1685, 3135, 6878),
    (0.99999, 0.05, 2996, 6739, 12538, 27510),
    (0.99999, 0.025, 11983, 26955, 50150, 110038),
    (0.99999, 0.01, 74894, 168469, 313437, 687736),
]


@pytest.mark.parametrize("row", TABLE)
def test_the_published_table_to_the_unit(row):
    reliability, tolerance, *expected = row
    found = [
        rows_needed(read_condition(f"{text} > 0.1 +/- {tolerance}"), reliability, 32, adaptivity)
        for text in ("n", "n - o")
        for adaptivity in ("none", "full")
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("steps", "adaptivity", "rows"), [(1, "none", 21_888), (32, "none", 29_047), (32, "full", 67_705)]
)
def test_models_that_differ_little_need_far_fewer_rows(steps, adaptivity, rows):
    condition = read_condition("n - o > 0.02 +/- 0.01 /\\ d < 0.08 +/- 0.01")
    found = sizes_needed(condition, 0.9999, steps, adaptivity)
    assert found.rows == pytest.approx(rows, abs=1)
    assert (found.labels, found.method) == (math.ceil(0.1 * found.rows), "Bennett")
    assert found.rows < rows_needed(condition, 0.9999, steps, adaptivity)
    assert found.unlabelled >= found.rows


@pytest.mark.parametrize(
    "text",
    [
        "n - o > 0.02 +/- 0.01",
        "n - o > 0.02 +/- 0.01 /\\ d > 0.1 +/- 0.01",
        "n - 2 * o > 0.02 +/- 0.01 /\\ d < 0.1 +/- 0.01",
        "n - o > 0.02 +/- 0.01 /\\ d < 0.8 +/- 0.2",
        "n - o > 0.02 +/- 0.01 /\\ d < 0.1 +/- 0.01 /\\ n > 0.5 +/- 0.1",
    ],
)
def test_other_conditions_need_what_hoeffding_says(text):
    condition = read_condition(text)
    found = sizes_needed(condition, 0.99, 10, "none")
    assert found == (rows_needed(condition, 0.99, 10, "none"),) * 2 + (0, "Hoeffding")


def test_the_first_change_needs_as_many_rows_as_a_third_party():
    condition = read_condition("n > 0.5 +/- 0.05")
    assert rows_needed(condition, 0.99, 32, "first_change") == rows_needed(condition, 0.99, 32, "none")


def test_the_widest_clause_decides_and_factors_count():
    both = read_condition("n > 0.5 +/- 0.05 /\\ n - 1.1 * o > 0 +/- 0.05")
    expected = math.ceil(2.1**2 * (math.log(2 * 2 * 7) - math.log(0.01)) / (2 * 0.05**2))
    assert rows_needed(both, 0.99, 7, "none") == expected


@given(
    steps=st.integers(1, 5000),
    adaptivity=st.sampled_from(["none", "full", "first_change"]),
    tolerance=st.floats(0.005, 0.3),
    reliability=st.floats(0.5, 0.99999),
)
@settings(max_examples=60)
def test_so_many_rows_bear_so_many_steps_and_one_fewer_does_not(steps, adaptivity, tolerance, reliability):
    condition = read_condition(f"n - o > 0 +/- {tolerance:.6f}")
    rows = rows_needed(condition, reliability, steps, adaptivity)
    borne = steps_borne(condition, rows, reliability, adaptivity)
    assert borne >= steps
    if borne < MOST_STEPS:
        assert rows_needed(condition, reliability, borne + 1, adaptivity) > rows
    assert steps_borne(condition, rows_needed(condition, reliability, 1, adaptivity) - 1, reliability, adaptivity) == 0


def test_a_huge_test_set_bears_no_more_than_is_sensible():
    assert steps_borne(read_condition("n > 0 +/- 0.5"), 10**6, 0.9, "none") == MOST_STEPS


# ---- the language


def test_a_condition_is_read():
    condition = read_condition(" n -  1.1 * o > 0.02 +/- 0.01 /\\ d<.1+/-.01/\\-n > - 1 +/- 1e-2 ")
    assert condition.text == "n - 1.1 * o > 0.02 +/- 0.01 /\\ d<.1+/-.01/\\-n > - 1 +/- 1e-2"
    assert condition.clauses == (
        Clause(factors={"n": 1.0, "o": -1.1}, is_above=True, constant=0.02, tolerance=0.01),
        Clause(factors={"d": 1.0}, is_above=False, constant=0.1, tolerance=0.01),
        Clause(factors={"n": -1.0}, is_above=True, constant=-1.0, tolerance=0.01),
    )
    assert read_condition("n + n - o > 0 +/- 0.1").clauses[0].factors == {"n": 2.0, "o": -1.0}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "`` is no clause"),
        ("n > 0.5", "`n > 0.5` is no clause"),
        ("n >= 0.5 +/- 0.1", "is no"),
        ("x > 0.5 +/- 0.1", "`x` is no sum"),
        ("n o > 0.5 +/- 0.1", "`o` is no sum"),
        ("n - > 0.5 +/- 0.1", "is no sum"),
        ("n * 2 > 0.5 +/- 0.1", "is no sum"),
        ("n - n > 0.5 +/- 0.1", "is nothing, whatever"),
        ("n > 0.5 +/- 0", "the tolerance 0 is not between"),
        ("n > 0.5 +/- 1.5", "the tolerance 1.5 is not between"),
        ("n > 0.5 +/- 0.1 /\\", "`` is no clause"),
        ("__import__('os') > 0.5 +/- 0.1", "is no sum"),
    ],
)
def test_what_is_no_condition_is_refused(text, problem):
    with pytest.raises(Refused) as refused:
        read_condition(text)
    assert problem in refused.value.problem


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("n - o > 0.02 +/- 0.01", {"n": 0.9, "o": 0.86, "d": 0.1}, True),
        ("n - o > 0.02 +/- 0.01", {"n": 0.9, "o": 0.895, "d": 0.1}, False),
        ("n - o > 0.02 +/- 0.01", {"n": 0.9, "o": 0.875, "d": 0.1}, None),
        ("d < 0.1 +/- 0.01", {"n": 0.9, "o": 0.9, "d": 0.05}, True),
        ("d < 0.1 +/- 0.01", {"n": 0.9, "o": 0.9, "d": 0.15}, False),
        ("d < 0.1 +/- 0.01", {"n": 0.9, "o": 0.9, "d": 0.105}, None),
        ("n > 0.5 +/- 0.1 /\\ d < 0.1 +/- 0.01", {"n": 0.9, "o": 0.9, "d": 0.15}, False),
        ("n > 0.85 +/- 0.1 /\\ d < 0.1 +/- 0.01", {"n": 0.9, "o": 0.9, "d": 0.15}, False),
        ("n > 0.85 +/- 0.1 /\\ d < 0.1 +/- 0.01", {"n": 0.9, "o": 0.9, "d": 0.01}, None),
    ],
)
def test_a_condition_is_true_false_or_unknown(text, values, holds):
    condition = read_condition(text)
    assert condition.holds(values) is holds
    assert condition.accepts(values, "fp-free") is (holds is True)
    assert condition.accepts(values, "fn-free") is (holds is not False)


def test_answers_are_right_as_often_as_the_reliability_says():
    condition, truth = read_condition("n - o > 0.0 +/- 0.1"), 0.05
    rows = rows_needed(condition, 0.9, 1, "none")
    new, old = np.random.default_rng(1).binomial(rows, [0.8, 0.8 - truth], (2000, 2)).T / rows
    found = [condition.holds({"n": n, "o": o, "d": 0.0}) for n, o in zip(new, old, strict=True)]
    assert found.count(False) <= 0.1 * 2000


# ---- the ledger


def ledger(**more):
    return Ledger(holdout="blake3:aa", metric="accuracy", **{"budget": 3, **more})


def used(before, commit, verdict=FAIL):
    return spend(before, commit, verdict)


def test_uses_are_counted_until_the_set_is_spent():
    now, reasons = ledger(budget=6), []
    for commit in "abcdefg":
        decision = used(now, commit)
        now, reasons = decision.state, [*reasons, decision.because]
    assert reasons == [
        *(f"{count} of 6 uses of this test set by accuracy" for count in (1, 2, 3, 4)),
        "5 of 6 uses of this test set by accuracy; 1 left, bring new holdout rows",
        "6 of 6 uses of this test set by accuracy; it is spent now",
        "this test set is spent: 6 commits were judged with it by accuracy, its budget is 6; bring new holdout rows",
    ]
    assert (len(now.uses), now.left) == (6, 0)


def test_without_a_budget_uses_are_only_counted():
    now = ledger(budget=None)
    for commit in range(200):
        now = used(now, str(commit)).state
    assert (now.left, now.spent, now.told) == (None, "", "200 uses of this test set by accuracy")


def test_a_commit_that_asks_twice_spends_once_and_hears_the_same():
    once = used(ledger(), "a" * 40, FAIL).state
    again = used(once, "a" * 40, PASS)
    assert again.state == once
    assert again.because == "1 of 3 uses of this test set by accuracy; aaaaaaaaaa is among them: fail"
    assert (once.of("a" * 40), once.of("b")) == (Use(commit="a" * 40, verdict=FAIL), None)


def test_the_first_change_retires_the_set():
    kept = used(ledger(adaptivity="first_change"), "a").state
    assert kept.spent == ""
    retired = used(kept, "b", PASS).state
    assert (retired.left, "b passed accuracy, and that is news" in retired.spent) == (0, True)
    assert used(retired, "c").state == retired
    assert used(ledger(), "a", PASS).state.left == 2


def test_a_set_that_bears_nothing_is_spent_from_the_beginning():
    assert "0 commits were judged" in ledger(budget=0).spent
    assert used(ledger(budget=0), "a").state.uses == ()
    assert "1 commit was judged" in used(ledger(budget=1), "a").state.spent


def test_a_ledger_survives_json():
    found = used(ledger(), "a").state
    assert Ledger.model_validate_json(found.model_dump_json()) == found


# ---- what gates say of it

BOUND = GatePlan(metric="accuracy", min=0.8, reuse=ReusePlan(commits=2))
FREE = GatePlan(metric="accuracy", max=0.99)
OTHER = GatePlan(metric="latency_p99_ms", max=20.0)
GATES = (BOUND, FREE, OTHER)


def judged(verdict=PASS, free=PASS):
    """Two gates that asked the rows, one that did not, and a check that is no gate."""
    rows = {"candidate": 0.9, "rows": 400}
    return Judgement(
        results=(
            GateResult(gate=BOUND.title, verdict=verdict, because="0.9", evidence=rows),
            GateResult(gate=FREE.title, verdict=free, because="0.9", evidence=rows),
            GateResult(gate=OTHER.title, verdict=PASS, because="5", evidence={"candidate": 5.0}),
            GateResult(gate="a check", verdict=PASS, because="fine", evidence=rows),
        )
    )


def asked(*commits, commit="new", is_counted=True):
    uses = {"accuracy": tuple(Use(commit=one, verdict=FAIL) for one in commits)}
    return Asked(holdout="blake3:aa", commit=commit, uses=uses, is_counted=is_counted)


def test_the_evidence_tells_how_often_the_test_set_was_asked():
    bound, free, other, check = with_uses(GATES, judged(), asked("a")).results
    assert (bound.verdict, bound.evidence["candidate"]) == (PASS, 0.9)
    assert bound.evidence["test_set"] == {
        "holdout": "blake3:aa",
        "commits": 2,
        "because": "2 of 2 uses of this test set by accuracy; it is spent now",
        "budget": 2,
        "adaptivity": "full",
    }
    assert free.evidence["test_set"] == {
        "holdout": "blake3:aa",
        "commits": 2,
        "because": "2 uses of this test set by accuracy",
    }
    assert "test_set" not in {**other.evidence, **check.evidence}


@pytest.mark.parametrize("verdict", [PASS, FAIL])
def test_a_spent_test_set_says_nothing_more(verdict):
    bound, free, *_ = with_uses(GATES, judged(verdict), asked("a", "b")).results
    because = (
        "this test set is spent: 2 commits were judged with it by accuracy, its budget is 2; bring new holdout rows"
    )
    assert (bound.verdict, bound.because) == (UNDECIDED, because)
    assert set(bound.evidence) == {"test_set"}
    assert (free.verdict, free.evidence["candidate"]) == (PASS, 0.9)


def test_a_commit_that_was_judged_is_judged_again():
    bound = with_uses(GATES, judged(), asked("a", "new")).results[0]
    assert (bound.verdict, bound.evidence["test_set"]["commits"]) == (PASS, 2)
    assert new_uses(GATES, judged(), asked("a", "new")) == {}


def test_who_may_not_deliver_is_told_but_not_counted():
    once = asked("a", is_counted=False)
    told = with_uses(GATES, judged(), once).results[0].evidence["test_set"]
    assert (told["commits"], told["because"]) == (1, "1 of 2 uses of this test set by accuracy; this run is none")
    assert new_uses(GATES, judged(), once) == {}
    assert with_uses(GATES, judged(), asked("a", "b", is_counted=False)).results[0].verdict is UNDECIDED


def test_a_use_is_told_the_worst_of_its_gates():
    assert new_uses(GATES, judged(), asked("a")) == {"accuracy": Use(commit="new", verdict=PASS)}
    assert new_uses(GATES, judged(free=FAIL), asked()) == {"accuracy": Use(commit="new", verdict=FAIL)}


def test_a_spent_set_is_asked_by_nobody_more():
    spent = with_uses(GATES[:1], Judgement(results=judged().results[:1]), asked("a", "b"))
    assert new_uses(GATES[:1], spent, asked("a", "b")) == {}


def test_without_a_holdout_nothing_is_counted():
    assert with_uses(GATES, judged(), None) == judged()


# ---- the ladder


@pytest.mark.parametrize(
    ("shown", "score", "is_higher_better", "expected"),
    [
        (None, 0.8199, True, 0.8),
        (0.8, 0.819, True, 0.8),
        (0.8, 0.8301, True, 0.82),
        (0.8, 0.82, True, 0.82),
        (0.8, 0.5, True, 0.8),
        (0.8, 0.785, False, 0.8),
        (0.8, 0.7599, False, 0.76),
        (0.8, 0.7701, False, 0.78),
        (0.8, math.nan, True, 0.8),
        (None, math.inf, True, None),
    ],
)
def test_a_score_is_shown_where_it_beats_the_best_by_a_step(shown, score, is_higher_better, expected):
    found = climb(shown, score, 0.02, is_higher_better=is_higher_better)
    assert found == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=50))
def test_what_is_shown_only_rises_and_is_below_the_best_by_less_than_two_steps(scores):
    shown, seen = None, []
    for score in scores:
        shown = climb(shown, score, 0.05, is_higher_better=True)
        seen.append(shown)
    assert all(later >= earlier for earlier, later in itertools.pairwise(seen))
    assert seen[-1] - 1e-9 <= max(scores) < seen[-1] + 0.1

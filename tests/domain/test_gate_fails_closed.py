"""Ten thousand broken and whole measurements: what passes has every number it needs, and what does not says why."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest

from interlock.gate.judge import judge
from interlock.gate.rows.alone import judge_predictions
from interlock.pipeline.plan import ConditionPlan, GatePlan, SlicePlan
from interlock.vocabulary import Verdict

PRODUCTION = "flights v3"
RUBBISH = (math.nan, math.inf, -math.inf, True, False, "0.9", "", None, [0.9], {"value": 0.9}, 10**400)
NAMES = ("accuracy", "auc", "profit", "acuracy", "AUC", "test.auc", "")
ROWS = 320


def is_number(value):
    return type(value) in {int, float} and -1e308 < value < 1e308


def metrics_case(generator):
    """A metrics file with some rubbish, a name doubled or none at all, and a limit on one name."""
    there = {}
    for name in generator.sample(NAMES, generator.randint(0, 4)):
        there[name] = generator.choice(RUBBISH) if generator.random() < 0.4 else round(generator.uniform(-1, 2), 3)
    invalid = {name: "is given more than once" for name in there if generator.random() < 0.1}
    report = {"metrics": there, "invalid": invalid, "rows": None}
    asked = generator.choice(NAMES)
    gate = GatePlan(metric=asked, **{generator.choice(("min", "max")): generator.uniform(-1, 2)})
    if generator.random() < 0.05:
        gate = GatePlan(metric=asked)
    if generator.random() < 0.05:
        report = generator.choice([None, 3, [], {"metrics": 3}, {"metrics": []}, {"rows": {"labels": [1]}}])
    return gate, report


def metrics_may_pass(gate, report):
    if not isinstance(report, dict) or not isinstance(report.get("metrics"), dict):
        return False
    value = report["metrics"].get(gate.metric)
    if gate.metric in report.get("invalid", {}) or not is_number(value):
        return False
    kept = [gate.min is None or value >= gate.min, gate.max is None or value <= gate.max]
    return all(kept) and (gate.min is not None or gate.max is not None)


def whole_rows(seed):
    generator = np.random.default_rng(seed)
    labels = (generator.random(ROWS) < 0.5).astype(float)
    sides = []
    for share in (0.95, 0.7):
        right = generator.random(ROWS) < share
        classes = np.where(right, labels, 1 - labels)
        sides.append({"prediction": classes.tolist(), "probability": (0.25 + classes / 2).tolist()})
    return {
        "holdout": ROWS,
        "candidate_missing": 0,
        "unknown_ids": 0,
        "duplicate_ids": 0,
        "labels": labels.tolist(),
        "candidate": sides[0],
        "columns": {"carrier": ["A"] * ROWS},
        "baseline": {"name": PRODUCTION, "missing": 0, **sides[1]},
    }


def shorten(rows, count):
    """The same rows, but only so many of them."""
    for side in (rows["candidate"], rows["baseline"]):
        side.update({key: cells[:count] for key, cells in side.items() if isinstance(cells, list)})
    rows.update(labels=rows["labels"][:count], columns={"carrier": ["A"] * count}, holdout=count)


def spoil_cell(generator, rows, used):
    """One value is rubbish; of the baseline only where the metric looks, for the rest of it is not read."""
    side = generator.choice((rows["candidate"], rows["baseline"]))
    column = used if side is rows["baseline"] else generator.choice(("prediction", "probability"))
    cells = generator.choice((rows["labels"], side.get(column) or rows["labels"]))
    if cells:
        cells[generator.randrange(len(cells))] = generator.choice(RUBBISH)
    return bool(cells)


def drop_columns(generator, rows, _used):
    side = generator.choice((rows["candidate"], rows["baseline"]))
    side.pop("prediction", None)
    side.pop("probability", None)
    return True


def keep_few(generator, rows, _used):
    shorten(rows, generator.choice((0, 1, 299)))
    return True


def keep_one_class(generator, rows, used):
    """With labels of one class accuracy is still what it says, and only metrics of two classes have to refuse it."""
    rows["labels"] = [generator.choice((0.0, 1.0))] * len(rows["labels"])
    return used == "probability"


def miscount(generator, rows, _used):
    rows[generator.choice(("candidate_missing", "duplicate_ids"))] = generator.randint(1, 9)
    return True


def miss_baseline(generator, rows, _used):
    rows["baseline"].update(generator.choice(({"missing": 1}, {"name": "flights v2"})))
    return True


def cut_labels(_generator, rows, _used):
    rows["labels"] = rows["labels"][:-1]
    return True


def forget_baseline(_generator, rows, _used):
    rows["baseline"] = None
    return True


WRONGS = (spoil_cell, spoil_cell, drop_columns, keep_few, keep_one_class, miscount, miss_baseline, cut_labels)


def rows_case(generator, whole, used):
    """Rows of two models, with at most two things wrong or no baseline, and whether anything is."""
    rows = copy.deepcopy(generator.choice(whole))
    chosen = [generator.choice(WRONGS) for _ in range(generator.choice((0, 1, 1, 2)))]
    if generator.random() < 0.05:
        chosen.append(forget_baseline)
    return rows, [wrong.__name__ for wrong in chosen if wrong(generator, rows, used)]


def test_ten_thousand_cases_pass_only_with_everything_that_is_needed():
    generator = random.Random(1)
    whole = [whole_rows(seed) for seed in range(4)]
    passed = 0
    for case in range(10_000):
        if case % 5:
            gate, report = metrics_case(generator)
            may_pass = metrics_may_pass(gate, report)
        else:
            slices = generator.choice(((), (SlicePlan(column="carrier"),)))
            metric = generator.choice(("accuracy", "auc"))
            gate = GatePlan(metric=metric, against="production", margin=0.01, slices=slices)
            rows, wrong = rows_case(generator, whole, "probability" if metric == "auc" else "prediction")
            may_pass = not wrong
            report = {"metrics": {}, "invalid": {}, "rows": rows}
        (result,) = judge([gate], {"measurements": report}, PRODUCTION).results
        assert result.because, (gate, report)
        assert result.verdict is not Verdict.PASS or may_pass, (gate, result)
        passed += result.verdict is Verdict.PASS
    assert 1000 < passed < 9000  # a test of what passes needs something that does


FLAWS = {
    "nan": lambda cells: [math.nan, *cells[1:]],
    "infinite": lambda cells: [math.inf, *cells[1:]],
    "bool": lambda cells: [bool(cell) for cell in cells],
    "one bool": lambda cells: [True, *cells[1:]],
    "bools of numpy": lambda cells: np.array(cells) > 0.5,
    "text": lambda cells: [str(cell) for cell in cells],
    "nothing": lambda cells: [None, *cells[1:]],
    "short": lambda cells: cells[:-1],
    "empty": lambda _: [],
    "deep": lambda cells: [[cell] for cell in cells],
    "ragged": lambda cells: [[1.0], *cells[1:]],
    "times": lambda cells: np.array(cells).astype("datetime64[s]"),
    "complex": lambda cells: np.array(cells) + 0j,
}


def given_rows():
    rows = whole_rows(1)
    ours, theirs = ({key: side[key] for key in ("prediction", "probability")} for side in map(rows.get, SIDES))
    return rows["labels"], ours, theirs


SIDES = ("candidate", "baseline")
GATES = (
    GatePlan(metric="accuracy", against="production", margin=0.01, slices="found"),
    GatePlan(metric="auc", against="production", margin=0.01),
    GatePlan(metric="accuracy", min=0.5),
    GatePlan(metric="recall", gap_between="half", max=0.5),
)
HALVES = np.arange(ROWS) % 2


@pytest.mark.parametrize("flaw", FLAWS)
def test_arrays_that_are_not_whole_never_pass_where_they_are_used(flaw):
    labels, ours, theirs = given_rows()
    columns = {"half": HALVES}
    assert judge_predictions(GATES, labels, ours, theirs, columns).verdict is Verdict.PASS
    broken = [
        (FLAWS[flaw](labels), ours, theirs),
        (labels, {**ours, "prediction": FLAWS[flaw](ours["prediction"])}, theirs),
        (labels, {**ours, "probability": FLAWS[flaw](ours["probability"])}, theirs),
        (labels, ours, {**theirs, "prediction": FLAWS[flaw](theirs["prediction"])}),
        (labels, ours, {**theirs, "probability": FLAWS[flaw](theirs["probability"])}),
    ]
    for place, given in enumerate(broken):
        judgement = judge_predictions(GATES, *given, columns)
        assert judgement.verdict is not Verdict.PASS, place
        assert judgement.because
        used = judgement.results[1 if place in (2, 4) else 0]
        assert used.verdict is not Verdict.PASS, (place, used)


@pytest.mark.parametrize(
    ("given", "because"),
    [
        ({"candidate": {}}, "the candidate has no prediction"),
        ({"baseline": {"probability": [0.5] * ROWS}}, "the baseline has no prediction"),
        ({"candidate": {"prediction": [0.0] * ROWS, "chance": [0.0] * ROWS}}, "chance of the candidate is neither"),
        ({"columns": {"half": [1]}}, "half: 1 values for 320 rows"),
        ({"labels": 3.0}, "labels: not one value for each row"),
        ({"baseline": None}, "there is no baseline to compare with"),
        ({"gate": GatePlan(metric="acuracy", against="production")}, "acuracy is no metric of rows"),
        ({"gate": GatePlan(metric="profit", min=0.0)}, "profit is no metric of rows"),
        ({"gate": GatePlan(metric="accuracy", against="production", max_ratio=2.0)}, "not by max_ratio"),
        ({"gate": GatePlan(metric="accuracy", against="production", min_ratio=0.1)}, "not by min_ratio"),
        ({"gate": GatePlan(metric="accuracy", against="production", margin=math.inf)}, "makes no sense"),
        ({"gate": GatePlan(metric="accuracy", against="production", margin=-0.1)}, "makes no sense"),
        ({"gate": GatePlan(metric="accuracy", against="production", alpha=0.9)}, "makes no sense"),
        ({"gate": GatePlan(metric="row_loss", max=1.0)}, "needs a row_loss column"),
        ({"gate": GatePlan(metric="f1", gap_between="sex", max=1.0)}, "have a column sex"),
    ],
)
def test_arrays_that_do_not_fit_are_undecided(given, because):
    labels, ours, theirs = given_rows()
    whole = {"labels": labels, "candidate": ours, "baseline": theirs, "columns": {"half": HALVES}}
    gate = given.get("gate", GATES[0])
    arguments = {key: value for key, value in {**whole, **given}.items() if key != "gate"}
    (result,) = judge_predictions([gate], **arguments).results
    assert result.verdict is Verdict.UNDECIDED
    assert because in result.because


def test_a_loss_of_ones_own_is_judged_and_its_gaps_fail():
    labels, ours, theirs = given_rows()
    low, high = [0.1] * ROWS, [0.2 + place / 1000 for place in range(ROWS)]
    gates = [GatePlan(metric="row_loss", against="production"), GatePlan(metric="row_loss", max=0.15)]
    found = judge_predictions(gates, labels, {**ours, "row_loss": low}, {**theirs, "row_loss": high})
    assert [result.verdict for result in found.results] == [Verdict.PASS, Verdict.PASS]
    low[3] = math.nan
    found = judge_predictions(gates, labels, {**ours, "row_loss": low}, {**theirs, "row_loss": high})
    assert [result.verdict for result in found.results] == [Verdict.FAIL, Verdict.FAIL]


def test_text_columns_and_no_columns_are_both_welcome():
    labels, ours, theirs = given_rows()
    words = np.array(["AA", "UA"])[HALVES]
    found = judge_predictions(GATES[:1], labels, ours, theirs, {"carrier": words})
    assert found.results[0].evidence["slices"]["tested"] == 2
    assert "no slice has 50 rows" in judge_predictions(GATES[:1], labels, ours, theirs).because


def test_arrays_and_reports_give_the_same_answer():
    rows = whole_rows(1)
    labels, ours, theirs = given_rows()
    gates = [gate.model_copy(update={"slices": (SlicePlan(column="carrier"),)}) for gate in GATES[:2]]
    reported = judge(gates, {"measurements": {"metrics": {}, "invalid": {}, "rows": rows}}, PRODUCTION)
    alone = judge_predictions(gates, labels, ours, theirs, rows["columns"])
    for one, other in zip(reported.results, alone.results, strict=True):
        assert {**one.evidence, "production_name": ""} == {**other.evidence, "production_name": ""}
        assert one.verdict is other.verdict


def test_a_holdout_of_one_class_decides_nothing_that_is_of_classes():
    labels, right = np.ones(600), {"prediction": np.ones(600), "probability": np.full(600, 0.9)}
    condition = ConditionPlan(holds="n > 0.5 +/- 0.1")
    gates = [
        *(GatePlan(metric=name, min=0.0) for name in ("accuracy", "auc", "f1", "f1_macro", "log_loss")),
        GatePlan(metric="accuracy", against="production", margin=0.5),
        GatePlan(metric="accuracy", condition=condition),
    ]
    for result in judge_predictions(gates, labels, right, right).results:
        assert (result.verdict, result.because) == (Verdict.UNDECIDED, "the holdout's labels are all of one class")

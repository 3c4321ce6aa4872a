"""Untrusted reports: whatever is not a finite number of the right kind comes out as a reason, never as a number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.gate.measurements import read_measurements, read_number, smallest_latency_sample


def rows(**more):
    return {
        "holdout": 2,
        "candidate_missing": 0,
        "unknown_ids": 0,
        "duplicate_ids": 0,
        "labels": [0, 1],
        "candidate": {"prediction": [0, 1], "probability": [0.2, 0.8]},
        "baseline": None,
        **more,
    }


def life(**more):
    return {"latency_ms": [1.0 + i / 100 for i in range(400)], "memory_peak_mb": 80.5, "startup_ms": 900, **more}


def side(**more):
    return {
        "lives": [life()],
        "model_size_mb": 2.5,
        "requests": 400,
        "errors": 0,
        "golden": {"checked": 3, "wrong": []},
        **more,
    }


def test_no_report_is_no_number():
    found = read_measurements({})
    assert (found.metrics, found.rows, found.served, found.served_baseline) == ({}, None, None, None)
    assert found.malformed == ""
    assert "no predictions" in found.rows_because
    assert "not measured as served" in found.served_because
    assert "production was not measured" in found.served_baseline_because


def test_a_whole_report_is_read():
    baseline = {"name": "m v1", "prediction": [1, None], "probability": [0.5, None], "missing": 1}
    found = read_measurements(
        {
            "measurements": {"metrics": {"auc": 1}, "invalid": {"f1": "is null"}, "rows": rows(baseline=baseline)},
            "served": {"candidate": side(), "baseline": side(name="m v1")},
        }
    )
    assert found.metrics == {"auc": 1.0}
    assert found.invalid == {"f1": "is null"}
    assert found.rows.labels == (0.0, 1.0)
    assert found.rows.probability == (0.2, 0.8)
    assert found.rows.baseline.prediction == (1.0, None)
    assert found.rows.baseline.probability == (0.5, None)
    assert found.served.reading("memory_peak_mb").value == 80.5
    assert found.served.reading("startup_ms").value == 900.0
    assert found.served.reading("model_size_mb").value == 2.5
    assert found.served.reading("throughput_rps").because == "was not measured"
    assert found.served_baseline.name == "m v1"
    assert found.served.disqualified == ""


def test_probabilities_may_be_absent():
    raw = rows(
        candidate={"prediction": [0, 1], "probability": None},
        baseline={"name": "m", "prediction": [0, 0], "missing": 0},
    )
    found = read_measurements({"measurements": {"metrics": {}, "invalid": {}, "rows": raw}})
    assert found.malformed == ""
    assert found.rows.probability is None
    assert found.rows.baseline.probability is None


@pytest.mark.parametrize(
    ("value", "because"),
    [
        (math.nan, "is nan"),
        (math.inf, "is inf"),
        (-math.inf, "is -inf"),
        (True, "is true, not a number"),
        ("0.9", "is str, not a number"),
        (None, "is missing"),
        ([0.9], "is list, not a number"),
        (10**400, "is too large"),
    ],
)
def test_what_is_no_number_is_a_reason(value, because):
    found = read_measurements({"measurements": {"metrics": {"auc": value}}})
    assert found.metrics == {}
    assert because in found.invalid["auc"]
    assert read_number(value).value is None


def test_what_a_probe_called_invalid_stays_so():
    found = read_measurements({"measurements": {"metrics": {"auc": 0.9}, "invalid": {"auc": "is given twice"}}})
    assert (found.metrics, found.invalid) == ({}, {"auc": "is given twice"})


@pytest.mark.parametrize(
    "broken",
    [
        {"labels": None},
        {"labels": [0, True]},
        {"labels": [0, math.nan]},
        {"labels": [0]},
        {"candidate": None},
        {"candidate": {"prediction": [0]}},
        {"candidate": {"prediction": [0, 1], "probability": [0.1]}},
        {"holdout": -1},
        {"holdout": True},
        {"candidate_missing": 0.5},
        {"duplicate_ids": None},
        {"baseline": {"name": "m", "prediction": [0], "missing": 0}},
        {"baseline": {"name": "m", "prediction": None, "missing": 0}},
        {"baseline": {"name": "m", "prediction": [0, 1]}},
        {"baseline": 3},
    ],
)
def test_rows_of_another_shape_are_not_used_and_it_is_said(broken):
    found = read_measurements({"measurements": {"metrics": {"auc": 0.9}, "rows": rows(**broken)}})
    assert found.rows is None
    assert found.malformed


@pytest.mark.parametrize("report", [[], 3, "x", {"metrics": []}, {"metrics": {}, "rows": 7}])
def test_a_report_of_another_shape_is_said(report):
    assert read_measurements({"measurements": report}).malformed


@pytest.mark.parametrize(
    "broken",
    [
        {"lives": None},
        {"lives": [3]},
        {"lives": [life(latency_ms=None)]},
        {"lives": [life(latency_ms=[1.0, math.nan])]},
        {"lives": [life(latency_ms=[1.0, 0.0])]},
        {"lives": [life(latency_ms=[-1.0])]},
        {"loaded": 3},
        {"loaded": {"rate": 0, "latency_ms": [1.0]}},
        {"loaded": {"rate": 5, "latency_ms": [True]}},
        {"loaded": {"latency_ms": [1.0]}},
        {"requests": None},
        {"errors": "0"},
        {"golden": []},
        {"golden": {"checked": 1, "wrong": "none"}},
        {"golden": {"wrong": []}},
    ],
)
def test_a_served_side_of_another_shape_is_not_used(broken):
    found = read_measurements({"served": {"candidate": side(**broken), "baseline": side(**broken)}})
    assert found.served is None
    assert found.served_because
    assert found.served_baseline is None
    assert found.served_baseline_because


@pytest.mark.parametrize("value", [None, 0, -5, math.inf, "80"])
def test_memory_and_start_up_must_be_above_zero(value):
    lives = [life(memory_peak_mb=value, startup_ms=value)]
    found = read_measurements({"served": {"candidate": side(lives=lives, model_size_mb=value)}})
    for metric in ("memory_peak_mb", "startup_ms", "model_size_mb"):
        assert found.served.reading(metric).value is None
        assert found.served.reading(metric).because


def test_percentiles_and_the_samples_they_need():
    served = read_measurements({"served": {"candidate": side()}}).served
    assert served.reading("latency_p50_ms").value == pytest.approx(2.99)
    assert served.reading("latency_p95_ms").value == pytest.approx(4.79)
    assert served.reading("latency_p99_ms").value == pytest.approx(4.95)
    few = read_measurements({"served": {"candidate": side(lives=[life(latency_ms=[1.0] * 199)])}}).served
    assert few.reading("latency_p99_ms").because == "needs 200 requests, and 199 were measured"
    assert few.reading("latency_p50_ms").value == 1.0
    assert [smallest_latency_sample(share) for share in (0.5, 0.95, 0.99)] == [4, 40, 200]


def test_errors_and_wrong_golden_answers_disqualify():
    served = {"candidate": side(errors=2), "baseline": side(name="m v1", golden={"checked": 3, "wrong": ["first"]})}
    found = read_measurements({"served": served})
    assert found.served.disqualified == "the candidate answered 2 of 400 requests with an error"
    assert found.served_baseline.disqualified == "m v1 answered 1 of 3 golden requests wrongly: first"


def test_a_model_without_golden_requests_is_not_disqualified():
    found = read_measurements({"served": {"candidate": side(golden=None)}})
    assert found.served.disqualified == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(["metrics", "invalid", "rows", "candidate", "baseline", "labels", "prediction", "latency_ms"])


@given(st.dictionaries(st.sampled_from(["measurements", "served"]), st.dictionaries(keys, json_values) | json_values))
@settings(max_examples=150)
def test_nothing_that_json_can_say_makes_it_stumble_or_answer_what_is_not_finite(reports):
    found = read_measurements(reports)
    assert all(math.isfinite(value) for value in found.metrics.values())
    assert not set(found.metrics) & set(found.invalid)

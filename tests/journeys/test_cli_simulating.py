"""`simulate`: the odds of a canary, told before anyone trusts it."""

from __future__ import annotations

import json

import pytest

from interlock.cli import main
from interlock.cli.simulating.playing import Exposure, exposures
from interlock.pipeline.canaries.plan import MirrorPlan, StepPlan, StrategyPlan

FILE = """
version: 1
stages:
  train: {cmd: python train.py, outs: [model/]}
model: {name: flights, path: model/, format: skops}
deploy:
  staging: {strategy: rolling}
  production:
    strategy:
      canary:
        steps: [{set_weight: 5}, {analysis: {for: 5m}}, {set_weight: 25}, {analysis: {for: 5m}}]
        deadline: 20m
        analysis: {metrics: [{metric: error_rate, max_ratio: 1.5, margin: 0.02, max: 0.5}]}
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "interlock.yaml"
    file.write_text(FILE)
    return file


def simulated(path, capsys, *options):
    assert main(["simulate", str(path), "--runs", "40", *options, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_much_traffic_promotes_what_is_good_and_finds_what_is_not(path, capsys):
    odds = simulated(path, capsys, "--requests", "3000", "--worse", "10")
    assert odds["like_stable"]["rolled_back"] <= 1
    assert odds["like_stable"]["promoted"] >= 38
    assert odds["worse"]["rolled_back"] == 40
    assert odds["worse"]["until_rolled_back"] <= 300
    assert simulated(path, capsys, "--requests", "3000", "--worse", "10") == odds


def test_latencies_and_labels_are_played_as_those_of_stable(path, capsys):
    more = "{metric: latency_p95_ms, max_ratio: 1.2}, {metric: accuracy, source: labels, margin: 0.02}"
    path.write_text(FILE.replace("max: 0.5}", "max: 0.5}, " + more))
    odds = simulated(path, capsys, "--requests", "6000", "--worse", "10")
    assert odds["like_stable"]["rolled_back"] <= 1
    assert odds["like_stable"]["promoted"] >= 36
    assert odds["worse"]["rolled_back"] == 40


def test_slices_cost_a_share_of_the_evidence_and_that_nothing_is_made_of_them_is_told(path, capsys):
    more = "{metric: accuracy, source: labels, slices: [{column: carrier, values: [AA, UA]}]}"
    path.write_text(FILE.replace("max: 0.5}", "max: 0.5}, " + more))
    assert main(["simulate", str(path), "--requests", "6000", "--worse", "10", "--runs", "5"]) == 0
    assert "a slice shows (carrier=AA, carrier=UA) is not played" in capsys.readouterr().out


def test_little_traffic_holds_until_the_deadline_and_says_what_cannot_be_seen(path, capsys):
    odds = simulated(path.parent, capsys, "--requests", "2")
    assert odds["like_stable"]["promoted"] == 0
    assert odds["worse"]["rolled_back"] <= 1
    assert main(["simulate", str(path), "--requests", "2", "--runs", "5"]) == 0
    told = capsys.readouterr().out
    assert "undecided at the deadline 100 %" in told
    assert "at 2 requests/min and 5 % you will see nothing in 5 min: raise the weight" in told


def test_more_traffic_shows_smaller_regressions(path, capsys):
    told = []
    for requests in ("300", "30000"):
        assert main(["simulate", str(path), "--requests", requests, "--runs", "2"]) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if "and 25 %" in line)
        told.append(float(line.partition("errors x")[2].partition(" ")[0]))
    assert told[0] > 2 * told[1] > 3.0


@pytest.mark.parametrize(
    ("where", "options", "problem"),
    [
        ("interlock.yaml", ["--environment", "nowhere"], "there is no environment 'nowhere'"),
        ("interlock.yaml", ["--environment", "staging"], "staging has no canary"),
        ("other.yaml", [], "there is no such file"),
    ],
)
def test_what_cannot_be_played_is_refused(path, capsys, where, options, problem):
    assert main(["simulate", str(path.parent / where), "--requests", "9", *options]) == 2
    assert problem in capsys.readouterr().err


def test_weights_last_as_long_as_their_steps_and_the_last_until_the_deadline():
    steps = (StepPlan(set_weight=5), StepPlan(analysis=30.0), StepPlan(set_weight=50), StepPlan(pause=20.0))
    strategy = StrategyPlan(kind="canary", steps=(*steps, StepPlan(set_weight=100)), deadline=80.0)
    first, second = Exposure(0.05, 0.0, False), Exposure(0.5, 0.0, False)
    expected = [first] * 3 + [second] * 2 + [second._replace(is_last=True)] * 3
    assert list(exposures(strategy, lambda: False)) == expected
    assert len(list(exposures(strategy.model_copy(update={"deadline": 20.0}), lambda: False))) == 2


def test_a_mirror_lasts_while_it_is_held_and_a_shadow_until_it_is_proven():
    mirror = StepPlan(mirror=MirrorPlan(percent=40, seconds=20.0))
    strategy = StrategyPlan(kind="canary", deadline=70.0, steps=(mirror, StepPlan(set_weight=5), StepPlan(pause=10.0)))
    copied, weighed = Exposure(0.0, 0.4, False), Exposure(0.05, 0.0, False)
    told = iter([True, True, False])
    expected = [copied] * 4 + [weighed] + [weighed._replace(is_last=True)] * 2
    assert list(exposures(strategy, lambda: next(told))) == expected
    shadow = StrategyPlan(kind="shadow", deadline=50.0, steps=(mirror,))
    assert list(exposures(shadow, lambda: False)) == [copied] * 2 + [copied._replace(is_last=True)] * 3


def test_copies_are_played_before_the_weights_and_find_what_is_bad(path, capsys):
    steps = "{mirror: {percent: 100, for: 3m}}, {set_weight: 5}"
    more = "max: 0.5}, {metric: agreement, min: 0.9}, {metric: accuracy, source: labels, margin: 0.05}"
    path.write_text(FILE.replace("{set_weight: 5}", steps).replace("max: 0.5}", more))
    odds = simulated(path, capsys, "--requests", "3000", "--worse", "10")
    assert odds["like_stable"]["rolled_back"] <= 1
    assert odds["like_stable"]["promoted"] >= 36
    assert (odds["worse"]["rolled_back"], odds["worse"]["until_rolled_back"] <= 60) == (40, True)
    assert main(["simulate", str(path), "--runs", "2", "--requests", "600"]) == 0
    told = capsys.readouterr().out
    assert "at 600 requests/min and a mirror of 100 % you will see errors x" in told


def test_a_shadow_is_played_too(path, capsys):
    canary = FILE[FILE.index("      canary:") :]
    shadow = "      shadow: {for: 5m, deadline: 20m, analysis: {metrics: [{metric: error_rate, margin: 0.02}]}}\n"
    path.write_text(FILE.replace(canary, shadow))
    odds = simulated(path, capsys, "--requests", "3000", "--worse", "10")
    assert odds["like_stable"]["promoted"] >= 38
    assert odds["worse"]["rolled_back"] == 40
    assert main(["simulate", str(path), "--runs", "2", "--requests", "1"]) == 0
    assert "a mirror of 100 % you will see nothing in 5 min: copy more, or wait longer" in capsys.readouterr().out

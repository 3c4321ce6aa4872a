"""`simulate`: the odds of a canary, told before anyone trusts it."""

from __future__ import annotations

import json

import pytest

from interlock.cli import main
from interlock.cli.simulating.playing import weights_over_time
from interlock.pipeline.plan import StepPlan, StrategyPlan

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
    assert list(weights_over_time(strategy)) == [(0.05, False)] * 3 + [(0.5, False)] * 2 + [(0.5, True)] * 3
    assert len(list(weights_over_time(strategy.model_copy(update={"deadline": 20.0})))) == 2

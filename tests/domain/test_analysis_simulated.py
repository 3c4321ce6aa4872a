"""The simulation of rollouts: it judges as the engine does, tick by tick, and its short form keeps what is promised."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from interlock.delivery.analysis.engine import begin_analysis, harm_of, observe
from interlock.delivery.analysis.spread import BLOCKS, Spread
from interlock.delivery.analysis.streams import Rule
from interlock.delivery.analysis.ticks import Counts, Latencies, Pairs, Tick

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "rollouts.py"


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("simulated_rollouts", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def spreads(channels, names, run):
    return {
        name: Spread(replicas=4, variances=dict(zip(BLOCKS, map(float, channel.variances[run]), strict=True)))
        for name, channel in zip(names, channels, strict=True)
        if channel.variances is not None
    }


def binned(row):
    return {int(index): int(row[index]) for index in np.flatnonzero(row)}


def tick_of(look, number, run, youngest):
    strata = look.x1.shape[1]
    seen = {"error_rate": {}, "latency": {}, "accuracy": {}}
    for stratum in range(strata):
        name = str(stratum) if strata > 1 else ""
        x1, n1, x0, n0 = (int(side[run, stratum]) for side in look[:4])
        seen["error_rate"][name] = Counts(
            candidate_events=x1, candidate_requests=n1, stable_events=x0, stable_requests=n0
        )
        seen["latency"][name] = Latencies(
            candidate=binned(look.slow1[stratum][run]), stable=binned(look.slow0[stratum][run])
        )
    labels, worse, better = (int(of[run]) for of in (look.pairs, look.worse, look.better))
    seen["accuracy"][""] = Pairs(pairs=labels, worse=worse, better=better)
    return Tick(number=number, seconds=10.0, youngest=youngest, seen=seen)


@pytest.mark.parametrize(
    ("world", "rate", "errors"),
    [("real", 10.0, 0.02), ("replicas", 50.0, 0.0), ("cold", 10.0, 0.0), ("simpson", 50.0, 0.0)],
)
def test_every_e_value_of_the_simulation_is_the_engines(simulation, world, rate, errors):
    scenario = simulation.Scenario(world=world, rate=rate, errors=errors)
    judge = simulation.Judge(scenario, 2, 3)
    strata = ["0", "1"] if world == "simpson" else []
    names = ["p50", "p90", "p99"]
    rules = [
        Rule(metric="error_rate", share=0.4, spreads=spreads([judge.errors], ["error_rate"], 1)),
        Rule(metric="latency", kind="latency", share=0.4, max_ratio=1.06, spreads=spreads(judge.latency, names, 1)),
        Rule(metric="accuracy", kind="pairs", share=0.2),
    ]
    analysis = begin_analysis(rules, scenario.ticks, warm_up=300.0, strata=strata)
    for number, look in enumerate(simulation.looks(scenario, 2, 3), start=1):
        if number > 60:
            break
        youngest = 10.0 * (number - 1) if world == "cold" else 1e9
        analysis = observe(analysis, tick_of(look, number, 1, youngest))
        expected = judge.observe(look)
        for stream, name in zip(analysis.streams, ("errors", "latency", "quality"), strict=True):
            assert stream.harm_value == pytest.approx(expected[name][1], rel=1e-6), (number, name)
        assert harm_of(analysis) == pytest.approx(expected["whole"][1], rel=1e-6)
        safety = math.exp(min(600.0, analysis.streams[0].log_safety))
        assert safety == pytest.approx(expected["safe"][1], rel=1e-6)


@pytest.mark.parametrize("world", ["real", "replicas"])
def test_a_candidate_like_stable_is_hardly_ever_rolled_back(simulation, world):
    outcome = simulation.play(simulation.Scenario(world=world, rate=10.0), 30, 11)
    assert np.isfinite(outcome.seconds["whole"]).sum() <= 2
    assert np.isfinite(outcome.seconds["argo 99"]).mean() > 0.5


def test_harm_is_found_about_as_soon_as_by_who_knows_the_truth(simulation):
    outcome = simulation.play(simulation.Scenario(rate=50.0, errors=0.1, ticks=60), 30, 12)
    assert np.isfinite(outcome.seconds["whole"]).all()
    assert np.median(outcome.seconds["whole"]) <= 3 * np.median(outcome.seconds["oracle"])


def test_what_is_worse_by_the_margin_is_hardly_ever_promoted(simulation):
    outcome = simulation.play(simulation.Scenario(rate=10.0, errors=simulation.MARGIN, ticks=180), 60, 13)
    assert np.isfinite(outcome.seconds["safe"]).sum() <= 8

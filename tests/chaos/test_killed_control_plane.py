"""The control plane is killed at ten moments of a better model's way: traffic never notices, state converges."""

import time

import pytest

from interlock.vocabulary import Kind

MOMENTS = [0.05, 0.4, 1.0, 1.8, 2.6, 3.6, 5.0, 7.0, 9.0, 11.0]
"""Seconds after the push: intake, checks, training, measuring, sealing, staging, each weight of the canary."""


@pytest.mark.slow
def test_killed_at_ten_moments_of_a_better_models_way(journey, traffic) -> None:
    journey.start()
    journey.push("first model")
    assert journey.until(Kind.RELEASE, 1, "done stopped").phase == "done"
    load = traffic(journey.url())
    for number, moment in enumerate(MOMENTS, start=2):
        (journey.clone / "params.yaml").write_text(f"train: {{c: {1 / number}}}\n")
        journey.push(f"model {number}")
        time.sleep(moment)
        journey.kill()
        time.sleep(0.3)
        journey.start()
        release = journey.until(Kind.RELEASE, number, "done stopped")
        assert release.phase == "done", release.state["because"]
        runs = journey.rows(Kind.RUN)
        assert [run.phase for run in runs] == ["succeeded"] * number
        assert len({run.state["commit"]["sha"] for run in runs}) == number
        assert len(journey.rows(Kind.RELEASE)) == number
        production = next(row for row in journey.rows(Kind.ENVIRONMENT) if row.key == "small/production")
        assert production.state["stable"]["version"] == number
        assert sum(production.state["weights"].values()) == 100
    load.stop()
    assert load.failures == []
    assert sum(load.served.values()) > 1000
    attempts = [row.key for row in journey.rows(Kind.ATTEMPT)]
    assert len(attempts) == len(set(attempts))

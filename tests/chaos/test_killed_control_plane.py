"""The control plane is killed at moments of a better model's way: traffic never notices, state converges.

Two of them in every test run, all ten in ``make storm`` (``KILLS=every``).
"""

import os
import time

import pytest

from interlock.vocabulary import Kind

MOMENTS = [(0.05, 4.0), (0.4, 6.0), (1.0, 8.0), (2.0, 10.0), (3.0, 12.0)]
"""Seconds after a push, two for each: intake, look-ups, training, measuring, sealing, staging, steps of the canary."""


@pytest.mark.slow
def test_killed_at_moments_of_a_better_models_way(journey, traffic) -> None:
    journey.start()
    journey.push("first model")
    assert journey.until(Kind.RELEASE, 1, "done stopped").phase == "done"
    load = traffic(journey.url())
    chosen = MOMENTS if os.environ.get("KILLS") == "every" else MOMENTS[2:3]
    for number, moments in enumerate(chosen, start=2):
        (journey.clone / "params.yaml").write_text(f"train: {{c: {1 / number}}}\n")
        journey.push(f"model {number}")
        pushed = time.monotonic()
        for moment in moments:
            time.sleep(max(0.0, pushed + moment - time.monotonic()))
            journey.kill()
            time.sleep(0.2)
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
    assert sum(load.served.values()) > 100 * len(chosen)
    attempts = [row.key for row in journey.rows(Kind.ATTEMPT)]
    assert len(attempts) == len(set(attempts))

"""The proxy and a replica are killed while no control plane is there: both are back soon, no later request fails."""

import json
import os
import signal
import time

from interlock.vocabulary import Kind


def pid_of(journey, name: str) -> int | None:
    """The process that runs under this name; None between its end and its new start."""
    pid: int | None = json.loads((journey.state / "data" / "status" / f"{name}.json").read_text())["pid"]
    return pid


def test_proxy_and_replica_come_back_without_a_control_plane(journey, traffic) -> None:
    journey.start()
    journey.push("first model")
    assert journey.until(Kind.RELEASE, 1, "done stopped").phase == "done"
    journey.kill()

    load = traffic(journey.url())
    time.sleep(1)
    replica = "small.production.r1.0"
    for name in (replica, "envoy"):
        before = pid_of(journey, name)
        assert before is not None
        os.kill(before, signal.SIGKILL)
        killed = time.monotonic()
        while pid_of(journey, name) in (before, None):
            assert time.monotonic() - killed < 2.0
            time.sleep(0.02)
        time.sleep(2.0 - (time.monotonic() - killed))
        while_away, load.failures[:] = list(load.failures), []
        if name == replica:
            assert while_away == []
        time.sleep(1.5)
        assert load.failures == []
    load.stop()

    served = sum(load.served.values())
    assert served > 100
    journey.start()
    time.sleep(2)
    production = next(row for row in journey.rows(Kind.ENVIRONMENT) if row.key == "small/production")
    assert production.state["stable"]["version"] == 1

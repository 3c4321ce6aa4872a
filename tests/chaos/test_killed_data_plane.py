"""The proxy and a replica are killed while no control plane is there: both are back soon, no later request fails.

A replica that finds something else on the disk than was admitted stays away until a control plane makes it right.
"""

import json
import os
import signal
import time

from tests.conftest import wait_for

from interlock.vocabulary import Kind


def pid_of(journey, name: str) -> int | None:
    """The process that runs under this name; None between its end and its new start."""
    pid: int | None = json.loads((journey.state / "data" / "status" / f"{name}.json").read_text())["pid"]
    return pid


def says(journey, name: str, text: str) -> bool:
    """Whether the newest lines of a replica's log tell it."""
    return text in (journey.state / "data" / "logs" / f"{name}.log").read_text()[-1000:]


def tamper(journey, name: str) -> None:
    """Another byte in an artifact's copy that the replicas are given."""
    path = journey.state / "data" / "models" / name.replace(":", "-")
    file = next(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else path
    file.chmod(0o644)
    file.write_bytes(file.read_bytes() + b" ")


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
    version = journey.rows(Kind.VERSION)[-1].state
    for name in (version["digest"], version["provenance"], version["golden"]):
        tamper(journey, name)
    before = pid_of(journey, replica)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: says(journey, replica, "not the admitted blake3:"), 20, "it is not started, and says why")
    time.sleep(1.0)
    assert load.failures == []  # the other one serves on

    served = sum(load.served.values())
    assert served > 100
    journey.start()
    wait_for((journey.state / "data" / "s" / replica / "http").exists, 30, "its copies were made again")
    time.sleep(2)
    load.stop()
    assert load.failures == []
    production = next(row for row in journey.rows(Kind.ENVIRONMENT) if row.key == "small/production")
    assert production.state["stable"]["version"] == 1

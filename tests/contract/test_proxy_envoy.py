"""The data plane for real: supervise keeps Envoy and replicas alive, Envoy takes its configuration from files."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Self

import pytest
from tests.unix_server import SERVE

from interlock.delivery.revision import DataPlaneSeen
from interlock.edges.proxy.configuration import socket_of
from interlock.edges.proxy.envoy import EnvoyProxy
from interlock.errors import NotFound, ProxyFault, StaleWrite
from interlock.system.files import write_atomically
from interlock.system.sockets import free_port

REPLICA = (
    """
import http.server, os, socketserver, sys, time
from pathlib import Path
name, socket = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path.endswith("/slow"):
            time.sleep(0.2)
        failing = Path("failing." + name)
        status = int(failing.read_text()) if failing.exists() and "health" not in self.path else 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name.encode())"""
    + SERVE
)
KILLS = 10 if os.environ.get("KILLS") == "every" else 2
STABLE, CANDIDATE = "flights.production.r1", "flights.production.r2"
ENVIRONMENT = "flights/production"


def eventually(holds: Callable[[], bool], what: str, seconds: float = 15.0) -> float:
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)
    return time.monotonic() - began


class Plane:
    """A data-plane folder with everything in it, and the few things a test does to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"production": free_port(), "staging": free_port()}
        (folder / "processes").mkdir(parents=True)
        (folder / "replica.py").write_text(REPLICA)
        self.proxy = self.make_proxy()
        self.supervise()

    def make_proxy(self, lease_seconds: float = 300.0) -> EnvoyProxy:
        listeners = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        return EnvoyProxy(self.folder, listeners, self.argv("labels"), lease_seconds)

    def argv(self, name: str) -> list[str]:
        return [sys.executable, "-S", "replica.py", name, socket_of(name)]

    def supervise(self) -> None:
        subprocess.run([sys.executable, "-m", "interlock.supervise", "--detach", self.folder], check=True)

    def supervise_pid(self) -> int:
        return int(json.loads((self.folder / "supervise.json").read_text())["pid"])

    def stop(self) -> None:
        subprocess.run([sys.executable, "-m", "interlock.supervise", "--detach", self.folder], check=False)
        os.kill(self.supervise_pid(), signal.SIGTERM)
        eventually(lambda: not list((self.folder / "status").glob("*.json")), "everything has ended")

    def run_replica(self, name: str) -> None:
        (self.folder / "s" / name).mkdir(parents=True, exist_ok=True)
        process = {"name": name, "argv": self.argv(name), "env": {}, "generation": 1, "grace": 1}
        part = self.folder / "part"
        part.write_text(json.dumps(process | {"unlink": [socket_of(name)]}))
        part.rename(self.folder / "processes" / f"{name}.json")

    def end_replica(self, name: str) -> None:
        (self.folder / "processes" / f"{name}.json").unlink()

    def serve(self, revision: str, replicas: int = 2, version: int = 1) -> None:
        names = [f"{revision}.{index}" for index in range(replicas)]
        for name in names:
            self.run_replica(name)
        self.proxy.ensure_endpoints(revision, names, (), version)
        self.wait_healthy(revision, *names)

    def wait_healthy(self, revision: str, *names: str) -> float:
        def are_healthy() -> bool:
            endpoints = self.seen().endpoints.get(revision, {})
            return all(name in endpoints and endpoints[name].is_healthy for name in names)

        return eventually(are_healthy, f"{names} are healthy")

    def seen(self) -> DataPlaneSeen:
        return self.proxy.observe(ENVIRONMENT)

    def epoch(self) -> str | None:
        """Which Envoy counts now; None while none can be read."""
        counters = self.seen().counters
        return counters[STABLE].epoch if STABLE in counters else None

    def pid(self, name: str) -> int:
        """The program itself, below its stub."""
        try:
            stub = json.loads((self.folder / "status" / f"{name}.json").read_text())["pid"]
            children = Path(f"/proc/{stub}/task/{stub}/children").read_text().split()
        except OSError:  # not there yet, or just ending
            return 0
        return int(children[0]) if children else 0

    def is_out(self, name: str, pid: int) -> bool:
        """Whether the proxy sends it nothing, or it is another process meanwhile."""
        return not self.seen().endpoints[STABLE][name].is_healthy or self.pid(name) not in (0, pid)

    def wait_replaced(self, name: str, pid: int) -> float:
        return eventually(lambda: self.pid(name) not in (0, pid), f"{name} is started again")

    def ask(
        self, path: str = "/v2/models/flights/infer", environment: str = "production", **headers: str
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[environment], timeout=20)
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def ask_or_none(self) -> int | None:
        try:
            return self.ask()[0]
        except OSError:
            return None

    def share(self, requests: int = 200) -> Counter[str]:
        """Who answers, by revision."""
        return Counter(self.ask()[1].rpartition(".")[0] for _ in range(requests))


class Load:
    """Requests from several clients, one after the other each, for as long as the block lasts."""

    def __init__(self, plane: Plane, clients: int = 4, path: str = "/v2/models/flights/infer") -> None:
        self.plane, self.path = plane, path
        self.failed: list[str] = []
        self.answered = 0
        self._is_over = threading.Event()
        self._clients = [threading.Thread(target=self._ask_on) for _ in range(clients)]

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for client in self._clients:
            client.join()

    def _ask_on(self) -> None:
        while not self._is_over.is_set():
            try:
                status, body = self.plane.ask(self.path)
            except (OSError, http.client.HTTPException) as problem:
                status, body = 0, repr(problem)
            if status == 200:
                self.answered += 1
            else:
                self.failed.append(f"{status} {body}")
            time.sleep(0.002)

    def wait_for(self, more: int) -> None:
        goal = self.answered + more
        eventually(lambda: self.answered >= goal or bool(self.failed), f"{more} more answers", 30)


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    plane = Plane(tmp_path / ("a folder with a name that would not fit into the address of a socket " * 2).strip())
    try:
        plane.proxy.start()
        yield plane
    finally:
        plane.stop()


def test_ten_weight_changes_under_load_fail_no_request(plane: Plane) -> None:
    plane.serve(STABLE)
    plane.serve(CANDIDATE)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    with Load(plane) as load:
        for version in range(2, 12):
            weight = (version * 37) % 100
            plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100 - weight, CANDIDATE: weight}, version)
            load.wait_for(20)
        plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100, CANDIDATE: 0}, 12)
        assert plane.share(50) == {STABLE: 50}
    assert load.failed == []
    assert plane.seen().weights == {STABLE: 100, CANDIDATE: 0}
    counters = plane.seen().counters
    assert counters[STABLE].requests + counters[CANDIDATE].requests == load.answered + 50
    assert {counter.errors for counter in counters.values()} == {0}


def test_the_load_is_counted_with_the_time_that_answers_took(plane: Plane) -> None:
    plane.serve(STABLE)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    for _ in range(3):
        assert plane.ask("/v2/models/flights/slow")[0] == 200
    plane.share(20)
    eventually(lambda: plane.seen().loads[STABLE].answered == 23, "the flush of the proxy's counters", 3.0)
    load = plane.seen().loads[STABLE]
    assert load.epoch == plane.seen().counters[STABLE].epoch
    assert 0.6 <= load.seconds <= 1.5
    assert load.active == 0
    latencies = plane.seen().latencies[STABLE]
    assert latencies.epoch == load.epoch
    assert sum(count for _, _, count in latencies.answers) == 23
    assert sum(count for least, _, count in latencies.answers if least >= 200.0) == 3
    assert all(0.0 <= least < most <= 1000.0 for least, most, _ in latencies.answers)
    assert max(count for bound, count in load.within if bound <= 150.0) == 20
    assert load.within[-1][0] >= 200.0
    assert load.within[-1][1] == 23


def test_a_sticky_header_keeps_its_requests_on_one_side_and_moves_few_when_the_weights_change(plane: Plane) -> None:
    plane.serve(STABLE)
    plane.serve(CANDIDATE)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 70, CANDIDATE: 30}, 1)

    def sides() -> dict[str, str]:
        answers = {
            f"user {number}": {plane.ask(x_interlock_sticky=f"user {number}")[1] for _ in range(3)}
            for number in range(40)
        }
        found = {user: {body.rpartition(".")[0] for body in bodies} for user, bodies in answers.items()}
        assert {len(revisions) for revisions in found.values()} == {1}
        return {user: next(iter(revisions)) for user, revisions in found.items()}

    before = sides()
    assert 3 <= list(before.values()).count(CANDIDATE) <= 24  # 12 expected, standard deviation 3
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 50, CANDIDATE: 50}, 2)
    after = sides()
    assert all(after[user] == CANDIDATE for user, side in before.items() if side == CANDIDATE)


def test_a_tester_names_the_revision_that_answers_and_no_other_models(plane: Plane) -> None:
    plane.serve(STABLE, 1)
    plane.serve(CANDIDATE, 1)
    plane.proxy.ensure_endpoints("delays.production.r1", [], (), 1)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    assert plane.ask(x_interlock_revision=CANDIDATE) == (200, f"{CANDIDATE}.0")
    assert plane.ask(x_interlock_revision=STABLE) == (200, f"{STABLE}.0")
    assert plane.ask(x_interlock_revision="flights.production.r9")[0] == 404
    assert plane.ask(x_interlock_revision="delays.production.r1") == (200, f"{STABLE}.0")


def test_what_failed_is_in_the_access_log_with_the_ids_to_find_it_by(plane: Plane) -> None:
    plane.serve(STABLE, 1)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    (plane.folder / f"failing.{STABLE}.0").write_text("500")
    assert plane.ask(traceparent="00-abc-def-01")[0] == 500
    log = plane.folder / "logs" / "access.log"
    eventually(lambda: log.exists() and "00-abc-def-01" in log.read_text(), "the line is written", 15.0)
    (line,) = [json.loads(line) for line in log.read_text().splitlines() if "00-abc-def-01" in line]
    assert (line["status"], line["revision"], line["path"]) == (500, STABLE, "/v2/models/flights/infer")
    assert line["request"]


def test_shares_follow_the_weights(plane: Plane) -> None:
    plane.serve(STABLE, 1)
    plane.serve(CANDIDATE, 1)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 80, CANDIDATE: 20}, 1)
    share = plane.share(400)
    assert 40 <= share[CANDIDATE] <= 130  # 80 expected, standard deviation 8
    plane.proxy.ensure_weights(ENVIRONMENT, {CANDIDATE: 100}, 2)
    assert plane.share(30) == {CANDIDATE: 30}


def test_envoy_and_a_replica_are_back_soon_after_kill_and_serve_as_before(plane: Plane) -> None:
    plane.serve(STABLE)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    epoch = plane.seen().counters[STABLE].epoch
    envoy, replica = plane.pid("envoy"), plane.pid(f"{STABLE}.0")
    os.kill(envoy, signal.SIGKILL)
    os.kill(replica, signal.SIGKILL)
    plane.wait_replaced("envoy", envoy)
    plane.wait_replaced(f"{STABLE}.0", replica)
    plane.wait_healthy(STABLE, f"{STABLE}.0", f"{STABLE}.1")
    assert {plane.ask()[0] for _ in range(100)} == {200}
    seen = plane.seen()
    assert seen.weights == {STABLE: 100}
    assert seen.problem is None
    assert seen.counters[STABLE].epoch != epoch
    assert seen.counters[STABLE].requests == 100


def test_a_killed_replica_fails_no_request(plane: Plane) -> None:
    plane.serve(STABLE)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    with Load(plane, 8, "/v2/models/flights/slow") as load:
        load.wait_for(20)
        for _ in range(KILLS):
            replica = plane.pid(f"{STABLE}.0")
            eventually(lambda: plane.seen().endpoints[STABLE][f"{STABLE}.0"].active > 1, "it works at requests")
            os.kill(replica, signal.SIGKILL)
            assert eventually(partial(plane.is_out, f"{STABLE}.0", replica), "it gets nothing") <= 2.0
            plane.wait_replaced(f"{STABLE}.0", replica)
            plane.wait_healthy(STABLE, f"{STABLE}.0", f"{STABLE}.1")
            load.wait_for(20)
    assert load.failed == []
    assert plane.seen().counters[STABLE].errors > 0  # the attempts that got no answer are counted all the same


def test_a_replica_that_hangs_fails_no_request(plane: Plane) -> None:
    plane.serve(STABLE)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    replica = plane.pid(f"{STABLE}.0")
    with Load(plane) as load:
        load.wait_for(20)
        os.kill(replica, signal.SIGSTOP)
        assert eventually(lambda: plane.is_out(f"{STABLE}.0", replica), "it is taken out") <= 5.0
        load.wait_for(50)
    os.kill(replica, signal.SIGCONT)
    assert load.failed == []


def test_replacing_a_revision_fails_no_request(plane: Plane) -> None:
    plane.serve(STABLE)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    old = [f"{STABLE}.0", f"{STABLE}.1"]
    with Load(plane, 4, "/v2/models/flights/slow") as load:
        load.wait_for(10)
        plane.serve(CANDIDATE)
        plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 0, CANDIDATE: 100}, 2)
        plane.proxy.ensure_endpoints(STABLE, old, old, 2)
        eventually(lambda: all(one.is_draining for one in plane.seen().endpoints[STABLE].values()), "it drains")
        eventually(lambda: not any(one.active for one in plane.seen().endpoints[STABLE].values()), "it is idle")
        plane.proxy.remove_endpoints(STABLE, 2)
        for name in old:
            plane.end_replica(name)
        load.wait_for(20)
    assert load.failed == []
    seen = plane.seen()
    assert set(seen.endpoints) == {CANDIDATE}
    assert seen.weights == {CANDIDATE: 100}
    eventually(lambda: not (plane.folder / "status" / f"{old[0]}.json").exists(), "the old replica has ended")


def test_requests_go_on_while_supervise_is_killed_and_started_again(plane: Plane) -> None:
    plane.serve(STABLE)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    before = {name: plane.pid(name) for name in ("envoy", f"{STABLE}.0", f"{STABLE}.1")}
    with Load(plane) as load:
        os.kill(plane.supervise_pid(), signal.SIGKILL)
        load.wait_for(50)
        plane.supervise()
        load.wait_for(50)
    assert load.failed == []
    assert {name: plane.pid(name) for name in before} == before


def test_a_lease_that_nobody_renews_gives_the_weight_to_stable(plane: Plane) -> None:
    plane.serve(STABLE, 1)
    plane.serve(CANDIDATE, 1)
    plane.proxy.ensure_weights(ENVIRONMENT, {CANDIDATE: 100}, 1)
    plane.make_proxy(lease_seconds=0.3).renew_lease(ENVIRONMENT, CANDIDATE, STABLE)
    eventually(lambda: plane.seen().weights == {STABLE: 100, CANDIDATE: 0}, "stable has all of the weight")
    eventually(lambda: plane.seen().problem is None, "Envoy has taken it")
    assert plane.share(30) == {STABLE: 30}
    assert not list((plane.folder / "leases").iterdir())
    told = [json.loads(line) for line in (plane.folder / "events.jsonl").read_text().splitlines()]
    assert any(event["event"] == "lease" and CANDIDATE in event["because"] for event in told)


def test_a_lease_that_is_renewed_or_ended_moves_nothing(plane: Plane) -> None:
    plane.serve(STABLE, 1)
    plane.serve(CANDIDATE, 1)
    weights = {STABLE: 50, CANDIDATE: 50}
    plane.proxy.ensure_weights(ENVIRONMENT, weights, 1)
    proxy = plane.make_proxy(lease_seconds=2.0)
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        proxy.renew_lease(ENVIRONMENT, CANDIDATE, STABLE)
        time.sleep(0.1)
    assert plane.seen().weights == weights
    proxy.end_lease(ENVIRONMENT)
    proxy.end_lease(ENVIRONMENT)
    time.sleep(2.5)
    assert plane.seen().weights == weights


def test_what_envoy_rejects_is_said_and_changes_nothing(plane: Plane) -> None:
    plane.serve(STABLE, 1)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    file = plane.folder / "envoy" / f"eds.{STABLE}.json"
    before = file.read_bytes()
    with pytest.raises(ProxyFault, match="rejected"):
        plane.proxy.ensure_endpoints(STABLE, ["x" * 120], (), 2)
    assert file.read_bytes() == before
    with pytest.raises(ProxyFault):
        plane.proxy.ensure_endpoints(CANDIDATE, ["x" * 120], (), 2)
    seen = plane.seen()
    assert set(seen.endpoints) == {STABLE}
    assert seen.problem is None
    assert plane.ask()[0] == 200
    envoy = plane.pid("envoy")
    os.kill(envoy, signal.SIGKILL)
    plane.wait_replaced("envoy", envoy)
    plane.wait_healthy(STABLE, f"{STABLE}.0")
    assert plane.ask()[0] == 200


def test_a_dead_envoy_is_a_problem_to_see_and_none_to_write(plane: Plane) -> None:
    plane.serve(STABLE, 1)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    os.kill(plane.supervise_pid(), signal.SIGKILL)
    os.kill(plane.pid("envoy"), signal.SIGKILL)
    eventually(lambda: plane.seen().problem is not None, "the problem is seen")
    assert plane.seen().weights == {STABLE: 100}
    plane.run_replica(f"{CANDIDATE}.0")
    plane.proxy.ensure_endpoints(CANDIDATE, [f"{CANDIDATE}.0"], (), 2)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 0, CANDIDATE: 100}, 2)
    plane.supervise()
    plane.wait_healthy(CANDIDATE, f"{CANDIDATE}.0")
    assert plane.share(20) == {CANDIDATE: 20}


def test_a_second_start_changes_no_process(plane: Plane) -> None:
    plane.serve(STABLE, 1)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    pid = plane.pid("envoy")
    again = plane.make_proxy()
    again.start()
    assert plane.pid("envoy") == pid
    assert again.observe(ENVIRONMENT).weights == {STABLE: 100}
    with pytest.raises(StaleWrite):
        again.ensure_weights(ENVIRONMENT, {}, 0)


def test_another_envoy_takes_over_under_load_and_fails_no_request(plane: Plane) -> None:
    plane.serve(STABLE)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    before, epoch = plane.pid("envoy"), plane.seen().counters[STABLE].epoch
    with Load(plane) as load:
        load.wait_for(100)
        path = plane.folder / "processes" / "envoy.json"
        process = json.loads(path.read_text())
        write_atomically(path, json.dumps(process | {"generation": process["generation"] + 1}).encode())
        plane.wait_replaced("envoy", before)
        eventually(lambda: plane.epoch() not in (None, epoch), "the new one can be read")
        load.wait_for(500)
        plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 2)
    assert load.failed == []
    assert Path(f"/proc/{before}").exists()  # it answers what it has
    seen = plane.seen()
    assert (seen.problem, seen.weights) == (None, {STABLE: 100})
    assert seen.counters[STABLE].epoch != epoch
    assert 400 < seen.counters[STABLE].requests < load.answered  # what the old one answered is not counted twice
    os.kill(plane.pid("envoy"), signal.SIGKILL)
    eventually(lambda: plane.ask_or_none() == 200, "a killed one is started again beside the one that drains")


def test_errors_of_the_model_are_counted_not_retried_and_eject_nobody(plane: Plane) -> None:
    plane.serve(STABLE)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    for index in (0, 1):
        (plane.folder / f"failing.{STABLE}.{index}").write_text("500")
    answers = [plane.ask()[0] for _ in range(30)]
    assert answers == [500] * 30
    seen = plane.seen()
    assert (seen.counters[STABLE].requests, seen.counters[STABLE].errors) == (30, 30)
    assert all(endpoint.is_healthy for endpoint in seen.endpoints[STABLE].values())


def test_an_attempt_answered_elsewhere_is_an_error_all_the_same(plane: Plane) -> None:
    plane.serve(STABLE)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    (plane.folder / f"failing.{STABLE}.0").write_text("503")
    assert {plane.ask()[0] for _ in range(20)} == {200}
    counter = plane.seen().counters[STABLE]
    assert counter.errors > 0
    assert counter.requests == 20 + counter.errors


def test_what_else_the_endpoint_answers(plane: Plane) -> None:
    assert plane.ask("/v2/health/live") == (200, '{"live": true}')
    assert plane.ask("/v2/models/unknown/infer")[0] == 404
    assert plane.ask("/v2%2fmodels")[0] == 400
    eventually(lambda: plane.ask("/labels/flights") == (200, "labels"), "the label endpoint answers")
    plane.proxy.ensure_weights(ENVIRONMENT, {}, 1)
    status, body = plane.ask()
    assert status == 503
    assert "flights" in json.loads(body)["error"]
    assert plane.ask(environment="staging")[0] == 404


def test_two_models_share_a_listener_and_do_not_touch_each_other(plane: Plane) -> None:
    other = "delays.production.r1"
    plane.serve(STABLE, 1)
    plane.run_replica(f"{other}.0")
    plane.proxy.ensure_endpoints(other, [f"{other}.0"], (), 1)
    plane.proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 9)
    plane.proxy.ensure_weights("delays/production", {other: 100}, 1)
    eventually(lambda: plane.ask("/v2/models/delays/infer") == (200, f"{other}.0"), "the other model answers")
    assert plane.ask() == (200, f"{STABLE}.0")
    assert set(plane.seen().endpoints) == {STABLE}
    plane.proxy.ensure_weights("delays/production", {}, 2)
    assert plane.ask()[0] == 200


def test_a_port_that_is_taken_is_said(plane: Plane) -> None:
    plane.ports["other"] = plane.ports["production"]
    with pytest.raises(ProxyFault, match=r"lds\.json"):
        plane.make_proxy().start()
    assert plane.ask("/v2/health/live")[0] == 200


def test_an_environment_without_a_listener_is_refused(plane: Plane) -> None:
    with pytest.raises(NotFound):
        plane.proxy.ensure_weights("flights/moon", {}, 1)

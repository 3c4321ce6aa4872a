"""The whole path of a request beside the least that one could be: (Envoy as it is configured, our model server) and
(Envoy with the smallest configuration, granian with onnxruntime in 20 lines that check nothing), interleaved.

    python benchmarks/whole_path.py [--rounds N] [--seconds S] [--format joblib|onnx] [--cache DIR]

The model and the servers are those of ``model_server.py``; each Envoy has one worker and a replica at a Unix socket,
and is asked over 8 connections. A third path, our server behind the smallest Envoy, shows where something is lost.
Printed are medians of rounds, of each round's ratio to the least, and what each Envoy took of the processor for a
request. Target: one row of JSON >= 0.95 of the least.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from http_load import Load, load, post
from model_server import (
    CONNECTIONS,
    MAKE,
    Running,
    body_of,
    family_of,
    free_port,
    ratio,
    run_ours,
    run_peer,
    running,
    show,
)
from model_servers import OURS, V2
from pinned import environment_of

from interlock.edges.proxy import EnvoyProxy
from interlock.edges.proxy.configuration import socket_of
from interlock.edges.proxy.program import Envoy
from interlock.edges.serving import ensure_supervise, stop_supervise

LEAST_RATIO = 0.95
REVISION = "m.production.r1"
TYPE = "type.googleapis.com/envoy.extensions.filters"


class Front(NamedTuple):
    """Where requests come in, and the Envoy behind that."""

    server: Running
    envoy: int


def main() -> int:
    """Answers 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--format", choices=("joblib", "onnx"), default="onnx")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "interlock-benchmarks")
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        python = environment_of("interlock", OURS, asked.cache) / "python"
        subprocess.run([python, "-c", MAKE], cwd=folder, check=True)
        least = stack.enter_context(run_peer("bare", folder, asked.cache))
        model = "wrapped" if asked.format == "joblib" else "model.onnx"
        ours = stack.enter_context(run_ours(python, folder, model))
        paths = {
            "bare, bare Envoy": stack.enter_context(bare_envoy(folder / "a", least)),
            "interlock, bare Envoy": stack.enter_context(bare_envoy(folder / "b", ours)),
            "interlock, our Envoy": stack.enter_context(our_envoy(folder / "c", ours)),
        }
        found, used = measure_paths(paths, asked.rounds, asked.seconds)
    show("one row, JSON", found, "bare, bare Envoy")
    for name, each in used.items():
        print(f"{name:26}{statistics.median(each):6.0f} us of Envoy for a request")
    rate, late = ratio(found, "interlock, our Envoy", "bare, bare Envoy")
    print(f"whole path: {rate:.2f} of the least (target {LEAST_RATIO}), p99 {late:.2f} of its")
    return int(rate < LEAST_RATIO)


def measure_paths(
    paths: dict[str, Front], rounds: int, seconds: float
) -> tuple[dict[str, list[Load]], dict[str, list[float]]]:
    """Each path in turn, round after round: the loads, and the microseconds of Envoy for a request."""
    request = post(V2, body_of(1))
    found: dict[str, list[Load]] = {name: [] for name in paths}
    used: dict[str, list[float]] = {name: [] for name in paths}
    for turn in range(rounds + 1):
        for name, path in paths.items():
            before = processor_seconds(path.envoy)
            one = uvloop.run(load(path.server.address, request, seconds, CONNECTIONS))
            if one.wrong:
                raise RuntimeError(f"{name}: {one.wrong[0]!r}")
            if turn:  # the first only warms
                found[name].append(one)
                used[name].append((processor_seconds(path.envoy) - before) / (one.rate * seconds) * 1e6)
    return found, used


def processor_seconds(pid: int) -> float:
    """What all threads of a process have used so far (the kernel's documentation, scheduler/sched-stats)."""
    told = [path.read_text().split()[0] for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(map(int, told)) / 1e9


@contextlib.contextmanager
def bare_envoy(folder: Path, server: Running) -> Iterator[Front]:
    """Envoy with nothing but a listener, a route and a cluster."""
    folder.mkdir()
    port = free_port()
    (folder / "bare.json").write_text(json.dumps(least_configuration(port, server.address)))
    line: list[object] = [Envoy.installed().path, "--config-path", "bare.json", "--concurrency", "1"]
    line += ["--disable-hot-restart", "--log-level", "error"]
    with running(line, folder, {}, str(port), post(V2, body_of(1))) as found:
        yield Front(found, found.pid)


def least_configuration(port: int, socket: str) -> dict[str, Any]:
    """One listener at ``port`` that passes everything on to the Unix ``socket``."""
    host = {"endpoint": {"address": {"pipe": {"path": socket}}}}
    cluster = {"name": "one", "type": "STATIC", "connect_timeout": "1s"}
    cluster |= {"load_assignment": {"cluster_name": "one", "endpoints": [{"lb_endpoints": [host]}]}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "one"}}
    manager = {
        "@type": f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bare",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}.http.router.v3.Router"}}
        ],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {
        "static_resources": {
            "listeners": [{"name": "one", "address": address, "filter_chains": [chain]}],
            "clusters": [cluster],
        }
    }


@contextlib.contextmanager
def our_envoy(folder: Path, server: Running) -> Iterator[Front]:
    """Envoy as the control plane configures it, with one replica."""
    folder.mkdir()
    place = folder / socket_of(f"{REVISION}.0")
    place.parent.mkdir(parents=True)
    place.symlink_to(server.address)
    port = free_port()
    ensure_supervise(folder)
    try:
        proxy = EnvoyProxy(folder, {"production": f"127.0.0.1:{port}"})
        proxy.start(60.0)
        proxy.ensure_endpoints(REVISION, [f"{REVISION}.0"], (), 1)
        proxy.ensure_weights("m/production", {REVISION: 100}, 1)
        stub = json.loads((folder / "status" / "envoy.json").read_text())["pid"]
        (envoy,) = family_of(stub) - {stub}
        yield Front(Running(str(port), envoy, 0.0), envoy)
    finally:
        stop_supervise(folder)


if __name__ == "__main__":
    sys.exit(main())

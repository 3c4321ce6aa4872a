"""What every proxy does with what it is asked, the real one and its fake alike."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.delivery.revision import CounterSeen, EndpointSeen
from interlock.edges.proxy import EnvoyProxy, FakeProxy
from interlock.edges.serving import stop_supervise
from interlock.errors import NotFound, ProxyFault, StaleWrite
from interlock.ports import Proxy
from interlock.system.sockets import free_port

STABLE, CANDIDATE = "flights.production.r1", "flights.production.r2"
ENVIRONMENT = "flights/production"


@pytest.fixture(params=["fake", "envoy"])
def proxy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Proxy]:
    listeners = {"production": f"127.0.0.1:{free_port()}", "staging": f"127.0.0.1:{free_port()}"}
    if request.param == "fake":
        yield FakeProxy(listeners)
        return
    subprocess.run([sys.executable, "-m", "interlock.supervise", "--detach", tmp_path], check=True)
    try:
        envoy = EnvoyProxy(tmp_path, listeners, labels=None)
        envoy.start()
        yield envoy
    finally:
        stop_supervise(tmp_path)


def names(revision: str) -> list[str]:
    return [f"{revision}.0", f"{revision}.1"]


def test_nothing_is_there_at_first(proxy: Proxy) -> None:
    seen = proxy.observe(ENVIRONMENT)
    assert (seen.endpoints, seen.weights, seen.counters, seen.problem) == ({}, {}, {}, None)
    assert proxy.endpoint(ENVIRONMENT).startswith("http://127.0.0.1:")
    assert proxy.endpoint(ENVIRONMENT) == proxy.endpoint("delays/production")
    assert proxy.endpoint(ENVIRONMENT) != proxy.endpoint("flights/staging")


def test_endpoints_are_those_that_were_asked_for_last(proxy: Proxy) -> None:
    proxy.ensure_endpoints(STABLE, names(STABLE), (), 1)
    seen = proxy.observe(ENVIRONMENT)
    assert set(seen.endpoints[STABLE]) == set(names(STABLE))
    assert not any(endpoint.is_draining for endpoint in seen.endpoints[STABLE].values())
    assert (seen.counters[STABLE].requests, seen.counters[STABLE].errors) == (0, 0)
    proxy.ensure_endpoints(STABLE, names(STABLE)[1:], names(STABLE), 1)
    assert list(proxy.observe(ENVIRONMENT).endpoints[STABLE]) == [f"{STABLE}.1"]
    assert proxy.observe(ENVIRONMENT).endpoints[STABLE][f"{STABLE}.1"].is_draining
    proxy.ensure_endpoints(STABLE, names(STABLE), names(STABLE)[:1], 1)
    seen = proxy.observe(ENVIRONMENT).endpoints[STABLE]
    assert [seen[name].is_draining for name in names(STABLE)] == [True, False]
    assert proxy.observe("flights/staging").endpoints == {}
    assert proxy.observe("other/production").endpoints == {}


def test_weights_are_those_that_were_asked_for_last(proxy: Proxy) -> None:
    for revision in (STABLE, CANDIDATE):
        proxy.ensure_endpoints(revision, names(revision), (), 1)
    for version, weights in enumerate(({STABLE: 100}, {STABLE: 95, CANDIDATE: 5}, {STABLE: 0, CANDIDATE: 100}, {}), 1):
        proxy.ensure_weights(ENVIRONMENT, weights, version)
        assert proxy.observe(ENVIRONMENT).weights == weights
        proxy.ensure_weights(ENVIRONMENT, weights, version)
        assert proxy.observe(ENVIRONMENT).weights == weights


def test_an_act_of_an_older_version_changes_nothing(proxy: Proxy) -> None:
    proxy.ensure_endpoints(STABLE, names(STABLE), (), 5)
    proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 5)
    before = proxy.observe(ENVIRONMENT)
    with pytest.raises(StaleWrite):
        proxy.ensure_weights(ENVIRONMENT, {}, 4)
    with pytest.raises(StaleWrite):
        proxy.ensure_endpoints(STABLE, [], (), 4)
    with pytest.raises(StaleWrite):
        proxy.remove_endpoints(STABLE, 4)
    assert proxy.observe(ENVIRONMENT) == before


def test_what_was_removed_does_not_come_back_by_an_older_act(proxy: Proxy) -> None:
    proxy.ensure_endpoints(STABLE, names(STABLE), (), 1)
    proxy.remove_endpoints(STABLE, 3)
    assert proxy.observe(ENVIRONMENT).endpoints == {}
    with pytest.raises(StaleWrite):
        proxy.ensure_endpoints(STABLE, names(STABLE), (), 2)
    assert proxy.observe(ENVIRONMENT).endpoints == {}
    proxy.remove_endpoints(STABLE, 3)
    proxy.ensure_endpoints(STABLE, names(STABLE), (), 4)
    assert set(proxy.observe(ENVIRONMENT).endpoints) == {STABLE}


def test_no_weight_without_endpoints(proxy: Proxy) -> None:
    proxy.ensure_endpoints(STABLE, names(STABLE), (), 1)
    proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    with pytest.raises(ProxyFault, match=CANDIDATE):
        proxy.ensure_weights(ENVIRONMENT, {STABLE: 95, CANDIDATE: 5}, 2)
    with pytest.raises(ProxyFault, match="weight"):
        proxy.remove_endpoints(STABLE, 2)
    seen = proxy.observe(ENVIRONMENT)
    assert seen.weights == {STABLE: 100}
    assert set(seen.endpoints) == {STABLE}


def test_a_revision_without_weight_can_go(proxy: Proxy) -> None:
    for revision in (STABLE, CANDIDATE):
        proxy.ensure_endpoints(revision, names(revision), (), 1)
    proxy.ensure_weights(ENVIRONMENT, {STABLE: 0, CANDIDATE: 100}, 1)
    proxy.remove_endpoints(STABLE, 1)
    seen = proxy.observe(ENVIRONMENT)
    assert seen.weights == {CANDIDATE: 100}
    assert set(seen.endpoints) == {CANDIDATE}
    assert seen.problem is None


def test_weights_that_are_no_shares_are_refused(proxy: Proxy) -> None:
    proxy.ensure_endpoints(STABLE, names(STABLE), (), 1)
    with pytest.raises(ValueError, match="100"):
        proxy.ensure_weights(ENVIRONMENT, {STABLE: 90}, 1)
    with pytest.raises(NotFound, match="moon"):
        proxy.ensure_weights("flights/moon", {STABLE: 100}, 1)
    assert proxy.observe(ENVIRONMENT).weights == {}


def test_a_lease_names_stable_so_that_somebody_can_have_the_weight(proxy: Proxy) -> None:
    for revision in (STABLE, CANDIDATE):
        proxy.ensure_endpoints(revision, names(revision), (), 1)
    proxy.ensure_weights(ENVIRONMENT, {CANDIDATE: 100}, 1)
    proxy.renew_lease(ENVIRONMENT, CANDIDATE, STABLE)
    proxy.renew_lease(ENVIRONMENT, CANDIDATE, STABLE)
    assert proxy.observe(ENVIRONMENT).weights == {CANDIDATE: 100, STABLE: 0}
    proxy.end_lease(ENVIRONMENT)
    proxy.end_lease(ENVIRONMENT)
    assert proxy.observe(ENVIRONMENT).weights == {CANDIDATE: 100, STABLE: 0}


def test_mirrors_are_those_that_were_asked_for_last_beside_the_weights(proxy: Proxy) -> None:
    for revision in (STABLE, CANDIDATE):
        proxy.ensure_endpoints(revision, names(revision), (), 1)
    proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    assert proxy.observe(ENVIRONMENT).mirrors == {}
    for version, mirrors in enumerate(({CANDIDATE: 100}, {CANDIDATE: 7}, {CANDIDATE: 7}), 1):
        proxy.ensure_mirrors(ENVIRONMENT, mirrors, version)
        seen = proxy.observe(ENVIRONMENT)
        assert (seen.mirrors, seen.weights, seen.problem) == (mirrors, {STABLE: 100}, None)
        assert set(seen.endpoints) == set(seen.counters) == {STABLE, CANDIDATE}
    proxy.ensure_weights(ENVIRONMENT, {STABLE: 95, CANDIDATE: 5}, 4)
    assert proxy.observe(ENVIRONMENT).mirrors == {CANDIDATE: 7}
    assert proxy.observe("flights/staging").mirrors == {}
    with pytest.raises(StaleWrite):
        proxy.ensure_mirrors(ENVIRONMENT, {}, 3)
    proxy.ensure_mirrors(ENVIRONMENT, {}, 4)
    assert proxy.observe(ENVIRONMENT).mirrors == {}


def test_a_revision_to_which_requests_are_copied_stays_known(proxy: Proxy) -> None:
    for revision in (STABLE, CANDIDATE):
        proxy.ensure_endpoints(revision, names(revision), (), 1)
    proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    proxy.ensure_mirrors(ENVIRONMENT, {CANDIDATE: 50}, 1)
    with pytest.raises(ProxyFault, match="copied"):
        proxy.remove_endpoints(CANDIDATE, 1)
    proxy.ensure_mirrors(ENVIRONMENT, {}, 2)
    proxy.remove_endpoints(CANDIDATE, 2)
    assert set(proxy.observe(ENVIRONMENT).endpoints) == {STABLE}


def test_no_mirror_without_endpoints_and_none_that_is_no_share(proxy: Proxy) -> None:
    proxy.ensure_endpoints(STABLE, names(STABLE), (), 1)
    proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    with pytest.raises(ProxyFault, match=CANDIDATE):
        proxy.ensure_mirrors(ENVIRONMENT, {CANDIDATE: 50}, 1)
    for wrong in ({STABLE: 0}, {STABLE: 101}, {STABLE: 50, CANDIDATE: 50}):
        with pytest.raises(ValueError, match="one revision"):
            proxy.ensure_mirrors(ENVIRONMENT, wrong, 1)
    with pytest.raises(NotFound, match="moon"):
        proxy.ensure_mirrors("flights/moon", {STABLE: 100}, 1)
    assert proxy.observe(ENVIRONMENT).mirrors == {}


def test_the_fake_shows_what_a_test_sets() -> None:
    proxy = FakeProxy({"production": "127.0.0.1:1"}, is_healthy_at_once=False)
    proxy.ensure_endpoints(STABLE, names(STABLE), (), 1)
    assert not proxy.observe(ENVIRONMENT).endpoints[STABLE][f"{STABLE}.0"].is_healthy
    proxy.set_health(f"{STABLE}.0", True, active=3)
    expected = EndpointSeen(is_healthy=True, is_draining=False, active=3)
    assert proxy.observe(ENVIRONMENT).endpoints[STABLE][f"{STABLE}.0"] == expected
    proxy.count(STABLE, 10, 1)
    proxy.count(STABLE, 10)
    assert proxy.observe(ENVIRONMENT).counters[STABLE] == CounterSeen(epoch="fake", requests=20, errors=1)
    proxy.count(STABLE, 2, epoch="other")
    assert proxy.observe(ENVIRONMENT).counters[STABLE] == CounterSeen(epoch="other", requests=2, errors=0)
    proxy.problem = "gone"
    assert proxy.observe(ENVIRONMENT).problem == "gone"


def test_a_retired_environment_says_so_until_it_gets_weights_again(proxy: Proxy) -> None:
    proxy.ensure_endpoints(STABLE, names(STABLE), (), 1)
    proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 1)
    assert not proxy.observe(ENVIRONMENT).is_retired
    proxy.retire(ENVIRONMENT, 2)
    assert (proxy.observe(ENVIRONMENT).is_retired, proxy.observe(ENVIRONMENT).weights) == (True, {})
    proxy.ensure_weights("delays/production", {}, 1)
    proxy.remove_endpoints(STABLE, 2)
    assert proxy.observe(ENVIRONMENT).is_retired
    assert not proxy.observe("delays/production").is_retired
    assert not proxy.observe("flights/staging").is_retired
    proxy.retire(ENVIRONMENT, 2)
    with pytest.raises(StaleWrite):
        proxy.ensure_weights(ENVIRONMENT, {}, 1)
    proxy.ensure_endpoints(STABLE, names(STABLE), (), 3)
    proxy.ensure_weights(ENVIRONMENT, {STABLE: 100}, 3)
    assert (proxy.observe(ENVIRONMENT).is_retired, proxy.observe(ENVIRONMENT).weights) == (False, {STABLE: 100})
    with pytest.raises(StaleWrite):
        proxy.retire(ENVIRONMENT, 2)
    with pytest.raises(NotFound):
        proxy.retire("flights/elsewhere", 1)

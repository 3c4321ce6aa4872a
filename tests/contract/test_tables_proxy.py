"""Properties of what Envoy is told, and of what is read out of its answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.delivery.revision import CounterSeen, EndpointSeen, Revision
from interlock.edges.proxy import configuration as config
from interlock.edges.proxy import mirrors, seen
from interlock.edges.proxy.admin import Bucket
from interlock.edges.proxy.files import ConfigurationFiles
from interlock.errors import ProxyFault, StaleWrite
from interlock.vocabulary import Digest

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True)
COPIED = mirrors.Shares({"flights.production.r1": 100}, {"flights.production.r2": 30})
DIGEST = Digest("blake3:" + "0" * 64)


@st.composite
def shares(draw: st.DrawFn) -> dict[str, int]:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    return {name: draw(st.integers(0, 100)) for name in names}


def inner(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping within a document."""
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from inner(part)
    elif isinstance(value, list):
        for part in value:
            yield from inner(part)


DOCUMENTS = {
    "bootstrap": config.bootstrap(),
    "listener": config.listener("production", "127.0.0.1", 9000),
    "cluster": config.cluster("flights.production.r1"),
    "static cluster": config.static_cluster("labels"),
    "endpoints": config.endpoints("flights.production.r1", ["flights.production.r1.0"], ()),
    "routes": config.routes("production", {"flights": [config.model_route("flights", {"a": 100})]}, has_labels=True),
    "copies": config.routes("production", {"flights": mirrors.routes("flights", COPIED)}, has_labels=False),
    "cluster of copies": mirrors.cluster("flights.production.r2"),
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_is_json_and_names_the_type_of_every_extension(document: dict[str, Any]) -> None:
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    types = [part["@type"] for part in inner(document) if "@type" in part]
    assert all(one.startswith("type.googleapis.com/envoy.") for one in types)
    assert all("@type" in part["typed_config"] for part in inner(document) if "typed_config" in part)


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_every_file_and_socket_is_named_from_the_folder_and_not_from_the_root(document: dict[str, Any]) -> None:
    parts = list(inner(document))
    paths = [part["path_config_source"]["path"] for part in parts if "path_config_source" in part]
    paths += [part["pipe"]["path"] for part in parts if "pipe" in part]
    assert all(not path.startswith("/") and ".." not in path for path in paths)


def test_files_that_refer_to_each_other_have_the_same_names() -> None:
    watched = {part["path"] for part in inner([config.bootstrap()]) if "path" in part}
    assert {f"envoy/{config.LISTENERS}", f"envoy/{config.CLUSTERS}"} <= watched
    listener = config.listener("staging", "127.0.0.1", 1)
    rds = next(part["rds"] for part in inner(listener) if "rds" in part)
    assert rds["config_source"]["path_config_source"]["path"] == f"envoy/{config.routes_file('staging')}"
    assert rds["route_config_name"] == config.routes("staging", {}, has_labels=False)["name"]
    cluster = config.cluster("c")["eds_cluster_config"]
    assert cluster["eds_config"]["path_config_source"]["path"] == f"envoy/{config.endpoints_file('c')}"
    assert cluster["service_name"] == config.endpoints("c", [], ())["cluster_name"]


@given(one=NAMES, other=NAMES)
def test_no_two_things_share_a_file_or_a_socket(one: str, other: str) -> None:
    for name_of in (config.routes_file, config.endpoints_file, config.socket_of):
        assert (name_of(one) == name_of(other)) is (one == other)
    fixed = {config.CLUSTERS, config.LISTENERS}
    assert not {config.routes_file(one), config.endpoints_file(other)} & fixed
    assert config.routes_file(one) != config.endpoints_file(other)


@given(host=st.sampled_from(["127.0.0.1", "0.0.0.0", "::1"]), port=st.integers(1, 65535), name=NAMES)
def test_a_listener_listens_where_it_was_told_to(host: str, port: int, name: str) -> None:
    listener = config.listener(name, host, port)
    assert listener["address"] == {"socket_address": {"address": host, "port_value": port}}
    assert listener["name"] == name
    assert listener["enable_reuse_port"] is False


@given(weights=shares())
def test_the_weights_of_a_route_are_read_as_they_were_written_and_in_their_order(weights: dict[str, int]) -> None:
    route = config.model_route("flights", weights)
    assert list(config.weights_of(route).items()) == list(weights.items())
    assert config.weights_of(json.loads(json.dumps(route))) == weights
    assert route["match"] == {"path_separated_prefix": "/v2/models/flights"}
    assert "direct_response" not in route


@given(model=NAMES)
def test_a_model_without_revisions_is_answered_503_by_name(model: str) -> None:
    route = config.model_route(model, {})
    assert "route" not in route
    assert route["direct_response"]["status"] == 503
    assert model in route["direct_response"]["body"]["inline_string"]
    assert config.weights_of(route) == {}


@given(models=st.lists(NAMES, max_size=5, unique=True), has_labels=st.booleans())
def test_the_routes_of_models_are_found_again_behind_the_fixed_ones(models: list[str], has_labels: bool) -> None:
    routes = [config.model_route(model, {f"{model}.production.r1": 100}) for model in models]
    document = config.routes("production", {route["name"]: [route] for route in routes}, has_labels)
    assert config.model_routes(document) == routes
    listed = document["virtual_hosts"][0]["routes"]
    assert listed[len(listed) - len(routes) :] == routes
    assert listed[0]["match"] == {"path": "/v2/health/live"}
    assert any(route["match"].get("prefix") == "/labels/" for route in listed) is has_labels
    assert document["validate_clusters"] is True


@given(model=NAMES, weights=shares())
def test_a_failure_of_the_model_itself_is_not_asked_again(model: str, weights: dict[str, int]) -> None:
    policy = config.model_route(model, weights)["route"]["retry_policy"]
    assert "5xx" not in policy["retry_on"]
    assert policy["retriable_status_codes"] == [503]
    assert policy["num_retries"] > 0


@given(name=NAMES, count=st.integers(0, 4), is_draining=st.booleans())
def test_endpoints_are_the_sockets_of_the_replicas_in_their_order(name: str, count: int, is_draining: bool) -> None:
    replicas = [f"{name}.{index}" for index in range(count)]
    hosts = config.endpoints(name, replicas, replicas if is_draining else ())["endpoints"][0]["lb_endpoints"]
    paths = [host["endpoint"]["address"]["pipe"]["path"] for host in hosts]
    assert paths == [config.socket_of(replica) for replica in replicas]
    assert {host["health_status"] for host in hosts} <= {"DRAINING" if is_draining else "UNKNOWN"}


@given(name=NAMES, count=st.integers(0, 4), is_draining=st.booleans())
def test_what_was_configured_is_seen_again(name: str, count: int, is_draining: bool) -> None:
    replicas = [f"{name}.{index}" for index in range(count)]
    hosts = config.endpoints(name, replicas, replicas if is_draining else ())["endpoints"][0]["lb_endpoints"]
    answers = [
        {**host["endpoint"], "health_status": {"eds_health_status": host["health_status"]}, "stats": []}
        for host in hosts
    ]
    found = seen.endpoints(answers)
    assert list(found) == replicas
    assert all(one.is_draining is is_draining and one.is_healthy and one.active == 0 for one in found.values())


def test_a_process_that_is_always_there_is_a_cluster_of_one() -> None:
    cluster = config.static_cluster("labels")
    hosts = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert [host["endpoint"]["address"]["pipe"]["path"] for host in hosts] == ["s/labels/http"]
    assert cluster["type"] == "STATIC"
    assert "@type" not in cluster["load_assignment"]


@given(model=NAMES, environment=NAMES, number=st.integers(1, 10**6))
def test_the_environment_of_a_revision_is_read_from_its_key(model: str, environment: str, number: int) -> None:
    revision = Revision(
        environment=f"{model}/{environment}",
        number=number,
        version=1,
        model=model,
        model_digest=DIGEST,
        lock=DIGEST,
        format="skops",
    )
    assert seen.environment_of(revision.key) == revision.environment
    assert seen.split_environment(revision.environment) == (model, environment)


@pytest.mark.parametrize(
    ("health", "is_healthy", "is_draining"),
    [
        ({}, True, False),
        ({"eds_health_status": "HEALTHY"}, True, False),
        ({"eds_health_status": "UNKNOWN"}, True, False),
        ({"eds_health_status": "DRAINING"}, True, True),
        ({"eds_health_status": "HEALTHY", "failed_active_health_check": True}, False, False),
        ({"eds_health_status": "HEALTHY", "failed_outlier_check": True}, False, False),
        ({"eds_health_status": "HEALTHY", "pending_dynamic_removal": True}, False, False),
        ({"eds_health_status": "HEALTHY", "pending_active_hc": True}, False, False),
        ({"eds_health_status": "HEALTHY", "failed_active_health_check": False}, True, False),
        ({"eds_health_status": "DRAINING", "failed_active_health_check": True}, False, True),
    ],
)
def test_the_health_of_a_host(health: dict[str, Any], is_healthy: bool, is_draining: bool) -> None:
    address = {"pipe": {"path": config.socket_of("flights.production.r1.0")}}
    stats = [{"name": "rq_active", "value": "3"}, {"name": "rq_total", "value": "70"}]
    (found,) = seen.endpoints([{"address": address, "health_status": health, "stats": stats}]).items()
    name, endpoint = found
    assert name == "flights.production.r1.0"
    assert (endpoint.is_healthy, endpoint.is_draining, endpoint.active) == (is_healthy, is_draining, 3)


def test_a_host_without_requests_leaves_out_the_number() -> None:
    address = {"pipe": {"path": config.socket_of("r")}}
    found = seen.endpoints([{"address": address, "stats": [{"name": "rq_active", "type": "GAUGE"}]}])
    assert found["r"].active == 0


@given(ended=st.integers(0, 10**6), failed=st.integers(0, 10**6), retried=st.integers(0, 10**6))
def test_each_retry_counts_as_an_attempt_that_failed(ended: int, failed: int, retried: int) -> None:
    stats: dict[str, int | str] = {
        "cluster.a.upstream_rq_completed": ended + failed,
        "cluster.a.upstream_rq_5xx": failed,
        "cluster.a.upstream_rq_retry": retried,
        "cluster.aa.upstream_rq_completed": 7,
    }
    counted = seen.counter("a", stats, "epoch")
    assert counted.requests == ended + failed + retried
    assert counted.errors == failed + retried
    assert counted.requests - counted.errors == ended
    assert counted.epoch == "epoch"


def test_a_cluster_that_answered_nothing_has_counted_nothing() -> None:
    assert seen.counter("a", {}, "e") == CounterSeen(epoch="e", requests=0, errors=0)


@pytest.fixture
def files(tmp_path: Path) -> ConfigurationFiles:
    return ConfigurationFiles(tmp_path)


def test_a_file_that_is_not_there_says_nothing(files: ConfigurationFiles) -> None:
    assert (files.read("cds.json"), files.version("cds.json")) == ([], "")


def test_the_version_of_a_file_names_its_content(files: ConfigurationFiles) -> None:
    files.write("a.json", [{"x": 1, "y": 2}])
    files.write("b.json", [{"y": 2, "x": 1}])
    files.write("c.json", [{"x": 1, "y": 3}])
    assert files.version("a.json") == files.version("b.json") != files.version("c.json")
    assert files.version("a.json")


def test_a_file_that_says_it_already_is_not_written(files: ConfigurationFiles) -> None:
    first = files.write("a.json", [{"x": 1}])
    inode = (files.folder / "a.json").stat().st_ino
    second = files.write("a.json", [{"x": 1}])
    assert (first.before, second.before, second.after) == (None, first.after, first.after)
    assert (files.folder / "a.json").stat().st_ino == inode


@given(
    contents=st.lists(st.lists(st.dictionaries(NAMES, st.integers(), max_size=2), max_size=2), min_size=1, max_size=4)
)
def test_undone_changes_lead_back_step_by_step(
    tmp_path_factory: pytest.TempPathFactory, contents: list[list[dict[str, Any]]]
) -> None:
    files = ConfigurationFiles(tmp_path_factory.mktemp("files"))
    changes = [files.write("a.json", content) for content in contents]
    assert files.read("a.json") == contents[-1]
    for change, before in zip(reversed(changes), [*reversed(contents[:-1]), None], strict=True):
        if change.before == change.after:
            continue
        files.undo(change)
        assert files.read("a.json") == (before or [])
    assert not (files.folder / "a.json").exists()


def test_what_somebody_else_wrote_since_is_not_undone(files: ConfigurationFiles) -> None:
    change = files.write("a.json", [{"x": 1}])
    files.write("a.json", [{"x": 2}])
    files.undo(change)
    assert files.read("a.json") == [{"x": 2}]


@pytest.mark.parametrize("content", ["{", "", "not json", "\x00"])
def test_a_torn_file_is_a_fault_of_the_proxy_that_names_it(files: ConfigurationFiles, content: str) -> None:
    (files.folder / "a.json").write_text(content)
    (files.folder / "versions.json").write_text(content)
    with pytest.raises(ProxyFault, match=r"a\.json is torn"):
        files.read("a.json")
    with pytest.raises(ProxyFault, match=r"versions\.json is torn"):
        files.advance("flights/production", 1)


@given(asked=st.lists(st.tuples(st.sampled_from(["a/x", "b/x"]), st.integers(1, 6)), max_size=12))
def test_a_thing_is_never_decided_at_an_older_version(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[str, int]]
) -> None:
    files = ConfigurationFiles(tmp_path_factory.mktemp("versions"))
    highest: dict[str, int] = {}
    for thing, version in asked:
        if version < highest.get(thing, 0):
            with pytest.raises(StaleWrite, match=f"{thing} was decided at version {highest[thing]}"):
                files.advance(thing, version)
            continue
        files.advance(thing, version)
        highest[thing] = version
    kept = files.folder / "versions.json"
    assert (json.loads(kept.read_bytes()) if kept.exists() else {}) == highest


@given(st.lists(st.integers(0, 20_000), max_size=50), st.integers(0, 3))
def test_a_load_adds_up_answers_and_their_times(milliseconds: list[int], active: int) -> None:
    def bucket_of(value: int) -> tuple[int, float]:  # two digits, as the proxy's histograms have them
        width = 10 ** (len(str(value)) - 2) if value >= 100 else 0.1
        return (value // int(width) * int(width) if value >= 100 else value), width

    counted = sorted(Counter(map(bucket_of, milliseconds)).items())
    buckets = [Bucket(lower, width, count) for (lower, width), count in counted]
    host = EndpointSeen(is_healthy=True, is_draining=False, active=active)
    load = seen.load(buckets, {"a.0": host, "a.1": host}, "1")
    assert (load.answered, load.active) == (len(milliseconds), 2 * active)
    assert load.seconds == pytest.approx(sum(value + 0.5 for value in milliseconds) / 1000.0, rel=0.06)
    for bound, count in load.within:
        assert count == sum(value < bound for value in milliseconds)


@given(model=NAMES, weights=shares(), copied=st.dictionaries(NAMES, st.integers(1, 100), max_size=1))
def test_weights_and_mirrors_are_read_as_they_were_written(
    model: str, weights: dict[str, int], copied: dict[str, int]
) -> None:
    routes = mirrors.routes(model, mirrors.Shares(weights, copied))
    document = json.loads(json.dumps(config.routes("production", {model: routes}, has_labels=False)))
    assert mirrors.shares_of(document) == {model: mirrors.Shares(weights, copied)}


def test_copies_are_marked_and_not_tried_again_and_a_callers_mark_is_dropped() -> None:
    copied, plain = mirrors.routes("flights", COPIED)
    assert copied["request_headers_to_add"][0]["header"] == {"key": config.MIRRORED, "value": "flights.production.r2"}
    assert copied["request_headers_to_add"][0]["append_action"].startswith("OVERWRITE")
    document = config.routes("production", {"flights": [copied, plain]}, has_labels=False)
    assert document["request_headers_to_remove"] == [config.MIRRORED]
    (policy,) = copied["route"].pop("request_mirror_policies")
    assert copied["route"] == plain["route"]
    twin, own = mirrors.cluster("flights.production.r2"), config.cluster("flights.production.r2")
    assert twin["name"] == policy["cluster"] != own["name"]
    assert twin["eds_cluster_config"] == own["eds_cluster_config"]
    assert "health_checks" not in twin  # a copy that finds nobody shall be no answer
    (limit,) = twin["circuit_breakers"]["thresholds"]
    assert limit["max_requests"] * mirrors.LONGEST_BYTES <= config.MOST_HEAP_BYTES / 4


def test_where_nobody_serves_nothing_is_copied() -> None:
    (route,) = mirrors.routes("flights", mirrors.Shares({}, {"flights.production.r2": 100}))
    assert route["direct_response"]["status"] == 503

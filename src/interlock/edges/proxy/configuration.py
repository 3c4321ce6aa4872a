"""Envoy's configuration as documents: what each file says, and why it says so.

Paths are relative to the data-plane folder, in which Envoy is started.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

Document: TypeAlias = dict[str, Any]

FOLDER = "envoy"
ADMIN = "admin"
"""The socket of Envoy's admin, in ``FOLDER``."""
CLUSTERS = "cds.json"
LISTENERS = "lds.json"
LABELS = "labels"
"""The cluster, the process and the path prefix of the label endpoint."""
STICKY = "x-interlock-sticky"
"""The header whose value keeps its requests on one side of a split, as long as the weights allow."""
REVISION = "x-interlock-revision"
"""The header that names the revision to answer, whatever its weight: for testers."""
MIRRORED = "x-interlock-mirrored"
"""The header of a request that is copied, and of its copy: the revision that is given it. A caller's own is dropped."""
TESTER = "tester"
"""What is answered to a request that names its revision is counted once more, under this name within the cluster's."""
ACCESS_LOG = "logs/access.log"
SAMPLED_PERCENT = 1
"""How many of the requests that went well are in the access log; all that did not are."""

MOST_BODY_BYTES = 8 * 1024 * 1024
"""The longest request that is passed on; the model server takes no longer one either."""
MOST_HEAP_BYTES = 1 << 30
"""Memory at which new requests are refused: requests are held until they are whole."""

_TYPE = "type.googleapis.com/envoy."
TIMEOUT_SECONDS = 15
"""After this time a request is given up."""
_HEDGE: Document = {"hedge_on_per_try_timeout": True}
"""A slow attempt is not given up: another one is begun beside it, and the first answer counts."""
_RETRIES: Document = {
    # A model's own 500 is not retried: the answer would be the same, and the canary must see it.
    "retry_on": "connect-failure,refused-stream,reset,unavailable,retriable-status-codes",
    "retriable_status_codes": [503],
    "num_retries": 3,
    "per_try_timeout": "3s",
    "host_selection_retry_max_attempts": 5,
    "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": f"{_TYPE}extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
        }
    ],
}


def socket_of(process: str) -> str:
    """The Unix socket at which a process serves: each has a folder of its own, the only one it may write sockets to."""
    return f"s/{process}/http"


def routes_file(environment_name: str) -> str:
    """The file with the routes of one listener, as ``production``."""
    return f"rds.{environment_name}.json"


def secrets_file(environment_name: str) -> str:
    """The file with the certificate and key of one listener."""
    return f"sds.{environment_name}.json"


def endpoints_file(cluster: str) -> str:
    """The file with the endpoints of one cluster."""
    return f"eds.{cluster}.json"


def _from_file(name: str) -> Document:
    return {"resource_api_version": "V3", "path_config_source": {"path": f"{FOLDER}/{name}"}}


def secrets_source(environment_name: str) -> Document:
    """Where a listener has its certificate and key from."""
    return _from_file(secrets_file(environment_name))


def bootstrap() -> Document:
    """What Envoy is started with; everything that changes is in files that it watches."""
    monitors = f"{_TYPE}extensions.resource_monitors"
    connections = f"{monitors}.downstream_connections.v3.DownstreamConnectionsConfig"
    heap = f"{monitors}.fixed_heap.v3.FixedHeapConfig"
    return {
        "node": {"id": "interlock", "cluster": "interlock"},
        "admin": {"address": {"pipe": {"path": f"{FOLDER}/{ADMIN}", "mode": 0o600}}},
        "dynamic_resources": {"lds_config": _from_file(LISTENERS), "cds_config": _from_file(CLUSTERS)},
        "stats_flush_interval": "1s",
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {"@type": connections, "max_active_downstream_connections": 10000},
                },
                {
                    "name": "envoy.resource_monitors.fixed_heap",
                    "typed_config": {"@type": heap, "max_heap_size_bytes": MOST_HEAP_BYTES},
                },
            ],
            "actions": [
                {
                    "name": "envoy.overload_actions.stop_accepting_requests",
                    "triggers": [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": 0.95}}],
                }
            ],
        },
    }


def listener(environment_name: str, host: str, port: int) -> Document:
    """Where one environment name of all models answers."""
    manager = {
        "@type": f"{_TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": environment_name,
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "request_headers_timeout": "10s",
        "request_timeout": "60s",  # to the last byte of its body: who sends a byte now and then holds nothing for ever
        "stream_idle_timeout": "60s",
        "drain_timeout": "2s",
        "common_http_protocol_options": {"idle_timeout": "300s", "headers_with_underscores_action": "REJECT_REQUEST"},
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 65536,
            "initial_connection_window_size": 1048576,
        },
        "local_reply_config": _errors_as_json(),
        "access_log": [_access_log(environment_name)],
        "rds": {"route_config_name": environment_name, "config_source": _from_file(routes_file(environment_name))},
        "http_filters": [
            _counting_testers(),
            {
                # A request goes on when it is whole: a slow client keeps no replica busy, a long one can be retried.
                "name": "envoy.filters.http.buffer",
                "typed_config": {
                    "@type": f"{_TYPE}extensions.filters.http.buffer.v3.Buffer",
                    "max_request_bytes": MOST_BODY_BYTES,
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPE}extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    return {
        "@type": f"{_TYPE}config.listener.v3.Listener",
        "name": environment_name,
        "address": {"socket_address": {"address": host, "port_value": port}},
        "enable_reuse_port": False,  # with it, a port that another Envoy has is taken without a word
        "per_connection_buffer_limit_bytes": 32768,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


_MUTATION = "envoy.filters.http.header_mutation"
_ALSO_COUNTED_AS = "x-envoy-upstream-alt-stat-name"


def _counting_testers() -> Document:
    """Nobody says themselves what their requests are counted as; the route of those that name a revision does."""
    mutations = {"request_mutations": [{"remove": _ALSO_COUNTED_AS}]}
    kind = f"{_TYPE}extensions.filters.http.header_mutation.v3.HeaderMutation"
    return {"name": _MUTATION, "typed_config": {"@type": kind, "mutations": mutations}}


def _counted_as_tester() -> Document:
    header = {"key": _ALSO_COUNTED_AS, "value": TESTER}
    mutations = {"request_mutations": [{"append": {"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}]}
    kind = f"{_TYPE}extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"
    return {_MUTATION: {"@type": kind, "mutations": mutations}}


def _errors_as_json() -> Document:
    """The inference protocol wants an object with ``error`` for whatever is not 200; Envoy's own answers too."""
    at_least_400 = {"op": "GE", "value": _number(400, "interlock.first_error")}
    return {
        "mappers": [
            {
                "filter": {"status_code_filter": {"comparison": at_least_400}},
                "body_format_override": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
            }
        ]
    }


def _access_log(listener: str) -> Document:
    """One line for each request that failed, and for a sample of the others."""
    failed = {"status_code_filter": {"comparison": {"op": "GE", "value": _number(500, "interlock.logged_from")}}}
    sampled = {"runtime_key": "interlock.logged", "percent_sampled": {"numerator": SAMPLED_PERCENT}}
    fields = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",  # without the query: somebody may have written a key there
        "listener": listener,
        "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "ms": "%DURATION%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "revision": "%UPSTREAM_CLUSTER%",
        "request": "%REQ(X-REQUEST-ID)%",
        "trace": "%REQ(TRACEPARENT)%",
    }
    return {
        "name": "envoy.access_loggers.file",
        "filter": {"or_filter": {"filters": [failed, {"runtime_filter": sampled}]}},
        "typed_config": {
            "@type": f"{_TYPE}extensions.access_loggers.file.v3.FileAccessLog",
            "path": ACCESS_LOG,
            "log_format": {"json_format": fields},
        },
    }


def _number(value: int, key: str) -> Document:
    return {"default_value": value, "runtime_key": key}


def cluster(name: str) -> Document:
    """The replicas of one revision; which they are is in its endpoints file."""
    return {
        **_cluster(name),
        "type": "EDS",
        "eds_cluster_config": {"service_name": name, "eds_config": _from_file(endpoints_file(name))},
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {
            "healthy_panic_threshold": {"value": 0},
            # Else a change of health reaches the workers up to 1 s after the admin shows it: requests go to the dead.
            "update_merge_window": "0s",
        },
        "ignore_health_on_host_removal": True,
        "health_checks": [
            {
                "timeout": "0.5s",
                "interval": "0.2s",
                "no_traffic_interval": "0.2s",
                "no_traffic_healthy_interval": "0.2s",
                "unhealthy_threshold": 3,
                "healthy_threshold": 1,
                "http_health_check": {"path": "/v2/health/ready"},
            }
        ],
        "outlier_detection": {
            # Only replicas that do not answer are taken out. A model that answers 500 is judged by the canary: to take
            # its replicas out would turn its errors into those of a cluster without hosts.
            "split_external_local_origin_errors": True,
            "enforcing_consecutive_5xx": 0,
            "consecutive_gateway_failure": 3,
            "enforcing_consecutive_gateway_failure": 100,
            "consecutive_local_origin_failure": 2,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
            "interval": "1s",
            "base_ejection_time": "1s",
            "max_ejection_percent": 50,  # so never the only one
        },
    }


def static_cluster(name: str) -> Document:
    """One process that is always there, at the socket of its name."""
    return {
        **_cluster(name),
        "type": "STATIC",
        "load_assignment": endpoints(name, [name], (), with_type=False),
    }


def _cluster(name: str) -> Document:
    options = f"{_TYPE}extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "@type": f"{_TYPE}config.cluster.v3.Cluster",
        "name": name,
        "connect_timeout": "0.25s",
        "per_connection_buffer_limit_bytes": 32768,
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 1024,
                    "max_pending_requests": 1024,
                    "max_requests": 1024,
                    "retry_budget": {"budget_percent": {"value": 100}, "min_retry_concurrency": 100},
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http_protocol_options": {}},
                "common_http_protocol_options": {"idle_timeout": "4s"},  # shorter than a server's keep-alive
            }
        },
    }


def endpoints(name: str, replicas: Sequence[str], draining: Collection[str], *, with_type: bool = True) -> Document:
    """The replicas of a cluster; draining ones finish what they have and get nothing new."""
    hosts = [
        {
            "health_status": "DRAINING" if replica in draining else "UNKNOWN",
            "endpoint": {"address": {"pipe": {"path": socket_of(replica)}}},
        }
        for replica in replicas
    ]
    kind = {"@type": f"{_TYPE}config.endpoint.v3.ClusterLoadAssignment"} if with_type else {}
    return {**kind, "cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]}


def routes(environment_name: str, models: Mapping[str, Sequence[Document]], has_labels: bool) -> Document:
    """All routes of one listener: the models' own, the label endpoint, and whether anybody is there."""
    fixed: list[Document] = [
        {
            "match": {"path": "/v2/health/live"},
            "direct_response": {"status": 200, "body": {"inline_string": '{"live": true}'}},
        }
    ]
    if has_labels:
        route = {"cluster": LABELS, "timeout": f"{TIMEOUT_SECONDS}s", "retry_policy": _RETRIES}
        fixed.append({"match": {"prefix": f"/{LABELS}/"}, "route": route})
    fixed += [_named_revision(model, environment_name) for model in models]
    own = [route for routes in models.values() for route in routes]
    return {
        "@type": f"{_TYPE}config.route.v3.RouteConfiguration",
        "name": environment_name,
        "validate_clusters": True,
        "request_headers_to_remove": [MIRRORED],
        "most_specific_header_mutations_wins": True,  # else what a route adds is taken away again
        "virtual_hosts": [
            {
                "name": "models",
                "domains": ["*"],
                "include_request_attempt_count": True,  # a copy is tried once: it is compared with the first attempt
                "routes": [*fixed, *own],
            }
        ],
    }


def _named_revision(model: str, environment_name: str) -> Document:
    """Requests that name a revision of the model here are answered by it, or 404.

    They are counted apart, and not tried again: a tester hears what the revision says.
    """
    revision = {"name": REVISION, "string_match": {"prefix": f"{model}.{environment_name}.r"}}
    return {
        "match": {"path_separated_prefix": f"/v2/models/{model}", "headers": [revision]},
        "route": {
            "cluster_header": REVISION,
            "cluster_not_found_response_code": "NOT_FOUND",
            "timeout": f"{TIMEOUT_SECONDS}s",
        },
        "typed_per_filter_config": _counted_as_tester(),
    }


def model_route(model: str, weights: Mapping[str, int]) -> Document:
    """One model's traffic, split over its revisions; without any it is answered 503."""
    route: Document = {"name": model, "match": {"path_separated_prefix": f"/v2/models/{model}"}}
    if not weights:
        body = {"inline_string": f"no revision of {model} serves here"}
        return {**route, "direct_response": {"status": 503, "body": body}}
    clusters = [{"name": name, "weight": weight} for name, weight in weights.items()]
    target = {
        "timeout": f"{TIMEOUT_SECONDS}s",
        "hash_policy": [{"header": {"header_name": STICKY}}],
        "weighted_clusters": {"clusters": clusters, "use_hash_policy": True},
    }
    return {**route, "route": {**target, "retry_policy": _RETRIES, "hedge_policy": _HEDGE}}


def model_routes(configuration: Document) -> list[Document]:
    """The models' own routes in a route configuration."""
    return [route for route in configuration["virtual_hosts"][0]["routes"] if "name" in route]


def weights_of(route: Document) -> dict[str, int]:
    """The weights of a model's route by cluster, also after a lease has ended."""
    clusters = route.get("route", {}).get("weighted_clusters", {}).get("clusters", [])
    return {one["name"]: int(one["weight"]) for one in clusters}

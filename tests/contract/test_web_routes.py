"""Every route there is: closed to strangers, lesser roles and other repositories; and reading writes nothing."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest
from starlette.routing import BaseRoute, Route
from tests.database import content_of, database_url
from tests.face import ServedFace

from interlock.access.caller import Role
from interlock.control.monitoring.monitoring import write_monitor
from interlock.control.people import local_caller
from interlock.control.rows import read_state, write_state
from interlock.delivery.environment import Environment
from interlock.delivery.monitoring.monitor import begin_monitor
from interlock.delivery.release import begin as begin_release
from interlock.delivery.revision import Revision
from interlock.delivery.rollout import begin as begin_rollout
from interlock.edges.store import SqlStore
from interlock.pipeline.monitoring.plan import MonitoringPlan
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Kind, Phase
from interlock.web.api import create_app


class Asked(NamedTuple):
    """``path`` as it is asked, the least ``role`` it takes, and a ``body``; ``of_small``: it is about that one."""

    path: str
    role: Role
    body: object = None
    of_small: bool = True


REASON = {"reason": "because"}
OVERRIDE = {"gates": ["auc"], "reason": "because"}
SECRET = {"repository": "small", "name": "TOKEN", "value": "a value long enough"}
LOG = "/api/v1/runs/{number}/stages/{stage}/attempts/{attempt}/log"
ROUTES = {
    ("GET", "/api/v1/runs"): Asked("/api/v1/runs?repository=small", Role.VIEWER),
    ("POST", "/api/v1/runs"): Asked("/api/v1/runs", Role.DEVELOPER, {"repository": "small", "ref": "main"}),
    ("GET", "/api/v1/runs/{number}"): Asked("/api/v1/runs/1", Role.VIEWER),
    ("POST", "/api/v1/runs/{number}/cancel"): Asked("/api/v1/runs/1/cancel", Role.DEVELOPER, REASON),
    ("POST", "/api/v1/runs/{number}/rerun"): Asked("/api/v1/runs/1/rerun", Role.DEVELOPER, {}),
    ("POST", "/api/v1/runs/{number}/approve"): Asked("/api/v1/runs/1/approve", Role.MAINTAINER, {"sha": "1" * 40}),
    ("POST", "/api/v1/runs/{number}/override"): Asked("/api/v1/runs/1/override", Role.OPERATOR, OVERRIDE),
    ("GET", LOG): Asked("/api/v1/runs/1/stages/train/attempts/1/log", Role.VIEWER),
    ("GET", f"{LOG}/stream"): Asked("/api/v1/runs/1/stages/train/attempts/1/log/stream", Role.VIEWER),
    ("GET", "/api/v1/events"): Asked("/api/v1/events", Role.VIEWER, of_small=False),
    ("GET", "/api/v1/events/stream"): Asked("/api/v1/events/stream?kind=run&key=2", Role.VIEWER, of_small=False),
    ("GET", "/api/v1/versions"): Asked("/api/v1/versions", Role.VIEWER, of_small=False),
    ("GET", "/api/v1/versions/{model}/{number}"): Asked("/api/v1/versions/small/1", Role.VIEWER),
    ("POST", "/api/v1/versions/{model}/{number}/lift-quarantine"): Asked(
        "/api/v1/versions/small/1/lift-quarantine", Role.OPERATOR, REASON
    ),
    ("GET", "/api/v1/releases"): Asked("/api/v1/releases", Role.VIEWER, of_small=False),
    ("POST", "/api/v1/releases"): Asked("/api/v1/releases", Role.OPERATOR, {"version": "small/1"}),
    ("GET", "/api/v1/releases/{number}"): Asked("/api/v1/releases/1", Role.VIEWER),
    ("POST", "/api/v1/releases/{number}/approve"): Asked("/api/v1/releases/1/approve", Role.MAINTAINER, REASON),
    ("GET", "/api/v1/rollouts"): Asked("/api/v1/rollouts", Role.VIEWER, of_small=False),
    ("GET", "/api/v1/rollouts/{number}"): Asked("/api/v1/rollouts/1", Role.VIEWER),
    ("POST", "/api/v1/rollouts/{number}/retry"): Asked("/api/v1/rollouts/1/retry", Role.OPERATOR, REASON),
    ("POST", "/api/v1/rollouts/{number}/{order}"): Asked("/api/v1/rollouts/1/pause", Role.OPERATOR, REASON),
    ("GET", "/api/v1/environments"): Asked("/api/v1/environments", Role.VIEWER, of_small=False),
    ("GET", "/api/v1/environments/{model}/{name}"): Asked("/api/v1/environments/small/production", Role.VIEWER),
    ("GET", "/api/v1/environments/{model}/{name}/monitor"): Asked(
        "/api/v1/environments/small/production/monitor", Role.VIEWER
    ),
    ("POST", "/api/v1/environments/{model}/{name}/rollback"): Asked(
        "/api/v1/environments/small/production/rollback", Role.OPERATOR, REASON
    ),
    ("POST", "/api/v1/environments/{model}/{name}/freeze"): Asked(
        "/api/v1/environments/small/production/freeze", Role.OPERATOR, REASON
    ),
    ("POST", "/api/v1/environments/{model}/{name}/unfreeze"): Asked(
        "/api/v1/environments/small/production/unfreeze", Role.OPERATOR, REASON
    ),
    ("GET", "/api/v1/repositories"): Asked("/api/v1/repositories", Role.VIEWER, of_small=False),
    ("GET", "/api/v1/repositories/{name}"): Asked("/api/v1/repositories/small", Role.VIEWER),
    ("POST", "/api/v1/repositories/{name}/sync"): Asked("/api/v1/repositories/small/sync", Role.DEVELOPER),
    ("GET", "/api/v1/whoami"): Asked("/api/v1/whoami", Role.VIEWER, of_small=False),
    ("GET", "/api/v1/models/{model}/callers"): Asked("/api/v1/models/small/callers", Role.OPERATOR),
    ("POST", "/api/v1/models/{model}/retire"): Asked("/api/v1/models/small/retire", Role.OPERATOR, REASON),
    ("POST", "/api/v1/models/{model}/restore"): Asked("/api/v1/models/small/restore", Role.OPERATOR, REASON),
    ("GET", "/api/v1/keys"): Asked("/api/v1/keys", Role.OPERATOR, of_small=False),
    ("POST", "/api/v1/keys"): Asked("/api/v1/keys", Role.OPERATOR, {"name": "new"}),
    ("DELETE", "/api/v1/keys/{key}"): Asked("/api/v1/keys/1", Role.OPERATOR),
    ("GET", "/api/v1/tokens"): Asked("/api/v1/tokens", Role.ADMIN, of_small=False),
    ("POST", "/api/v1/tokens"): Asked("/api/v1/tokens", Role.ADMIN, {"name": "new", "role": "viewer"}),
    ("DELETE", "/api/v1/tokens/{key}"): Asked("/api/v1/tokens/1", Role.ADMIN),
    ("GET", "/api/v1/secrets"): Asked("/api/v1/secrets?repository=small", Role.MAINTAINER),
    ("PUT", "/api/v1/secrets"): Asked("/api/v1/secrets", Role.MAINTAINER, SECRET),
    ("DELETE", "/api/v1/secrets"): Asked("/api/v1/secrets?repository=small&name=TOKEN", Role.MAINTAINER),
    ("GET", "/api/v1/audit"): Asked("/api/v1/audit", Role.ADMIN),
    ("GET", "/api/v1/audit/verify"): Asked("/api/v1/audit/verify", Role.ADMIN),
    ("GET", "/metrics"): Asked("/metrics", Role.VIEWER, of_small=False),
    ("GET", "/api/v1/openapi.json"): Asked("/api/v1/openapi.json", Role.VIEWER, of_small=False),
}


OPEN = {("GET", "/healthz"), ("GET", "/readyz")}
"""What a stranger may ask."""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return database_url(request, tmp_path_factory.mktemp("database"))


@pytest.fixture(scope="module")
def face(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedFace]:
    """A server with one of everything, its attempt ended so that streams of it end too."""
    served = ServedFace(tmp_path_factory.mktemp("face"), store=SqlStore(url))
    served.add_run(1, phase=Phase.SUCCEEDED)
    served.log_path(1).write_text("one\ntwo\n")
    served.begin_attempt(1)
    served.end_attempt(1)
    served.add_run(2, phase=Phase.SUCCEEDED)
    served.people.create_token(local_caller("ada"), "first", Role.ADMIN)
    served.services.keys.create(local_caller("ada"), "first")
    served.add_version()
    version = read_state(served.store.rows(Kind.VERSION)[0], ModelVersion)
    release = begin_release(1, version, "1")
    revision = Revision(
        environment="small/production",
        number=1,
        version=1,
        model="small",
        model_digest=version.digest,
        lock=version.lock,
        format="skops",
    )
    rollout = begin_rollout(1, revision, None, version.deploy[0], release=1, now=1.0)
    environment = Environment(name="production", model="small")
    for kind, state in (
        (Kind.RELEASE, release),
        (Kind.ROLLOUT, rollout),
        (Kind.ENVIRONMENT, environment),
    ):
        served.store.save(write_state(kind, state.key, state, expected=0, phase="open", because="a test"))
    monitor = begin_monitor("small/production", revision.key, revision.title, MonitoringPlan(), "", 1.0)
    served.store.save(write_monitor(monitor, 0, "small", {}))
    yield served
    served.end()


@pytest.fixture(scope="module")
def tokens(face: ServedFace) -> dict[Role, str]:
    return {role: face.token(role) for role in Role}


def test_the_table_names_every_route_also_those_that_are_not_described(face: ServedFace) -> None:
    app = create_app(face.services)
    described = {(method.upper(), path) for path, methods in app.api.openapi()["paths"].items() for method in methods}
    there = set(all_routes(app.api.routes))
    app.close()
    assert described < there
    assert set(ROUTES) | OPEN == there


def all_routes(routes: Iterable[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of everything that the application answers; that a GET is answered to HEAD too goes unsaid."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from all_routes(included.routes, prefix + route.include_context.prefix)  # type: ignore[attr-defined]
            continue
        assert isinstance(route, Route), f"{type(route)} may hold routes that nobody looks at here"
        yield from ((method, prefix + route.path) for method in route.methods or () if method != "HEAD")


@pytest.mark.parametrize(("method", "pattern"), ROUTES)
def test_a_stranger_is_asked_for_a_token(face: ServedFace, method: str, pattern: str) -> None:
    route = ROUTES[method, pattern]
    answer = face.ask(method, route.path, route.body)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 401


@pytest.mark.parametrize(
    "authorization", ["Bearer ilk_" + "A" * 43, "Bearer", "Bearer x", "Basic aWxrXzE6", "ilk_1", "\xff"]
)
def test_no_other_words_let_a_stranger_in(face: ServedFace, authorization: str) -> None:
    assert face.ask("GET", "/api/v1/whoami", headers={"Authorization": authorization}).status == 401
    assert face.ask("GET", "/api/v1/whoami?token=ilk_1&access_token=ilk_1").status == 401


@pytest.mark.parametrize(("method", "pattern"), [key for key, route in ROUTES.items() if route.role is not Role.VIEWER])
def test_a_lesser_role_is_refused(face: ServedFace, tokens: dict[Role, str], method: str, pattern: str) -> None:
    route = ROUTES[method, pattern]
    lesser = [role for role in Role if role.rank < route.role.rank]
    assert lesser
    for role in lesser:
        answer = face.ask(method, route.path, route.body, token=tokens[role])
        assert answer.status == 403, answer.body
        assert str(route.role) in answer.json["remedy"]


@pytest.mark.parametrize(("method", "pattern"), [key for key, route in ROUTES.items() if route.of_small])
def test_a_token_for_another_repository_is_refused(face: ServedFace, method: str, pattern: str) -> None:
    route = ROUTES[method, pattern]
    name = f"{method} {pattern}"
    token = face.token(Role.ADMIN, name, ["large"])
    assert face.ask(method, route.path, route.body, token=token).status == 403


def test_a_refused_write_is_in_the_audit_log_and_a_refused_read_is_not(
    face: ServedFace, tokens: dict[Role, str]
) -> None:
    before = face.store.audit()[-1].number
    assert face.ask("GET", "/api/v1/audit", token=tokens[Role.VIEWER]).status == 403
    assert face.store.audit(after=before) == []
    assert face.ask("POST", "/api/v1/runs/1/cancel", REASON, token=face.token(Role.VIEWER, "bob")).status == 403
    refused = [entry.deed for entry in face.store.audit(after=before) if entry.deed.action == "refused"]
    assert [(deed.who, deed.thing) for deed in refused] == [("bob", "/api/v1/runs/1/cancel")]


def test_reading_writes_nothing(face: ServedFace, url: str, tokens: dict[Role, str]) -> None:
    before = content_of(url)
    for (method, pattern), route in ROUTES.items():
        if method == "GET":
            for token in (None, tokens[Role.VIEWER], tokens[Role.ADMIN]):
                answer = face.ask("GET", route.path, token=token)
                assert answer.status in (200, 401, 403), (pattern, answer.body)
    for pattern in ("/hooks/github/small", "/hooks/git", "/api/v1/runs/1/cancel", "/healthz", "/readyz", "/nothing"):
        face.ask("GET", pattern, token=tokens[Role.ADMIN])
    assert content_of(url) == before

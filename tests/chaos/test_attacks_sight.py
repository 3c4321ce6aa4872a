"""Another repository that registers versions under the name of a model sees nothing of that model's environments."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.face import ServedFace

from interlock.access.caller import Role
from interlock.control.rows import read_state, write_state
from interlock.delivery.environment import Environment
from interlock.delivery.revision import Revision
from interlock.delivery.rollout import begin
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Kind

PATHS = ("/api/v1/environments/flights/production", "/api/v1/rollouts/1")
LISTS = ("/api/v1/environments", "/api/v1/rollouts", "/api/v1/events?kind=environment", "/api/v1/events?kind=rollout")


@pytest.fixture
def face(tmp_path: Path) -> Iterator[ServedFace]:
    served = ServedFace(tmp_path)
    served.add_version("flights", 1, "small")
    served.add_version("flights", 2, "large")  # the newest
    row = served.store.load(Kind.VERSION, "flights/1")
    assert row is not None
    version = read_state(row, ModelVersion)
    revision = Revision(
        environment="flights/production",
        number=1,
        version=1,
        model="flights",
        model_digest=version.digest,
        lock=version.lock,
        format="skops",
    )
    environment = Environment(name="production", model="flights", stable=revision)
    rollout = begin(1, revision, None, version.deploy[0], release=1, now=1.0)
    for kind, state in ((Kind.ENVIRONMENT, environment), (Kind.ROLLOUT, rollout)):
        served.store.save(write_state(kind, state.key, state, expected=0, phase="open", because="a test"))
    yield served
    served.end()


def test_whose_model_serves_says_who_may_see_it(face: ServedFace) -> None:
    owner = face.token(Role.VIEWER, "owner", ["small"])
    other = face.token(Role.ADMIN, "other", ["large"])
    for path in PATHS:
        assert face.ask("GET", path, token=owner).status == 200
        assert face.ask("GET", path, token=other).status == 403
    for path in LISTS:
        assert len(face.ask("GET", path, token=owner).json["items"]) == 1
        assert face.ask("GET", path, token=other).json["items"] == []
    body = {"reason": "to harm"}
    assert face.ask("POST", f"{PATHS[0]}/rollback", body, token=other).status == 403

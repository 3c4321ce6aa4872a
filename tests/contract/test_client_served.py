"""The client against the real HTTP face: every request, streams over a server that goes away and comes back, TLS."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from tests.face import ServedFace

from interlock.access.caller import Role
from interlock.client.api import Client
from interlock.client.errors import ApiError
from interlock.vocabulary import Kind, Phase
from interlock.web.serving import Face, Listener


@pytest.fixture
def face(tmp_path: Path) -> Iterator[ServedFace]:
    served = ServedFace(tmp_path)
    yield served
    served.end()


@pytest.fixture(params=["token", "socket"])
def client(request: pytest.FixtureRequest, face: ServedFace) -> Iterator[Client]:
    """An admin, by a token over TCP or as a user of this machine."""
    if request.param == "token":
        opened = Client(f"http://127.0.0.1:{face.port}", face.token(Role.ADMIN, "ada"))
    else:
        opened = Client.on_socket(face.folder / "control.sock")
    with opened:
        yield opened


def test_who_asks_is_known(client: Client) -> None:
    caller = client.whoami()
    assert caller.role == "admin"
    assert caller.name == "ada" or caller.name.startswith("local:")


def test_lists_are_read_to_their_end(client: Client, face: ServedFace) -> None:
    for number in range(1, 8):
        face.add_run(number, phase=Phase.FAILED if number % 2 else Phase.HELD)
        face.add_version(number=number)
    assert [run.number for run in client.runs.newest(page=3)] == [7, 6, 5, 4, 3, 2, 1]
    assert [run.number for run in client.runs.newest(phases=["held"], repository="small", page=2)] == [6, 4, 2]
    assert [run.number for run in islice(client.runs.newest(ref="refs/heads/main", page=2), 3)] == [7, 6, 5]
    assert [version.key for version in client.deliveries.versions("small")][:2] == ["small/7", "small/6"]
    assert client.deliveries.version("small/3").state.commit == "1" * 40
    assert [repository.name for repository in client.repositories.all()] == ["large", "small"]
    assert client.repositories.get("small").default_branch == "main"
    assert client.repositories.sync("small") == ["interlock: looked at small"]
    assert list(client.environments.all()) == []
    assert list(client.deliveries.rollouts(["progressing"])) == []


def test_a_run_is_begun_once_for_one_key(client: Client, face: ServedFace) -> None:
    face.make_repository()
    begun = client.runs.trigger("small", "main", key="one")
    assert client.runs.trigger("small", "main", key="one").key == begun.key
    assert client.runs.trigger("small", "main").key != begun.key
    assert client.runs.get(begun.state.number).state.commit.repository == "small"
    assert not begun.state.is_final
    assert begun.state.occasion["kind"] == "person"  # type: ignore[attr-defined]  # a field that it does not name


def test_a_run_is_cancelled_run_again_and_approved(client: Client, face: ServedFace) -> None:
    face.add_run(1)
    client.runs.cancel(1, "not now")
    assert "not now" in str(face.store.load(Kind.RUN, "1").state["wish"])
    with pytest.raises(ApiError) as conflict:
        client.runs.rerun(1)
    assert conflict.value.status == 409
    face.add_run(50, phase=Phase.FAILED)
    assert client.runs.rerun(50, "train").state.commit.sha == f"{50:040x}"
    with pytest.raises(ApiError, match="makes no model") as refused:
        client.runs.override(50, ["auc"], "old labels")
    assert refused.value.status == 409
    for gates, reason in (([], "old labels"), (["auc"], "")):
        with pytest.raises(ApiError) as wrong:
            client.runs.override(50, gates, reason)
        assert wrong.value.status == 422
    with pytest.raises(ApiError, match="no run 51") as missing:
        client.runs.approve(51, "ab")
    assert (missing.value.status, missing.value.kind) == (404, "not-found")


def test_a_release_is_begun_once_for_one_key(client: Client, face: ServedFace) -> None:
    face.add_version(number=1)
    begun = client.deliveries.release("small/1", "good enough", key="one")
    assert client.deliveries.release("small/1", key="one").key == begun.key
    assert client.deliveries.get_release(begun.state.number).state.version == "small/1"
    assert [release.key for release in client.deliveries.releases(["open"])] == [begun.key]
    with pytest.raises(ApiError, match="not quarantined"):
        client.deliveries.lift_quarantine("small/1", "it was us")
    with pytest.raises(ApiError, match="there is no environment"):
        client.environments.roll_back("small/production", "slow")


def test_people_secrets_and_the_audit_log(client: Client, face: ServedFace) -> None:
    made, text = client.tokens.create("ci", "viewer", repositories=["small"], expires=time.time() + 100)
    with Client(f"http://127.0.0.1:{face.port}", text) as viewer:
        assert viewer.whoami().repositories == ["small"]
        with pytest.raises(ApiError, match="may not") as forbidden:
            viewer.tokens.all()
        assert (forbidden.value.status, forbidden.value.is_refusal) == (403, True)
        client.tokens.revoke(made.key)
        with pytest.raises(ApiError, match="revoked") as unknown:
            viewer.whoami()
        assert unknown.value.status == 401
    assert client.secrets.put("small", None, "API_KEY", "correct horse battery") is None
    assert "log" in str(client.secrets.put("small", "small/production", "API_KEY", "password12"))
    assert [(one.environment, one.name) for one in client.secrets.names("small")] == [
        (None, "API_KEY"),
        ("small/production", "API_KEY"),
    ]
    client.secrets.remove("small", None, "API_KEY")
    assert [one.environment for one in client.secrets.names("small")] == ["small/production"]
    actions = [entry.deed["action"] for entry in client.audit.entries(newest=3)]
    assert actions == ["set secret", "set secret", "remove secret"]
    verdict = client.audit.verify()
    assert (verdict.problem, verdict.head) == (None, client.audit.verify(verdict.head).head)
    assert client.audit.verify("3:" + "0" * 64).problem is not None


def test_a_log_is_read_by_windows(client: Client, face: ServedFace) -> None:
    face.add_run(1)
    face.log_path(1).write_text("".join(f"line {number}\n" for number in range(10)))
    window = client.runs.log(1, "train", 1, first=3, most=4)
    assert (window.first, window.lines, window.following, window.is_end) == (
        3,
        [f"line {number}" for number in range(3, 7)],
        7,
        False,
    )
    assert client.runs.log(1, "train", 1, first=-2).lines == ["line 8", "line 9"]


def restart(face: ServedFace) -> None:
    """The face ends and another one begins, as when a server is upgraded."""
    face.face.stop()
    face.face = Face(face.services, [Listener(address="127.0.0.1", port=face.port)], face.folder)
    face.face.start()


# httpcore leaves it to Python to close a socket at which nobody listens.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_log_is_followed_over_restarts_of_the_server(client: Client, face: ServedFace) -> None:
    face.add_run(1)
    face.begin_attempt(1)
    path = face.log_path(1)
    path.touch()
    count = 3000

    def write() -> None:
        with path.open("a", buffering=1) as log:
            for number in range(count):
                log.write(f"line {number}\n")
                if number % 1000 == 500:
                    restart(face)
        face.end_attempt(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert list(client.runs.follow_log(1, "train", 1)) == [f"line {number}" for number in range(count)]
    finally:
        writer.join()
    assert list(client.runs.follow_log(1, "train", 1, first=-2)) == [f"line {count - 2}", f"line {count - 1}"]


# httpcore leaves it to Python to close a socket at which nobody listens.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_events_are_listed_and_followed_over_a_restart(client: Client, face: ServedFace) -> None:
    run = face.add_run(1)
    for version in range(1, 300):
        face.save_run(run, version)
    listed = list(client.events("run", "1"))
    assert len(listed) == 300
    assert [event.number for event in client.events("run", "1", after=listed[-3].number)] == [
        event.number for event in listed[-2:]
    ]
    followed = client.follow_events("run", "1", after=listed[-2].number)
    assert next(followed).number == listed[-1].number
    restart(face)
    face.save_run(run.model_copy(update={"phase": Phase.FAILED}), 300)
    assert [event.phase for event in followed] == ["failed"]


def test_a_stream_of_nothing_is_refused_at_once(client: Client) -> None:
    with pytest.raises(ApiError, match="there is no run 9"):
        next(client.runs.follow_log(9, "train", 1))

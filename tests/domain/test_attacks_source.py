"""What a forge's call can make of somebody else's repository, though it is signed."""

import json
from typing import Any

import pytest

from interlock.source.hooks import read_call
from interlock.source.repository import ForgeKind, PullRequest

SHA = "a" * 40
EVENTS = {"github": "x-github-event", "gitea": "x-gitea-event", "gitlab": "x-gitlab-event"}


def told(forge: ForgeKind, of: str, project: str | None, **more: object) -> PullRequest:
    """A member's pull request of the project ``of``, as read for the repository that is ``project``."""
    repository = {"id": 7, "full_name": of, "path_with_namespace": of}
    side = {"ref": "topic", "label": "topic", "sha": SHA, "repo": repository}
    payload: dict[str, Any] = {
        "repository": repository,
        "pull_request": {"number": 4, "state": "open", "head": side, "base": side},
    }
    if forge == "gitlab":
        change = {"iid": 4, "state": "opened", "target_branch": "main", "source_branch": "topic"}
        change |= {"source_project_id": 7, "target_project_id": 7, "last_commit": {"id": SHA}}
        payload = {"object_kind": "merge_request", "project": repository, "object_attributes": change}
    headers = {"content-type": "application/json", EVENTS[forge]: "pull_request"}
    found = read_call(forge, headers, json.dumps(payload | more).encode(), "flights", project).pull_request
    assert found is not None
    return found


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea"])
def test_members_of_another_project_that_shares_the_secret_are_outsiders(forge: ForgeKind) -> None:
    assert not told(forge, "acme/flights", "acme/flights").is_fork
    assert not told(forge, "Acme/Flights", "acme/flights").is_fork
    assert not told(forge, "acme/flights", None).is_fork
    for other in ("eve/flights", "acme/flights2", "acme/flights/", "", "acme/flight\u017f"):
        assert told(forge, other, "acme/flights").is_fork, other


@pytest.mark.parametrize("forge", ["github", "gitea"])
def test_a_call_that_does_not_say_what_it_is_about_is_of_outsiders(forge: ForgeKind) -> None:
    assert told(forge, "acme/flights", "acme/flights", repository=None).is_fork


def test_other_calls_are_read_as_ever() -> None:
    headers = {"content-type": "application/json", "x-github-event": "ping"}
    assert read_call("github", headers, b"{}", "flights", "acme/flights").kind == "ping"

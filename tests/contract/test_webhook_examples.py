"""Every example that GitHub's own schema of webhooks comes with, as GitHub would send it."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock.errors import Refused, Unauthenticated
from interlock.source.hooks import read_call, verify
from interlock.source.notice import Notice

TESTS = Path(__file__).resolve().parents[1]
VERSION = "7.6.1"
SECRET = b"it's a secret to everybody"

EXPECTED = {"ping": "ping", "push": "push", "create": "tag", "delete": "delete", "pull_request": "pull_request"}
"""The kind by event; a push of a tag is ``tag`` and one that deletes is ``delete``. Every other event is ``other``."""


@pytest.fixture(scope="module")
def examples() -> list[tuple[str, str, dict[str, Any]]]:
    """Version of GitHub, event and payload."""
    fetch = [sys.executable, str(TESTS / "npm_packages.py"), "@octokit/webhooks-examples", VERSION]
    fetched = subprocess.run(fetch, capture_output=True, text=True, check=False)
    assert fetched.returncode == 0, fetched.stderr
    found = [
        (index.parent.name, event["name"], example)
        for index in sorted(Path(fetched.stdout.strip()).glob("*/index.json"))
        for event in json.loads(index.read_text())
        for example in event["examples"]
    ]
    assert len(found) > 500
    assert {version for version, _, _ in found} >= {"api.github.com", "ghes-31", "ghes-35"}
    return found


def call(event: str, example: Any) -> tuple[dict[str, str], bytes]:
    body = json.dumps(example).encode()
    headers = {
        "content-type": "application/json; charset=utf-8",
        "x-github-event": event,
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-hub-signature-256": f"sha256={hmac.new(SECRET, body, hashlib.sha256).hexdigest()}",
    }
    return headers, body


def read(event: str, example: Any) -> Notice:
    headers, body = call(event, example)
    verify("github", headers, body, [SECRET])
    return read_call("github", headers, body, "flights")


def expected_kind(event: str, example: dict[str, Any]) -> str:
    if event == "push":
        if example["deleted"]:
            return "delete"
        return "tag" if example["ref"].startswith("refs/tags/") else "push"
    return EXPECTED.get(event, "other")


def test_every_example_is_a_notice_of_the_right_kind(examples: list[tuple[str, str, dict[str, Any]]]) -> None:
    kinds: Counter[str] = Counter()
    for version, event, example in examples:
        notice = read(event, example)
        assert (version, event, notice.kind) == (version, event, expected_kind(event, example))
        assert (notice.repository, notice.source) == ("flights", "github")
        assert notice.delivery == "72d3162e-cc78-11e3-81ab-4c9367dc0958"
        assert Notice.model_validate_json(notice.model_dump_json()) == notice
        kinds[notice.kind] += 1
    assert set(kinds) == {"ping", "push", "tag", "delete", "pull_request", "other"}


def test_what_the_examples_say_is_read(examples: list[tuple[str, str, dict[str, Any]]]) -> None:
    for _, event, example in examples:
        notice = read(event, example)
        if event == "push":
            assert notice.ref == example["ref"]
            assert notice.sha == ("" if example["deleted"] else example["after"])
        elif event in ("create", "delete"):
            assert notice.ref == f"refs/tags/{example['ref']}"
        elif event == "pull_request":
            told, found = example["pull_request"], notice.pull_request
            assert found is not None
            assert notice.ref == f"refs/pull/{told['number']}/head"
            assert (found.number, found.title, found.author) == (told["number"], told["title"], told["user"]["login"])
            assert (found.base, found.head_branch, found.head) == (
                told["base"]["ref"],
                told["head"]["ref"],
                told["head"]["sha"],
            )
            assert found.is_open == (told["state"] == "open")
            assert found.is_fork == (told["head"]["repo"]["full_name"] != told["base"]["repo"]["full_name"])
        else:
            assert (notice.ref, notice.sha, notice.pull_request) == ("", "", None)


def test_no_example_crashes_under_the_header_of_another_event(examples: list[tuple[str, str, dict[str, Any]]]) -> None:
    refusals: list[Refused] = []
    for _, _, example in examples:
        for event in EXPECTED:
            try:
                read(event, example)
            except Refused as refused:
                refusals.append(refused)
    assert len(refusals) > 1000
    assert all(refused.where.startswith("body.") and refused.problem and refused.remedy for refused in refusals)


def each_wrong(headers: dict[str, str], body: bytes) -> Iterator[tuple[dict[str, str], bytes]]:
    right = headers["x-hub-signature-256"]
    yield headers, body + b" "
    for wrong in (right.upper(), right[:-1], right.removeprefix("sha256="), f"{right},{right}", "sha256=" + "0" * 64):
        yield headers | {"x-hub-signature-256": wrong}, body


def test_no_example_is_accepted_with_another_signature(examples: list[tuple[str, str, dict[str, Any]]]) -> None:
    for _, event, example in examples[::10]:
        for headers, body in each_wrong(*call(event, example)):
            with pytest.raises(Unauthenticated):
                verify("github", headers, body, [SECRET])

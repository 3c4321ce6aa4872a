"""Which hook calls are genuine. Every signature is made here by the words of the forges' documentation."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import Unauthenticated
from interlock.source.hooks import verify
from interlock.source.repository import ForgeKind

BODY = b'{"ref": "refs/heads/main"}'
OLD, NEW = b"the old secret", b"the new secret"
KEY = bytes(range(32))
TOKEN = b"whsec_" + base64.b64encode(KEY)
HUB, GITEA, FORGEJO = "x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature"


def digest(secret: bytes = NEW, body: bytes = BODY) -> str:
    return hmac.new(secret, body, hashlib.sha256).hexdigest()


def hub(secret: bytes = NEW, body: bytes = BODY) -> dict[str, str]:
    return {HUB: f"sha256={digest(secret, body)}"}


def signed(key: bytes = KEY, body: bytes = BODY, identity: str = "msg_1", at: str = "1774000000") -> dict[str, str]:
    """As Standard Webhooks has it."""
    made = base64.b64encode(hmac.new(key, f"{identity}.{at}.".encode() + body, hashlib.sha256).digest()).decode()
    return {"webhook-id": identity, "webhook-timestamp": at, "webhook-signature": f"v1,{made}"}


def refused(forge: ForgeKind, headers: dict[str, str], body: bytes, secrets: list[bytes]) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        verify(forge, headers, body, secrets)
    assert caught.value.problem
    assert caught.value.where
    assert caught.value.remedy
    told = str(caught.value)
    assert not any(len(secret) > 8 and secret in told.encode() for secret in secrets)
    assert digest() not in told
    return caught.value


GENUINE: list[tuple[ForgeKind, dict[str, str], list[bytes]]] = [
    ("github", hub(), [NEW]),
    ("github", hub(OLD), [NEW, OLD]),
    ("github", hub(NEW), [NEW, OLD]),
    ("github", hub() | {"x-hub-signature": "sha1=" + "0" * 40}, [NEW]),
    ("github", hub(b"\xff\x00"), [b"\xff\x00"]),
    ("gitea", {GITEA: digest()}, [NEW]),
    ("gitea", {FORGEJO: digest(OLD)}, [NEW, OLD]),
    ("gitea", hub(), [NEW]),
    ("gitea", {GITEA: digest(), FORGEJO: digest(), **hub()}, [NEW]),
    ("gitlab", {"x-gitlab-token": NEW.decode()}, [NEW]),
    ("gitlab", {"x-gitlab-token": OLD.decode()}, [NEW, OLD]),
    ("gitlab", {"x-gitlab-token": "schl\xc3\xbcssel"}, ["schlüssel".encode()]),
    ("gitlab", signed(), [TOKEN]),
    ("gitlab", signed() | {"x-gitlab-token": "another"}, [TOKEN]),
    ("gitlab", signed(), [NEW, b"whsec_" + base64.b64encode(b"another key"), TOKEN]),
    ("gitlab", signed() | {"webhook-signature": f"v1,bm8= v2,xx {signed()['webhook-signature']}"}, [TOKEN]),
    ("gitlab", signed(b"unknown") | {"x-gitlab-token": NEW.decode()}, [NEW]),
]


@pytest.mark.parametrize(("forge", "headers", "secrets"), GENUINE)
def test_genuine_calls(forge: ForgeKind, headers: dict[str, str], secrets: list[bytes]) -> None:
    verify(forge, headers, BODY, secrets)


RIGHT = digest()
FORGED_OF_GITHUB = {
    "none": {},
    "empty": {HUB: ""},
    "only the name": {HUB: "sha256="},
    "another secret": hub(b"guessed"),
    "the empty secret": hub(b""),
    "another body": hub(body=BODY + b" "),
    "short": {HUB: f"sha256={RIGHT[:-1]}"},
    "long": {HUB: f"sha256={RIGHT}0"},
    "upper case": {HUB: f"sha256={RIGHT.upper()}"},
    "an upper-case name": {HUB: f"SHA256={RIGHT}"},
    "no name": {HUB: RIGHT},
    "the name of another": {HUB: f"sha1={RIGHT}"},
    "twice": {HUB: f"sha256={RIGHT},sha256={RIGHT}"},
    "twice with a space": {HUB: f"sha256={RIGHT}, sha256={RIGHT}"},
    "a space before": {HUB: f" sha256={RIGHT}"},
    "a line break behind": {HUB: f"sha256={RIGHT}\n"},
    "in base64": {HUB: "sha256=" + base64.b64encode(bytes.fromhex(RIGHT)).decode()},
    "only SHA-1": {"x-hub-signature": "sha1=" + hmac.new(NEW, BODY, hashlib.sha1).hexdigest()},
    "that of Gitea": {GITEA: RIGHT},
    "a token": {"x-gitlab-token": NEW.decode()},
    "letters of the world": {HUB: "sha256=" + "\u0660" * 64},
    "the digest without the secret": {HUB: f"sha256={hashlib.sha256(BODY).hexdigest()}"},
    "endless": {HUB: "sha256=" + "0" * 1_000_000},
}


@pytest.mark.parametrize("headers", FORGED_OF_GITHUB.values(), ids=FORGED_OF_GITHUB)
def test_forged_calls_of_github(headers: dict[str, str]) -> None:
    assert len(FORGED_OF_GITHUB) >= 20
    assert refused("github", headers, BODY, [NEW]).where == HUB


FORGED_OF_GITEA = {
    "none": {},
    "with a name": {GITEA: f"sha256={RIGHT}"},
    "upper case": {FORGEJO: RIGHT.upper()},
    "another secret": {FORGEJO: digest(b"guessed")},
    "one right and one wrong": {GITEA: RIGHT, FORGEJO: "0" * 64},
    "one right and one empty": {HUB: f"sha256={RIGHT}", GITEA: ""},
    "GitHub's without its name": {HUB: RIGHT},
    "only SHA-1": {"x-hub-signature": "sha1=" + hmac.new(NEW, BODY, hashlib.sha1).hexdigest()},
}


@pytest.mark.parametrize("headers", FORGED_OF_GITEA.values(), ids=FORGED_OF_GITEA)
def test_forged_calls_of_gitea(headers: dict[str, str]) -> None:
    refused("gitea", headers, BODY, [NEW])


FORGED_OF_GITLAB = {
    "none": ({}, [NEW, TOKEN]),
    "an empty token": ({"x-gitlab-token": ""}, [NEW]),
    "another token": ({"x-gitlab-token": "guessed"}, [NEW]),
    "the token in capitals": ({"x-gitlab-token": NEW.decode().upper()}, [NEW]),
    "the token twice": ({"x-gitlab-token": f"{NEW.decode()}, {NEW.decode()}"}, [NEW]),
    "the beginning of the token": ({"x-gitlab-token": NEW.decode()[:-1]}, [NEW]),
    "a signing token is no token": ({"x-gitlab-token": TOKEN.decode()}, [TOKEN]),
    "a signature of GitHub": (hub(), [NEW]),
    "another key": (signed(b"guessed"), [TOKEN]),
    "another body": (signed(body=b"{}"), [TOKEN]),
    "another id": (signed() | {"webhook-id": "msg_2"}, [TOKEN]),
    "another time": (signed() | {"webhook-timestamp": "1"}, [TOKEN]),
    "no id": ({"webhook-signature": signed()["webhook-signature"]}, [TOKEN]),
    "no version": (signed() | {"webhook-signature": signed()["webhook-signature"][3:]}, [TOKEN]),
    "another version": (signed() | {"webhook-signature": "v2" + signed()["webhook-signature"][2:]}, [TOKEN]),
    "wrong signature, right token": (signed(b"guessed") | {"x-gitlab-token": NEW.decode()}, [NEW, TOKEN]),
    "a signature without a key here": (signed(), [NEW]),
    "a signing token that holds no key": (signed(b""), [b"whsec_"]),
    "a signing token that is none": (signed(b""), [b"whsec_not base64!"]),
    "letters of the world": ({"x-gitlab-token": "\u0660"}, [NEW]),
}


@pytest.mark.parametrize(("headers", "secrets"), FORGED_OF_GITLAB.values(), ids=FORGED_OF_GITLAB)
def test_forged_calls_of_gitlab(headers: dict[str, str], secrets: list[bytes]) -> None:
    refused("gitlab", headers, BODY, secrets)


@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea"])
@pytest.mark.parametrize("secrets", [[], [b""], [b"", b""]])
def test_without_a_secret_nothing_is_genuine(forge: ForgeKind, secrets: list[bytes]) -> None:
    headers = {**hub(b""), GITEA: digest(b""), "x-gitlab-token": "", **signed(b"")}
    assert "no secret for hooks" in refused(forge, headers, BODY, secrets).problem


@settings(max_examples=200)
@given(st.binary(max_size=40), st.binary(min_size=9, max_size=20), st.data())
def test_one_changed_byte_anywhere_is_noticed(body: bytes, secret: bytes, data: st.DataObject) -> None:
    headers = hub(secret, body)
    verify("github", headers, body, [b"before", secret])
    changed = bytearray(body or b"x")
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    refused("github", headers, bytes(changed), [secret])
    letters = list(headers[HUB])
    place = data.draw(st.integers(0, len(letters) - 1))
    letters[place] = data.draw(st.characters(exclude_characters=letters[place]))
    refused("github", {HUB: "".join(letters)}, body, [secret])


@settings(max_examples=200)
@given(
    st.sampled_from(["github", "gitlab", "gitea"]),
    st.dictionaries(
        st.sampled_from([HUB, GITEA, FORGEJO, "x-gitlab-token", *signed()]), st.text(max_size=80), max_size=6
    ),
    st.binary(max_size=20),
)
def test_no_headers_crash_it(forge: ForgeKind, headers: dict[str, str], body: bytes) -> None:
    refused(forge, headers, body, [NEW, TOKEN])

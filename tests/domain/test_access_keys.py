"""API keys: what they open, until when, and what the front is told of them."""

from __future__ import annotations

import pytest

from interlock.access.keys import KEY_PREFIX, ApiKey, grant, holds
from interlock.access.tokens import PREFIX, token_digest, token_text

KEY = ApiKey(key="1", name="batch", models=("flights", "delays/staging"), created=1.0)


@pytest.mark.parametrize(
    ("models", "model", "environment", "is_open"),
    [
        ((), "flights", "production", True),
        (("flights",), "flights", "production", True),
        (("flights",), "flights", "staging", True),
        (("flights",), "flights-and-more", "production", False),
        (("flights/production",), "flights", "production", True),
        (("flights/production",), "flights", "staging", False),
        (("flights/production",), "delays", "production", False),
        (("delays/staging", "flights"), "delays", "staging", True),
        (("delays/staging", "flights"), "delays", "production", False),
    ],
)
def test_a_key_opens_what_it_names(models: tuple[str, ...], model: str, environment: str, is_open: bool) -> None:
    told = grant(KEY.model_copy(update={"models": models}), "digest")
    assert told.is_for(model, environment) is is_open


@pytest.mark.parametrize(
    ("expires", "revoked", "now", "is_good"),
    [
        (None, None, 1e12, True),
        (100.0, None, 160.0, True),
        (100.0, None, 160.1, False),
        (None, 50.0, 60.0, False),
        (100.0, 50.0, 60.0, False),
    ],
)
def test_a_key_holds_until_it_is_revoked_or_a_minute_after_its_end(
    expires: float | None, revoked: float | None, now: float, is_good: bool
) -> None:
    assert holds(KEY.model_copy(update={"expires": expires, "revoked": revoked}), now) is is_good


def test_the_front_is_told_a_digest_and_the_same_end() -> None:
    text = token_text(b"x" * 32, KEY_PREFIX)
    told = grant(KEY.model_copy(update={"expires": 100.0, "is_tester": True}), token_digest(text))
    assert (told.name, told.models, told.is_tester, told.until) == ("batch", KEY.models, True, 160.0)
    assert text not in told.model_dump_json()
    assert len(text) <= 55, "one block of the digest"
    assert text.startswith(KEY_PREFIX)
    assert not text.startswith(PREFIX)

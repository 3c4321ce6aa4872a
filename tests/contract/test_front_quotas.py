"""Quotas, kept by the real proxy: what is more is answered 429 and told when to come again, and others are not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.fronts import GuardedPlane

from interlock.access.keys import Grant
from interlock.access.tokens import token_digest, token_text
from interlock.app.operating.outside import refused
from interlock.edges.front import Front, Quota
from interlock.edges.front.quotas import TEXT

TEXTS = {name: token_text(bytes([place]) * 32, "ilm_") for place, name in enumerate(("batch", "web", "ops"))}
FRONT = Front(needs_key=True, quotas={"delays": Quota(1, 12)}, key_quota=Quota(1, 5))


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedPlane]:
    plane = GuardedPlane(tmp_path_factory.mktemp("quotas"), FRONT)
    try:
        plane.proxy.allow_keys([Grant(digest=token_digest(text), name=name) for name, text in TEXTS.items()], 1)
        yield plane
    finally:
        plane.end()


def ask(plane: GuardedPlane, model: str, name: str, requests: int, **headers: str) -> Counter[int]:
    shown = {"x-api-key": TEXTS[name], **headers}
    return Counter(plane.ask(f"/v2/models/{model}/infer", shown).status for _ in range(requests))


def test_a_key_has_its_quota_for_each_model_and_a_model_has_one_for_all(plane: GuardedPlane) -> None:
    began = time.monotonic()
    flights = ask(plane, "flights", "batch", 12)
    assert ask(plane, "flights", "web", 2, **{"x-interlock-key": "batch"}) == {200: 2}, "another key has its own"
    delays = [ask(plane, "delays", name, 5) for name in TEXTS]
    more = time.monotonic() - began + 1  # requests that were filled up meanwhile, at one a second
    assert 5 <= flights[200] <= 5 + more
    assert flights[200] + flights[429] == 12
    answered = sum(one[200] for one in delays)
    assert 12 <= answered <= 12 + more
    assert set().union(*delays) == {200, 429}


def test_refusals_are_counted_by_model_and_status(plane: GuardedPlane) -> None:
    before = refused(plane.folder)
    for status in (401, 401, 410):
        shown = {"x-api-key": TEXTS["web"]} if status == 410 else {}
        path = "/v2/models/delays/infer"
        if status == 410:
            plane.proxy.retire("delays/production", 2)
        assert plane.ask(path, shown).status == status
    plane.proxy.ensure_weights("delays/production", {"delays.production.r1": 100}, 3)
    until = time.monotonic() + 5
    while refused(plane.folder).get(("production", "delays", "410"), 0) != 1:
        assert time.monotonic() < until
    grown = {key: count - before.get(key, 0) for key, count in refused(plane.folder).items()}
    assert grown["production", "delays", "401"] == 2
    assert refused(plane.folder / "nowhere") == {}


def test_what_is_too_much_is_told_in_the_protocols_form_and_when_to_come_again(plane: GuardedPlane) -> None:
    while (answer := plane.ask("/v2/models/flights/infer", {"x-api-key": TEXTS["ops"]})).status == 200:
        pass
    assert (answer.status, answer.json, answer.headers["retry-after"]) == (429, {"error": TEXT}, "1")
    assert plane.ask("/v2/models/flights/infer").status == 401, "who has no key uses nobody's quota up"
    time.sleep(1.1)
    assert plane.ask("/v2/models/flights/infer", {"x-api-key": TEXTS["ops"]}).status == 200
    assert plane.ask("/labels/flights/production", {"x-api-key": TEXTS["ops"]}).status == 200

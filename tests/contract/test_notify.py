"""Who is told of alerts: webhooks on this machine, and their fake."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from interlock.edges.notify import MemoryReceivers, Webhook, Webhooks
from interlock.ports import Receivers

SECRET = b"a secret"


class Receiver(http.server.ThreadingHTTPServer):
    """Takes posts, answers with ``status`` after ``wait`` seconds, and keeps what came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Post)
        self.came: list[tuple[dict[str, str], bytes]] = []
        self.status, self.wait = 200, 0.0
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def end(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class Post(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came.append(({name.lower(): value for name, value in self.headers.items()}, body))
        time.sleep(self.server.wait)
        with suppress(ConnectionError):  # who waited has gone
            self.send_response(self.server.status)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"secret")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    served = Receiver()
    yield served
    served.end()


@pytest.fixture
def webhooks(receiver: Receiver) -> Webhooks:
    return Webhooks({"oncall": Webhook(f"http://127.0.0.1:{receiver.server_port}/alerts/token", SECRET)}, seconds=0.5)


@pytest.mark.parametrize("kind", ["real", "fake"])
def test_a_message_is_taken_or_it_is_said_why_not(kind: str, receiver: Receiver, webhooks: Webhooks) -> None:
    fake = MemoryReceivers("oncall")
    receivers: Receivers = webhooks if kind == "real" else fake
    assert receivers.names == ("oncall",)
    assert receivers.send("oncall", "m/p/1.0", b'{"a":1}') is None
    receiver.status = 503
    fake.broken = {"oncall"}
    assert receivers.send("oncall", "m/p/2.0", b"{}") == "answered 503"


def test_a_post_is_signed_and_names_its_message(receiver: Receiver, webhooks: Webhooks) -> None:
    webhooks.send("oncall", "m/p/1.0", b'{"a":1}')
    ((headers, body),) = receiver.came
    assert body == b'{"a":1}'
    assert headers["x-interlock-delivery"] == "m/p/1.0"
    assert headers["x-interlock-signature-256"] == f"sha256={hmac.new(SECRET, body, hashlib.sha256).hexdigest()}"
    assert headers["content-type"] == "application/json"


def test_a_redirect_is_not_followed(receiver: Receiver, webhooks: Webhooks) -> None:
    receiver.status = 307
    assert webhooks.send("oncall", "m/p/1.0", b"{}") == "answered 307"
    assert len(receiver.came) == 1


def test_who_does_not_answer_is_not_waited_for(receiver: Receiver, webhooks: Webhooks) -> None:
    receiver.wait = 1.0
    began = time.monotonic()
    assert webhooks.send("oncall", "m/p/1.0", b"{}") == "127.0.0.1 gave no answer in 0.5 s"
    assert time.monotonic() - began < 0.95


def test_who_is_not_there_is_told_without_the_rest_of_the_address() -> None:
    webhooks = Webhooks({"oncall": Webhook("http://127.0.0.1:1/alerts/token", SECRET)})
    assert webhooks.send("oncall", "m/p/1.0", b"{}") == "127.0.0.1 cannot be reached"

"""TLS at the front, with the real proxy and real clients: renewed while it serves, never by a pair that is no good."""

from __future__ import annotations

import datetime
import http.client
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from tests.certificates import DAY, NOW, Authority
from tests.fronts import GuardedPlane

from interlock.access.keys import Grant
from interlock.access.tokens import token_digest
from interlock.app.operating.outside import certificates, renew_certificates
from interlock.app.reading import Reading
from interlock.cli.group import run_command
from interlock.cli.show import format_time
from interlock.control.rows import write_environment
from interlock.delivery.environment import Environment
from interlock.edges.front import Certificate, Front
from interlock.errors import ProxyFault, Refused, SeveralRefused

TEXT = "ilm_" + "A" * 43
SHOWN = {"x-api-key": TEXT}


class TlsPlane(GuardedPlane):
    """A guarded plane over TLS."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.serial = self.renew()
        super().__init__(folder / "data", Front(needs_key=True, certificate=Certificate(self.chain, self.key)))
        self.proxy.allow_keys([Grant(digest=token_digest(TEXT), name="batch")], 1)

    def renew(self) -> int:
        """Another pair is on the disk."""
        chain, key, serial = self.authority.pair()
        self.chain.write_bytes(chain)
        self.key.write_bytes(key)
        return serial

    def shown(self, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> int:
        """The serial number of the certificate that a new client is shown."""
        context = self.authority.context()
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # or this client would speak nothing old, whoever asks
        context.minimum_version = min(most, ssl.TLSVersion.TLSv1_2)
        context.maximum_version = most
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
        ):
            return x509.load_der_x509_certificate(client.getpeercert(binary_form=True) or b"").serial_number


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsPlane]:
    plane = TlsPlane(tmp_path_factory.mktemp("tls"))
    try:
        yield plane
    finally:
        plane.end()


def test_clients_that_trust_the_authority_are_answered_over_tls(plane: TlsPlane) -> None:
    assert plane.proxy.endpoint("flights/production") == f"https://127.0.0.1:{plane.port}"
    assert plane.ask("/v2/models/flights/infer", SHOWN, context=plane.authority.context()).status == 200
    assert plane.ask("/v2/models/flights/infer", context=plane.authority.context()).status == 401
    with httpx.Client(verify=plane.authority.context(), http2=False) as client:
        answer = client.get(f"https://127.0.0.1:{plane.port}/v2/models/flights", headers=SHOWN)
    assert answer.json()["name"] == "flights.production.r1.0"


def test_clients_that_do_not_or_that_speak_in_the_clear_are_not(plane: TlsPlane) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        plane.ask("/v2/models/flights/infer", SHOWN, context=ssl.create_default_context())
    with pytest.raises((OSError, http.client.HTTPException)):
        plane.ask("/v2/models/flights/infer", SHOWN)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_nothing_older_than_tls_1_2_is_spoken(plane: TlsPlane) -> None:
    assert plane.shown(ssl.TLSVersion.TLSv1_2) == plane.serial
    with pytest.raises(ssl.SSLError, match=r"(?i)alert protocol version"):
        plane.shown(ssl.TLSVersion.TLSv1_1)


def test_a_renewed_certificate_is_taken_without_losing_a_connection(plane: TlsPlane) -> None:
    over = threading.Event()
    answers: list[int] = []

    def ask_on() -> None:
        context = plane.authority.context()
        kept = http.client.HTTPSConnection("127.0.0.1", plane.port, timeout=20, context=context)
        while not over.is_set():
            kept.request("GET", "/v2/models/flights", headers=SHOWN)
            answers.append(kept.getresponse().read() and 200)
            answers.append(plane.ask("/v2/models/flights", SHOWN, "GET", context).status)
        kept.close()

    asking = [threading.Thread(target=ask_on) for _ in range(3)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(5):
            serial = plane.renew()
            plane.proxy.renew_certificates()
            until = time.monotonic() + 5
            while plane.shown() != serial:
                assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        over.set()
        for thread in asking:
            thread.join()
    plane.serial = serial
    assert len(answers) > 50
    assert set(answers) == {200}


def test_the_end_of_a_certificate_is_told_before_it_comes(
    plane: TlsPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").symlink_to(plane.folder)
    sound = plane.chain.read_bytes(), plane.key.read_bytes()
    try:
        for days, told in [(20, None), (10, "within 14 days"), (2, "within 3 days")]:
            ends = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + days * DAY
            plane.chain.write_bytes((pair := plane.authority.pair(until=ends))[0])
            plane.key.write_bytes(pair[1])
            with pytest.raises(SeveralRefused, match=told) if told else nullcontext():
                renew_certificates(plane.proxy, plane.folder, time.time)
            assert certificates(plane.folder) == {"production": ends.timestamp()}
        with Reading.open(tmp_path) as reading:
            reading.store.save(write_environment(Environment(name="production", model="flights"), 0, "a test"))
        assert run_command(["status", "--state", str(tmp_path)]) == 0
        assert f"production  renew it until {format_time(ends.timestamp())}, in 2 days" in capsys.readouterr().out
    finally:
        plane.chain.write_bytes(sound[0])
        plane.key.write_bytes(sound[1])
        renew_certificates(plane.proxy, plane.folder, time.time)


def test_a_pair_that_is_no_good_is_refused_and_the_one_in_force_goes_on(plane: TlsPlane) -> None:
    sound = plane.chain.read_bytes(), plane.key.read_bytes()
    other, other_key, _ = plane.authority.pair()
    expired = plane.authority.pair(NOW - 9 * DAY, NOW - 2 * DAY)
    early = plane.authority.pair(NOW + 2 * DAY, NOW + 9 * DAY)
    locked = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    wrong = [
        (other, sound[1], "is not that of the certificate"),
        (sound[0], other_key, "is not that of the certificate"),
        (*expired[:2], "the certificate holds from"),
        (*early[:2], "the certificate holds from"),
        (b"", sound[1], "it is no certificate"),
        (sound[0][:100], sound[1], "it is no certificate"),
        (sound[1], sound[1], "it is no certificate"),
        (sound[0], b"", "it is no private key"),
        (sound[0], locked, "it is no private key"),
        (sound[0], sound[0], "it is no private key"),
    ]
    try:
        for chain, key, told in wrong:
            plane.chain.write_bytes(chain)
            plane.key.write_bytes(key)
            with pytest.raises(Refused, match=told):
                plane.proxy.renew_certificates()
            assert plane.shown() == plane.serial
        plane.key.unlink()
        with pytest.raises(Refused, match="cannot be read"):
            plane.proxy.renew_certificates()
        assert plane.ask("/v2/models/flights/infer", SHOWN, context=plane.authority.context()).status == 200
        refusing = Front(certificate=Certificate(plane.chain, plane.key))
        with pytest.raises(Refused, match="cannot be read"):
            plane.make_proxy(refusing).start()
    finally:
        plane.chain.write_bytes(sound[0])
        plane.key.write_bytes(sound[1])
    plane.proxy.renew_certificates()
    assert plane.shown() == plane.serial


def test_a_killed_proxy_comes_back_with_the_pair_that_was_good(plane: TlsPlane) -> None:
    sound = plane.key.read_bytes()
    plane.key.write_bytes(b"half of a k")
    try:
        stub = json.loads((plane.folder / "status" / "envoy.json").read_text())["pid"]
        (envoy,) = Path(f"/proc/{stub}/task/{stub}/children").read_text().split()
        os.kill(int(envoy), signal.SIGKILL)
        shown, until = 0, time.monotonic() + 10
        while shown != plane.serial and time.monotonic() < until:
            try:
                shown = plane.shown()
            except OSError:
                time.sleep(0.02)
        assert shown == plane.serial
    finally:
        plane.key.write_bytes(sound)


def test_the_key_is_its_owners_alone_and_in_no_log(plane: TlsPlane) -> None:
    secret = plane.folder / "envoy" / "sds.production.json"
    assert secret.stat().st_mode & 0o777 == 0o600
    line = plane.key.read_text().splitlines()[1].encode()
    held = [path.name for path in plane.folder.rglob("*") if path.is_file() and line in path.read_bytes()]
    assert held == ["sds.production.json"]


def test_what_the_proxy_itself_does_not_take_is_a_fault_and_is_undone(plane: TlsPlane) -> None:
    """A pair that is sound, of a kind that no client should be shown."""
    sound = plane.chain.read_bytes(), plane.key.read_bytes()
    chain, key, _ = plane.authority.pair(bits=1024)
    try:
        plane.chain.write_bytes(chain)
        plane.key.write_bytes(key)
        with pytest.raises(ProxyFault, match="rejected sds"):
            plane.proxy.renew_certificates()
        assert plane.shown() == plane.serial
    finally:
        plane.chain.write_bytes(sound[0])
        plane.key.write_bytes(sound[1])
    plane.proxy.renew_certificates()

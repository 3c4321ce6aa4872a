"""What TLS, API keys and quotas cost at the front: Envoy's processor time for a request, beside a front without them.

``python benchmarks/front.py [REQUESTS]``: interleaved rounds over kept connections, medians and ratios.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.certificates import Authority
from tests.fronts import GuardedPlane

from interlock.access.keys import Grant
from interlock.access.tokens import token_digest
from interlock.edges.front import Certificate, Front, Quota

KEY = "ilm_" + "A" * 43
ROUNDS = 5
TICKS = os.sysconf("SC_CLK_TCK")
PLENTY = Quota(1_000_000, 1_000_000)


def processor_seconds(plane: GuardedPlane) -> float:
    """What Envoy has used so far."""
    stub = json.loads((plane.folder / "status" / "envoy.json").read_text())["pid"]
    (envoy,) = Path(f"/proc/{stub}/task/{stub}/children").read_text().split()
    words = Path(f"/proc/{envoy}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def measure(plane: GuardedPlane, authority: Authority | None, requests: int) -> float:
    """Microseconds of Envoy's for a request."""
    connection: http.client.HTTPConnection
    if authority is None:
        connection = http.client.HTTPConnection("127.0.0.1", plane.port)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", plane.port, context=authority.context())
    before = 0.0
    for number in range(-50, requests):
        if number == 0:
            before = processor_seconds(plane)
        connection.request("POST", "/v2/models/flights/infer", b"{}", {"x-api-key": KEY})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
    connection.close()
    return (processor_seconds(plane) - before) / requests * 1e6


def main() -> None:
    """Measures and prints."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority(folder)
        chain, key, _ = authority.pair()
        (folder / "chain.pem").write_bytes(chain)
        (folder / "key.pem").write_bytes(key)
        certificate = Certificate(folder / "chain.pem", folder / "key.pem")
        fronts = {
            "plain": Front(),
            "keys": Front(needs_key=True),
            "keys and quotas": Front(needs_key=True, quotas={"flights": PLENTY}, key_quota=PLENTY),
            "TLS": Front(certificate=certificate),
            "TLS, keys and quotas": Front(True, certificate, {"flights": PLENTY}, PLENTY),
        }
        planes = {what: GuardedPlane(folder / str(place), front) for place, (what, front) in enumerate(fronts.items())}
        try:
            taken: dict[str, list[float]] = {what: [] for what in planes}
            for plane in planes.values():
                plane.proxy.allow_keys([Grant(digest=token_digest(KEY), name="batch")], 1)
            for _ in range(ROUNDS):
                for what, plane in planes.items():
                    over = authority if fronts[what].certificate else None
                    taken[what].append(measure(plane, over, requests))
            plain = statistics.median(taken["plain"])
            for what, found in taken.items():
                median = statistics.median(found)
                spread = f"{min(found):.0f} to {max(found):.0f}"
                print(f"{what:22} {median:5.0f} us of Envoy for a request ({spread}), {median / plain:.2f} of plain")
        finally:
            for plane in planes.values():
                plane.end()


if __name__ == "__main__":
    main()

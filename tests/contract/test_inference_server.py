"""The model server as a real process on a real socket, with real models. Nothing here looks inside it."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import http.server
import json
import os
import re
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.open_inference import describe
from tests.public_clients import KSERVE, KSERVE_PACKAGES, OPEN_INFERENCE, TRITON

from interlock.edges.blobs import LocalBlobs
from interlock.inference.__main__ import main
from interlock.inference.conformance.cases import binary_of
from interlock.inference.predictions import PredictionLog
from interlock.inference.slices import Slices

SOURCE = Path(__file__).resolve().parents[2] / "src"
EXAMPLES = int(os.environ.get("HOSTILE_REQUESTS", "150"))
GOOD_DIGEST = "blake3:" + "0" * 64

MAKE_MODELS = '''
import json, pathlib, sys
import joblib, numpy, pandas, skops.io
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.impute import SimpleImputer

root = pathlib.Path(sys.argv[1])
random = numpy.random.default_rng(7)
rows = 300
flights = pandas.DataFrame({
    "carrier": random.choice(["UA", "AA", "DL"], rows),
    "distance": random.normal(900, 300, rows),
    "hour": random.integers(5, 23, rows),
})
late = ((flights.hour > 15) & (random.random(rows) < 0.8)).astype(int)
columns = ColumnTransformer([
    ("carrier", OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
    ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["distance", "hour"]),
])
pipeline = make_pipeline(columns, LogisticRegression()).fit(flights, late)

def folder(name):
    path = root / name
    path.mkdir()
    return path

joblib.dump(pipeline, folder("frame-joblib") / "flights.joblib")
skops.io.dump(pipeline, folder("frame-skops") / "model.skops")

carried = folder("carried")
(carried / "planes.py").write_text("""
class Seats:
    known = {"N1": 150.0, "N2": 300.0}
    def fit(self, table, labels=None):
        self.is_fitted_ = True
        return self
    def transform(self, table):
        return [[self.known[plane]] for plane in table["plane"]]
""")
sys.path.insert(0, str(carried))
from planes import Seats
flown = pandas.DataFrame({"plane": ["N1", "N2"] * 5, "engines": [2, 4] * 5})
seats = make_pipeline(Seats(), LogisticRegression()).fit(flown, [0, 1] * 5)
joblib.dump(seats, carried / "model.joblib")
joblib.dump(seats, folder("not-carried") / "model.joblib")
(folder("empty") / "readme.txt").write_text("no model")
two = folder("two")
joblib.dump(pipeline, two / "a.joblib")
joblib.dump(pipeline, two / "b.joblib")
slow = folder("slow")
(slow / "slowly.py").write_text("""
import time

class Slow:
    def predict(self, table):
        time.sleep(1)
        return table[:, 0]
""")
sys.path.insert(0, str(slow))
from slowly import Slow
joblib.dump(Slow(), slow / "model.joblib")

numbers = random.normal(size=(rows, 3))
joblib.dump(LinearRegression().fit(numbers, numbers @ [1.0, 2.0, 3.0]), root / "line.joblib")
classes = numpy.array(["low", "middle", "high"])[numpy.digitize(numbers[:, 0], [-0.5, 0.5])]
skops.io.dump(LogisticRegression().fit(numbers, classes), root / "classes.skops")
texts = make_pipeline(CountVectorizer(), LogisticRegression()).fit(["good day", "bad day"] * 5, [1, 0] * 5)
joblib.dump(texts, root / "texts.pkl")

def tensor(name, datatype, data):
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}

asked = flights.head(4)
requests = [{"inputs": [tensor("carrier", "BYTES", [a]), tensor("distance", "FP64", [b]), tensor("hour", "INT64", [c])]}
            for a, b, c in asked.itertuples(index=False)]
responses = [{"outputs": [{"name": "probability", "data": [chance]}, {"name": "prediction", "data": [answer]}]}
             for chance, answer in zip(pipeline.predict_proba(asked)[:, 1].tolist(), pipeline.predict(asked).tolist())]
(root / "golden.json").write_text(json.dumps({"requests": requests, "responses": responses}))
plane = {"requests": [{"inputs": [tensor("plane", "BYTES", ["N1"]), tensor("engines", "INT64", [2])]}]}
(root / "planes.json").write_text(json.dumps(plane))
'''


class Answered(NamedTuple):
    status: int
    body: Any
    headers: http.client.HTTPMessage


class Server:
    """One running model server. ``ask`` uses a connection of its own each time."""

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self.process = process
        self.path = path
        self.started_with = 0.0
        """MB of memory when it was ready."""

    def connect(self) -> http.client.HTTPConnection:
        reached = socket.socket(socket.AF_UNIX)
        reached.settimeout(30)
        try:
            reached.connect(str(self.path))
        except OSError:
            reached.close()
            raise
        connection = http.client.HTTPConnection("model")
        connection.sock = reached
        return connection

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answered:
        connection = self.connect()
        try:
            sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, sent, headers or {})
            answer = connection.getresponse()
            return Answered(answer.status, json.loads(answer.read()), answer.headers)
        finally:
            connection.close()

    def infer(self, body: Any, model: str = "flights") -> Answered:
        return self.ask("POST", f"/v2/models/{model}/infer", body)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def child_environment() -> dict[str, str]:
    # Libraries compiled once for all these processes: without bytecode each would take seconds to import them.
    bytecode = Path(tempfile.gettempdir()) / f"interlock-bytecode-{os.getuid()}"
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(SOURCE), "PYTHONPYCACHEPREFIX": str(bytecode), "OMP_NUM_THREADS": "1"}


def command(model: Path, digest: str, *more: str, kind: str = "joblib", name: str = "flights") -> list[str]:
    return [
        sys.executable, "-m", "interlock.inference", "--name", name, "--model", str(model), "--digest", digest,
        "--format", kind, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-c", MAKE_MODELS, str(root)], check=True, env=child_environment())
    return root


@pytest.fixture(scope="module")
def digest_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    blobs = LocalBlobs(tmp_path_factory.mktemp("blobs"))
    return lambda path: str(blobs.put(str(path)))


@pytest.fixture(scope="module")
def start(
    digest_of: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def begin(model: Path, *more: str, folder: Path | None = None, **options: str) -> Server:
        folder = folder or tmp_path_factory.mktemp("s")
        line = command(model, digest_of(model), "--socket", "s", *more, **options)
        (folder / "temporary").mkdir()
        environment = {**child_environment(), "TMPDIR": str(folder / "temporary")}
        process = subprocess.Popen(line, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        server = Server(process, folder / "s")
        running.append(server)
        wait_until_ready(server)
        server.started_with = server.ask("GET", "/interlock/stats").body["memory_mb"]
        return server

    yield begin
    for server in running:
        server.process.terminate()
    for server in running:
        server.process.wait(20)
        assert server.process.stderr is not None
        server.process.stderr.close()


def wait_until_ready(server: Server) -> None:
    for _ in range(1500):
        if server.process.poll() is not None:
            assert server.process.stderr is not None
            pytest.fail(f"ended with {server.process.returncode}: {server.process.stderr.read()}")
        try:
            if server.ask("GET", "/v2/health/ready").status == 200:
                return
        except OSError:
            time.sleep(0.04)
    pytest.fail("never became ready")


@pytest.fixture(scope="module")
def flights(start: Callable[..., Server], models: Path) -> Server:
    options = ("--golden", str(models / "golden.json"), "--revision", "flights.production.r7", "--version", "3")
    return start(models / "frame-joblib", *options)


@pytest.fixture(scope="module")
def planes(start: Callable[..., Server], models: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A model that raises KeyError for a plane that it does not know. Its prediction log is in ``log`` beside it."""
    options = ("--golden", str(models / "planes.json"), "--predictions", "log", "--revision", "planes.staging.r2")
    watched = ("--slices", json.dumps({"plane": ["N1"], "seats": ["150"]}))
    return start(models / "carried", *options, *watched, folder=tmp_path_factory.mktemp("planes"))


def plane(*tails: str | None) -> dict[str, Any]:
    return {"inputs": [tensor("plane", "BYTES", list(tails)), tensor("engines", "INT64", [2] * len(tails))]}


def tensor(name: str, datatype: str, data: list[Any], shape: list[Any] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def flight(**changed: Any) -> dict[str, Any]:
    inputs = {
        "carrier": tensor("carrier", "BYTES", ["UA"]),
        "distance": tensor("distance", "FP64", [1000.0]),
        "hour": tensor("hour", "INT64", [20]),
    }
    return {"inputs": [entry for entry in {**inputs, **changed}.values() if entry is not None]}


def outputs_of(answer: Answered) -> dict[str, list[Any]]:
    assert answer.status == 200, answer.body
    return {output["name"]: output["data"] for output in answer.body["outputs"]}


class TestProtocol:
    @pytest.mark.parametrize("path", ["/v2", "/v2/"])
    def test_server_metadata(self, flights: Server, path: str) -> None:
        assert flights.ask("GET", path).body["extensions"] == ["binary_tensor_data", "model_repository"]

    def test_health_says_both_words(self, flights: Server) -> None:
        assert flights.ask("GET", "/v2/health/live").body["live"] is True
        assert flights.ask("GET", "/v2/health/ready").body == {"live": True, "ready": True}

    @pytest.mark.parametrize("path", ["/v2/models/flights", "/v2/models/flights/versions/3"])
    def test_model_metadata_comes_from_the_golden_requests(self, flights: Server, path: str) -> None:
        found = flights.ask("GET", path).body
        assert found["name"] == "flights"
        assert found["versions"] == ["3"]
        assert found["inputs"] == [
            {"name": "carrier", "datatype": "BYTES", "shape": [-1]},
            {"name": "distance", "datatype": "FP64", "shape": [-1]},
            {"name": "hour", "datatype": "INT64", "shape": [-1]},
        ]
        assert found["outputs"] == [
            {"name": "prediction", "datatype": "INT64", "shape": [-1]},
            {"name": "probability", "datatype": "FP64", "shape": [-1]},
        ]
        assert flights.ask("GET", f"{path}/ready").body == {"name": "flights", "ready": True}

    def test_repository_index_with_and_without_a_body(self, flights: Server) -> None:
        expected = [{"name": "flights", "version": "3", "state": "READY", "reason": ""}]
        assert flights.ask("POST", "/v2/repository/index").body == expected
        assert flights.ask("POST", "/v2/repository/index", {"ready": True}).body == expected

    def test_every_answer_names_the_revision(self, flights: Server) -> None:
        for answer in (
            flights.ask("GET", "/v2"),
            flights.ask("GET", "/nothing"),
            flights.infer({}),
            flights.infer(flight()),
        ):
            assert answer.headers["x-interlock-revision"] == "flights.production.r7"
        parameters = flights.infer(flight()).body["parameters"]
        assert parameters["revision"] == "flights.production.r7"
        assert parameters["digest"].startswith("blake3:")

    def test_stats(self, flights: Server) -> None:
        before = flights.ask("GET", "/interlock/stats").body
        flights.infer(flight())
        after = flights.ask("GET", "/interlock/stats").body
        assert after["requests"] == before["requests"] + 1
        assert after["golden_checked"] == 4
        assert after["memory_peak_mb"] >= after["memory_mb"] > 10


class TestInference:
    def test_answers_as_the_model_does(self, flights: Server, models: Path) -> None:
        golden = json.loads((models / "golden.json").read_text())
        for request, response in zip(golden["requests"], golden["responses"], strict=True):
            found = outputs_of(flights.infer(request))
            assert found == {output["name"]: pytest.approx(output["data"]) for output in response["outputs"]}

    def test_with_the_version_in_the_path(self, flights: Server) -> None:
        answer = flights.ask("POST", "/v2/models/flights/versions/3/infer", flight())
        assert (answer.status, answer.body["model_name"], answer.body["model_version"]) == (200, "flights", "3")

    def test_the_id_is_the_requests_or_the_headers_or_made(self, flights: Server) -> None:
        path, header = "/v2/models/flights/infer", {"x-request-id": "from-header"}
        assert flights.ask("POST", path, {**flight(), "id": "own"}, header).body["id"] == "own"
        assert flights.ask("POST", path, flight(), header).body["id"] == "from-header"
        made = {flights.ask("POST", path, flight()).body["id"] for _ in range(3)}
        assert len(made) == 3

    def test_only_the_wanted_outputs(self, flights: Server) -> None:
        assert outputs_of(flights.infer({**flight(), "outputs": [{"name": "probability"}]})).keys() == {"probability"}

    def test_the_order_of_inputs_and_further_ones_do_not_matter(self, flights: Server) -> None:
        shuffled = {"inputs": [*reversed(flight()["inputs"]), tensor("wind", "FP32", [1.0])]}
        assert outputs_of(flights.infer(shuffled)) == outputs_of(flights.infer(flight()))

    def test_rows_are_answered_one_by_one(self, flights: Server) -> None:
        both = {
            "inputs": [
                tensor("carrier", "BYTES", ["UA", "DL"]),
                tensor("distance", "FP64", [[1000.0], [10.0]], [2, 1]),
                tensor("hour", "INT64", [20, 6]),
            ]
        }
        second = flight(
            carrier=tensor("carrier", "BYTES", ["DL"]),
            distance=tensor("distance", "FP64", [10.0]),
            hour=tensor("hour", "INT64", [6]),
        )
        singles = [outputs_of(flights.infer(each))["probability"][0] for each in (flight(), second)]
        assert outputs_of(flights.infer(both))["probability"] == pytest.approx(singles)

    def test_a_missing_number_is_imputed_by_the_model(self, flights: Server) -> None:
        missing = flight(distance=tensor("distance", "FP64", [None]), hour=tensor("hour", "INT64", [None]))
        assert 0 < outputs_of(flights.infer(missing))["probability"][0] < 1

    def test_whole_numbers_may_stand_for_fractions(self, flights: Server) -> None:
        whole = flight(distance=tensor("distance", "INT64", [1000]))
        assert outputs_of(flights.infer(whole)) == outputs_of(flights.infer(flight()))


def infer_raw(server: Server, body: bytes, model: str = "flights", **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and body as they came."""
    connection = server.connect()
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", f"/v2/models/{model}/infer", body, named)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


class TestBinary:
    def test_inputs_and_outputs_in_binary_beside_json(self, flights: Server) -> None:
        body, headers = binary_of(flight())
        expected = outputs_of(flights.infer(flight()))
        length = int(headers["inference-header-content-length"])
        assert outputs_of(flights.ask("POST", "/v2/models/flights/infer", body, headers)) == expected
        mixed = json.loads(body[:length])
        mixed["inputs"][1] = tensor("distance", "FP64", [1000.0])
        mixed["outputs"] = [{"name": "probability", "parameters": {"binary_data": True}}, {"name": "prediction"}]
        text = json.dumps(mixed).encode()
        tail = body[length : length + 6] + body[-8:]  # the carrier, and the hour
        status, found, content = infer_raw(flights, text + tail, inference_header_content_length=str(len(text)))
        assert status == 200, content
        assert found["content-type"] == "application/octet-stream"
        head = int(found["inference-header-content-length"])
        prediction, probability = json.loads(content[:head])["outputs"]
        assert prediction["data"] == expected["prediction"]
        assert probability["parameters"] == {"binary_data_size": 8}
        assert np.frombuffer(content[head:], "<f8").tolist() == expected["probability"]

    @pytest.mark.parametrize("datatype", ["FP16", "BF16"])
    def test_half_precision_is_widened(self, flights: Server, datatype: str) -> None:
        wide = np.array([1000.0], np.float32)
        half = wide.astype("<f2").tobytes() if datatype == "FP16" else wide.tobytes()[2:]
        request = flight(
            distance={"name": "distance", "datatype": datatype, "shape": [1], "parameters": {"binary_data_size": 2}}
        )
        text = json.dumps(request).encode()
        status, _, content = infer_raw(flights, text + half, inference_header_content_length=str(len(text)))
        assert status == 200, content
        assert outputs_of(Answered(status, json.loads(content), None)) == outputs_of(flights.infer(flight()))  # type: ignore[arg-type]

    @pytest.mark.parametrize("cut", [-1, -8, -9])
    def test_bytes_that_are_missing_or_too_many(self, flights: Server, cut: int) -> None:
        body, headers = binary_of(flight())
        for wrong in (body[:cut], body + b"x"):
            answer = flights.ask("POST", "/v2/models/flights/infer", wrong, headers)
            assert (answer.status, answer.body.keys()) == (400, {"error"})


class TestPacked:
    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate", "identity"])
    def test_requests(self, flights: Server, encoding: str) -> None:
        text = json.dumps(flight()).encode()
        raw = zlib.compressobj(wbits=-15)
        packed = {
            "gzip": gzip.compress(text[:50]) + gzip.compress(text[50:]),
            "deflate": zlib.compress(text),
            "raw deflate": raw.compress(text) + raw.flush(),
            "identity": text,
        }[encoding]
        answer = flights.ask(
            "POST", "/v2/models/flights/infer", packed, {"content-encoding": encoding.rpartition(" ")[2]}
        )
        assert outputs_of(answer) == outputs_of(flights.infer(flight()))

    def test_answers_where_they_are_long_enough(self, flights: Server) -> None:
        many = flight(
            carrier=tensor("carrier", "BYTES", ["UA"] * 500),
            distance=tensor("distance", "FP64", [1000.0] * 500),
            hour=tensor("hour", "INT64", [20] * 500),
        )
        plain = outputs_of(flights.infer(many))
        for encoding, unpack in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
            status, headers, body = infer_raw(flights, json.dumps(many).encode(), accept_encoding=encoding)
            assert (status, headers["content-encoding"], headers["vary"]) == (200, encoding, "accept-encoding")
            assert outputs_of(Answered(status, json.loads(unpack(body)), headers)) == plain
        for body, accepted in ((many, "br, gzip;q=0"), (flight(), "gzip")):
            assert "content-encoding" not in infer_raw(flights, json.dumps(body).encode(), accept_encoding=accepted)[1]

    def test_a_bomb_costs_no_more_than_a_long_body(self, flights: Server) -> None:
        before = flights.ask("GET", "/interlock/stats").body["memory_peak_mb"]
        bomb = gzip.compress(bytes(200 << 20), 9)
        for _ in range(3):
            assert infer_raw(flights, bomb, content_encoding="gzip")[0] == 413
        twice = gzip.compress(bomb)
        assert infer_raw(flights, twice, content_encoding="gzip, gzip")[0] == 413
        assert flights.ask("GET", "/interlock/stats").body["memory_peak_mb"] < before + 32

    def test_a_text_of_nothing_but_lists_is_not_even_read(self, flights: Server) -> None:
        assert infer_raw(flights, b'{"inputs":[' + b"[]," * 500_000 + b"[]]}")[0] == 413


class TestDeadlines:
    def test_one_that_is_over_while_others_are_asked(self, start: Callable[..., Server], models: Path) -> None:
        server = start(models / "slow", name="slow")
        request = {"inputs": [tensor("x", "FP64", [1.0])]}
        assert server.infer(request, "slow").status == 200
        first = threading.Thread(target=server.infer, args=(request, "slow"))
        first.start()
        time.sleep(0.2)
        for header in ("x-request-timeout-ms", "X-Envoy-Expected-Rq-Timeout-Ms"):
            began = time.monotonic()
            answer = server.ask("POST", "/v2/models/slow/infer", request, {header: "300"})
            assert answer.status == 504
            assert time.monotonic() - began < 0.8
        assert server.ask("POST", "/v2/models/slow/infer", request, {"x-request-timeout-ms": "10000"}).status == 200
        first.join()


class TestClients:
    """Public clients over TCP, through a relay to the socket."""

    @pytest.fixture
    def address(self, flights: Server) -> Iterator[str]:
        relay = socketserver.ThreadingTCPServer(("127.0.0.1", 0), relay_to(flights.path))
        relay.daemon_threads = True
        thread = threading.Thread(target=relay.serve_forever, args=(0.05,))
        thread.start()
        yield f"127.0.0.1:{relay.server_address[1]}"
        relay.shutdown()
        thread.join()
        relay.server_close()

    @pytest.mark.parametrize(("program", "answers"), [(TRITON, 12), (OPEN_INFERENCE, 2)], ids=["triton", "open"])
    def test_is_answered_by_us_as_it_expects(self, flights: Server, address: str, program: str, answers: int) -> None:
        """Each in a process of its own: what they are made of patches sockets and warns."""
        ask_with(Path(sys.executable), program, address, answers, flights)

    @pytest.mark.skipif("CLIENTS" not in os.environ, reason="300 MB are installed for it: make clients")
    def test_kserve_is_answered_by_us_as_it_expects(self, flights: Server, address: str, tmp_path: Path) -> None:
        uv, python = Path(sys.executable).parent / "uv", tmp_path / "kserve/bin/python"
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, tmp_path / "kserve"], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", python, *KSERVE_PACKAGES], check=True)
        ask_with(python, KSERVE, address, 4, flights)

    def test_schemathesis_on_the_protocol(self, flights: Server, address: str, tmp_path: Path) -> None:
        """What the description allows and what it does not: no answer of 5xx, none that is not described."""
        described = describe("flights", "3", flights.ask("GET", "/v2/models/flights").body["inputs"])
        (tmp_path / "openapi.json").write_text(json.dumps(described))
        answered = flights.ask("GET", "/interlock/stats").body["requests"]
        ended = subprocess.run(
            [
                str(Path(sys.executable).parent / "schemathesis"),
                "run",
                str(tmp_path / "openapi.json"),
                *("--url", f"http://{address}"),
                *(
                    "--checks",
                    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
                ),
                *("--phases", "coverage,fuzzing" if "HOSTILE_REQUESTS" in os.environ else "fuzzing"),
                *("--max-examples", str(EXAMPLES // 30)),
                *("--seed", "1"),
                *("--suppress-health-check", "all"),
                "--continue-on-failure",
                "--no-color",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
        after = flights.ask("GET", "/interlock/stats").body
        assert after["requests"] >= answered + EXAMPLES // 30
        assert after["errors"] == 0
        assert after["memory_mb"] < flights.started_with + 48
        assert outputs_of(flights.infer(flight()))["prediction"] == [1]

    def test_the_lines_of_curl_that_the_documentation_shows(self, flights: Server, tmp_path: Path) -> None:
        if shutil.which("curl") is None:
            pytest.skip("there is no curl here")
        shown = (SOURCE.parent / "docs" / "serving.md").read_text()
        (lines,) = [block for block in shown.split("```")[1::2] if block.strip().startswith("curl")]
        metadata, answer = re.split(r"\n(?=curl)", lines.strip())
        (tmp_path / "s").mkdir()
        (tmp_path / "s/http").symlink_to(flights.path)

        def run(line: str) -> Any:
            ended = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, check=True)
            return json.loads(ended.stdout)

        assert run(metadata)["inputs"] == flights.ask("GET", "/v2/models/flights").body["inputs"]
        expected = outputs_of(flights.infer(flight()))
        assert {one["name"]: one["data"] for one in run(answer)["outputs"]} == {"probability": expected["probability"]}

    def test_our_conformance_suite(self, flights: Server, address: str, tmp_path: Path) -> None:
        (tmp_path / "request.json").write_text(json.dumps(flight()))
        for more in ([], ["flights", "--request", str(tmp_path / "request.json")]):
            ended = subprocess.run(
                [sys.executable, "-m", "interlock.inference.conformance", f"http://{address}", *more],
                env=child_environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert ended.returncode == 0, ended.stdout + ended.stderr

    def test_our_conformance_suite_finds_what_is_wrong(self, tmp_path: Path) -> None:
        """A server that answers everything with the same: the metadata of a model."""

        class Answering(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = b'{"name":"m","version":"1","inputs":[{"name":"x","datatype":"FP32","shape":[-1]}]}'
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - the library's name

            def log_message(self, *_: Any) -> None:
                """Nothing is logged."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        line = [sys.executable, "-m", "interlock.inference.conformance", f"http://127.0.0.1:{server.server_port}", "m"]
        ended = subprocess.run(line, env=child_environment(), capture_output=True, text=True, check=False)
        server.shutdown()
        thread.join()
        server.server_close()
        assert ended.returncode == 1
        assert "FAILED model metadata tells inputs and outputs: without ['outputs', 'platform']" in ended.stdout
        assert "FAILED 4xx and words for: an unknown version: answered with 200" in ended.stdout
        assert "ok     model readiness answers 200" in ended.stdout


def ask_with(python: Path, program: str, address: str, answers: int, flights: Server) -> None:
    ended = subprocess.run([python, "-c", program, address], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(found) == answers
    assert all(each == pytest.approx(outputs_of(flights.infer(flight()))["probability"]) for each in found)


def relay_to(path: Path) -> type[socketserver.BaseRequestHandler]:
    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as model:
                model.connect(str(path))
                ends = {self.request: model, model: self.request}
                while True:
                    for readable in select.select(list(ends), [], [])[0]:
                        content = readable.recv(65536)
                        if not content:
                            return
                        ends[readable].sendall(content)

    return Relay


HOSTILE: dict[str, bytes | dict[str, Any]] = {
    "no JSON": b"hello",
    "empty": b"",
    "not UTF-8": b'{"inputs": "\xff"}',
    "a list": b"[]",
    "no inputs": {},
    "inputs of another kind": {"inputs": {"carrier": 1}},
    "input of another kind": {"inputs": ["carrier"]},
    "nested too deep": b'{"inputs":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "nested nearly too deep": flight(hour=tensor("hour", "INT64", [json.loads("[" * 900 + "]" * 900)])),
    "NaN": b'{"inputs":[{"name":"hour","datatype":"FP64","shape":[1],"data":[NaN]}]}',
    "too large for a number": b'{"inputs":[{"name":"hour","datatype":"FP64","shape":[1],"data":[1e999]}]}',
    "missing input": flight(hour=None),
    "input given twice": {"inputs": [*flight()["inputs"], tensor("hour", "INT64", [1])]},
    "no name": flight(hour={"datatype": "INT64", "shape": [1], "data": [1]}),
    "unknown datatype": flight(hour=tensor("hour", "INT128", [1])),
    "half precision": flight(hour=tensor("hour", "FP16", [1])),
    "another datatype": flight(hour=tensor("hour", "BYTES", ["8"])),
    "fraction for a whole number": flight(hour=tensor("hour", "INT64", [8.5])),
    "fraction as datatype": flight(hour=tensor("hour", "FP64", [8.0])),
    "boolean for a number": flight(hour=tensor("hour", "INT64", [True])),
    "number for a text": flight(carrier=tensor("carrier", "BYTES", [8])),
    "outside of the datatype": flight(hour=tensor("hour", "INT64", [2**63])),
    "data too short": flight(hour=tensor("hour", "INT64", [1], [2])),
    "data too long": flight(hour=tensor("hour", "INT64", [1, 2], [1])),
    "different rows": flight(hour=tensor("hour", "INT64", [1, 2])),
    "no data": flight(hour={"name": "hour", "datatype": "INT64", "shape": [1]}),
    "zero rows": flight(hour={**tensor("hour", "INT64", []), "shape": [0]}),
    "negative rows": flight(hour=tensor("hour", "INT64", [1], [-1])),
    "two negatives": flight(hour=tensor("hour", "INT64", [1], [-1, -1])),
    "fractional shape": flight(hour=tensor("hour", "INT64", [1], [1.0])),
    "shape that overflows": flight(hour=tensor("hour", "INT64", [1], [2**31, 2**31])),
    "shape of many dimensions": flight(hour=tensor("hour", "INT64", [1], [1] * 40)),
    "wide column": flight(hour=tensor("hour", "INT64", [1, 2], [1, 2])),
    "nesting that lies": flight(hour=tensor("hour", "INT64", [[1, 2]], [2, 1])),
    "binary data twice": flight(hour={**tensor("hour", "INT64", [1]), "parameters": {"binary_data_size": 8}}),
    "shared memory": flight(hour={**tensor("hour", "INT64", [1]), "parameters": {"shared_memory_region": "x"}}),
    "binary wish of another kind": {**flight(), "parameters": {"binary_data_output": 1}},
    "classification": {**flight(), "outputs": [{"name": "prediction", "parameters": {"classification": 2}}]},
    "parameters of another kind": {**flight(), "parameters": []},
    "id of another kind": {**flight(), "id": 7},
    "id too long": {**flight(), "id": "x" * 1000},
    "unknown output": {**flight(), "outputs": [{"name": "certainty"}]},
    "outputs of another kind": {**flight(), "outputs": "prediction"},
}  # fmt: skip


class TestHostileRequests:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_is_answered_with_400_and_words(self, flights: Server, name: str) -> None:
        answer = flights.infer(HOSTILE[name])
        assert answer.status == 400
        assert isinstance(answer.body["error"], str)
        assert answer.body["error"]
        assert flights.infer(flight()).status == 200

    def test_missing_and_wrong_inputs_are_named(self, flights: Server) -> None:
        assert "'hour'" in flights.infer(flight(hour=None)).body["error"]
        wrong = flights.infer(flight(hour=tensor("hour", "BYTES", ["8"]))).body["error"]
        assert "'hour'" in wrong
        assert "BYTES" in wrong
        assert "INT64" in wrong

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("POST", "/v2/models/other/infer", 404),
            ("POST", "/v2/models/flights/versions/4/infer", 404),
            ("GET", "/v2/models/flights/versions/4", 404),
            ("GET", "/v2/models/flights/versions/3/nothing", 404),
            ("GET", "/v2/models/%2e%2e/etc", 404),
            ("GET", "/", 404),
            ("POST", "/v2/repository/models/flights/load", 404),
            ("POST", "/v2/repository/models/flights/unload", 404),
            ("GET", "/v2/models/flights/infer", 405),
            ("DELETE", "/v2/models/flights", 405),
        ],
    )
    def test_wrong_paths(self, flights: Server, method: str, path: str, status: int) -> None:
        answer = flights.ask(method, path)
        assert answer.status == status
        assert answer.body.keys() == {"error"}

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("Inference-Header-Content-Length", "gzip"),
            ("Inference-Header-Content-Length", "99999999999999999999"),
            ("Inference-Header-Content-Length", "99999"),
            ("Inference-Header-Content-Length", "-1"),
            ("Inference-Header-Content-Length", "3"),
            ("Content-Encoding", "br"),
            ("Content-Encoding", "gzip"),
            ("Content-Encoding", "deflate, gzip"),
            ("X-Request-Timeout-Ms", "soon"),
        ],
    )
    def test_headers_that_are_wrong(self, flights: Server, header: str, value: str) -> None:
        answer = flights.ask("POST", "/v2/models/flights/infer", flight(), {header: value})
        assert answer.status == 400
        assert answer.body.keys() == {"error"}

    def test_a_body_that_is_too_large(self, flights: Server) -> None:
        before = flights.ask("GET", "/interlock/stats").body["memory_peak_mb"]
        assert flights.infer(b" " * 100_000_000).status == 413
        assert flights.ask("GET", "/interlock/stats").body["memory_peak_mb"] < before + 32
        assert flights.infer(flight()).status == 200

    def test_a_body_that_is_too_large_and_does_not_say_so(self, flights: Server) -> None:
        connection = flights.connect()
        connection.request("POST", "/v2/models/flights/infer", (b" " * 65536 for _ in range(200)), encode_chunked=True,
                           headers={"Transfer-Encoding": "chunked"})  # fmt: skip
        assert connection.getresponse().status == 413
        connection.close()

    def test_a_body_that_ends_too_early(self, flights: Server) -> None:
        before = flights.ask("GET", "/interlock/stats").body["errors"]
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(flights.path))
            raw.sendall(b"POST /v2/models/flights/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{}")
            raw.shutdown(socket.SHUT_WR)
            assert raw.recv(4096).startswith(b"HTTP/1.1 400 ")
        assert flights.ask("GET", "/interlock/stats").body["errors"] == before

    ANY_JSON = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )
    KEYS = st.sampled_from(["name", "datatype", "shape", "data", "parameters", "id", "inputs", "outputs"])

    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(where=st.integers(0, 2), key=KEYS, value=ANY_JSON, is_top=st.booleans(), cut=st.integers(0, 400) | st.none())
    def test_no_malformed_request_is_our_fault(
        self, flights: Server, where: int, key: str, value: Any, is_top: bool, cut: int | None
    ) -> None:
        request = flight()
        (request if is_top else request["inputs"][where])[key] = value
        answer = flights.infer(json.dumps(request).encode()[:cut])
        assert answer.status in {200, 400}
        assert ("error" in answer.body) == (answer.status == 400)

    @settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_no_malformed_bytes_are_our_fault(self, flights: Server, data: st.DataObject) -> None:
        """Binary requests with any numbers in their heads and any bytes changed, packed or said to be."""
        body, headers = binary_of(flight())
        length = int(headers["inference-header-content-length"])
        head = json.loads(body[:length])
        entry = head["inputs"][data.draw(st.integers(0, 2))]
        sizes = st.integers(-(2**65), 2**65) | st.integers(0, 20) | self.ANY_JSON
        if data.draw(st.booleans()):
            entry["parameters"]["binary_data_size"] = data.draw(sizes)
        if data.draw(st.booleans()):
            entry["shape"] = data.draw(st.lists(sizes, max_size=4))
        if data.draw(st.booleans()):
            entry["datatype"] = data.draw(st.sampled_from(["BOOL", "FP16", "BF16", "FP32", "FP64", "INT8", "BYTES"]))
        text = json.dumps(head).encode()
        tail = data.draw(st.binary(max_size=40) | st.just(body[length:]))
        told = data.draw(st.just(str(len(text))) | st.integers(-5, 2 * len(text)).map(str) | st.sampled_from(["", "x"]))
        sent = text + tail
        more = {"Inference-Header-Content-Length": told}
        if data.draw(st.booleans()):
            more["Content-Encoding"] = data.draw(st.sampled_from(["gzip", "deflate", "gzip, deflate", "br", ","]))
            sent = data.draw(st.sampled_from([sent, gzip.compress(sent), zlib.compress(sent)]))
        answer = flights.ask("POST", "/v2/models/flights/infer", sent, more)
        assert answer.status in {200, 400, 413}
        assert ("error" in answer.body) == (answer.status != 200)

    def test_after_all_that_the_memory_is_what_it_was_and_answers_are_right(self, flights: Server) -> None:
        assert flights.ask("GET", "/interlock/stats").body["errors"] == 0
        assert flights.ask("GET", "/interlock/stats").body["memory_mb"] < flights.started_with + 48
        assert outputs_of(flights.infer(flight()))["prediction"] == [1]


class TestModels:
    def test_skops_answers_as_joblib(self, start: Callable[..., Server], models: Path, flights: Server) -> None:
        server = start(models / "frame-skops", "--golden", str(models / "golden.json"), kind="skops")
        assert outputs_of(server.infer(flight())) == outputs_of(flights.infer(flight()))

    def test_several_classes_have_a_matrix_and_texts(self, start: Callable[..., Server], models: Path) -> None:
        server = start(models / "classes.skops", name="classes", kind="skops")
        answer = server.infer({"inputs": [tensor("x", "FP64", [3.0, 0, 0, -3.0, 0, 0], [2, 3])]}, "classes")
        prediction, probability = answer.body["outputs"]
        assert (prediction["datatype"], prediction["data"]) == ("BYTES", ["high", "low"])
        assert (probability["datatype"], probability["shape"]) == ("FP64", [2, 3])
        assert sum(probability["data"]) == pytest.approx(2.0)

    def test_one_tensor_of_texts_stays_texts(self, start: Callable[..., Server], models: Path) -> None:
        server = start(models / "texts.pkl", name="texts")
        answer = server.infer({"inputs": [tensor("text", "BYTES", ["a good one", "a bad one"])]}, "texts")
        assert outputs_of(answer)["prediction"] == [1, 0]

    def test_code_carried_in_the_folder_and_its_exception(self, planes: Server) -> None:
        before = planes.ask("GET", "/interlock/stats").body
        assert outputs_of(planes.infer(plane("N2")))["prediction"] == [1]
        unknown = planes.infer(plane("N9"))
        assert (unknown.status, unknown.body) == (500, {"error": "KeyError: 'N9'"})
        assert planes.infer(plane(None)).status == 500
        after = planes.ask("GET", "/interlock/stats").body
        assert (after["requests"] - before["requests"], after["errors"] - before["errors"]) == (3, 2)
        assert outputs_of(planes.infer(plane("N2")))["prediction"] == [1]


class TestRefusesToStart:
    def refused(self, line: list[str], folder: Path) -> tuple[int, str]:
        ended = subprocess.run(
            [*line, "--socket", "s"], cwd=folder, env=child_environment(), capture_output=True, text=True, check=False
        )
        assert not (folder / "s").exists()
        assert len(ended.stderr.splitlines()) == 1, ended.stderr
        return ended.returncode, ended.stderr

    def test_other_bytes(self, models: Path, digest_of: Callable[[Path], str], tmp_path: Path) -> None:
        copy = tmp_path / "model"
        shutil.copytree(models / "carried", copy)
        admitted = digest_of(copy)
        (copy / "planes.py").write_text((copy / "planes.py").read_text().replace("150.0", "151.0"))
        code, said = self.refused(command(copy, admitted), tmp_path)
        assert code == 3
        assert admitted in said
        assert digest_of(copy) in said

    def test_a_file_more(self, models: Path, digest_of: Callable[[Path], str], tmp_path: Path) -> None:
        copy = tmp_path / "model"
        shutil.copytree(models / "frame-joblib", copy)
        admitted = digest_of(copy)
        (copy / "sitecustomize.py").write_text("")
        assert self.refused(command(copy, admitted), tmp_path)[0] == 3

    def test_no_model_at_all(self, tmp_path: Path) -> None:
        assert self.refused(command(tmp_path / "nothing", GOOD_DIGEST), tmp_path)[0] == 3

    def test_a_golden_response_that_differs(
        self, models: Path, digest_of: Callable[[Path], str], tmp_path: Path
    ) -> None:
        golden = json.loads((models / "golden.json").read_text())
        golden["responses"][2]["outputs"][0]["data"][0] += 1e-4
        (tmp_path / "golden.json").write_text(json.dumps(golden))
        model = models / "frame-joblib"
        code, said = self.refused(command(model, digest_of(model), "--golden", "golden.json"), tmp_path)
        assert code == 4
        assert "golden request 2: probability[0]" in said

    @pytest.mark.parametrize(
        ("folder", "reason"),
        [("not-carried", "No module named 'planes'"), ("empty", "holds no *.joblib"), ("two", "a.joblib, b.joblib")],
    )
    def test_nothing_that_can_be_loaded(
        self, models: Path, digest_of: Callable[[Path], str], tmp_path: Path, folder: str, reason: str
    ) -> None:
        code, said = self.refused(command(models / folder, digest_of(models / folder)), tmp_path)
        assert code == 5
        assert reason in said


class TestLife:
    def test_stands_alone(self, models: Path, digest_of: Callable[[Path], str], tmp_path: Path) -> None:
        """Only the folder ``interlock/inference`` is there, as in the sandbox; ``-S`` hides this very checkout.

        An old socket is in the way, and nothing is left behind.
        """
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(tmp_path / "s"))
        shutil.copytree(SOURCE / "interlock" / "inference", tmp_path / "code" / "interlock" / "inference")
        places = os.pathsep.join([str(tmp_path / "code"), sysconfig.get_path("purelib")])
        model = models / "line.joblib"
        line = command(model, digest_of(model), "--socket", "s", name="line")
        process = subprocess.Popen(
            [line[0], "-S", *line[1:]],
            cwd=tmp_path,
            env={**child_environment(), "PYTHONPATH": places},
            stderr=subprocess.PIPE,
            text=True,
        )
        server = Server(process, tmp_path / "s")
        try:
            wait_until_ready(server)
            answer = server.infer({"inputs": [tensor("x", "FP32", [[1, 0, 0], [0, 1, 0.5]], [2, 3])]}, "line")
            assert outputs_of(answer) == {"prediction": pytest.approx([1.0, 3.5])}
            assert server.infer({"inputs": [tensor("x", "FP32", [1, 2], [1, 2])]}, "line").status == 400
            assert server.stop() == 0
            assert [path.name for path in tmp_path.iterdir()] == ["code"]
        finally:
            process.kill()
            process.communicate()

    def test_while_the_model_thinks_the_server_answers_and_does_not_take_more_than_it_can(
        self, start: Callable[..., Server], models: Path
    ) -> None:
        server = start(models / "slow", name="slow")
        body = json.dumps({"inputs": [tensor("x", "FP64", [1.0])]}).encode()
        request = b"POST /v2/models/slow/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        with contextlib.ExitStack() as open_connections:
            waiting = [open_connections.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(300)]
            for connection in waiting:
                connection.connect(str(server.path))
                connection.sendall(request)
            refused, _, _ = select.select(waiting[5:], [], [], 60)
            assert server.ask("GET", "/v2/health/ready").status == 200
            assert len(select.select(waiting, [], [], 0)[0]) < 100
            answer = refused[0].recv(65536)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"retry-after: 1\r\n" in answer
        server.process.kill()  # gently it would answer the rest first, for minutes

    def test_a_copy_is_logged_at_once_beside_what_names_its_request(
        self, start: Callable[..., Server], models: Path, tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        server = start(models / "frame-joblib", "--predictions", str(log), "--revision", "r2")
        (file,) = log.iterdir()
        mark = {"x-request-id": "of-both", "x-interlock-mirrored": "r2"}
        server.ask("POST", "/v2/models/flights/infer", {**flight(), "id": "own"}, mark)
        (record,) = [json.loads(line) for line in file.read_text().splitlines()]
        assert (record["id"], record["request"], record["copied_to"]) == ("own", "of-both", "r2")
        server.ask("POST", "/v2/models/flights/infer", {**flight(), "id": "own"}, mark | {"x-interlock-mirrored": "r3"})
        server.ask("POST", "/v2/models/flights/infer", flight(), {"x-request-id": "plain"})
        server.ask("POST", "/v2/models/flights/infer", {"inputs": "wrong"}, mark)  # writes what waited before it
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        told = [(one["id"], one.get("copied_to"), one["status"]) for one in lines]
        assert told == [("own", "r2", 200), ("own", "r3", 200), ("plain", None, 200), ("of-both", "r2", 400)]
        assert lines[0]["asked"] == lines[1]["asked"] != lines[3]["asked"]
        assert not {"copied_to", "request", "asked"} & lines[2].keys()

    def test_nothing_is_lost_when_it_is_stopped_under_load(
        self, start: Callable[..., Server], models: Path, tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        options = ("--golden", str(models / "golden.json"), "--predictions", str(log), "--revision", "r1")
        server = start(models / "frame-joblib", *options)
        answered: list[str] = []
        lost: list[str] = []
        clients = [threading.Thread(target=send_until_gone, args=(server, f"c{n}", answered, lost)) for n in range(4)]
        for client in clients:
            client.start()
        while len(answered) < 40:
            time.sleep(0.01)
        watching = server.connect()
        server.process.send_signal(signal.SIGTERM)
        while True:
            watching.request("GET", "/v2/health/ready")
            answer = watching.getresponse()
            answer.read()
            if answer.status == 503:
                break
        assert answer.headers["retry-after"] == "1"
        watching.close()
        assert server.process.wait(20) == 0
        for client in clients:
            client.join()
        assert lost == []
        (file,) = log.iterdir()
        assert file.name == f"r1-{server.process.pid}.jsonl"
        records = [json.loads(line) for line in file.read_text().splitlines()]
        assert sorted(record["id"] for record in records) == sorted(answered)


def send_until_gone(server: Server, name: str, answered: list[str], lost: list[str]) -> None:
    """Sends one request after another; what was sent must be answered, only a connection may be refused."""
    connection = server.connect()
    for number in range(100_000):
        identity = f"{name}-{number}"
        try:
            connection.request("POST", "/v2/models/flights/infer", json.dumps({**flight(), "id": identity}))
            answer = connection.getresponse()
            body = json.loads(answer.read())
        except (OSError, http.client.HTTPException) as fault:
            lost.append(f"{identity}: {fault!r}")
            return
        if answer.status != 200 or body["id"] != identity:
            lost.append(f"{identity}: {answer.status}")
            return
        answered.append(identity)
        if answer.headers["connection"] == "close":
            connection.close()
            try:
                connection = server.connect()
            except OSError:
                return


class TestPredictionLog:
    def test_each_request_is_one_line_soon(self, planes: Server) -> None:
        found = outputs_of(planes.infer({"id": "two", **plane("N1", "N2")}))
        planes.infer({"id": "bad", **plane("N9")})
        planes.infer({"id": "worse"})
        file = planes.path.parent / "log" / f"planes.staging.r2-{planes.process.pid}.jsonl"
        for _ in range(500):
            if b"worse" in file.read_bytes():
                break
            time.sleep(0.02)
        first, second, third = map(json.loads, file.read_text().splitlines()[-3:])
        assert abs(first.pop("time") - time.time()) < 60
        assert first.pop("digest").startswith("blake3:")
        assert first == {
            "id": "two",
            "revision": "planes.staging.r2",
            "rows": 2,
            "prediction": found["prediction"],
            "probability": found["probability"],
            "slices": {"plane": ["N1", None]},
            "status": 200,
        }
        assert (second["id"], second["status"], second["prediction"]) == ("bad", 500, None)
        assert (third["id"], third["status"]) == ("worse", 400)
        assert "slices" not in second.keys() | third.keys()
        assert planes.process.stderr is not None
        assert b"has no input seats to slice by" in os.read(planes.process.stderr.fileno(), 4096)

    def test_of_columns_that_are_watched_the_named_values_are_kept_by_row(self) -> None:
        slices = Slices(
            {"carrier": ["AA", "7"], "hour": ["7", "17"], "early": ["true"], "pixels": ["1"], "gate": ["1"]}
        )
        arrays = {
            "carrier": np.array([["AA"], [None], ["7"]], dtype=object),
            "hour": np.array([7.0, 7.5, np.nan]),
            "early": np.array([True, False, True]),
            "pixels": np.ones((3, 2), dtype=np.int64),
            "gate": np.array([2, 3, 4], dtype=np.uint8),
            "passenger": np.array(["Ada", "Bob", "AA"], dtype=object),
        }
        assert slices.of(3, arrays) == {
            "carrier": ["AA", None, "7"],
            "hour": ["7", None, None],
            "early": ["true", None, "true"],
        }
        assert slices.of(1, {}) == {}

    @pytest.mark.parametrize("text", ["[]", "1", "{", '{"carrier": 7}'])
    def test_what_is_watched_is_values_by_column(self, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["--name", "m", "--slices", text])
        assert "does not say values by column" in capsys.readouterr().err

    def test_a_torn_line_swallows_nothing(self, tmp_path: Path) -> None:
        (tmp_path / f"r-{os.getpid()}.jsonl").write_bytes(b'{"id": "old"}\n{"id": "to')
        log = PredictionLog(tmp_path, "r")
        log.append({"id": "new"})
        log.close()
        lines = (tmp_path / f"r-{os.getpid()}.jsonl").read_bytes().splitlines()
        assert lines == [b'{"id": "old"}', b'{"id": "to', b'{"id":"new"}']

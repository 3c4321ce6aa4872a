"""`interlock models serve`: a model of a folder, in a sandbox, without anything else of Interlock running."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock.app.alone.serving import find_format, name_of
from interlock.cli.group import run_command
from interlock.errors import Refused
from interlock.system.sockets import free_port, http_over

CODE = """
import os, socket

class Model:
    def load(self, folder):
        self.folder = folder
    def predict(self, inputs):
        return inputs["x"] * 2
    def postprocess(self, doubled):
        try:
            socket.create_connection(("127.0.0.1", int(os.environ.get("PORT", "1"))), 1)
            sees = "network"
        except OSError:
            sees = "no network"
        with open(os.path.join(self.folder, "hidden")) as hidden:
            sees += f", {os.path.exists(hidden.read())}"
        return {"prediction": doubled, "sees": [f"{sees}, {os.environ['OMP_NUM_THREADS'].isdigit()}"] * len(doubled)}
"""
REQUEST = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2], "data": [1.0, 4.0]}]}


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    folder = tmp_path / "My Doubled"
    folder.mkdir()
    (folder / "model.py").write_text(CODE)
    (tmp_path / "secret").write_text("not for models")
    (folder / "hidden").write_text(str(tmp_path / "secret"))
    answer = {"outputs": [{"name": "prediction", "data": [2.0, 8.0]}]}
    (folder / "golden.json").write_text(json.dumps({"requests": [REQUEST], "responses": [answer]}))
    return folder


Serve = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts the command; whatever was started has ended afterwards, and left nothing in its temporary folder, which
    lies deeper than the address of a socket may be long.
    """
    begun: list[subprocess.Popen[str]] = []
    temporary = tmp_path / "deep" / ("x" * 100)
    temporary.mkdir(parents=True)

    def begin(*words: str) -> subprocess.Popen[str]:
        command = [str(Path(sys.executable).parent / "interlock"), "models", "serve", *words]
        env = {**os.environ, "INTERLOCK_STATE": str(tmp_path / "state"), "TMPDIR": str(temporary)}
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True))
        return begun[-1]

    yield begin
    for process in begun:
        process.terminate()
        process.communicate(timeout=30)
    assert list(temporary.iterdir()) == []


def lines_of(process: subprocess.Popen[str], last: str) -> list[str]:
    found = []
    assert process.stdout is not None
    for line in process.stdout:
        found.append(line)
        if last in line:
            return found
    pytest.fail(f"ended with {process.wait()}: {''.join(found)}")


def post(url: str, body: Any) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, json.dumps(body).encode(), timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_serves_on_a_port_of_loopback_until_it_is_interrupted(serve: Serve, doubled: Path) -> None:
    port = free_port()
    process = serve(str(doubled), "--python", sys.executable, "--port", str(port))
    told = "".join(lines_of(process, "Ctrl-C"))
    assert f"my-doubled (python) is served at http://127.0.0.1:{port}" in told
    assert "POST /v2/models/my-doubled/infer" in told
    answer = post(f"http://127.0.0.1:{port}/v2/models/my-doubled/infer", REQUEST)
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    assert outputs == {"prediction": [2.0, 8.0], "sees": ["no network, False, True"] * 2}
    with pytest.raises(urllib.error.HTTPError, match="400"):
        post(f"http://127.0.0.1:{port}/v2/models/my-doubled/infer", {"inputs": []})
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 5)


def test_serves_on_a_socket_and_tells_it_as_json(serve: Serve, doubled: Path, tmp_path: Path) -> None:
    words = (str(doubled), "--python", sys.executable, "--socket", str(tmp_path / "s"), "--name", "two", "--json")
    told = json.loads(lines_of(serve(*words), "digest")[-1])
    assert (told["name"], told["format"], told["url"]) == ("two", "python", f"unix:{tmp_path / 's'}")
    for route in told["routes"]:
        body = json.dumps(REQUEST).encode() if route["path"].endswith("infer") else None
        assert http_over(tmp_path, "s", route["method"], route["path"], body=body).status == 200, route


def test_a_file_that_is_no_socket_stays(serve: Serve, doubled: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    process = serve(str(doubled), "--python", sys.executable, "--socket", str(tmp_path / "kept"))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "another file is there" in said
    assert (tmp_path / "kept").read_text() == "mine"


def test_a_killed_replica_is_told(serve: Serve, doubled: Path, tmp_path: Path) -> None:
    process = serve(str(doubled), "--python", sys.executable, "--socket", str(tmp_path / "s"))
    lines_of(process, "Ctrl-C")
    (replica,) = replicas_of(doubled)
    os.kill(replica, signal.SIGKILL)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "the model server ended with exit code" in said


def test_the_replica_does_not_outlive_a_killed_command(doubled: Path, tmp_path: Path) -> None:
    env = {**os.environ, "INTERLOCK_STATE": str(tmp_path / "state"), "TMPDIR": str(tmp_path)}
    command = [str(Path(sys.executable).parent / "interlock"), "models", "serve", str(doubled)]
    command += ["--python", sys.executable, "--socket", str(tmp_path / "s")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True) as process:
        lines_of(process, "Ctrl-C")
        assert len(replicas_of(doubled)) == 1
        process.kill()
        process.wait()
        until = time.monotonic() + 10
        while replicas_of(doubled):
            assert time.monotonic() < until
            time.sleep(0.02)


def replicas_of(model: Path) -> list[int]:
    return [
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and is_replica(entry, str(model))
    ]


def is_replica(entry: Path, model: str) -> bool:
    try:
        words = entry.joinpath("cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return words[0].endswith(b"python") and words[1:3] == [b"-m", b"interlock.inference"] and model.encode() in words


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        ({"model.py": "import not_there"}, (), "No module named 'not_there'"),
        ({"golden.json": "{}"}, (), "a golden request was not answered as it should be"),
        ({"model.py": None}, (), "the names of its files do not tell"),
        ({"a.onnx": "", "b.skops": ""}, (), "its files could be onnx or skops"),
        ({}, ("--socket", "/nowhere/s"), "it cannot be listened on"),
    ],
)
def test_what_cannot_be_served_is_refused(
    serve: Serve, doubled: Path, change: dict[str, str | None], words: tuple[str, ...], said: str
) -> None:
    for name, content in change.items():
        (doubled / name).unlink() if content is None else (doubled / name).write_text(content)
    process = serve(str(doubled), "--python", sys.executable, *(words or ("--port", str(free_port()))))
    told, _ = process.communicate(timeout=60)
    assert (process.returncode, said in told) == (2, True), told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "there is no model"),
        (("model.py", "--port", "1", "--socket", "s"), "write one of them"),
        (("model.py", "--lock", "l", "--python", "p"), "write one of them"),
        (("model.py",), "there is no lock of the model's packages"),
        (("model.py", "--lock", "other.lock"), "there is no lock of the model's packages"),
        (("model.py", "--lock", "uv.lock"), "with the pyproject.toml beside it"),
    ],
)
def test_what_is_asked_wrongly_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTERLOCK_STATE", str(tmp_path / "state"))
    (tmp_path / "model.py").write_text(CODE)
    if "uv.lock" in words:
        (tmp_path / "uv.lock").write_text("version = 1")
    assert run_command(["models", "serve", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "named", "expected"),
    [
        (["model.skops", "helpers.py", "notes.txt"], None, "skops"),
        (["model.py", "weights.npz"], None, "python"),
        (["MLmodel", "model.skops"], None, "mlflow"),
        (["model.json"], "xgboost", "xgboost"),
        (["sub/m.ubj"], None, "xgboost"),
        (["model.json"], None, None),
        (["a.onnx", "b.pkl"], None, None),
    ],
)
def test_the_format_is_told_by_the_names_of_the_files(
    tmp_path: Path, files: list[str], named: str | None, expected: str | None
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    if expected is None:
        with pytest.raises(Refused, match="--format"):
            find_format(tmp_path, named)
    else:
        assert find_format(tmp_path, named) == expected
        assert find_format(tmp_path / files[0], named or expected) == expected


def test_a_name_is_made_for_the_paths(tmp_path: Path) -> None:
    assert name_of(tmp_path / "Flights v2.skops") == "flights-v2"
    assert name_of(tmp_path / "---") == "model"

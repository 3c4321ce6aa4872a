"""One real server, attacked from the network, from a repository it watches, and from inside the stages it runs."""

import hashlib
import hmac
import http.client
import json
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from interlock.app.backup import back_up
from interlock.app.operating.lines import Lines
from interlock.system.sockets import free_port, http_over

pytestmark = pytest.mark.xdist_group("faults")

BIN = Path(sys.executable).parent
GIT = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
CANARY = "zqcanary"
"""In everything of the repository ``theirs``: whoever may see ``mine`` alone must never meet it."""
HOOK_MINE, HOOK_THEIRS = "webhook-secret-of-mine-7f3a", "webhook-secret-of-theirs-91bc"
VALUE = "value-of-a-secret-55d1e0"
SENTINEL = "sentinel-of-a-file-that-is-nobodys"
FINAL = ("succeeded", "failed", "errored", "cancelled")
PROJECT = '[project]\nname = "attacked"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = []\n'
PIPELINE = """
version: 1
checks: []
on: {{push: {{branches: ["**"]}}, pull_request: {{}}}}
stages:
  hunt: {{cmd: python hunt.py, outs: [found.json], params: [], network: {network}, timeout: 60s}}
"""
HUNT = """
import glob, json, os, socket
told = {"read": {}, "met": {}, "seen": ""}
for path in json.load(open("places.json")):
    try:
        if os.path.isdir(path):
            told["read"][path] = str(os.listdir(path))
        else:
            told["read"][path] = open(path, "rb").read(200).decode("latin-1")
    except OSError:
        pass
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(path)
            told["met"][path] = "connected"
    except OSError:
        pass
for port in json.load(open("ports.json")):
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as one:
            one.sendall(b"GET /api/v1/tokens HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
            told["met"][str(port)] = one.recv(100).decode("latin-1")
    except OSError:
        pass
seen = {}
for pattern in ("environ", "cmdline", "maps", "mountinfo", "net/unix"):
    for path in glob.glob(f"/proc/[0-9]*/{pattern}"):
        try:
            seen[open(path, "rb").read().decode("latin-1")] = path  # each text once: a long line of a log is cut
        except OSError:
            pass
told["seen"] = "".join(seen) + str([os.readlink(path) for path in glob.glob("/proc/self/fd/*") if os.path.islink(path)])
json.dump(told, open("found.json", "w"))
print(json.dumps(told))
"""


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Target:
    """A server that watches ``mine`` and ``theirs``, each with one run that has ended. ``admin`` may do everything."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.state.mkdir(mode=0o755)
        self.state.chmod(0o755)
        self.ports = [free_port(), free_port()]
        for name in ("mine", "theirs"):
            subprocess.run([*GIT, "init", "-q", "--bare", folder / f"{name}.git"], check=True)
        self.log = folder / "server.log"
        (self.state / "server.yaml").write_text(json.dumps(self._settings()))
        (self.state / "sentinel.log").write_text(SENTINEL)
        self._server = self._start()
        self.port = self._port()
        self.admin = self.token("root", "admin")
        self._clone()

    def _settings(self) -> dict[str, Any]:
        def repository(name: str) -> dict[str, Any]:
            forge = {"kind": "github", "url": "https://forge.invalid", "project": f"acme/{name}"}
            secrets = [{"env": f"HOOK_{name.upper()}"}]
            path = str(self.folder / f"{name}.git")
            return {"path": path, "forks": "run", "forge": {**forge, "webhook_secrets": secrets}}

        return {
            "listen": "127.0.0.1:0",
            "poll_every": 1,
            "log_format": "json",
            "repositories": {
                "mine": repository("mine"),
                "theirs": repository("theirs"),
                "bare": {"path": str(self.folder / "bare.git")},
            },
            "environments": {
                name: {"listen": f"127.0.0.1:{port}"}
                for name, port in zip(("staging", "production"), self.ports, strict=True)
            },
        }

    def _start(self) -> subprocess.Popen[bytes]:
        subprocess.run([*GIT, "init", "-q", "--bare", self.folder / "bare.git"], check=True)
        secrets = {"HOOK_MINE": HOOK_MINE, "HOOK_THEIRS": HOOK_THEIRS}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [BIN / "interlock", "server", "--state", self.state],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **secrets},
            )

    def _port(self) -> int:
        """Once the hooks are installed: a branch that nobody told of is only remembered at the first look."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            log = self.log.read_text()
            if '"ready: ' in log:
                return int(log.partition("API and webhooks: http://127.0.0.1:")[2].split('"')[0])
            assert self._server.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def _clone(self) -> None:
        self.clone = self.folder / "clone"
        subprocess.run([*GIT, "init", "-q", self.clone], check=True)
        (self.clone / "pyproject.toml").write_text(PROJECT)
        subprocess.run([BIN / "uv", "lock", "-q"], cwd=self.clone, check=True)
        state = self.state
        places = [
            *(str(state / name) for name in ("", "interlock.db", "keys", "server.yaml", "control.sock", "execution")),
            *(str(state / "data" / name) for name in ("envoy/admin", "envoy", "")),
            *("/proc/1/root", "/proc/1/environ", "/var/run/docker.sock", "/etc/shadow", "/tmp"),
        ]
        (self.clone / "places.json").write_text(json.dumps(places))
        (self.clone / "ports.json").write_text(json.dumps([self.port, *self.ports]))

    def push(self, name: str, ref: str, subject: str, *, network: bool = False) -> str:
        (self.clone / "interlock.yaml").write_text(PIPELINE.format(network=str(network).lower()))
        (self.clone / "hunt.py").write_text(f"{HUNT}# {subject}\n")  # nothing of it was run before
        subprocess.run([*GIT, "add", "-A"], cwd=self.clone, check=True)
        subprocess.run([*GIT, "commit", "-qm", subject], cwd=self.clone, check=True)
        target = self.folder / f"{name}.git"
        subprocess.run([*GIT, "push", "-qf", target, f"HEAD:{ref}"], cwd=self.clone, check=True, capture_output=True)
        head = subprocess.run([*GIT, "rev-parse", "HEAD"], cwd=self.clone, check=True, capture_output=True, text=True)
        return head.stdout.strip()

    def ended(self, sha: str) -> dict[str, Any]:
        """The run of a commit, once it has ended."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            for run in self.ask("GET", "/api/v1/runs", token=self.admin).json["items"]:
                if run["sha"] == sha and run["phase"] in FINAL:
                    return dict(run)
            time.sleep(0.1)
        raise AssertionError(self.log.read_text()[-3000:])

    def hunted(self, number: int) -> dict[str, Any]:
        """What a stage found out in that run."""
        lines = self.ask("GET", f"/api/v1/runs/{number}/stages/hunt/attempts/1/log", token=self.admin).json["lines"]
        (told,) = [line for line in lines if line.startswith('{"read"')]
        return dict(json.loads(told))

    def token(self, name: str, role: str, repositories: Sequence[str] = ()) -> str:
        body = json.dumps({"name": name, "role": role, "repositories": repositories}).encode()
        headers = {"content-type": "application/json"}
        made = http_over(self.state, "control.sock", "POST", "/api/v1/tokens", body=body, headers=headers)
        assert made.status == 201, made
        return str(json.loads(made.body)["text"])

    def ask(self, method: str, path: str, body: object = None, *, token: str | None = None, **headers: str) -> Answer:
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if content is not None:
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with closing(connection):
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read().decode("utf-8", "replace"))

    def raw(self, content: bytes) -> bytes:
        """What is answered to these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            pieces = []
            while piece := connection.recv(65536):
                pieces.append(piece)
            return b"".join(pieces)

    def hook(self, name: str, payload: object, secret: str, event: str = "push") -> Answer:
        body = json.dumps(payload).encode()
        signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return self.ask("POST", f"/hooks/github/{name}", body, X_GitHub_Event=event, X_Hub_Signature_256=signature)

    def end(self) -> None:
        self._server.terminate()
        self._server.wait(60)
        stop = [BIN / "interlock", "server", "stop", "--data-plane", "--state", self.state]
        subprocess.run(stop, check=False, capture_output=True)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    folder = Path(tempfile.mkdtemp(prefix="ij-attacked-"))
    made = Target(folder)
    try:
        made.push("mine", "refs/heads/main", "Begin")
        made.theirs = made.push("theirs", f"refs/heads/{CANARY}", f"A subject with {CANARY}")  # type: ignore[attr-defined]
        made.ask("PUT", "/api/v1/secrets", _secret("theirs", CANARY.upper(), VALUE), token=made.admin)
        made.token(f"token of {CANARY}", "viewer", ["theirs"])
        yield made
    finally:
        made.end()
        shutil.rmtree(folder, ignore_errors=True)


def _secret(repository: str, name: str, value: str) -> dict[str, str]:
    return {"repository": repository, "name": name, "value": value}


def _pull_request(number: int, sha: str, project: str = "acme/mine", owner: str = "eve/mine") -> dict[str, Any]:
    own, other = {"id": 1, "full_name": project}, {"id": 2, "full_name": owner}
    head = {"ref": "topic", "sha": sha, "repo": other if owner != project else own}
    told = {"number": number, "state": "open", "head": head, "base": {"ref": "main", "sha": sha, "repo": own}}
    return {"repository": own, "pull_request": told}


# --- what lies about ---


def test_nobody_else_of_the_machine_reads_the_state(target: Target) -> None:
    assert stat.S_IMODE(target.state.stat().st_mode) & stat.S_IRWXO == 0, "it was made for all to read"
    assert stat.S_IMODE((target.state / "control.sock").stat().st_mode) == 0o600
    keys = [path for path in (target.state / "keys").rglob("*") if path.is_file()]
    assert keys
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    assert stat.S_IMODE((target.state / "data").stat().st_mode) == 0o700


def test_a_backup_is_its_owners_whatever_the_mask(target: Target) -> None:
    copy, before = target.folder / "copy", os.umask(0)
    try:
        back_up(target.state, copy)
    finally:
        os.umask(before)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (copy / "keys").rglob("*") if path.is_file()} == {0o600}


def test_what_strangers_wrote_is_no_line_of_its_own_in_the_log() -> None:
    said: list[str] = []
    lines = Lines(said.append, is_json=False, now=time.time)
    lines.say("run 1: why\nready: state in /\r\x1b[2J\x9b2J\u202egood \ud800")
    assert said == ["run 1: why\n  ready: state in /\\r\\x1b[2J\\x9b2J\\u202egood \\ud800"]


# --- without a token ---


def test_no_spelling_of_a_path_leads_to_a_route_without_a_token(target: Target) -> None:
    known = ("/api/v1/runs", "/api/v1/tokens", "/metrics", "/api/v1/openapi.json")
    spellings = [
        spelling
        for path in known
        for spelling in (
            path,
            f"/{path}",
            f"/healthz/..{path}",
            f"/healthz/%2e%2e{path}",
            f"/healthz;{path}",
            f"/hooks/github/mine/../../..{path}",
            f"/hooks/..{path}",
            f"/hooks/%2e%2e{path}",
            f"/.{path}",
            f"{path}/",
            f"{path}/healthz",
            f"{path}?/healthz",
            f"{path}%3f/healthz",
            f"{path}#/healthz",
            path.upper(),
            path.replace("/", "%2f"),
            path.replace("/", "\\"),
            path.replace("a", "%61"),
            path.replace("a", "%2561"),
            f"http://localhost{path}",
            f"{path}%00",
            f"{path}%0d%0aX-Evil: 1".replace(" ", "%20"),
        )
    ]
    answers = {spelling: target.ask("GET", spelling) for spelling in spellings}
    assert {answer.status for answer in answers.values()} <= {400, 401, 404, 405, 421}, answers
    assert not any("x-evil" in answer.headers for answer in answers.values())
    assert target.ask("GET", "/api/v1/tokens", token="ilk_" + "A" * 43).status == 401


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 4\r\nContent-Length: 60\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Content-Length : 4\r\n",
    ],
)
def test_a_request_is_not_smuggled_behind_another(target: Target, head: bytes) -> None:
    begin = b"POST /hooks/github/mine HTTP/1.1\r\nHost: localhost\r\n"
    answered = target.raw(begin + head + b"\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b" 200 " not in answered
    assert answered.count(b"HTTP/1.1 ") <= 1


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "0.0.0.0", "[::]", ""])
@pytest.mark.parametrize("path", ["/healthz", "/api/v1/runs", "/api/v1/events/stream", "/hooks/github/mine"])
def test_a_name_that_points_here_is_not_answered(target: Target, host: str, path: str) -> None:
    answer = target.raw(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 421", b"HTTP/1.1 400"))


def test_a_call_is_good_for_the_repository_of_its_secret_alone(target: Target) -> None:
    push = {"ref": "refs/heads/main", "after": "1" * 40}
    assert target.hook("mine", push, HOOK_MINE).status == 202
    for name, secret in (("mine", HOOK_THEIRS), ("theirs", HOOK_MINE), ("bare", HOOK_MINE), ("bare", "")):
        assert target.hook(name, push, secret).status == 401
    for name in ("mine/", "mine%2f..%2ftheirs", "../mine", "MINE", "nobody", "", "git"):
        assert target.hook(name, push, HOOK_MINE).status in (401, 404)
    assert target.ask("POST", "/hooks/git", {"git_directory": "/"}).status == 404


# --- with a token that is for little ---


def _paths(target: Target, theirs: int) -> list[str]:
    """Every route that is read, about what is not the caller's."""
    described = target.ask("GET", "/api/v1/openapi.json", token=target.admin).json["paths"]
    fill = {"{number}": str(theirs), "{stage}": "hunt", "{attempt}": "1", "{model}": CANARY[:2], "{name}": "theirs"}
    paths = []
    for pattern in (name for name, operations in described.items() if "get" in operations):
        path = pattern
        for name, value in fill.items():
            path = path.replace(name, value)
        paths.append(path)
    kinds = ("run", "repository", "secret", "token", "attempt", "notice", "pull_request", "report")
    queries = ("repository=theirs", f"ref=refs/heads/{CANARY}", *(f"kind={kind}" for kind in kinds))
    queries += (f"kind=run&key={theirs}", "kind=repository&key=theirs", "after=0", "limit=200", "first=-5")
    return [*paths, "/metrics", *(f"{path}?{query}" for path in paths for query in queries)]


@pytest.mark.parametrize("role", ["viewer", "admin"])
def test_a_token_for_one_repository_never_meets_another(target: Target, role: str) -> None:
    theirs = target.ended(target.theirs)["number"]  # type: ignore[attr-defined]
    scoped = target.token(f"scoped {role}", role, ["mine"])
    paths = _paths(target, theirs)
    assert len(paths) > 200
    seen = {path: target.ask("GET", path, token=target.admin) for path in paths if "stream" not in path}
    assert sum(CANARY in answer.text.lower() for answer in seen.values()) > 10, "the hunt itself finds it"
    for path in paths:
        text = _followed(target, path, scoped) if "stream" in path else target.ask("GET", path, token=scoped).text
        asked = path.lower()
        assert CANARY not in text.lower() or CANARY in asked, path
        assert VALUE not in text


def _followed(target: Target, path: str, token: str, seconds: float = 0.15) -> str:
    """What a stream sends in its first moments."""
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=seconds)
    pieces = []
    with closing(connection):
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            while piece := response.read1(65536):
                pieces.append(piece)
        except TimeoutError:
            pass
    return b"".join(pieces).decode()


def test_a_token_for_one_repository_changes_nothing_of_another(target: Target) -> None:
    theirs = target.ended(target.theirs)["number"]  # type: ignore[attr-defined]
    scoped = target.token("scoped to change", "admin", ["mine"])
    run = f"/api/v1/runs/{theirs}"
    asked: list[tuple[str, str, object]] = [
        ("POST", f"{run}/cancel", {"reason": "x"}),
        ("POST", f"{run}/rerun", {}),
        ("POST", f"{run}/approve", {"sha": target.theirs}),  # type: ignore[attr-defined]
        ("POST", "/api/v1/runs", {"repository": "theirs", "ref": CANARY}),
        ("POST", "/api/v1/repositories/theirs/sync", None),
        ("PUT", "/api/v1/secrets", _secret("theirs", CANARY.upper(), "another value of it")),
        ("DELETE", f"/api/v1/secrets?repository=theirs&name={CANARY.upper()}", None),
        ("POST", "/api/v1/tokens", {"name": "more", "role": "admin"}),
        ("POST", "/api/v1/tokens", {"name": "more", "role": "viewer", "repositories": ["mine", "theirs"]}),
        ("DELETE", "/api/v1/tokens/1", None),
        ("GET", "/api/v1/audit", None),
        ("GET", "/api/v1/audit/verify", None),
    ]
    for method, path, body in asked:
        assert target.ask(method, path, body, token=scoped).status == 403, path
    assert target.ask("GET", run, token=target.admin).json["phase"] in FINAL


def test_a_token_that_is_revoked_follows_nothing_any_more(target: Target) -> None:
    text = target.token("to be revoked", "viewer")
    made = target.ask("GET", "/api/v1/tokens", token=target.admin).json
    key = next(token["key"] for token in made if token["name"] == "to be revoked")
    ended = threading.Event()

    def follow() -> None:
        _followed(target, "/api/v1/events/stream?kind=run", text, seconds=60)
        ended.set()

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.5)
    assert not ended.is_set()
    assert target.ask("DELETE", f"/api/v1/tokens/{key}", token=target.admin).status == 204
    thread.join(40)
    assert ended.is_set()


# --- names that lead elsewhere, and what is too much ---


def _spellings() -> list[str]:
    ups = (
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "..%252f",
        "%252e%252e%252f",
        "..%5c",
        "..\\",
        "....//",
        "..;/",
        "%c0%ae%c0%ae/",
    )
    aims = ("sentinel", "sentinel.log", "state/sentinel.log", "etc/passwd", "keys/", "1.log", "proc/self/environ")
    found = [up * depth + aim for up in ups for depth in (1, 3, 7) for aim in aims]
    found += ["/etc/passwd", "%2fetc%2fpasswd", "//etc/passwd", "file:///etc/passwd", "~", "-", "@/etc/passwd", "%00"]
    found += [".", "..", "%2e", "CON", "a" * 5000, "%ff%fe", "%e2%80%ae", "hunt%00.log", "hunt/../../../sentinel"]
    return found


def test_no_spelling_of_a_name_leads_out_of_its_place(target: Target) -> None:
    number = target.ended(target.theirs)["number"]  # type: ignore[attr-defined]
    spellings = _spellings()
    assert len(spellings) >= 200
    for spelling in spellings:
        for path in (
            f"/api/v1/runs/{number}/stages/{spelling}/attempts/1/log",
            f"/api/v1/versions/{spelling}/1",
            f"/api/v1/repositories/{spelling}",
        ):
            answer = target.ask("GET", path, token=target.admin)
            assert answer.status in (400, 404, 405, 422, 431), (path[:200], answer)
            assert SENTINEL not in answer.text
            assert "root:" not in answer.text
    for attempt in ("0", "-1", "..", "1%2f..%2f..", "9" * 30, "1.5", "01e2", "%d9%a3", "1%00"):
        path = f"/api/v1/runs/{number}/stages/hunt/attempts/{attempt}/log"
        assert target.ask("GET", path, token=target.admin).status in (400, 404, 405, 422)


BODIES: dict[str, bytes] = {
    "deep lists": b"[" * 500_000,
    "deep mappings": b'{"a":' * 150_000,
    "deep and whole": b'{"repository":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "long number": b'{"repository": ' + b"9" * 900_000 + b"}",
    "beyond numbers": b'{"name": "x", "role": "viewer", "expires": 1e999}',
    "no number": b'{"name": "x", "role": "viewer", "expires": NaN}',
    "long text": b'{"repository": "' + b"x" * 1_000_000 + b'"}',
    "many keys": json.dumps({f"k{number}": number for number in range(60_000)}).encode(),
    "long key": b'{"' + b"k" * 900_000 + b'": 1}',
    "twice": b'{"reason": "a", "reason": "b"' + b', "reason": "c"' * 50_000 + b"}",
    "NUL": b'{"repository": "a\\u0000b", "reason": "a\\u0000b", "sha": "a\\u0000b", "name": "a\\u0000b"}',
    "half a character": b'{"repository": "\\ud800", "reason": "\\ud800", "sha": "\\ud800", "name": "\\ud800"}',
    "other types": b'{"repository": {"a": []}, "reason": 1, "sha": [], "name": true, "role": {}, "version": null}',
    "a list": b"[]",
    "nothing": b"",
    "bytes": bytes(range(256)) * 100,
    "YAML": b"a: &a [x]\nb: &b [*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n",
    "pickle": b"\x80\x04\x95cposix\nsystem\n(S'true'\ntR.",
}


@pytest.mark.parametrize("what", BODIES)
def test_no_body_is_too_much(target: Target, what: str) -> None:
    paths = (
        "runs",
        "runs/1/cancel",
        "runs/1/rerun",
        "runs/1/approve",
        "tokens",
        "releases",
        "versions/a/1/lift-quarantine",
    )
    for path in paths:
        answer = target.ask("POST", f"/api/v1/{path}", BODIES[what], token=target.admin)
        assert 400 <= answer.status < 500, (path, answer.status, answer.text[:300])
        assert "Traceback" not in answer.text
        assert len(answer.text) < 100_000, "an answer is no echo"
    assert 400 <= target.ask("PUT", "/api/v1/secrets", BODIES[what], token=target.admin).status < 500
    assert target.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize(
    "query",
    [
        "runs?" + "&".join(["phase=queued"] * 4000),
        "releases?" + "&".join(f"phase={number}" for number in range(5000)),
        "runs?limit=99999999999999999999",
        "runs?limit=1e3",
        "runs?cursor=" + "A" * 5000,
        "events?after=99999999999999999999",
        "events?key=" + "x" * 20_000,
        "events?kind=" + "x" * 20_000,
        "runs?repository=%ff%fe&ref=%ed%a0%80",
        "versions?model=" + "%25" * 5000,
        "versions?model=_%25",
        "secrets?repository=%2f%2f&name='%22;--",
        "runs?ref=' or 1=1 --",
        "audit?limit=0",
        "audit/verify?head=" + "1:" + "0" * 63,
        "runs?" + "a=b&" * 10_000,
        "runs/1?" + "a" * 60_000,
    ],
)
def test_no_query_is_too_much(target: Target, query: str) -> None:
    answer = target.ask("GET", f"/api/v1/{query}".replace(" ", "%20"), token=target.admin)
    assert answer.status < 500, answer
    assert target.ask("GET", "/healthz").status == 200


def test_a_refused_secret_is_not_told_back(target: Target) -> None:
    for name, value in (("lower", VALUE), ("PATH", VALUE), ("GOOD", VALUE + "\0"), ("GOOD", VALUE * 5000)):
        answer = target.ask("PUT", "/api/v1/secrets", _secret("mine", name, value), token=target.admin)
        assert answer.status == 422
        assert VALUE not in answer.text
    wrong = {"repository": "mine", "name": "GOOD", "value": {"of": VALUE}, VALUE[:5]: 1}
    assert VALUE not in target.ask("PUT", "/api/v1/secrets", wrong, token=target.admin).text


# --- from inside a stage ---


def _reached_nothing(target: Target, found: dict[str, Any]) -> None:
    own = {path: text for path, text in found["read"].items() if path.startswith(str(target.folder))}
    assert own in ({}, {str(target.state): "['environments']"}), "the way to the interpreter, and nothing beside it"
    assert "/etc/shadow" not in found["read"]
    assert found["read"].keys() - own.keys() <= {"/tmp", "/proc/1/root", "/proc/1/environ"}
    assert not [met for met in found["met"] if met.startswith("/")]
    everything = json.dumps(found)
    for secret in (HOOK_MINE, HOOK_THEIRS, VALUE, target.admin, "ilk_"):
        assert secret not in json.dumps([found["seen"], found["met"]]), secret
    assert SENTINEL not in everything


def test_a_run_from_outside_reaches_nothing_of_the_server(target: Target) -> None:
    sha = target.push("mine", "refs/pull/7/head", "From outside")
    assert target.hook("mine", _pull_request(7, sha), HOOK_MINE, "pull_request").status == 202
    run = target.ended(sha)
    assert (run["is_trusted"], run["phase"], run["pull_request"]) == (False, "succeeded", 7), run
    found = target.hunted(run["number"])
    _reached_nothing(target, found)
    assert found["met"] == {}, "no port of this machine either"


def test_a_trusted_stage_with_network_meets_only_what_asks_for_a_token(target: Target) -> None:
    sha = target.push("mine", "refs/heads/main", "With network", network=True)
    run = target.ended(sha)
    assert (run["is_trusted"], run["phase"]) == (True, "succeeded"), run
    found = target.hunted(run["number"])
    _reached_nothing(target, found)
    assert found["met"][str(target.port)].startswith("HTTP/1.1 401")
    assert not any(" 200 " in met for met in found["met"].values())


def test_a_run_from_outside_may_not_ask_for_the_network_by_another_project(target: Target) -> None:
    sha = target.push("mine", "refs/pull/8/head", "With network from outside", network=True)
    payload = _pull_request(8, sha, project="acme/theirs", owner="acme/theirs")  # a member's, but of another project
    assert target.hook("mine", payload, HOOK_MINE, "pull_request").status == 202
    run = target.ended(sha)
    assert (run["is_trusted"], run["phase"]) == (False, "failed")
    assert "may use the network" in run["because"]


# --- with the database in hand ---


def test_a_log_that_was_changed_is_found_by_a_server_that_runs(target: Target) -> None:
    def verdict(head: str = "") -> dict[str, Any]:
        return dict(target.ask("GET", f"/api/v1/audit/verify?head={head}", token=target.admin).json)

    whole = verdict()
    assert whole["problem"] is None
    database = target.state / "interlock.db"
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        newest = connection.execute("select max(number) from audit").fetchone()[0]
        columns = [column[1] for column in connection.execute("pragma table_info(audit)")]
        kept = connection.execute("select * from audit where number >= ?", (newest - 1,)).fetchall()
        connection.execute("delete from audit where number >= ?", (newest - 1,))
        connection.commit()
        cut = verdict(whole["head"])
        connection.executemany(f"insert into audit values ({', '.join('?' * len(columns))})", kept)
        connection.execute("update audit set at = at + 1 where number = ?", (newest,))
        connection.commit()
        edited = verdict()
        connection.execute("update audit set at = at - 1 where number = ?", (newest,))
        connection.commit()
    assert "cut off" in cut["problem"]
    assert "was changed" in edited["problem"]


def test_at_the_end_no_token_and_no_secret_was_written_anywhere(target: Target) -> None:
    target.ask("GET", f"/api/v1/runs?token={target.admin}", token=target.admin)
    target.ask("GET", "/api/v1/runs", token=target.admin[:-1] + "x")
    target.token("before the end", "viewer")
    hunted = [target.admin, target.admin[:-1] + "x", HOOK_MINE, HOOK_THEIRS, VALUE]
    places = [target.log, *(path for path in target.state.rglob("*") if path.is_file() and not path.is_symlink())]
    assert len(places) > 20
    for path in places:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # a temporary file of the server's
        assert not [secret for secret in hunted if secret.encode() in content], path
    assert '"caller": "root"' in target.log.read_text()

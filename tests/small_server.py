"""A light server for journeys and faults: a state folder, small repositories whose stages are quick shell commands, a
real ``interlock server``, and a stand-in for GitHub that keeps what it is told.
"""

import hashlib
import hmac
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

from interlock.client.api import Client
from interlock.edges.store import SqlStore
from interlock.run.run import Run
from interlock.vocabulary import Kind, Phase, Row

BIN = Path(sys.executable).parent
GIT = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
PROJECT = '[project]\nname = "small"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = []\n'
LOCK = """version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "small"
version = "1"
source = { virtual = "." }
"""
"""An empty lock: environments are made without anything to install."""
MUTE = "--receive-pack=git -c core.hooksPath=/dev/null receive-pack"
"""An option of a push after which no hook runs."""
HOOK_SECRET = "the secret of the webhooks"
FORGE_TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
ENVIRONMENT = {**os.environ, "HOOK_SECRET": HOOK_SECRET, "FORGE_TOKEN": FORGE_TOKEN, "PYTHONUNBUFFERED": "1"}
SECONDS = 60.0
"""How long anything may take on a machine that others use too."""
Found = TypeVar("Found")


def wait_for(what: Callable[[], Found | None], told: str, seconds: float = SECONDS) -> Found:
    """What is found, as soon as it is."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{told} did not happen within {seconds:g} s")
        time.sleep(0.05)
    return found


def marked(mark: str) -> list[int]:
    """Processes whose environment holds the mark."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


class Answer(NamedTuple):
    """``headers`` by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def send(url: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
    """One request over a connection of its own. OSError where it is not answered."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 0, timeout=SECONDS)
    try:
        connection.request(method, path, body or None, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def signed(event: str, payload: object, secret: str = HOOK_SECRET) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a call of GitHub's."""
    body = json.dumps(payload).encode()
    return body, {
        "Content-Type": "application/json",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": os.urandom(8).hex(),
        "X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}",
    }


class SmallRepository:
    """A bare repository and a clone of it. ``head`` is the commit that was made last."""

    def __init__(self, folder: Path, name: str, pipeline: str) -> None:
        self.name = name
        self.bare, self.clone = folder / f"{name}.git", folder / name
        self.head = ""
        subprocess.run([*GIT, "init", "-q", "--bare", self.bare], check=True)
        subprocess.run([*GIT, "init", "-q", self.clone], check=True)
        self.commit("first", pyproject_toml=PROJECT, uv_lock=LOCK, interlock_yaml=pipeline)

    def git(self, *words: object) -> str:
        """What git says in the clone."""
        command = [*GIT, *(str(word) for word in words)]
        done = subprocess.run(command, cwd=self.clone, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip() + done.stderr.strip()

    def commit(self, message: str, **files: str) -> str:
        """Commits these files, ``_`` before an ending standing for the dot; the commit's id."""
        for name, text in files.items():
            (self.clone / re.sub(r"_(yaml|toml|lock|txt)$", r".\1", name)).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.head = self.git("rev-parse", "HEAD")
        return self.head

    def arrive(self, ref: str = "refs/heads/main", sha: str = "") -> str:
        """The commit is in the repository under this ref, and no hook told of it; the commit's id."""
        wanted = sha or self.head
        self.git("push", "-q", MUTE, self.bare, f"+{wanted}:{ref}")
        return wanted

    def delete(self, ref: str) -> None:
        """The ref is gone, and no hook told of it."""
        self.git("push", "-q", MUTE, self.bare, f":{ref}")

    def push(self, ref: str = "refs/heads/main") -> str:
        """Pushes as a person does; what git said."""
        return self.git("push", self.bare, f"HEAD:{ref}")


class SmallServer:
    """One state folder, its repositories by name, and a server process that is started, stopped and killed."""

    def __init__(
        self,
        folder: Path,
        repositories: Mapping[str, Mapping[str, object]],
        state: Path | None = None,
        **settings: object,
    ) -> None:
        self.state = state or folder / "state"
        self.log_file = folder / "server.log"
        self.url = ""
        self._store: SqlStore | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.state.mkdir(exist_ok=True)
        quick = {"listen": "127.0.0.1:0", "poll_every": 1, "environments": {}, "protocols": ["file"]}
        self.settings = {**quick, "repositories": repositories, **settings}
        (self.state / "server.yaml").write_text(json.dumps(self.settings))

    # --- its life ---

    def start(self, command: Sequence[object] | None = None) -> Self:
        """Starts it, or that program in its place; returns once it is ready."""
        before = len(self.log)
        with self.log_file.open("ab") as log:
            environment = {
                **os.environ,
                "HOOK_SECRET": HOOK_SECRET,
                "FORGE_TOKEN": FORGE_TOKEN,
                "PYTHONUNBUFFERED": "1",
            }
            words = command or [BIN / "interlock", "server", "--state", self.state]
            self.process = subprocess.Popen([str(word) for word in words], stdout=log, stderr=log, env=environment)
        process = self.process

        def told() -> str | None:
            assert process.poll() is None, f"the server ended: {self.log[before:]}"
            found = re.search(r"API and webhooks: (\S+)[\s\S]*ready: ", self.log[before:])
            return found[1] if found else None

        self.url = wait_for(told, "the server's start", 120)
        return self

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Ends it at this very instruction."""
        self.signal(signal.SIGKILL)
        self._wait()

    def terminate(self) -> int:
        """Asks it to end; its exit code."""
        self.signal(signal.SIGTERM)
        return self._wait()

    def _wait(self) -> int:
        assert self.process is not None
        code = self.process.wait(SECONDS)
        self.process = None
        return code

    def end(self) -> None:
        """Nothing of it is left."""
        if self.process is not None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            self._wait()
        if self._store is not None:
            self._store.close()
        stop = [BIN / "interlock", "server", "stop", "--data-plane", "--state", self.state]
        subprocess.run(stop, check=False, capture_output=True)

    # --- asking it ---

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def interlock(self, *words: object, typed: str | None = None) -> str:
        """What the command line says; it must succeed."""
        done = self.try_interlock(*words, typed=typed)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_interlock(self, *words: object, typed: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [BIN / "interlock", *(str(word) for word in words), "--state", self.state]
        return subprocess.run(command, input=typed, capture_output=True, text=True, check=False)

    def token(self, name: str = "ada", role: str = "admin") -> str:
        """A token, made as a person makes one."""
        return self.interlock("token", "create", name, "--role", role).strip()

    def client(self) -> Client:
        """A client on the socket: the local administrator's."""
        return Client.on_socket(self.state / "control.sock")

    def get(self, path: str, token: str) -> Answer:
        return send(self.url, "GET", path, headers={"Authorization": f"Bearer {token}"})

    def hook(self, repository: str, event: str, payload: object, secret: str = HOOK_SECRET) -> Answer:
        """A call of the forge, signed."""
        body, headers = signed(event, payload, secret)
        return send(self.url, "POST", f"/hooks/github/{repository}", body, headers)

    # --- what it keeps ---

    @property
    def store(self) -> SqlStore:
        if self._store is None:
            self._store = SqlStore(str(self.settings.get("database") or f"sqlite:///{self.state / 'interlock.db'}"))
        return self._store

    def rows(self, kind: Kind, repository: str | None = None) -> list[Row]:
        return self.store.rows(kind, repository=repository)

    def runs(self, repository: str) -> list[Run]:
        """Its runs, the first one first."""
        return [Run.model_validate(row.state) for row in self.rows(Kind.RUN, repository)]

    def until(self, repository: str, count: int, *phases: Phase, seconds: float = SECONDS, told: str = "") -> list[Run]:
        """The runs of the repository, once there are so many and the last is in one of the phases (final, if none)."""

        def found() -> list[Run] | None:
            runs = self.runs(repository)
            if len(runs) < count:
                return None
            is_there = runs[-1].phase in phases if phases else is_over(runs[-1])
            return runs if is_there else None

        try:
            return wait_for(found, f"run {count} of {repository} {told or ' or '.join(phases)}", seconds)
        except AssertionError as late:
            stand = [(run.number, str(run.phase), run.because) for run in self.runs(repository)]
            raise AssertionError(f"{late}: {stand}\n{self.log[-3000:]}") from late

    def stage_log(self, run: Run, stage: str, attempt: int = 1) -> str:
        with self.client() as client:
            return "\n".join(client.runs.log(run.number, stage, attempt).lines)

    def stays(self, repository: str, count: int, seconds: float = 2.5) -> list[Run]:
        """The runs of the repository, which do not become more while it is looked at again and again."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            runs = self.runs(repository)
            assert len(runs) <= count, [(run.number, run.commit.ref, run.because) for run in runs]
            time.sleep(0.1)
        assert len(runs) == count
        return runs


def is_over(run: Run) -> bool:
    return run.phase.is_final or run.phase is Phase.HELD


def executed(run: Run) -> list[str]:
    """The stages that were executed, not reused."""
    return [name for name, stage in run.stages.items() if stage.attempt]


# --- GitHub ----------------------------------------------------------------------------------------------------------


class StandIn:
    """GitHub as far as Interlock speaks to it: statuses of commits and comments on pull requests, kept in order.

    ``pulls`` are the pull requests that it lists, by repository, those that changed last first.
    """

    def __init__(self, port: int = 0) -> None:
        self.statuses: dict[tuple[str, str], list[dict[str, str]]] = {}
        self.comments: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self.pulls: dict[str, list[Any]] = {}
        self.writes: list[tuple[str, str]] = []
        self.strangers: list[str] = []
        self._turn = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Desk", (_Desk,), {"forge": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def shown(self, name: str, sha: str) -> dict[str, tuple[str, str]]:
        """State and words of each context of a commit, as the forge's page shows them."""
        with self._turn:
            return {one["context"]: (one["state"], one["description"]) for one in self.statuses.get((name, sha), [])}

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Any) -> tuple[int, Any]:
        with self._turn:
            if method != "GET":
                self.writes.append((method, path))
            if path == "/user":
                return 200, {"id": 41, "login": "interlock"}
            if found := re.fullmatch(r"/repos/octo/([^/]+)/statuses/([0-9a-f]+)", path):
                self.statuses.setdefault((found[1], found[2]), []).append(body)
                return 201, body
            if method == "POST" and (found := re.fullmatch(r"/repos/octo/([^/]+)/pulls", path)):
                listed = self.pulls.setdefault(found[1], [])
                told = pull_request_of(found[1], len(listed) + 1, "f" * 40, body["head"])["pull_request"]
                listed.insert(0, {**told, "title": body["title"], "body": body["body"]})  # type: ignore[dict-item]
                return 201, listed[0]
            if method == "GET" and (found := re.fullmatch(r"/repos/octo/([^/]+)/pulls", path)):
                return 200, self.pulls.get(found[1], []) if query.get("page", ["1"]) == ["1"] else []
            if found := re.fullmatch(r"/repos/octo/([^/]+)/issues/([0-9]+)/comments", path):
                comments = self.comments.setdefault((found[1], int(found[2])), [])
                if method == "GET":
                    return 200, comments if query.get("page", ["1"]) == ["1"] else []
                comments.append({"id": 100 + len(self.writes), "user": {"id": 41}, "body": body["body"]})
                return 201, comments[-1]
            if found := re.fullmatch(r"/repos/octo/([^/]+)/issues/comments/([0-9]+)", path):
                (one,) = [one for each in self.comments.values() for one in each if one["id"] == int(found[2])]
                one["body"] = body["body"]
                return 200, one
            return 404, {"message": "Not Found"}


class _Desk(BaseHTTPRequestHandler):
    forge: StandIn

    def _do(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        if self.headers.get("Authorization") != f"Bearer {FORGE_TOKEN}":
            self.forge.strangers.append(self.path)
            status, told = 401, {"message": "Bad credentials"}
        else:
            body = json.loads(content) if content else None
            path = parts.path.removeprefix("/api/v3")
            status, told = self.forge.answer(self.command, path, parse_qs(parts.query), body)
        answer = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PATCH = _do  # noqa: N815  # the names that http.server looks for

    def log_message(self, *_: object) -> None:
        pass


def on_github(repository: SmallRepository, forge: str = "") -> dict[str, object]:
    """The settings of a repository that is followed at its URL. Its forge is GitHub at ``forge``; without one it calls
    us and is told nothing.
    """
    about = {
        "kind": "github",
        "url": forge or "http://127.0.0.1:9",
        "project": f"octo/{repository.name}",
        "webhook_secrets": [{"env": "HOOK_SECRET"}],
    }
    told = {"token": {"env": "FORGE_TOKEN"}} if forge else {}
    return {"url": f"file://{repository.bare}", "forge": {**about, **told}}


def push_of(sha: str, ref: str = "refs/heads/main") -> dict[str, object]:
    """GitHub's payload of a push."""
    return {"ref": ref, "before": "0" * 40, "after": sha, "repository": {"id": 1, "full_name": "octo/small"}}


def pull_request_of(
    name: str, number: int, sha: str, branch: str, *, is_fork: bool = False, is_open: bool = True
) -> dict[str, object]:
    """GitHub's payload of a pull request into ``main`` of the repository."""
    home, outside = {"id": 1, "full_name": f"octo/{name}"}, {"id": 2, "full_name": f"eve/{name}"}
    return {
        "action": "synchronize",
        "number": number,
        "repository": home,
        "pull_request": {
            "number": number,
            "state": "open" if is_open else "closed",
            "title": "a change",
            "user": {"login": "eve" if is_fork else "ada"},
            "head": {"ref": branch, "sha": sha, "repo": outside if is_fork else home},
            "base": {"ref": "main", "sha": "0" * 40, "repo": home},
        },
    }


def files_with(text: str, folders: Iterable[Path]) -> list[Path]:
    """The files below the folders that hold the text."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if text.encode() in path.read_bytes()]

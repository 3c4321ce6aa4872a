"""Stages that print, dump and hunt for secrets: nothing of a value is stored or streamed, nobody else can find it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self
from uuid import uuid4

import pytest

import interlock
from interlock.edges.blobs import LocalBlobs
from interlock.edges.environments import UvEnvironments
from interlock.edges.executor import LocalExecutor
from interlock.edges.executor.log import CappedLog
from interlock.edges.executor.processes import Brake, Launch, Limits, run_watched
from interlock.edges.git import CommandGit
from interlock.edges.sandbox import BubblewrapSandbox, NoSandbox
from interlock.errors import ExecutorFault, NotFound, VaultFault
from interlock.pipeline.plan import PythonPlan, StagePlan
from interlock.ports import Bounds, Sandbox, Start
from interlock.run.stage import StageOutcome, StageRequest
from interlock.vocabulary import Phase

pytestmark = pytest.mark.xdist_group("secrets")
"""They look at every process of the machine: a stage of another of them would be found by one."""

TOKEN = "gh/p+A9'x\"7Z\\q é$w`K3"
PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    + base64.encodebytes(os.urandom(300)).decode()
    + "AbCd12==\n-----END PRIVATE KEY-----\n"
)
SECRETS = {"API_TOKEN": TOKEN, "DEPLOY_KEY": PEM}


class World:
    """A repository of one command, its executor, and who asked for secrets."""

    def __init__(self, folder: Path, environments: Path) -> None:
        self.folder = folder
        self.git = CommandGit(folder / "git-state")
        self.blobs = LocalBlobs(folder / "blobs")
        self.environments = UvEnvironments(environments)
        self.repository = folder / "repository"
        self.repository.mkdir()
        (self.repository / "requirements.txt").write_text("")
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.kept: Callable[[], Mapping[str, str]] = lambda: SECRETS

    def secrets(self, secrets_of: str, names: Sequence[str]) -> dict[str, str]:
        self.asked.append((secrets_of, tuple(names)))
        return {name: self.kept()[name] for name in names}

    def executor(self, sandbox: Sandbox) -> LocalExecutor:
        probes = Path(interlock.__file__).parent / "probes"
        place = self.folder / "executor"
        return LocalExecutor(self.git, self.blobs, self.environments, sandbox, place, probes, self.secrets)

    def request(
        self, script: str, attempt: str = "1/train/1", outs: tuple[str, ...] = (), **more: object
    ) -> StageRequest:
        (self.repository / "a.py").write_text(script)
        stage = StagePlan(
            name="train", kind="stage", command="python a.py", timeout=60.0, outs=outs, secrets=tuple(SECRETS)
        ).model_copy(update=more)
        return StageRequest(
            attempt=attempt,
            stage=stage,
            commit=self.git.snapshot(str(self.repository)),
            python=PythonPlan(lock="requirements.txt"),
            secrets_of="demo",
        )


@pytest.fixture
def world(tmp_path: Path, built_environments: Path) -> World:
    return World(tmp_path, built_environments)


@pytest.fixture(params=["namespace", "none"])
def executor(request: pytest.FixtureRequest, world: World) -> Iterator[LocalExecutor]:
    made = world.executor(BubblewrapSandbox() if request.param == "namespace" else NoSandbox())
    yield made
    made.close()


@pytest.fixture
def isolated(world: World) -> Iterator[LocalExecutor]:
    made = world.executor(BubblewrapSandbox())
    yield made
    made.close()


def shapes_of(value: str) -> list[bytes]:
    """What a reader would recognise; of a key every line, of base64 what does not depend on its place."""
    parts = [value, *(line for line in value.splitlines() if len(line) >= 8)]
    found = []
    for raw in (part.encode() for part in parts):
        found += [raw, raw.hex().encode(), raw.hex().upper().encode(), urllib.parse.quote(raw, safe="").encode()]
        found += [json.dumps(raw.decode())[1:-1].encode(), repr(raw.decode())[1:-1].encode()]
        for before in range(3):
            found.append(base64.b64encode(b"\0" * before + raw)[4:-4])
    return found


def leaks(content: bytes, values: Mapping[str, str] = SECRETS) -> list[bytes]:
    return [shape for value in values.values() for shape in shapes_of(value) if shape in content]


def stored_leaks(folder: Path, values: Mapping[str, str] = SECRETS) -> list[Path]:
    """Files below the folder that hold a secret, or are named after one."""
    files = [path for path in folder.rglob("*") if path.is_file() and "repository" not in path.parts]
    return [path for path in files if leaks(path.read_bytes(), values) or leaks(str(path).encode(), values)]


class CommandLines:
    """Reads the command line of every process there is, again and again, as any user of the machine could."""

    def __init__(self) -> None:
        self.seen = b""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.is_set():
            lines = set()
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit() and int(entry.name) != os.getpid():
                    try:
                        lines.add((entry / "cmdline").read_bytes())
                    except OSError:
                        continue
            self.seen += b"".join(line for line in lines if line not in self.seen)


PRINTS_EVERYTHING = """
import base64, binascii, json, os, shlex, subprocess, sys, time, urllib.parse
def say(content):
    os.write(1, content)
for name in ("API_TOKEN", "DEPLOY_KEY"):
    value = os.environ[name]
    raw = value.encode()
    for cut in range(len(raw)):
        say(raw[:cut])
        if cut % 50 == 0:
            time.sleep(0.01)
        say(raw[cut:] + b"\\n")
    for before in (b"", b"x", b"xy"):
        say(base64.b64encode(before + raw) + b"\\n")
        say(base64.urlsafe_b64encode(before + raw) + b"\\n")
    say(base64.b64encode(raw).rstrip(b"=") + b"\\n")
    say(raw.hex().encode() + raw.hex().upper().encode())
    say(urllib.parse.quote(value, safe="").encode() + urllib.parse.quote_plus(value).encode())
    say(json.dumps({"secret": value}).encode() + json.dumps(value, ensure_ascii=False).encode())
    say(repr(value).encode() + shlex.quote(value).encode() + b"\\n")
    for line in value.splitlines():
        say(b"    " + line.encode() + b"\\n")
        time.sleep(0.001)
    subprocess.run(["/bin/sh", "-xc", f': "$%s"; export -p; printf %%s "$%s" | base64 -w0; env' % (name, name)])
raise RuntimeError("cannot clone https://" + os.environ["API_TOKEN"] + "@host/x.git")
"""


def test_whatever_a_stage_prints_its_secrets_are_masked(world: World, executor: LocalExecutor) -> None:
    with CommandLines() as lines:
        outcome = executor.run(world.request(PRINTS_EVERYTHING))
    log = Path(executor.log_path("1/train/1")).read_bytes()
    assert outcome.phase is Phase.FAILED
    assert outcome.because == "exit code 1: RuntimeError: cannot clone https://***@host/x.git"
    assert outcome.problems[0].message == "RuntimeError: cannot clone https://***@host/x.git"
    assert leaks(log) == []
    assert leaks(outcome.model_dump_json().encode()) == []
    assert log.count(b"***") > len(TOKEN.encode()) + len(PEM)
    assert stored_leaks(world.folder) == []
    assert leaks(lines.seen) == []
    assert b"a.py" in lines.seen


def test_a_stage_has_the_values_as_they_are_and_so_has_what_it_starts(world: World, executor: LocalExecutor) -> None:
    script = (
        "import hashlib, os, subprocess, sys\n"
        "if len(sys.argv) == 1: subprocess.run([sys.executable, __file__, 'child'], check=True)\n"
        "for name in ('API_TOKEN', 'DEPLOY_KEY'):\n"
        "    open(f'{len(sys.argv)}-{name}', 'w').write(hashlib.sha256(os.environ[name].encode()).hexdigest())\n"
        "open('input', 'w').write(repr(sys.stdin.read()))\n"
    )
    names = tuple(f"{place}-{name}" for place in (1, 2) for name in SECRETS)
    outcome = executor.run(world.request(script, outs=(*names, "input")))
    assert outcome.phase is Phase.SUCCEEDED, outcome
    for path in names:
        value = SECRETS[path.partition("-")[2]]
        assert world.blobs.read(outcome.products[path]).decode() == hashlib.sha256(value.encode()).hexdigest()
    assert world.blobs.read(outcome.products["input"]) == b"''"
    assert world.asked == [("demo", tuple(SECRETS))]


def test_a_file_named_after_a_secret_is_not_kept(world: World, isolated: LocalExecutor) -> None:
    world.kept = lambda: {"API_TOKEN": "s3cr3t-Value_01", "DEPLOY_KEY": PEM}
    script = "import os\nos.makedirs('model')\nopen('model/' + os.environ['API_TOKEN'] + '.bin', 'w')\n"
    outcome = isolated.run(world.request(script, outs=("model/",)))
    assert outcome.phase is Phase.FAILED
    assert "the name of a file in it holds a secret" in outcome.because
    assert outcome.products == {}
    assert not [path for path in (world.folder / "blobs").rglob("*") if b"s3cr3t" in (path.name.encode())]
    assert leaks(outcome.model_dump_json().encode(), {"x": "s3cr3t-Value_01"}) == []


def test_a_missing_secret_is_the_users_to_set_and_a_lost_key_is_not(world: World, isolated: LocalExecutor) -> None:
    def missing() -> Mapping[str, str]:
        raise NotFound("there is no secret API_TOKEN", "secrets of demo", "set it: interlock secret set")

    world.kept = missing
    outcome = isolated.run(world.request("print('hello')"))
    assert outcome.phase is Phase.FAILED
    assert "there is no secret API_TOKEN" in outcome.because
    assert "interlock secret set" in outcome.because

    def lost() -> Mapping[str, str]:
        raise VaultFault("the secret was sealed with another key")

    world.kept = lost
    outcome = isolated.run(world.request("print('hello')"))
    assert outcome.phase is Phase.ERRORED
    assert "another key" in outcome.because


def test_many_large_secrets_come_through_and_too_many_are_told(world: World, isolated: LocalExecutor) -> None:
    large = {f"KEY_{number}": os.urandom(6000).hex() for number in range(12)}
    world.kept = lambda: large
    script = "import os\nraise SystemExit(sum(len(os.environ[f'KEY_{number}']) for number in range(12)) != 144_000)\n"
    request = world.request(script, secrets=tuple(large))
    outcome = isolated.run(request)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    cell = NoSandbox().cell(Bounds(), network=False)
    launch = Launch(Start(("true",), {}, None), is_namespace=False, given=b"x" * (2 << 20))
    with pytest.raises(ExecutorFault, match="too much for one stage"), CappedLog(world.folder / "a.log") as log:
        run_watched(launch, log, Limits(60), Brake(), cell)


# --- K2, A18: who has none looks for them everywhere ---

HUNTS = """
import os, pathlib, sys
found = []
def look(place, content):
    for canary in (b"canary-in-a-secret", b"canary-of-the-server"):
        if canary in content:
            found.append(f"{canary.decode()} in {place}")
look("environment", repr(dict(os.environ)).encode())
for process in pathlib.Path("/proc").iterdir():
    if not process.name.isdigit():
        continue
    for name in ("environ", "cmdline", "mountinfo"):
        try:
            look(process / name, (process / name).read_bytes())
        except OSError:
            pass
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        continue
    for one in descriptors:
        try:
            if one.resolve().is_file() and one.resolve() != pathlib.Path(__file__).resolve():
                look(one, one.resolve().read_bytes())
        except OSError:
            pass
for root in ("/tmp", "/workspace", "/interlock", "/run", "/home", "/root", "/var", "/dev/shm"):
    for path in pathlib.Path(root).rglob("*"):
        try:
            if path.is_file() and path.name != "a.py":
                look(path, path.read_bytes())
        except OSError:
            pass
if os.isatty(0) or os.read(0, 1):
    found.append("something to read")
print("number of processes", sum(one.name.isdigit() for one in pathlib.Path("/proc").iterdir()))
sys.exit("; ".join(found) or 0)
"""


def test_a_stage_that_is_not_trusted_finds_no_secret_of_the_server_or_of_its_neighbour(
    world: World, isolated: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "canary-of-the-server")
    world.kept = lambda: {"API_TOKEN": "canary-in-a-secret", "DEPLOY_KEY": PEM}
    script = "import os, time\nopen('/tmp/here', 'w').write(os.environ['API_TOKEN'])\nprint('begun')\ntime.sleep(300)\n"
    neighbour = world.request(script, attempt="1/neighbour/1", timeout=300.0)
    told: list[StageOutcome] = []
    isolated.start(neighbour, told.append)
    log = Path(isolated.log_path("1/neighbour/1"))
    until = time.monotonic() + 30
    while not (log.exists() and b"begun" in log.read_bytes()):
        assert time.monotonic() < until
        time.sleep(0.02)
    hunter = world.request(HUNTS, attempt="2/train/1", timeout=300.0).model_copy(update={"secrets_of": None})
    outcome = isolated.run(hunter)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert told == []
    assert world.asked == [("demo", tuple(SECRETS))], "nobody asked for the untrusted stage"
    isolated.stop("1/neighbour/1", "seen")


def test_the_hunt_itself_finds_what_is_there(world: World, isolated: LocalExecutor) -> None:
    """So that the one above proves something."""
    world.kept = lambda: {"API_TOKEN": "canary-in-a-secret", "DEPLOY_KEY": PEM}
    outcome = isolated.run(world.request(HUNTS, timeout=300.0))
    assert outcome.phase is Phase.FAILED
    assert "*** in environment" in outcome.because
    assert "/environ" in outcome.because


def test_after_the_end_nothing_of_a_secret_is_left(world: World, executor: LocalExecutor) -> None:
    own = {"API_TOKEN": uuid4().hex, "DEPLOY_KEY": uuid4().hex}  # another run of these tests may be on the machine
    world.kept = lambda: own
    outcome = executor.run(world.request("import os\nprint(os.environ['API_TOKEN'])\n"))
    assert outcome.phase is Phase.SUCCEEDED
    assert stored_leaks(world.folder, own) == []
    environments = b""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environments += (entry / "environ").read_bytes()
            except OSError:
                continue
    assert leaks(environments, own) == []

"""Attempts run for real: a git repository, content-addressed blobs, uv, and the sandbox of this machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import interlock
from interlock.edges.blobs import LocalBlobs
from interlock.edges.environments import UvEnvironments
from interlock.edges.executor import LocalExecutor
from interlock.edges.git import CommandGit
from interlock.edges.sandbox import BubblewrapSandbox, NoSandbox
from interlock.errors import ExecutorFault, NotFound
from interlock.pipeline.plan import DataPlan, PythonPlan, Resources, StagePlan
from interlock.ports import Isolation, Start
from interlock.run.stage import Baseline, StageOutcome, StageRequest
from interlock.source.commit import Commit
from interlock.vocabulary import Digest, Phase

PROBES = Path(interlock.__file__).parent / "probes"
PYTHON = PythonPlan(version=">=3.11", lock="requirements.txt")


class World:
    """One repository, one store of blobs, and executors over them."""

    def __init__(self, folder: Path, environments: UvEnvironments) -> None:
        self.folder = folder
        self.git = CommandGit(folder / "git-state")
        self.blobs = LocalBlobs(folder / "blobs")
        self.environments = environments
        self.repository = folder / "repository"
        self.repository.mkdir()
        self.command("init", "--quiet", "--initial-branch=main")

    def command(self, *arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *arguments], cwd=self.repository, check=True, capture_output=True)

    def commit(self, files: Mapping[str, str]) -> Commit:
        for name, content in ({"requirements.txt": ""} | dict(files)).items():
            place = self.repository / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
        self.command("add", "--all")
        self.command("commit", "--quiet", "--allow-empty", "-m", "c")
        return self.git.commit("demo", str(self.repository / ".git"), "refs/heads/main")

    def executor(self, **options: Any) -> LocalExecutor:
        sandbox = options.pop("sandbox", None) or BubblewrapSandbox()
        folder = self.folder / "executor"
        return LocalExecutor(self.git, self.blobs, self.environments, sandbox, folder, PROBES, **options)


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> UvEnvironments:
    return UvEnvironments(tmp_path_factory.mktemp("environments"))


@pytest.fixture
def world(tmp_path: Path, environments: UvEnvironments) -> World:
    return World(tmp_path, environments)


@pytest.fixture
def executor(world: World) -> Iterator[LocalExecutor]:
    made = world.executor()
    yield made
    made.close()


def request_for(commit: Commit, command: str, attempt: str = "1/train/1", **more: Any) -> StageRequest:
    wide = {name: more.pop(name) for name in ("inputs", "endpoint", "data", "project") if name in more}
    stage = StagePlan(name="train", kind="stage", command=command, timeout=more.pop("timeout", 60.0), **more)
    return StageRequest(attempt=attempt, stage=stage, commit=commit, python=PYTHON, **wide)


def builtin(commit: Commit, name: Any, **more: Any) -> StageRequest:
    wide = {key: more.pop(key) for key in ("inputs", "data") if key in more}
    stage = StagePlan(name=name, kind="check", builtin=name, timeout=60.0, **more)
    return StageRequest(attempt=f"1/{name}/1", stage=stage, commit=commit, python=PYTHON, **wide)


def wait_until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def processes_with(marker: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in line:
                found.append(entry.name)
    return found


# --- what a stage makes, and how it is told ---


def test_a_stage_makes_its_products_from_the_commit_and_its_inputs(world: World, executor: LocalExecutor) -> None:
    commit = world.commit({"train.py": "open('model.txt', 'w').write(open('data/rows.csv').read().upper())\n"})
    rows = world.folder / "rows.csv"
    rows.write_text("a,b\n")
    request = request_for(
        commit, "python train.py", outs=("model.txt",), inputs={"data/rows.csv": world.blobs.put(str(rows))}
    )
    outcome = executor.run(request)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert world.blobs.read(outcome.products["model.txt"]) == b"A,B\n"
    assert outcome.exit_code == 0
    assert outcome.sandbox == BubblewrapSandbox().level
    assert outcome.problems == ()
    assert outcome.peak_memory is None or outcome.peak_memory > 0
    assert outcome.cpu_seconds is not None
    assert outcome.seconds > 0


def test_a_folder_is_a_product_and_an_old_copy_of_it_in_the_commit_is_not(
    world: World, executor: LocalExecutor
) -> None:
    commit = world.commit({"model/old.txt": "old", "metrics.json": "{}"})
    request = request_for(
        commit,
        "ls; mkdir model; echo new > model/new.txt; echo '{}' > metrics.json",
        outs=("model/",),
        metrics=("metrics.json",),
    )
    outcome = executor.run(request)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert set(outcome.products) == {"model/", "metrics.json"}
    assert set(world.blobs.files(outcome.products["model/"])) == {"new.txt"}
    assert "old.txt" not in Path(executor.log_path(request.attempt)).read_text()


def test_a_product_that_is_missing_fails_the_stage_and_is_named(world: World, executor: LocalExecutor) -> None:
    commit = world.commit({"model.txt": "from the commit"})
    outcome = executor.run(request_for(commit, "true", outs=("model.txt",)))
    assert outcome.phase is Phase.FAILED
    assert "did not make model.txt" in outcome.because
    assert outcome.problems[0].path == "model.txt"


def test_an_input_replaces_what_the_commit_has_at_its_path(world: World, executor: LocalExecutor) -> None:
    commit = world.commit({"data/old.csv": "old", "data/deep/x.csv": "x"})
    folder = world.folder / "given"
    folder.mkdir()
    (folder / "new.csv").write_text("new")
    inputs = {"data": world.blobs.put(str(folder))}
    outcome = executor.run(request_for(commit, "ls -R data > out.txt", outs=("out.txt",), inputs=inputs))
    listing = world.blobs.read(outcome.products["out.txt"]).decode()
    assert "new.csv" in listing
    assert "old.csv" not in listing
    assert "deep" not in listing


def test_declared_parameters_are_all_that_the_stage_sees_of_them(world: World, executor: LocalExecutor) -> None:
    commit = world.commit({"params.yaml": "train: {depth: 4, rate: 0.1}\nother: 7\n"})
    request = request_for(commit, "cat params.yaml > seen.txt", outs=("seen.txt",), params={"train.depth": 9})
    outcome = executor.run(request)
    assert world.blobs.read(outcome.products["seen.txt"]) == b"train:\n  depth: 9\n"
    assert "params.yaml" not in outcome.reads
    whole = executor.run(request_for(commit, "cat params.yaml > seen.txt", outs=("seen.txt",)))
    assert b"other: 7" in world.blobs.read(whole.products["seen.txt"])
    assert "params.yaml" in whole.reads


def test_a_project_in_a_folder_sees_that_folder_only(world: World, executor: LocalExecutor) -> None:
    commit = world.commit({"models/a/x.txt": "x", "models/a/requirements.txt": "", "secret.txt": "s"})
    request = request_for(commit, "pwd; cat x.txt; ls ..; ls ../..", project="models/a")
    outcome = executor.run(request)
    log = Path(executor.log_path(request.attempt)).read_text()
    assert outcome.reads == ("x.txt",)
    assert log.startswith("/workspace/models/a\n") or "\n/workspace/models/a\n" in log
    assert "secret" not in log


@pytest.mark.parametrize(
    ("command", "because"),
    [
        ("exit 3", "exit code 3"),
        ("echo nearly; echo 'no column late' >&2; exit 1", "exit code 1: no column late"),
        ("sh -c 'kill -9 $$'; exit $?", "killed by SIGKILL"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
    ],
)
def test_a_failing_stage_says_how_it_ended_and_its_last_words(
    world: World, executor: LocalExecutor, command: str, because: str
) -> None:
    outcome = executor.run(request_for(world.commit({}), command))
    assert outcome.phase is Phase.FAILED
    assert outcome.because.startswith(because)


def test_an_exception_is_shown_with_its_file_and_line(world: World, executor: LocalExecutor) -> None:
    commit = world.commit(
        {
            "src/train.py": "import json\nfrom helper import load\nload('{')\n",
            "src/helper.py": "import json\n\n\ndef load(text):\n    return json.loads(text)\n",
        }
    )
    outcome = executor.run(request_for(commit, "python src/train.py"))
    assert outcome.because.startswith("exit code 1: json.decoder.JSONDecodeError: Expecting property name")
    assert [(problem.path, problem.line) for problem in outcome.problems] == [("src/helper.py", 5)]


def test_the_environment_of_a_stage_is_its_own(
    world: World, executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_SECRET", "canary-5309")
    command = (
        "env; cat /proc/1/environ /proc/self/environ | tr '\\0' '\\n'; "
        "grep -a -s canary-5309 /proc/*/environ /proc/*/cmdline"
    )
    request = request_for(
        world.commit({}), command + "; true", env={"MINE": "1", "TZ": "Asia/Tokyo"}, resources=Resources(cpu=1.5)
    )
    assert executor.run(request).phase is Phase.SUCCEEDED
    log = Path(executor.log_path(request.attempt)).read_text()
    assert "canary-5309\n" not in log.replace("grep", "")
    assert "PLANTED_SECRET" not in log
    lines = log.splitlines()
    for line in (
        "MINE=1",
        "TZ=Asia/Tokyo",
        "OMP_NUM_THREADS=2",
        "PYTHONHASHSEED=0",
        "HOME=/tmp",
        "LANG=C.UTF-8",
        "CUDA_VISIBLE_DEVICES=",
    ):
        assert line in lines


def test_the_python_of_a_stage_is_that_of_the_lock(world: World, executor: LocalExecutor) -> None:
    script = "import sys, importlib.util as u; print(sys.prefix); sys.exit(u.find_spec('pydantic') is not None)"
    request = request_for(world.commit({"a.py": script}), "python a.py")
    outcome = executor.run(request)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert sys.prefix not in Path(executor.log_path(request.attempt)).read_text().splitlines()


# --- what a stage read ---


def test_reads_are_seen_whoever_makes_them(world: World, executor: LocalExecutor) -> None:
    commit = world.commit(
        {
            "src/train.py": "import helper, glob, os, subprocess, shutil\n"
            "glob.glob('images/*')\n"
            "os.stat('data/only-looked-at.csv')\n"
            "subprocess.run(['cat', 'data/by-child.csv'], check=True)\n"
            "shutil.copyfile('data/copied.csv', '/tmp/copied.csv')\n"
            "import mmap; f = open('data/mapped.csv'); mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[0]\n"
            "open('data/rewritten.csv', 'w').write('new')\n"
            "os.rename('data/moved.csv', 'data/elsewhere.csv')\n",
            "src/helper.py": "X = 1\n",
            "src/unused.py": "Y = 1\n",
            "images/a.png": "a",
            "images/b.png": "b",
            "other/c.txt": "c",
            "README.md": "readme",
            **{f"data/{name}.csv": name for name in ("only-looked-at", "by-child", "copied", "mapped", "rewritten")},
            "data/moved.csv": "moved",
        }
    )
    outcome = executor.run(request_for(commit, "python src/train.py"))
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert set(outcome.reads) == {
        "src/train.py",
        "src/helper.py",
        "data/by-child.csv",
        "data/copied.csv",
        "data/mapped.csv",
        "data/moved.csv",
    }
    assert {"images", "src"} <= set(outcome.listings)
    assert not {"other", "data"} & set(outcome.listings)
    assert outcome.changed_inputs == ("data/moved.csv", "data/rewritten.csv")
    assert [(problem.path, problem.is_warning) for problem in outcome.problems] == [
        ("data/moved.csv", True),
        ("data/rewritten.csv", True),
    ]


def test_a_file_that_is_written_again_unchanged_is_not_told_as_changed(world: World, executor: LocalExecutor) -> None:
    commit = world.commit({"a.txt": "same", "b.txt": "same"})
    given = world.folder / "given.txt"
    given.write_text("given")
    request = request_for(
        commit,
        "printf same > a.txt; touch b.txt; chmod 600 b.txt; printf given > c.txt",
        inputs={"c.txt": world.blobs.put(str(given))},
    )
    assert executor.run(request).changed_inputs == ()


def test_what_a_stage_reads_of_its_own_products_is_no_read_of_the_project(
    world: World, executor: LocalExecutor
) -> None:
    outcome = executor.run(request_for(world.commit({}), "echo 1 > new.txt; cat new.txt; mkdir d; ls d"))
    assert outcome.reads == ()
    assert outcome.listings == ()


def test_a_link_out_of_the_project_is_refused_with_its_name(world: World, executor: LocalExecutor) -> None:
    secret = world.folder / "secret.txt"
    secret.write_text("canary-1234")
    world.repository.joinpath("link.txt").symlink_to(secret)
    outcome = executor.run(request_for(world.commit({}), "cat link.txt"))
    assert outcome.phase is Phase.FAILED
    assert outcome.problems[0].path == "link.txt"


def test_what_is_read_through_a_link_is_read(world: World, executor: LocalExecutor) -> None:
    world.repository.joinpath("link.txt").symlink_to("real.txt")
    outcome = executor.run(request_for(world.commit({"real.txt": "real"}), "cat link.txt"))
    assert outcome.reads == ("link.txt", "real.txt")


@pytest.mark.parametrize(
    "trick",
    [
        "ln -s {secret} model",
        "mkdir real && ln -s {folder} model",
        "mkdir model && ln -s {secret} model/leak.txt",
    ],
)
def test_a_product_that_links_out_is_refused(world: World, executor: LocalExecutor, trick: str) -> None:
    secret = world.folder / "secret.txt"
    secret.write_text("canary-1234")
    outcome = executor.run(
        request_for(world.commit({}), trick.format(secret=secret, folder=world.folder), outs=("model",))
    )
    assert outcome.phase is Phase.FAILED
    assert outcome.products == {}
    assert "link" in outcome.because


def test_a_product_behind_a_linked_folder_is_refused(world: World, executor: LocalExecutor) -> None:
    (world.folder / "secret.txt").write_text("canary-1234")
    request = request_for(world.commit({}), f"ln -s {world.folder} out", outs=("out/secret.txt",))
    outcome = executor.run(request)
    assert outcome.phase is Phase.FAILED
    assert outcome.products == {}


def test_an_input_is_never_written_through_a_link_of_the_commit(world: World, executor: LocalExecutor) -> None:
    world.repository.joinpath("data").symlink_to("elsewhere")
    given = world.folder / "given.txt"
    given.write_text("given")
    commit = world.commit({"elsewhere/old.txt": ""})
    request = request_for(
        commit, "cat data/x.txt; test ! -e elsewhere/x.txt", inputs={"data/x.txt": world.blobs.put(str(given))}
    )
    outcome = executor.run(request)
    assert outcome.phase is Phase.SUCCEEDED, outcome


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x"])
def test_a_path_that_leaves_the_project_is_refused(world: World, executor: LocalExecutor, path: str) -> None:
    outcome = executor.run(request_for(world.commit({}), "true", outs=(path,)))
    assert outcome.phase is Phase.FAILED
    assert "leaves the project" in outcome.because


@pytest.mark.parametrize("where", ["started", "times"])
def test_files_left_where_interlock_looks_lead_nowhere(world: World, executor: LocalExecutor, where: str) -> None:
    request = request_for(world.commit({}), f"ln -sf /etc/shadow /interlock/exchange/{where}; rm -f x; true")
    outcome = executor.run(request)
    if where == "started":
        assert outcome.phase is Phase.ERRORED
    assert "root:" not in outcome.model_dump_json()


def test_where_reads_are_not_recorded_every_file_counts_as_read(world: World, executor: LocalExecutor) -> None:
    executor._parts = executor._parts._replace(sees_reads=False)
    outcome = executor.run(request_for(world.commit({"a.txt": "a", "b/c.txt": "c"}), "true"))
    assert outcome.reads == ("a.txt", "b/c.txt", "requirements.txt")
    assert outcome.listings == ("", "b")


# --- what a stage cannot do ---


def test_a_stage_has_no_network_unless_it_says_so(world: World, executor: LocalExecutor) -> None:
    script = (
        "import socket, sys\n"
        "s = socket.socket(); s.settimeout(2)\n"
        "sys.exit(0 if s.connect_ex(('127.0.0.1', int(sys.argv[1]))) == 0 else 5)\n"
    )
    commit = world.commit({"a.py": script})
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        alone = executor.run(request_for(commit, f"python a.py {port}", attempt="1/a/1"))
        with_network = executor.run(request_for(commit, f"python a.py {port}", attempt="1/b/1", network=True))
        url = f"http://127.0.0.1:{port}"
        live = executor.run(request_for(commit, "python a.py ${INTERLOCK_ENDPOINT##*:}", attempt="1/c/1", endpoint=url))
    assert (alone.exit_code, with_network.exit_code, live.exit_code) == (5, 0, 0)


def test_a_stage_sees_nothing_of_the_machine_but_what_it_needs(world: World, executor: LocalExecutor) -> None:
    (world.folder / "state.db").write_text("state")
    hidden = [str(world.folder), str(Path(__file__).parent), "/home", "/var", "/run", "/etc/shadow", "/etc/ssl/private"]
    script = (
        f"import os\nfor p in {hidden!r}:\n    try:\n"
        "        print('SEEN', p, os.listdir(p) if os.path.isdir(p) else open(p).read())\n"
        "    except OSError: pass\n"
    )
    request = request_for(
        world.commit({"look.py": script}), "python look.py; id -u; touch /usr/x /x /etc/x; ps aux | wc -l"
    )
    executor.run(request)
    log = Path(executor.log_path(request.attempt)).read_text()
    assert "SEEN" not in log
    assert "1000" in log.splitlines()
    assert not Path("/x").exists()
    assert not Path("/usr/x").exists()


def test_the_environment_cannot_be_changed_by_a_stage(world: World, executor: LocalExecutor) -> None:
    request = request_for(world.commit({}), 'echo x > "$VIRTUAL_ENV/lib/planted.py"')
    assert executor.run(request).phase is Phase.FAILED
    assert not list(
        Path(world.environments.ensure(PYTHON, {"requirements.txt": b""}, "build", str)).glob("lib/planted*")
    )


def test_git_is_not_there(world: World, executor: LocalExecutor) -> None:
    assert executor.run(request_for(world.commit({}), "test ! -e .git")).phase is Phase.SUCCEEDED


# --- how a stage ends ---


def test_a_daemon_ends_with_its_stage(world: World, executor: LocalExecutor) -> None:
    marker = f"sleep 86{os.getpid()}"
    request = request_for(
        world.commit({}), f"(setsid {marker} >/dev/null 2>&1 &) ; nohup {marker} >/dev/null 2>&1 & sleep 0.2"
    )
    outcome = executor.run(request)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert processes_with(marker.replace(" ", "\0")) == []


def test_a_stage_that_closes_its_output_and_runs_on_is_waited_for(world: World, executor: LocalExecutor) -> None:
    command = "exec >/dev/null 2>&1; sleep 0.4; cat > stdin.txt; echo done > out.txt"
    outcome = executor.run(request_for(world.commit({}), command, outs=("out.txt", "stdin.txt")))
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert world.blobs.read(outcome.products["stdin.txt"]) == b""


def test_a_stage_that_takes_too_long_is_asked_to_end_and_may_tidy_up(world: World, executor: LocalExecutor) -> None:
    # A shell alone: on a busy machine Python may not have begun within the time.
    request = request_for(world.commit({}), "trap 'echo tidied up; exit 0' TERM; sleep 60 & wait", timeout=4.0)
    outcome = executor.run(request)
    assert outcome.phase is Phase.FAILED
    assert outcome.because == "timed out after 4 s"
    assert "tidied up" in Path(executor.log_path(request.attempt)).read_text()
    assert outcome.seconds < 14


@pytest.mark.slow
def test_a_stage_that_will_not_end_is_killed(world: World, executor: LocalExecutor) -> None:
    marker = f"97{os.getpid()}"
    command = f"trap '' TERM; (trap '' TERM; sleep {marker}) & while true; do sleep {marker}; done"
    outcome = executor.run(request_for(world.commit({}), command, timeout=0.3))
    assert outcome.phase is Phase.FAILED
    assert outcome.because == "timed out after 0.3 s"
    assert outcome.seconds < 12.3
    assert processes_with(f"sleep\0{marker}") == []


def test_an_attempt_whose_workspace_cannot_be_made_ends_as_a_fault_of_ours(
    world: World, executor: LocalExecutor
) -> None:
    request = request_for(world.commit({}), "true")
    (own,) = (entry for entry in (world.folder / "executor" / "workspaces").iterdir() if entry.is_dir())
    own.rmdir()
    outcome = executor.run(request)
    assert outcome.phase is Phase.ERRORED
    assert "No such file or directory" in outcome.because
    own.mkdir()
    assert executor.run(request).phase is Phase.SUCCEEDED


def test_a_stage_that_takes_too_much_memory_is_told_so(world: World, executor: LocalExecutor) -> None:
    script = "import time\nx = bytearray(b'x') * (200 << 20)\ntime.sleep(30)\n"
    request = request_for(world.commit({"a.py": script}), "python a.py", resources=Resources(memory=100 << 20))
    outcome = executor.run(request)
    assert outcome.phase is Phase.FAILED
    assert outcome.because == "out of memory: it needs more than its limit of 100 MiB (resources.memory)"
    assert outcome.peak_memory is not None
    assert outcome.peak_memory > 90 << 20


def test_processor_time_of_all_its_processes_is_counted(world: World, executor: LocalExecutor) -> None:
    busy = "python -c 'import time\nwhile time.process_time() < 0.4: pass'"
    outcome = executor.run(request_for(world.commit({}), f"{busy}; {busy}"))
    assert outcome.cpu_seconds is not None
    assert 0.7 <= outcome.cpu_seconds < 5, "one of the two alone takes 0.4 s"


def test_a_stopped_attempt_is_cancelled_and_nothing_of_it_is_left(world: World, executor: LocalExecutor) -> None:
    marker = f"98{os.getpid()}"
    outcomes: list[StageOutcome] = []
    request = request_for(world.commit({}), f"echo begun; sleep {marker}")
    executor.start(request, outcomes.append)
    wait_until(lambda: bool(processes_with(f"sleep\0{marker}")))
    executor.stop(request.attempt, "a newer commit came")
    wait_until(lambda: not executor.running())
    assert [(outcome.phase, outcome.because) for outcome in outcomes] == [(Phase.CANCELLED, "a newer commit came")]
    assert processes_with(f"sleep\0{marker}") == []
    assert list((world.folder / "executor/workspaces").glob("executor-*/*")) == []


def test_closing_ends_what_runs_as_errored(world: World) -> None:
    executor = world.executor()
    outcomes: list[StageOutcome] = []
    for number in range(3):
        executor.start(request_for(world.commit({}), "echo begun; sleep 60", attempt=f"1/s/{number}"), outcomes.append)
    logs = [Path(executor.log_path(f"1/s/{number}")) for number in range(3)]
    wait_until(lambda: all(log.exists() and b"begun" in log.read_bytes() for log in logs))
    executor.close()
    assert [outcome.phase for outcome in outcomes] == [Phase.ERRORED] * 3
    assert executor.running() == frozenset()
    assert list((world.folder / "executor/workspaces").glob("executor-*")) == []
    with pytest.raises(ExecutorFault, match="closed"):
        executor.start(request_for(world.commit({}), "true"), outcomes.append)


def test_a_log_is_bounded_and_keeps_its_end(world: World, executor: LocalExecutor) -> None:
    script = "import os\nfor _ in range(200): os.write(1, b'x' * (1 << 20))\nprint('\\nthe last line')\n"
    request = request_for(world.commit({"a.py": script}), "echo first; python a.py")
    assert executor.run(request).phase is Phase.SUCCEEDED
    log = Path(executor.log_path(request.attempt))
    assert log.stat().st_size < (64 << 20) + 4096
    content = log.read_bytes()
    assert b"first\n" in content[:400]
    assert b"the last line\n" in content[-400:]
    assert b" bytes dropped\n" in content


def test_a_log_can_be_followed_while_the_stage_runs(world: World, executor: LocalExecutor) -> None:
    request = request_for(world.commit({}), "echo now; sleep 60")
    executor.start(request, lambda _: None)
    log = Path(executor.log_path(request.attempt))
    wait_until(lambda: log.exists() and b"now\n" in log.read_bytes())
    assert request.attempt in executor.running()
    executor.stop(request.attempt, "seen")


# --- several at a time ---


def test_attempts_run_side_by_side(world: World, executor: LocalExecutor) -> None:
    """Each of the two waits for what the other one does, which only works side by side."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        port = server.getsockname()[1]
        script = (
            "import socket, sys\n"
            f"s = socket.create_connection(('127.0.0.1', {port}))\n"
            "s.settimeout(20)\nsys.exit(0 if s.recv(1) else 1)\n"
        )
        commit = world.commit({"a.py": script})
        outcomes: list[StageOutcome] = []
        for number in range(2):
            executor.start(request_for(commit, "python a.py", attempt=f"1/s/{number}", network=True), outcomes.append)
        both = [server.accept()[0] for _ in range(2)]
        for one in both:
            one.sendall(b"!")
            one.close()
        wait_until(lambda: len(outcomes) == 2)
    assert [outcome.phase for outcome in outcomes] == [Phase.SUCCEEDED] * 2


def test_what_an_executor_left_when_it_died_is_removed_and_nothing_else(world: World) -> None:
    first = world.executor()
    workspaces = world.folder / "executor/workspaces"
    dead = workspaces / "executor-dead"
    (dead / "x").mkdir(parents=True)
    (dead / "x/locked").mkdir(mode=0o000)
    alive = [entry for entry in workspaces.glob("executor-*") if entry != dead]
    second = world.executor()
    assert not dead.exists()
    assert all(entry.exists() for entry in alive)
    first.close()
    second.close()


# --- what goes wrong that is not the user's fault ---


def test_a_fault_of_ours_is_errored(world: World, executor: LocalExecutor) -> None:
    missing = Digest("blake3:" + "0" * 64)
    outcome = executor.run(request_for(world.commit({}), "true", inputs={"x": missing}))
    assert outcome.phase is Phase.ERRORED


def test_a_sandbox_that_does_not_start_is_not_the_users_fault(world: World) -> None:
    class Broken(BubblewrapSandbox):
        def start(self, isolation: Isolation) -> Start:
            missing = {} if isolation.folder == "/tmp" else {"read_only": (("/nowhere", "/x"),)}
            return super().start(isolation.model_copy(update=missing))

    executor = world.executor(sandbox=Broken())
    outcome = executor.run(request_for(world.commit({}), "true"))
    executor.close()
    assert outcome.phase is Phase.ERRORED
    assert "the sandbox did not start" in outcome.because
    assert "/nowhere" in outcome.because


def test_a_defect_of_ours_is_errored_and_never_the_users(world: World, executor: LocalExecutor) -> None:
    class Broken(LocalBlobs):
        def materialise(self, digest: Digest, target: str, *, shown_from: int | None = None) -> dict[str, str]:
            raise KeyError(digest)

    given = world.folder / "given.txt"
    given.write_text("x")
    digest = world.blobs.put(str(given))
    whole, world.blobs = world.blobs, Broken(world.folder / "blobs")
    broken = world.executor()
    outcome = broken.run(request_for(world.commit({}), "true", inputs={"x": digest}))
    broken.close()
    world.blobs = whole
    assert outcome.phase is Phase.ERRORED
    assert "KeyError" in outcome.because


def test_a_lock_that_cannot_be_installed_is_the_users_to_mend(world: World, executor: LocalExecutor) -> None:
    outcome = executor.run(request_for(world.commit({"requirements.txt": "six\n"}), "true"))
    assert outcome.phase is Phase.FAILED
    assert outcome.problems[0].path == "requirements.txt"
    assert outcome.problems[0].line == 1


def test_a_name_that_is_no_attempt_is_refused(executor: LocalExecutor) -> None:
    for name in ("../x", "a//b", "", "a/../../b"):
        with pytest.raises(NotFound, match="no name of an attempt"):
            executor.log_path(name)
    assert Path(executor.log_path("7/tr ain/2")).name == "2.log"


# --- built-in stages ---


def test_dependencies_are_checked_and_set_up(world: World, executor: LocalExecutor) -> None:
    outcome = executor.run(builtin(world.commit({}), "dependencies"))
    assert outcome.phase is Phase.SUCCEEDED
    assert outcome.reads == ("requirements.txt",)
    stale = executor.run(builtin(world.commit({"requirements.txt": "six==1.17.0\n"}), "dependencies"))
    assert stale.phase is Phase.FAILED
    assert "--hash" in stale.because


def test_syntax_and_imports_are_found_by_the_probe_in_the_users_environment(
    world: World, executor: LocalExecutor
) -> None:
    good = world.commit({"src/train.py": "import json, helper\n", "src/helper.py": "X = 1\n", "old.py": "def (\n"})
    for name in ("syntax", "imports"):
        outcome = executor.run(builtin(good, name, deps=("src/train.py",)))
        assert outcome.phase is Phase.SUCCEEDED, outcome
        assert {"src/train.py", "src/helper.py"} <= set(outcome.reads)
        assert outcome.report == {"files": 3, "reached": ["src/helper.py", "src/train.py"]}
    bad = world.commit({"src/helper.py": "import pandas\nX = (\n"})
    outcome = executor.run(builtin(bad, "syntax", deps=("src/train.py",)))
    assert outcome.phase is Phase.FAILED
    assert outcome.because.startswith("src/helper.py:2: SyntaxError")
    missing = world.commit({"src/helper.py": "import pandas\n"})
    outcome = executor.run(builtin(missing, "imports", deps=("src/train.py",)))
    assert outcome.phase is Phase.FAILED
    assert "add pandas to the project's dependencies" in outcome.because


def test_a_project_cannot_take_the_place_of_the_probe(world: World, executor: LocalExecutor) -> None:
    fake = "import json, sys\njson.dump({'passed': True, 'because': 'trust me'}, open(sys.argv[-1], 'w'))\n"
    files = {"interlock/__init__.py": "", "interlock/probes/__init__.py": "", "interlock/probes/__main__.py": fake}
    commit = world.commit({**files, "json.py": "raise SystemExit(7)\n", "a.py": "x = (\n"})
    outcome = executor.run(builtin(commit, "syntax", deps=("a.py",)))
    assert outcome.phase is Phase.FAILED
    assert "SyntaxError" in outcome.because


def test_data_is_looked_at_by_interlocks_own_interpreter(world: World, executor: LocalExecutor) -> None:
    commit = world.commit({"data/a.csv": "x,y\n1,2\n"})
    outcome = executor.run(builtin(commit, "data", data=(DataPlan(name="train", path="data/a.csv"),)))
    assert outcome.phase is Phase.SUCCEEDED, (outcome, Path(executor.log_path("1/data/1")).read_text())
    assert "data/a.csv" in outcome.reads


def test_measurements_are_taken_beside_the_baseline(world: World, executor: LocalExecutor) -> None:
    def stored(name: str, content: str) -> Digest:
        place = world.folder / name
        place.write_text(content)
        return world.blobs.put(str(place))

    rows = "id,late,carrier\n1,0,AA\n2,1,UA\n"
    commit = world.commit({"data/train.csv": rows, "data/holdout.csv": rows})
    train = DataPlan(name="train", path="data/train.csv", id="id", label="late")
    holdout = DataPlan(name="holdout", path="data/holdout.csv", id="id", label="late", disjoint_from="train")
    predictions = stored("predictions.csv", "id,prediction\n1,0\n2,1\n")
    baseline = Baseline(
        name="demo v1",
        model=predictions,
        lock=predictions,
        format="skops",
        predictions=stored("before.csv", "id,prediction\n1,1\n2,1\n"),
    )
    request = builtin(
        commit,
        "measurements",
        metrics=("metrics.json",),
        predictions="predictions.csv",
        deps=("metrics.json", "predictions.csv", "data/holdout.csv"),
        inputs={"metrics.json": stored("metrics.json", '{"auc": 0.75}'), "predictions.csv": predictions},
        data=(train, holdout),
    ).model_copy(update={"baseline": baseline, "columns": ("carrier",)})
    outcome = executor.run(request)
    assert outcome.phase is Phase.SUCCEEDED, (outcome, Path(executor.log_path(request.attempt)).read_text())
    assert isinstance(outcome.report, dict)
    assert outcome.report["metrics"] == {"auc": 0.75}
    measured = outcome.report["rows"]
    assert isinstance(measured, dict)
    assert measured["columns"] == {"carrier": ["AA", "UA"]}
    assert "data/train.csv" not in outcome.reads
    assert {"predictions.csv", "data/holdout.csv"} <= set(outcome.reads)


# --- without a sandbox ---


def test_without_a_sandbox_the_same_stage_runs_and_says_so(world: World) -> None:
    executor = world.executor(sandbox=NoSandbox())
    marker = f"96{os.getpid()}"
    commit = world.commit(
        {"a.py": "import helper\nprint(open('x.txt').read())\n", "helper.py": "", "x.txt": "x", "y.txt": "y"}
    )
    request = request_for(commit, f"(sleep {marker} &); python a.py > out.txt; kill -0 $$", outs=("out.txt",))
    outcome = executor.run(request)
    assert outcome.phase is Phase.SUCCEEDED, outcome
    assert outcome.sandbox == NoSandbox().level
    assert outcome.sandbox.startswith("none")
    assert outcome.reads == ("a.py", "helper.py", "x.txt")
    assert processes_with(f"sleep\0{marker}") == []
    checked = executor.run(builtin(commit, "syntax", deps=("a.py",)))
    assert checked.phase is Phase.SUCCEEDED, checked
    executor.close()


def test_a_callback_may_start_the_next_attempt(world: World, executor: LocalExecutor) -> None:
    commit = world.commit({})
    is_over = threading.Event()

    def again(outcome: StageOutcome) -> None:
        executor.start(request_for(commit, "true", attempt="1/second/1"), lambda _: is_over.set())

    executor.start(request_for(commit, "true", attempt="1/first/1"), again)
    assert is_over.wait(30)


def test_an_outcome_can_be_stored(world: World, executor: LocalExecutor) -> None:
    outcome = executor.run(request_for(world.commit({}), "printf 'odd' > \"$(printf 'odd\\377name')\"; exit 2"))
    assert StageOutcome.model_validate(json.loads(outcome.model_dump_json())) == outcome

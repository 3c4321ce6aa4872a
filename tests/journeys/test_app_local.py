"""Given a tiny working tree and no server, when it is planned and run, then every stage tells why; killed runs end."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.processes import on_command_lines

from interlock.app.local import Local, PlannedRun
from interlock.app.reading import Reading
from interlock.cli import main
from interlock.control.people import local_caller
from interlock.control.rows import read_state, write_state
from interlock.edges.store import SqlStore
from interlock.errors import NotFound, Refused, SeveralRefused
from interlock.run.run import Run
from interlock.vocabulary import Kind, Phase

PIPELINE = """\
version: 1
checks: [{name: unit, cmd: python check.py}]
stages:
  features: {cmd: python features.py, deps: [data/rows.csv], params: [], outs: [features.txt]}
  train: {cmd: python train.py, deps: [features.txt], params: [train], outs: [model/]}
  evaluate: {cmd: python evaluate.py, deps: [model/], metrics: [metrics.json]}
gates: [{metric: accuracy, min: 0.5}]
"""
GATED = """\
version: 1
checks: []
stages: {evaluate: {cmd: python evaluate.py, metrics: [metrics.json]}}
gates: [{metric: accuracy, min: 0.5}]
"""
FILES = {
    "interlock.yaml": PIPELINE,
    "params.yaml": "train: {depth: 3}\nother: 1\n",
    "requirements.txt": "",
    "check.py": "import helper\nassert helper.double(2) == 4\n",
    "helper.py": "def double(x):\n    return 2 * x  # twice\n",
    "features.py": """
        import helper
        rows = open("data/rows.csv").read()
        open("features.txt", "w").write(str(helper.double(len(rows))))
        """,
    "train.py": """
        import os
        depth = [line for line in open("params.yaml") if "depth" in line]
        os.mkdir("model")
        open("model/weights", "w").write(open("features.txt").read() + "".join(depth))
        """,
    "evaluate.py": "import json\njson.dump({'accuracy': 0.9}, open('metrics.json', 'w'))\n",
    "data/rows.csv": "1\n2\n",
}
BIN = Path(sys.executable).parent


class Tree:
    """A working tree that is no git repository, and a state folder."""

    def __init__(self, folder: Path, environments: Path) -> None:
        self.folder = folder / "tiny"
        self.state = folder / "state"
        self.state.mkdir()
        (self.state / "environments").symlink_to(environments)
        for name, text in FILES.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip("\n"))

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / name.replace("__", "/").replace("_dot_", ".")).write_text(text)

    def run(self, *overrides: str, secrets_from: Path | None = None) -> Run:
        with Local(self.state) as local:
            return local.run(self.folder, overrides, lambda _: None, secrets_from)

    def plan(self, *overrides: str, revision: str | None = None) -> PlannedRun:
        with Local(self.state) as local:
            return local.plan(self.folder, revision, overrides)

    def rows(self, kind: Kind = Kind.RUN) -> list[Run]:
        store = SqlStore(f"sqlite:///{self.state / 'interlock.db'}")
        try:
            return [read_state(row, Run) for row in store.rows(kind)]
        finally:
            store.close()


@pytest.fixture
def tree(tmp_path: Path, built_environments: Path) -> Tree:
    return Tree(tmp_path, built_environments)


def told(planned: PlannedRun) -> dict[str, str | None]:
    """What a plan says of each stage: the reason to run, ``reused``, or None where that depends on others."""
    return {
        stage.name: None if lookup is None else "reused" if lookup.hit else lookup.because
        for stage, lookup in planned.stages
    }


def executed(run: Run) -> set[str]:
    return {name for name, stage_run in run.stages.items() if stage_run.attempt}


# --- plan ---


def test_a_plan_tells_what_would_run_and_runs_nothing(tree: Tree) -> None:
    planned = tree.plan()
    assert told(planned) == {
        "unit": "never ran before",
        "features": None,
        "train": None,
        "evaluate": None,
        "measurements": None,
    }
    assert tree.rows() == []
    assert not (tree.state / "execution" / "logs").exists()
    assert set(tree.folder.rglob("*")) == {tree.folder / name for name in FILES} | {tree.folder / "data"}


def test_a_plan_after_a_run_says_reused_and_after_an_edit_just_what_the_edit_reaches(tree: Tree) -> None:
    run = tree.run()
    assert run.phase is Phase.SUCCEEDED, run.because
    assert executed(run) == set(told(tree.plan()))
    assert set(told(tree.plan()).values()) == {"reused"}

    assert tree.plan().estimate is not None
    assert str(tree.plan().estimate) == "nothing is executed"

    tree.write(README_dot_md="# Tiny\n", params_dot_yaml="train: {depth: 3}\nother: 2\n")
    tree.write(helper_dot_py="def double(x):\n    return 2 * x  # two times\n")
    assert set(told(tree.plan()).values()) == {"reused"}

    assert told(tree.plan("train.depth=4")) == {
        "unit": "reused",
        "features": "reused",
        "train": "parameter train.depth: 3 -> 4",
        "evaluate": None,
        "measurements": None,
    }

    expected = tree.plan("train.depth=4").estimate
    assert expected is not None
    measured = {name: run.stages[name].seconds for name in ("train", "evaluate", "measurements")}
    assert expected.stages == measured
    assert expected.seconds == pytest.approx(sum(measured.values()))
    assert expected.runs == 1
    assert run.estimate is not None
    assert run.estimate.seconds is None  # the first time nothing was known
    again = tree.run("train.depth=4")
    assert again.estimate == expected

    tree.write(data__rows_dot_csv="1\n2\n3\n")
    assert told(tree.plan())["features"] == "data/rows.csv changed"
    assert told(tree.plan())["train"] is None


def test_a_plan_of_a_revision_is_of_that_commit_and_not_of_the_tree(tree: Tree) -> None:
    git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], cwd=tree.folder, check=True)
    tree.write(interlock_dot_yaml="version: 1\nstagez: {}\n")
    planned = tree.plan(revision="HEAD")
    assert planned.commit.subject == "first"
    assert set(told(planned)) == {"unit", "features", "train", "evaluate", "measurements"}
    with pytest.raises(SeveralRefused, match="stages"):
        tree.plan()
    with pytest.raises(NotFound, match="no-such-branch"):
        tree.plan(revision="no-such-branch")


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("interlock.yaml", None, "interlock init"),
        ("requirements.txt", None, "uv.lock"),
        ("interlock.yaml", "version: 1\n\tstages: {}\n", "tabs"),
        ("params.yaml", "train: [\n", "params.yaml"),
        ("params.yaml", "other: 1\n", "train"),
    ],
)
def test_what_cannot_be_planned_is_refused_and_leaves_no_run(
    tree: Tree, name: str, text: str | None, word: str
) -> None:
    if text is None:
        (tree.folder / name).unlink()
    else:
        (tree.folder / name).write_text(text)
    for attempt in (tree.plan, tree.run):
        with pytest.raises(Refused, match=word):
            attempt()
    assert tree.rows() == []


@pytest.mark.parametrize("override", ["train.deep=3", "train=3", "nonsense", "train.depth=[", "=3"])
def test_an_override_of_nothing_is_refused(tree: Tree, override: str) -> None:
    with pytest.raises(Refused):
        tree.plan(override)


# --- run ---


def test_an_unchanged_run_is_answered_at_once_by_the_last_one(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", str(tree.folder), "--state", str(tree.state)]
    time.sleep(0.2)
    assert main(words) == 0
    assert "run 1 succeeded: 5 of 5 stages ran" in capsys.readouterr().out

    assert main(words) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("tiny as run 1 found it: worktree ")
    assert told[1:6] == [
        f"  {name:<14} succeeded  unchanged since run 1"
        for name in ("unit", "features", "train", "evaluate", "measurements")
    ]
    assert told[6:8] == ["gates", "  pass       accuracy min 0.5: 0.9 >= 0.5"]
    assert told[8].startswith("run 1 succeeded: 0 of 5 stages ran, as run 1 stands")

    assert main([*words, "--json"]) == 0
    answer = Run.model_validate_json(capsys.readouterr().out)
    assert (answer.number, executed(answer)) == (1, set())
    assert [run.number for run in tree.rows()] == [1]

    assert main([*words, "-S", "train.depth=5"]) == 0
    assert "parameter train.depth: 3 -> 5" in capsys.readouterr().out
    tree.write(helper_dot_py="def double(x):\n    return 3 * x\n")
    assert main(words) == 1  # the unit test sees it
    assert "unit failed" in capsys.readouterr().out
    assert main(words) == 1


def test_a_run_tells_each_move_once_and_ends_as_its_row(tree: Tree) -> None:
    heard: list[Run] = []
    with Local(tree.state) as local:
        run = local.run(tree.folder, (), heard.append)
    assert all(before != after for before, after in pairwise(heard))
    assert {one.key for one in heard} == {run.key}
    assert heard[0].phase == "queued"
    assert heard[-1] == run
    assert tree.rows() == [run]
    assert not run.is_trusted
    assert run.version is None


def test_data_that_git_ignores_is_an_input_all_the_same(tree: Tree) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tree.folder, check=True)
    tree.write(_dot_gitignore="data/\n")
    assert tree.run().phase is Phase.SUCCEEDED
    tree.write(data__rows_dot_csv="9\n9\n9\n9\n")
    run = tree.run()
    assert {"features", "train"} <= executed(run)


def test_a_failing_check_ends_the_run_before_any_training(tree: Tree) -> None:
    tree.write(helper_dot_py="def double(x)\n")
    run = tree.run()
    assert run.phase is Phase.FAILED
    assert run.because.startswith("unit failed: ")
    assert "SyntaxError" in run.because
    assert executed(run) == {"unit"}
    assert {run.stages[name].phase for name in ("features", "train", "evaluate")} == {Phase.SKIPPED}


@pytest.mark.parametrize(
    ("written", "phase", "word"),
    [
        ("0.4", Phase.FAILED, "0.4"),
        ("float('nan')", Phase.HELD, "accuracy"),
        ("None", Phase.HELD, "accuracy"),
        ("'0.95'", Phase.HELD, "accuracy"),
        ("1e999", Phase.HELD, "accuracy"),
    ],
)
def test_a_gate_is_passed_by_a_number_and_by_nothing_else(tree: Tree, written: str, phase: Phase, word: str) -> None:
    tree.write(
        interlock_dot_yaml=GATED,
        evaluate_dot_py=f"import json\njson.dump({{'accuracy': {written}}}, open('metrics.json', 'w'))\n",
    )
    run = tree.run()
    assert run.phase is phase
    assert word in run.because


# --- killed, and beside others ---


SLOW = "import os, sys, time\nprint('begun', flush=True)\ntime.sleep(600)\n"


@pytest.fixture
def killed(tree: Tree) -> Iterator[subprocess.Popen[bytes]]:
    """`interlock run` in the middle of its training."""
    tree.write(train_dot_py=SLOW)
    process = subprocess.Popen(  # whoever runs the tests may ignore the signal
        ["env", "--default-signal=INT", BIN / "interlock", "run", "--state", tree.state],
        cwd=tree.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    log = tree.state / "execution" / "logs" / "1" / "train" / "1.log"
    deadline = time.monotonic() + 60
    while not (log.exists() and b"begun" in log.read_bytes()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    yield process
    if process.poll() is None:
        process.kill()
        process.wait()


def sleepers(tree: Tree) -> list[int]:
    """Programs of stages that run now: the state folder is on bubblewrap's command line."""
    return on_command_lines(os.fsencode(tree.state / "execution" / "workspaces"))


def test_a_killed_run_leaves_no_process_and_is_cancelled_by_the_next_command(
    tree: Tree, killed: subprocess.Popen[bytes]
) -> None:
    assert sleepers(tree) != []
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    deadline = time.monotonic() + 5
    while sleepers(tree):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [run.phase for run in tree.rows()] == [Phase.RUNNING]
    tree.plan()
    (run,) = tree.rows()
    assert run.phase is Phase.CANCELLED
    assert run.because == "its command was ended before it was done"
    assert not any(entry.is_dir() for entry in (tree.state / "execution" / "workspaces").iterdir())

    tree.write(train_dot_py=FILES["train.py"].replace("        ", ""))
    again = tree.run()
    assert again.phase is Phase.SUCCEEDED
    assert again.stages["features"].reused == "1/features/1"  # what was done is not done again


def test_a_run_that_goes_on_is_left_alone_by_other_commands(tree: Tree, killed: subprocess.Popen[bytes]) -> None:
    tree.plan()
    (run,) = tree.rows()
    assert run.phase is Phase.RUNNING
    assert killed.poll() is None
    assert sleepers(tree) != []
    killed.send_signal(signal.SIGINT)
    assert killed.wait(20) == 130
    assert sleepers(tree) == []
    tree.plan()
    assert [run.phase for run in tree.rows()] == [Phase.CANCELLED]


def test_many_who_find_the_same_orphans_end_each_once_and_nobody_stumbles(tree: Tree) -> None:
    run = tree.run()
    store = SqlStore(f"sqlite:///{tree.state / 'interlock.db'}")
    for number in range(100, 130):
        orphan = run.model_copy(update={"number": number, "phase": Phase.RUNNING, "driver": "local:1:1:none"})
        store.save(write_state(Kind.RUN, orphan.key, orphan, expected=0, phase="running", because="begun"))
    gate = threading.Barrier(4, timeout=30)
    troubles: list[Exception] = []

    def open_it() -> None:
        gate.wait()
        try:
            Local(tree.state).close()
        except Exception as trouble:  # noqa: BLE001 - whatever it is, no command may end with it
            troubles.append(trouble)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    for number in range(100, 130):
        assert [event.phase for event in store.events(Kind.RUN, str(number))] == ["running", "cancelled"]
    store.close()


def test_runs_of_a_server_are_not_taken_for_orphans(tree: Tree) -> None:
    run = tree.run()
    store = SqlStore(f"sqlite:///{tree.state / 'interlock.db'}")
    served = run.model_copy(update={"number": 7, "phase": Phase.RUNNING, "driver": "server"})
    store.save(write_state(Kind.RUN, "7", served, expected=0, phase="running", because="begun"))
    Local(tree.state).close()
    row = store.load(Kind.RUN, "7")
    assert row is not None
    assert row.phase == "running"
    store.close()


def test_two_runs_at_once_in_one_state_folder_both_end_well(tree: Tree) -> None:
    command = [BIN / "interlock", "run", "--json", "--state", tree.state]
    processes = [
        subprocess.Popen(
            [*command, "-S", f"train.depth={depth}"], cwd=tree.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for depth in (5, 6)
    ]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert {json.loads(out)["phase"] for out, _ in answers} == {"succeeded"}
    assert {run.phase for run in tree.rows()} == {Phase.SUCCEEDED}
    weights = {run.product("model/") for run in tree.rows()}
    assert len(weights) == 2


def test_reading_opens_what_commands_look_at_and_closes_it(tree: Tree) -> None:
    run = tree.run()
    with Reading.open(tree.state) as reading:
        assert [row.key for row in reading.store.rows(Kind.RUN)] == [run.key]
        assert reading.logs.window("1/train/1", 0, 10).lines
        with pytest.raises(NotFound):
            reading.requests.start_release(local_caller("ada"), "tiny/1", "why not")

"""When a stage's earlier execution may be used again: as look-ups see it, over a real repository and real rows."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.workshop import NamedEnvironments

from interlock.control.running.lookups import TREES_KEPT, Lookups, artifacts_for
from interlock.edges.blobs import LocalBlobs
from interlock.edges.git import CommandGit
from interlock.edges.store import MemoryStore
from interlock.pipeline.plan import DataPlan, GatePlan, ModelPlan, Plan, PythonPlan, StagePlan
from interlock.run import run as runs
from interlock.run.run import Run, StageRun
from interlock.run.stage import Baseline, StageOutcome
from interlock.source.commit import Occasion
from interlock.vocabulary import Digest, Phase

NO_DIGEST = Digest("blake3:" + "0" * 64)
PYTHON = PythonPlan(lock="requirements.txt")


class World:
    """A repository, and look-ups of runs of its commits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "small"
        self.folder.mkdir()
        self.command("init", "-q", "-b", "main")
        self.git = CommandGit(folder / "snapshots")
        self.store = MemoryStore(lambda: 0.0)
        self.artifacts = folder / "artifacts"
        self.blobs = LocalBlobs(self.artifacts)
        self.lookups = self.begin_anew()
        self.numbers = 0

    def begin_anew(self, platform: str = "here", program: str = "p1") -> Lookups:
        self.lookups = Lookups(
            self.store, self.git, self.blobs, NamedEnvironments(), platform=platform, program=program
        )
        return self.lookups

    def command(self, *words: str) -> None:
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run(["git", *who, *words], cwd=self.folder, check=True, capture_output=True)

    def run(self, files: Mapping[str, str | None], *stages: StagePlan, lock: bytes = b"", **plan: Any) -> Run:
        """A run of the repository after these files were written (None: removed) and committed."""
        for name, text in files.items():
            path = self.folder / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self.command("add", "-A")
        self.command("commit", "-qm", "next", "--allow-empty")
        commit = self.git.commit("small", str(self.folder / ".git"), "refs/heads/main")
        self.numbers += 1
        begun = runs.begin(
            self.numbers,
            commit,
            Occasion(kind="push"),
            Plan(stages=stages, python=PYTHON, **plan),
            NO_DIGEST,
            driver="server",
            is_trusted=True,
        )
        return begun.model_copy(update={"lock": self.blobs.put_files({"requirements.txt": lock})})

    def succeed(self, run: Run, name: str, *, reads: Sequence[str] = (), **outcome: Any) -> Run:
        """The run after its stage was executed, which is remembered."""
        stage = run.plan.stage(name)
        made = StageOutcome(phase=Phase.SUCCEEDED, because="well", reads=tuple(reads), **outcome)
        stage_run = StageRun(phase=Phase.SUCCEEDED, attempt=1, products=made.products)
        after = run.model_copy(update={"stages": {**run.stages, name: stage_run}})
        self.store.save(facts=self.lookups.facts_of(after, stage, made, 1.0))
        return after

    def because(self, run: Run, name: str = "train", baseline: Baseline | None = None) -> str:
        """Why the stage has to run; empty where it has not."""
        found = self.lookups.look_up(run, run.plan.stage(name), baseline)
        assert (found.hit is None) == bool(found.differences or found.because == "never ran before")
        return "" if found.hit else found.because


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


TRAIN = StagePlan(name="train", kind="stage", command="python train.py", outs=("model",))
FILES = {"train.py": "import helper\n", "helper.py": "x = 1\n", "data/a.csv": "1\n", "README.md": "# Small\n"}


def test_what_was_never_executed_runs_and_what_was_is_reused(world: World) -> None:
    run = world.run(FILES, TRAIN)
    assert world.because(run) == "never ran before"
    world.succeed(run, "train", reads=["train.py", "helper.py"])
    assert world.because(world.run({}, TRAIN)) == ""
    found = world.lookups.look_up(run, TRAIN, None)
    assert found.because == "reused from run 1"
    assert found.hit is not None
    assert found.hit.attempt == "1/train/1"


def test_only_files_that_were_read_matter(world: World) -> None:
    world.succeed(
        world.run({**FILES, "unread.py": "y = 2\n"}, TRAIN), "train", reads=["train.py", "helper.py", "data/a.csv"]
    )
    assert world.because(world.run({"README.md": "# Other\n", "unread.py": "y = 3\n"}, TRAIN)) == ""
    assert world.because(world.run({"data/a.csv": "2\n"}, TRAIN)) == "data/a.csv changed"
    assert world.because(world.run({"data/a.csv": "1\n"}, TRAIN)) == ""
    assert world.because(world.run({"helper.py": None}, TRAIN)) == "helper.py is gone"


def test_what_a_stage_says_it_read_outside_the_commit_is_no_input(world: World) -> None:
    run = world.run(FILES, TRAIN)
    world.succeed(run, "train", reads=["train.py", "../../etc/passwd", "never/was.py", "__pycache__/x.pyc"])
    found = world.lookups.look_up(run, TRAIN, None)
    assert found.hit is not None
    assert set(found.hit.reads) == {"train.py", "helper.py"}  # imported by the one that was read


def test_a_declared_file_counts_although_nobody_was_seen_to_read_it(world: World) -> None:
    stage = TRAIN.model_copy(update={"deps": ("data/a.csv",)})
    world.succeed(world.run(FILES, stage), "train")
    assert world.because(world.run({}, stage)) == ""
    assert world.because(world.run({"data/a.csv": "2\n"}, stage)) == "data/a.csv changed"


@pytest.mark.parametrize("dep", ["data", "data/"])
def test_a_declared_folder_counts_with_all_its_files_and_names(world: World, dep: str) -> None:
    stage = TRAIN.model_copy(update={"deps": (dep,)})
    files = {**FILES, "data/deep/b.csv": "1\n"}
    world.succeed(world.run(files, stage), "train")
    assert world.because(world.run({"docs/database.md": "1\n"}, stage)) == ""
    assert world.because(world.run({"data/deep/b.csv": "2\n"}, stage)) == "data/deep/b.csv changed"
    assert world.because(world.run({"data/deep/b.csv": "1\n"}, stage)) == ""
    assert world.because(world.run({"data/deep/b.csv": None}, stage)) == "data/deep/b.csv is gone; data/deep is gone"


@pytest.mark.parametrize("name", ["data/b.csv", "data/deep/b.csv", "data/deep/er/b.csv", "data/new/b.csv"])
def test_a_new_file_anywhere_in_a_declared_folder_is_a_change(world: World, name: str) -> None:
    stage = TRAIN.model_copy(update={"deps": ("data",)})
    world.succeed(world.run({**FILES, "data/deep/er/a.csv": "1\n"}, stage), "train")
    assert world.because(world.run({"tests/test_b.py": "1\n"}, stage)) == ""
    assert " is new" in world.because(world.run({name: "1\n"}, stage))


def test_a_stage_with_network_is_never_reused(world: World) -> None:
    stage = TRAIN.model_copy(update={"network": True})
    run = world.run(FILES, stage)
    world.succeed(run, "train", reads=["train.py"])
    assert "network" in world.because(run)


def test_only_declared_parameters_matter(world: World) -> None:
    def stage(depth: int) -> StagePlan:
        return TRAIN.model_copy(update={"params": {"train.depth": depth}})

    files = {**FILES, "params.yaml": "train: {depth: 3}\nother: 1\n"}
    world.succeed(world.run(files, stage(3)), "train", reads=["train.py", "params.yaml"])
    assert world.because(world.run({"params.yaml": "train: {depth: 3}\nother: 2\n"}, stage(3))) == ""
    changed = world.because(world.run({"params.yaml": "train: {depth: 4}\nother: 2\n"}, stage(4)))
    assert changed == "parameter train.depth: 3 -> 4"


def test_a_stage_that_declares_none_sees_the_whole_parameter_file(world: World) -> None:
    files = {**FILES, "params.yaml": "train: {depth: 3}\nother: 1\n"}
    world.succeed(world.run(files, TRAIN), "train", reads=["train.py", "params.yaml"])
    changed = world.because(world.run({"params.yaml": "train: {depth: 3}\nother: 2\n"}, TRAIN))
    assert changed == "params.yaml changed"


def test_command_variables_lock_and_platform_matter(world: World) -> None:
    world.succeed(world.run(FILES, TRAIN), "train", reads=["train.py"])
    assert "command" in world.because(world.run({}, TRAIN.model_copy(update={"command": "python train.py --fast"})))
    assert "env SEED" in world.because(world.run({}, TRAIN.model_copy(update={"env": {"SEED": "2"}})))
    assert world.because(world.run({}, TRAIN, lock=b"numpy==2.0\n")) == "numpy 2.0 is new"
    world.begin_anew(platform="there")
    assert "platform" in world.because(world.run({}, TRAIN))


def test_timeout_and_processors_do_not_matter(world: World) -> None:
    world.succeed(world.run(FILES, TRAIN), "train", reads=["train.py"])
    assert world.because(world.run({}, TRAIN.model_copy(update={"timeout": 5.0}))) == ""


EVALUATE = StagePlan(name="evaluate", kind="stage", command="python evaluate.py", deps=("model/",), needs=("train",))


def test_the_products_of_earlier_stages_are_inputs_by_content(world: World) -> None:
    one, two = (world.blobs.put_files({"m": content}) for content in (b"one", b"two"))
    run = world.succeed(world.run(FILES, TRAIN, EVALUATE), "train", products={"model": one})
    assert artifacts_for(run, EVALUATE) == {"model": one}
    world.succeed(run, "evaluate", reads=["helper.py", "model/m"])
    again = world.succeed(world.run({}, TRAIN, EVALUATE), "train", products={"model": one})
    assert world.because(again, "evaluate") == ""
    other = world.succeed(world.run({}, TRAIN, EVALUATE), "train", products={"model": two})
    assert world.because(other, "evaluate") == "model (from model) changed" or "model" in world.because(
        other, "evaluate"
    )


@pytest.mark.parametrize(
    ("dep", "product", "is_given"),
    [
        ("model/", "model", True),
        ("model", "model/", True),
        ("model/weights.bin", "model", True),
        ("out", "out/metrics.json", True),
        ("models", "model", False),
        ("model", "models", False),
        ("data/a.csv", "model", False),
    ],
)
def test_a_product_is_given_where_a_dependency_is_it_lies_in_it_or_holds_it(
    world: World, dep: str, product: str, is_given: bool
) -> None:
    reader = EVALUATE.model_copy(update={"deps": (dep,)})
    run = world.succeed(world.run(FILES, TRAIN, reader), "train", products={product: NO_DIGEST})
    assert artifacts_for(run, reader) == ({product: NO_DIGEST} if is_given else {})


def test_a_kept_product_that_is_torn_or_gone_is_made_again(world: World) -> None:
    run = world.run(FILES, TRAIN)
    digest = world.blobs.put_files({"m": b"weights"})
    world.succeed(run, "train", reads=["train.py"], products={"model": digest})
    assert world.because(run) == ""
    (content,) = world.blobs.files(digest).values()
    digits = content.removeprefix("blake3:")
    (world.artifacts / "files" / digits[:2] / digits[2:]).unlink()
    assert world.because(run) == "evicted: what it made in run 1 is not kept any more"
    world.blobs.put_files({"m": b"weights"})
    assert world.because(run) == ""


def test_a_kept_report_that_is_gone_is_measured_again(world: World) -> None:
    measure = StagePlan(name="served", kind="measure", builtin="served")
    run = world.run(FILES, measure, model=ModelPlan(name="small", path="model/", format="skops"))
    report = world.blobs.put_bytes(b'{"latency": 1}')
    world.succeed(run, "served", report=report)
    assert world.because(run, "served") == ""
    digits = report.removeprefix("blake3:")
    (world.artifacts / "files" / digits[:2] / digits[2:]).unlink()
    assert world.because(run, "served") == "evicted: what it made in run 1 is not kept any more"


def test_a_built_in_stage_is_run_anew_by_a_new_interlock_and_a_users_is_not(world: World) -> None:
    syntax = StagePlan(name="syntax", kind="check", builtin="syntax")
    run = world.run(FILES, TRAIN, syntax)
    world.succeed(run, "train", reads=["train.py"])
    world.succeed(run, "syntax", reads=["train.py"])
    world.begin_anew(program="p2")
    assert world.because(run, "train") == ""
    assert "program" in world.because(run, "syntax")


def test_the_data_probe_depends_on_what_the_file_says_of_the_data(world: World) -> None:
    probe = StagePlan(name="data", kind="data", builtin="data", deps=("data/a.csv",))
    one, two = (DataPlan(name="train", path="data/a.csv", id=column) for column in ("id", "flight"))
    run = world.run(FILES, probe, data=(one,))
    world.succeed(run, "data")
    assert world.because(run, "data") == ""
    assert "setting" in world.because(world.run({}, probe, data=(two,)), "data")


def test_what_is_measured_beside_production_is_measured_anew_beside_another(world: World) -> None:
    served = StagePlan(name="served", kind="measure", builtin="served")
    model = ModelPlan(name="small", path="model/", format="skops")
    compared = GatePlan(metric="startup_ms", against="production", max_ratio=1.2)
    run = world.run(FILES, served, model=model, gates=(compared,))

    def baseline(name: str) -> Baseline:
        kept = world.blobs.put_bytes(name.encode())
        return Baseline(name=name, model=kept, lock=NO_DIGEST, format="skops")

    with_one = run.model_copy(update={"baseline": baseline("small v1")})
    world.succeed(with_one, "served")
    assert world.because(with_one, "served", baseline("small v1")) == ""
    assert "production" in world.because(run, "served", baseline("small v2"))
    assert world.because(run, "served", None) != ""

    alone = world.run({}, served, model=model, gates=(GatePlan(metric="startup_ms", max=900.0),))
    world.succeed(alone.model_copy(update={"baseline": baseline("small v1")}), "served")
    assert world.because(alone, "served", baseline("small v2")) == ""  # no gate asks what production is like


def test_each_project_of_a_repository_sees_its_own_files(world: World) -> None:
    files = {"a/train.py": "x = 1\n", "b/train.py": "x = 1\n"}
    in_a = world.run(files, TRAIN, project="a")
    world.succeed(in_a, "train", reads=["train.py"])
    assert world.because(world.run({"b/train.py": "x = 2\n"}, TRAIN, project="a")) == ""
    assert world.because(world.run({"a/train.py": "x = 2\n"}, TRAIN, project="a")) == "train.py: variable x: 1 -> 2"
    assert set(world.lookups.project_paths(in_a.commit, "a")) == {"train.py"}
    assert world.lookups.read_project(in_a.commit, "b", ["train.py", "nothing.py"]) == {"train.py": b"x = 1\n"}


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_many_threads_that_look_at_many_commits_do_not_stumble(
    world: World, hasty_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = [world.run({"train.py": f"x = {number}\n"}, TRAIN).commit for number in range(TREES_KEPT + 4)]
    trees = {commit.tree: {} for commit in commits}
    monkeypatch.setattr(world.git, "tree", lambda commit: trees[commit.tree])
    troubles: list[Exception] = []

    def look() -> None:
        try:
            for turn in range(4000):
                world.lookups.project_paths(commits[turn % len(commits)], "")
        except (KeyError, RuntimeError) as trouble:
            troubles.append(trouble)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []

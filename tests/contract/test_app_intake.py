"""From what git says to runs: every way a ref can move, several pipeline files, odd names, and many lookers at once."""

import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.workshop import NamedEnvironments

from interlock.control.arriving.seen import Repository
from interlock.control.rows import read_state
from interlock.control.running.intake import Intake
from interlock.control.running.lookups import Lookups
from interlock.edges.blobs import MemoryBlobs
from interlock.edges.git import CommandGit
from interlock.edges.store import MemoryStore, SqlStore
from interlock.errors import GitFault, Refused, StaleWrite
from interlock.run.run import Run
from interlock.source.commit import Commit
from interlock.source.notice import Notice
from interlock.source.repository import Watched
from interlock.vocabulary import Kind, Phase, Row, Write

PIPELINE = "version: 1\nchecks: []\nstages:\n  train: {cmd: python train.py, outs: [model/]}\n"


class World:
    """A bare repository with a clone to push from, and an intake that looks at it."""

    def __init__(self, folder: Path, store: MemoryStore | SqlStore) -> None:
        self.origin = folder / "small.git"
        self.clone = folder / "clone"
        self.store = store
        self.git = CommandGit(folder / "snapshots")
        self.watched = Watched(name="small", git_directory=str(self.origin))
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.origin], check=True)
        subprocess.run(["git", "clone", "-q", self.origin, self.clone], check=True, capture_output=True)
        self.command("checkout", "-q", "-b", "main")
        self.write({"interlock.yaml": PIPELINE, "train.py": "x = 1\n", "requirements.txt": ""})
        self.intake = self.make_intake(store)

    def make_intake(self, store: MemoryStore | SqlStore) -> Intake:
        blobs = MemoryBlobs()
        lookups = Lookups(store, self.git, blobs, NamedEnvironments(), platform="p", program="q")
        return Intake(store, self.git, blobs, NamedEnvironments(), lookups)

    def command(self, *words: str | bytes) -> str:
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        done = subprocess.run(["git", *who, *words], cwd=self.clone, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.clone / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def commit(self, message: str = "next") -> str:
        self.command("add", "-A")
        self.command("commit", "-qm", message, "--allow-empty")
        return self.command("rev-parse", "HEAD")

    def push(self, *words: str) -> None:
        self.command("push", "-q", "origin", *(words or ("HEAD:main",)))

    def sync(self, *notices: Notice) -> list[Run]:
        return self.intake.look(self.watched, notices)

    def runs(self) -> list[Run]:
        return [read_state(row, Run) for row in self.store.rows(Kind.RUN)]

    def known_refs(self) -> dict[str, str]:
        (row,) = self.store.rows(Kind.REPOSITORY)
        return read_state(row, Repository).refs


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, MemoryStore(lambda: 0.0))


# --- how refs move ---


def test_an_empty_repository_begins_nothing_and_its_first_push_does(world: World) -> None:
    assert world.sync() == []
    sha = world.commit("first")
    world.push()
    (run,) = world.sync()
    assert (run.commit.sha, run.commit.ref, run.commit.subject) == (sha, "refs/heads/main", "first")
    assert run.phase is Phase.QUEUED
    assert run.is_trusted
    assert world.sync() == []


def test_a_force_push_runs_exactly_what_the_branch_is_now(world: World) -> None:
    first = world.commit("first")
    world.push()
    world.sync()
    world.commit("second")
    world.push()
    world.sync()
    world.command("reset", "-q", "--hard", first)
    other = world.commit("other")
    world.push("-f", "HEAD:main")
    (run,) = world.sync()
    assert run.commit.sha == other
    world.push("-f", f"{first}:main")  # back to what had a run before: that is a new occasion
    (again,) = world.sync()
    assert again.commit.sha == first
    assert [run.commit.subject for run in world.runs()] == ["first", "second", "other", "first"]


def test_a_push_of_many_commits_runs_the_newest_alone(world: World) -> None:
    for number in range(5):
        world.commit(f"number {number}")
    world.push()
    (run,) = world.sync()
    assert run.commit.subject == "number 4"


def test_a_deleted_branch_begins_nothing_and_is_recorded(world: World) -> None:
    world.commit()
    world.push()
    world.push("HEAD:feature")
    world.sync()
    before = len(world.runs())
    world.push("--delete", "feature")
    assert world.sync() == []
    assert set(world.known_refs()) == {"refs/heads/main"}
    assert world.store.events(Kind.REPOSITORY)[-1].because == "feature was deleted"
    assert len(world.runs()) == before


def test_a_branch_that_was_deleted_and_pushed_again_runs_again(world: World) -> None:
    world.commit()
    world.push()
    world.sync()
    subprocess.run(["git", "-C", world.origin, "update-ref", "-d", "refs/heads/main"], check=True)
    assert world.sync() == []
    world.push()
    assert len(world.sync()) == 1
    assert len(world.runs()) == 2


def test_tags_that_no_pipeline_file_names_and_other_refs_begin_nothing(world: World) -> None:
    world.commit()
    world.push()
    world.sync()
    world.command("tag", "-a", "v1", "-m", "one")
    world.push("v1")
    world.push("HEAD:refs/notes/x", "HEAD:refs/pull/7/head")
    assert world.sync() == []
    assert len(world.runs()) == 1


def test_a_branch_with_an_odd_name_is_no_trusted_one(world: World) -> None:
    world.commit()
    for name in ("main2", "xmain", "Main", "ma\u0456n", "--x", "ü"):
        world.push(f"HEAD:refs/heads/{name}")
    assert [run.commit.ref for run in world.sync() if run.is_trusted] == []


def test_a_pipeline_file_may_name_the_branches_that_run_and_cannot_make_them_trusted(world: World) -> None:
    world.sync()
    world.write({"interlock.yaml": "on: {push: {branches: [main, feature]}}\n" + PIPELINE})
    world.commit()
    world.push("HEAD:feature")
    (run,) = world.sync()
    assert not run.is_trusted
    world.push("HEAD:other")
    assert world.sync() == []


def test_a_ref_that_vanishes_while_it_is_looked_at_holds_nothing_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.commit()
    world.push()
    refs = world.git.refs(str(world.origin))
    ghost = {**refs, "refs/heads/ghost": "0" * 40}
    monkeypatch.setattr(world.git, "refs", lambda _: ghost)
    (run,) = world.sync()
    assert run.commit.ref == "refs/heads/main"
    monkeypatch.undo()
    assert world.sync() == []
    assert world.known_refs() == refs


def test_a_ref_that_moves_while_it_is_looked_at_runs_each_commit_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.commit("first")
    world.push()
    before = world.git.refs(str(world.origin))
    second = world.commit("second")
    world.push()
    monkeypatch.setattr(world.git, "refs", lambda _: before)
    assert [run.commit.sha for run in world.sync()] == [first]
    monkeypatch.undo()
    assert [run.commit.sha for run in world.sync()] == [second]
    assert world.sync() == []


def test_a_repository_that_is_gone_is_a_fault_and_forgets_nothing(world: World) -> None:
    world.commit()
    world.push()
    world.sync()
    world.origin.rename(world.origin.with_name("away"))
    with pytest.raises(GitFault):
        world.sync()
    world.origin.with_name("away").rename(world.origin)
    assert world.sync() == []
    assert len(world.runs()) == 1


# --- what a commit holds ---


def test_each_pipeline_file_of_a_commit_gets_its_own_run(world: World) -> None:
    world.write({f"models/{name}/{file}": text for name in "ab" for file, text in model_files(name).items()})
    world.commit()
    world.push()
    begun = world.sync()
    assert {run.plan.project for run in begun} == {"", "models/a", "models/b"}
    assert len({run.number for run in begun}) == 3
    assert len(world.runs()) == 3
    assert world.sync() == []


def model_files(name: str) -> dict[str, str]:
    return {"interlock.yaml": PIPELINE, "train.py": f"name = {name!r}\n", "requirements.txt": ""}


def test_of_several_pipeline_files_a_broken_one_is_told_and_the_others_run(world: World) -> None:
    world.write({f"a/{file}": text for file, text in model_files("a").items()})
    world.write({"b/interlock.yaml": "version: 1\nstagez: {}\n"})
    world.commit()
    world.push()
    phases = {(run.phase, run.problems[0].path if run.problems else run.plan.project) for run in world.sync()}
    assert phases == {(Phase.QUEUED, ""), (Phase.QUEUED, "a"), (Phase.FAILED, "b/interlock.yaml")}


def test_several_broken_pipeline_files_are_each_told(world: World) -> None:
    for name in "abc":
        world.write({f"{name}/interlock.yaml": "version: 1\nstagez: {}\n"})
    world.write({"interlock.yaml": "version: 2\n"})
    world.commit()
    world.push()
    begun = world.sync()
    assert [run.phase for run in begun] == [Phase.FAILED] * 4
    assert {run.problems[0].path for run in world.runs()} == {
        "interlock.yaml",
        "a/interlock.yaml",
        "b/interlock.yaml",
        "c/interlock.yaml",
    }
    assert world.sync() == []


def test_a_commit_without_a_pipeline_file_begins_nothing(world: World) -> None:
    (world.clone / "interlock.yaml").unlink()
    world.commit()
    world.push()
    assert world.sync() == []
    assert set(world.known_refs()) == {"refs/heads/main"}


def test_a_broken_pipeline_file_on_an_untrusted_branch_is_nobodys_run(world: World) -> None:
    world.write({"interlock.yaml": "version: 1\nstagez: {}\n"})
    world.commit()
    world.push("HEAD:feature")
    assert world.sync() == []


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("interlock.yaml", "a: &x [1]\nb: *x\n", "anchor"),
        ("interlock.yaml", "stages: {train: {cmd: x, cmd: y}}\nversion: 1\n", "twice"),
        ("params.yaml", "train: [1\n", "params.yaml"),
        ("interlock.yaml", PIPELINE.replace("outs: [model/]", "outs: [model/], params: [train.depth]"), "train.depth"),
        ("interlock.yaml", PIPELINE.replace("outs: [model/]", "outs: [../model]"), "../model"),
    ],
)
def test_what_cannot_be_planned_is_a_failed_run_with_its_reason(world: World, name: str, text: str, word: str) -> None:
    if name == "params.yaml":
        world.write({"interlock.yaml": PIPELINE.replace("outs: [model/]", "outs: [model/], params: [train]")})
    world.write({name: text})
    world.commit()
    world.push()
    (run,) = world.sync()
    assert run.phase is Phase.FAILED
    assert word in " ".join(str(problem) for problem in run.problems)
    assert world.runs()[0].phase is Phase.FAILED


def test_a_missing_lock_is_a_failed_run_that_says_what_to_commit(world: World) -> None:
    (world.clone / "requirements.txt").unlink()
    world.write({"interlock.yaml": "python: {lock: uv.lock}\n" + PIPELINE})
    world.commit()
    world.push()
    (run,) = world.sync()
    assert run.phase is Phase.FAILED
    assert "uv.lock" in run.because


def test_a_file_name_that_is_no_text_is_a_failed_run_and_other_branches_go_on(world: World) -> None:
    world.commit()
    world.push("HEAD:refs/heads/release")
    blob = world.command("hash-object", "-w", "train.py")
    index = f"100644 {blob}\todd-".encode() + b"\xff\xfe.csv\n"
    subprocess.run(["git", "update-index", "--index-info"], cwd=world.clone, input=index, check=True)
    world.command("commit", "-qm", "odd name")
    world.push()
    begun = {
        run.commit.ref: run
        for run in world.intake.look(world.watched.model_copy(update={"trusted": ("main", "release")}))
    }
    assert begun["refs/heads/main"].phase is Phase.FAILED
    assert "not UTF-8" in begun["refs/heads/main"].because
    assert world.sync() == []
    (world.clone / "x").write_text("x")
    world.command("reset", "-q", "--hard", "HEAD~1")
    world.commit("mended")
    world.push("-f", "HEAD:main")
    (mended,) = world.sync()
    assert mended.phase is Phase.QUEUED


# --- many who look at once ---


@pytest.mark.parametrize("is_first_look", [True, False])
def test_a_poll_and_a_hook_that_race_begin_one_run(tmp_path: Path, is_first_look: bool) -> None:
    store = SqlStore(f"sqlite:///{tmp_path / 'interlock.db'}")
    world = World(tmp_path, store)
    if not is_first_look:
        world.sync()
    world.commit()
    world.push()
    gate = threading.Barrier(20, timeout=30)
    begun: list[Run] = []
    troubles: list[Exception] = []

    def look() -> None:
        gate.wait()
        try:
            begun.extend(world.sync())
        except Exception as trouble:  # noqa: BLE001 - whatever it is, no look may end with it
            troubles.append(trouble)

    threads = [threading.Thread(target=look) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert len(begun) == len(world.runs()) == 1
    assert world.sync() == []
    store.close()


class Restless(MemoryStore):
    """Somebody else moves the repository's row before each save."""

    def save(self, *writes: Write) -> tuple[Row, ...]:
        raise StaleWrite("somebody was first")


def test_who_always_loses_gives_up_with_a_fault_and_begins_nothing(world: World) -> None:
    world.commit()
    world.push()
    store = Restless(lambda: 0.0)
    with pytest.raises(StaleWrite, match="by others"):
        world.make_intake(store).look(world.watched)
    assert store.rows(Kind.RUN) == []


# --- local runs ---


def test_two_local_runs_of_one_tree_are_two_runs(world: World) -> None:
    tree = world.git.snapshot(str(world.clone))
    for moment in (1.0, 2.0):
        world.intake.begin_local(tree, "", {}, "local:1", moment)
    assert len(world.runs()) == 2
    assert not any(run.is_trusted for run in world.runs())


def test_a_tree_without_a_pipeline_file_is_refused_with_what_writes_one(world: World) -> None:
    (world.clone / "interlock.yaml").unlink()
    tree: Commit = world.git.snapshot(str(world.clone))
    with pytest.raises(Refused, match="interlock init"):
        world.intake.begin_local(tree, "", {}, "local:1", 1.0)
    assert world.runs() == []

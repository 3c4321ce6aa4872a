"""A note answers for a run only while nothing that decided it has changed: every kind of change, alone and mixed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.app.local import Unsigned
from interlock.app.parts import Parts
from interlock.app.standing import leaving
from interlock.app.standing.leaving import leave_note
from interlock.app.standing.note import FOLDER, recall
from interlock.pipeline.plan import Plan, StagePlan
from interlock.run.run import Run, StageRun, begin
from interlock.source.commit import Occasion
from interlock.system.signatures import COARSE_NANOSECONDS, FINE_NANOSECONDS, SECOND, Moment, are_settled, sign
from interlock.vocabulary import Digest, Phase

OPTIONS = {"overrides": ("train.depth=3",)}
FILES = {
    ".gitignore": "build/\ndata/\n*.log\n",
    "interlock.yaml": "version: 1\n",
    "uv.lock": "version = 1\n",
    "src/train.py": "print(1)\n",
    "src/deep/helper.py": "x = 1\n",
    "build/kept.py": "ignored\n",
    "data/rows.csv": "1\n2\n",
    "data/more/rows.csv": "3\n",
}
INCLUDE = ["data/", "src/train.py"]
NOTHING: Mapping[str, str] = MappingProxyType({})
SETTLED = FINE_NANOSECONDS / SECOND + 0.05


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    subprocess.run(["git", *identity, *words], cwd=folder, env=environment, check=True, capture_output=True)


class Project:
    """A project folder and a state folder with what one finished run left."""

    def __init__(self, place: Path, is_repository: bool = True) -> None:
        self.folder = place / "outer" / "project"
        self.state = place / "state"
        for name, text in FILES.items():
            self.write(name, text)
        if is_repository:
            git(self.folder.parent, "init", "-q")
            git(self.folder.parent, "add", ".")
        self.parts = Parts.open(self.state, lambda: None, Unsigned(), places=None)
        self.product = self.parts.blobs.put(str(self.folder / "src"))
        self.report = self.parts.blobs.put_bytes(b"{}")
        time.sleep(SETTLED)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def tree(self) -> str:
        return self.parts.git.snapshot(str(self.folder), INCLUDE).tree

    def run(
        self, meanwhile: Callable[[], None] = lambda: None, sources: Mapping[str, str] = NOTHING, **changes: object
    ) -> str:
        """One run from its snapshot to its note; the tree of the snapshot. ``sources`` are those of data elsewhere."""
        began = Moment.now()
        commit = self.parts.git.snapshot(str(self.folder), INCLUDE)
        fetched = {"sources": dict(sources), "outs": tuple(sources)}
        train = StagePlan(name="train", kind="stage", command="true", deps=("data/",), **fetched)
        plan = Plan(stages=(train,))
        run = begin(
            7, commit, Occasion(kind="local"), plan, Digest("blake3:" + "ab" * 32), driver="d", is_trusted=False
        )
        stage = StageRun(phase=Phase.SUCCEEDED, attempt=1, products={"src": self.product}, report=self.report)
        run = run.model_copy(update={"phase": Phase.SUCCEEDED, "stages": {"train": stage}, **changes})
        conditions = self.parts.git.conditions(str(self.folder), INCLUDE, commit)
        meanwhile()
        leave_note(self.parts, self.folder, lambda: conditions, OPTIONS, run, began)
        return commit.tree

    def recall(self, options: dict[str, object] = OPTIONS) -> dict[str, object] | None:
        return recall(self.state, self.folder, options)

    def close(self) -> None:
        self.parts.close()


@pytest.fixture(params=[True, False], ids=["repository", "plain-folder"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path, request.param)
    yield made
    made.close()


def test_a_run_stands_while_nothing_changes_and_what_it_made_is_kept_as_used(project: Project) -> None:
    project.run()
    place = project.parts.blobs.places(project.report)[0]
    os.utime(place, ns=(0, 0))
    found = project.recall()
    assert found is not None
    assert found["number"] == 7
    stage = Run.model_validate(found).stages["train"]
    assert (stage.reused, stage.attempt, stage.products) == ("7/train/1", 0, {"src": project.product})
    assert Path(place).stat().st_mtime > time.time() - 60


def test_reading_and_what_is_ignored_change_nothing(project: Project) -> None:
    project.run()
    (project.folder / "src/train.py").read_text()
    list((project.folder / "src").iterdir())
    project.write("build/kept.py", "something else")
    project.write("build/new/deep.py", "new")
    if (project.folder.parent / ".git").exists():
        git(project.folder, "log", "--all")
    assert project.recall() is not None


def lake_of(project: Project) -> Path:
    """Data that git ignores, and data elsewhere, both settled."""
    lake = project.folder.parent.parent / "lake"
    for place in (lake / "rows.csv", lake / "deep" / "more.csv", project.folder / "build/rows.csv"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("1\n")
    time.sleep(SETTLED)
    return lake


@pytest.mark.parametrize("edited", ["rows.csv", "deep/more.csv", "deep/new.csv", "own", "own time", "gone"])
def test_data_that_no_commit_holds_is_part_of_what_decided(project: Project, edited: str) -> None:
    lake = lake_of(project)
    project.run(sources={"rows": str(lake), "build/rows.csv": "build/rows.csv"})
    assert project.recall() is not None
    own = project.folder / "build/rows.csv"
    before = own.stat()
    if edited == "gone":
        shutil.rmtree(lake / "deep")
    elif edited.startswith("own"):
        own.write_text("2\n")
        os.utime(own, ns=(before.st_atime_ns, before.st_mtime_ns if edited == "own time" else before.st_mtime_ns + 1))
    else:
        (lake / edited).write_text("2\n")
    assert project.recall() is None


@pytest.mark.parametrize("home", ["s3://lake/rows.csv", "rows.csv.dvc", "linked"])
def test_data_that_the_file_system_cannot_vouch_for_leaves_no_note(project: Project, home: str) -> None:
    lake = lake_of(project)
    (lake / "linked").symlink_to(lake / "deep")
    project.run(sources={"rows": str(lake / home) if home == "linked" else home})
    assert project.recall() is None
    project.run(sources={"rows": str(lake)})
    assert project.recall() is None, "there is a link in it"


def same_size_same_time(project: Project) -> None:
    path = project.folder / "src/train.py"
    before = path.stat()
    path.write_text("print(2)\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swapped_for_a_copy(project: Project) -> None:
    path = project.folder / "src/train.py"
    other = project.folder.parent / "other"
    other.write_text("print(3)\n")
    shutil.copystat(path, other)
    other.replace(path)


def link_instead(project: Project) -> None:
    path = project.folder / "src/train.py"
    path.unlink()
    path.symlink_to("deep/helper.py")


def folder_becomes_a_link(project: Project) -> None:
    (project.folder / "src/deep").rename(project.folder.parent / "deep")
    (project.folder / "src/deep").symlink_to("../../deep")


CHANGES: dict[str, Callable[[Project], object]] = {
    "edited": lambda p: p.write("src/train.py", "print(22)\n"),
    "same size, time set back": same_size_same_time,
    "another file with the same times": swapped_for_a_copy,
    "executable": lambda p: (p.folder / "src/train.py").chmod(0o755),
    "new file": lambda p: p.write("src/deep/new.py", ""),
    "new file in a new folder": lambda p: p.write("fresh/new.py", ""),
    "removed": lambda p: (p.folder / "src/deep/helper.py").unlink(),
    "renamed": lambda p: (p.folder / "src/train.py").rename(p.folder / "src/other.py"),
    "a link instead": link_instead,
    "a folder is a link": folder_becomes_a_link,
    "ignored data edited": lambda p: p.write("data/rows.csv", "1\n3\n"),
    "ignored data added": lambda p: p.write("data/more/other.csv", "1\n"),
    "ignored data removed": lambda p: shutil.rmtree(p.folder / "data/more"),
    "ignore rules": lambda p: p.write(".gitignore", "data/\n"),
    "ignore rules further down": lambda p: p.write("src/.gitignore", "train.py\n"),
    "the lock": lambda p: p.write("uv.lock", "version = 2\n"),
    "the pipeline file": lambda p: p.write("interlock.yaml", "version: 1 # or so\n"),
    "a repository within": lambda p: (p.folder / "src/.git").mkdir(),
    "a product is gone": lambda p: Path(p.parts.blobs.places(p.product)[0]).unlink(),
    "a product's folder is gone": lambda p: Path(p.parts.blobs.places(p.product)[-1]).unlink(),
    "a report is gone": lambda p: Path(p.parts.blobs.places(p.report)[0]).unlink(),
    "the database is another": lambda p: (
        shutil.copy(p.state / "interlock.db", p.state / "copy") and (p.state / "copy").replace(p.state / "interlock.db")
    ),
    "settings": lambda p: (p.state / "server.yaml").write_text("retention: {}\n"),
    "a torn note": lambda p: next((p.state / FOLDER).iterdir()).write_bytes(b"00000000{}"),
    "the note cut short": lambda p: os.truncate(next((p.state / FOLDER).iterdir()), 500),
}


@pytest.mark.parametrize("change", list(CHANGES.values()), ids=list(CHANGES))
def test_whatever_changes_takes_the_long_way(project: Project, change: Callable[[Project], object]) -> None:
    project.run()
    assert project.recall() is not None
    change(project)
    assert project.recall() is None


REPOSITORY_CHANGES: dict[str, Callable[[Path], object]] = {
    "ignore rules above": lambda top: (top / ".gitignore").write_text("helper.py\n"),
    "ignore rules of this clone": lambda top: (top / ".git/info/exclude").write_text("train.py\n"),
    "settings of this clone": lambda top: git(top, "config", "core.excludesFile", "/tmp/none"),
    "an ignored file is tracked": lambda top: git(top, "add", "-f", "project/build/kept.py"),
    "a file is tracked no more": lambda top: git(top, "rm", "-q", "--cached", "project/src/train.py"),
    "no repository any more": lambda top: shutil.rmtree(top / ".git"),
    "a repository of its own": lambda top: git(top / "project", "init", "-q"),
}


@pytest.mark.parametrize("change", list(REPOSITORY_CHANGES.values()), ids=list(REPOSITORY_CHANGES))
def test_what_git_counts_takes_the_long_way(tmp_path: Path, change: Callable[[Path], object]) -> None:
    project = Project(tmp_path)
    project.run()
    assert project.recall() is not None
    change(project.folder.parent)
    assert project.recall() is None
    project.close()


def test_a_plain_folder_that_becomes_part_of_a_repository_takes_the_long_way(tmp_path: Path) -> None:
    project = Project(tmp_path, is_repository=False)
    project.run()
    assert project.recall() is not None
    git(project.folder.parent, "init", "-q")
    assert project.recall() is None
    project.close()


def test_a_tracked_file_in_an_ignored_folder_counts(tmp_path: Path) -> None:
    project = Project(tmp_path)
    git(project.folder, "add", "-f", "build/kept.py")
    time.sleep(SETTLED)
    before = project.run()
    assert project.recall() is not None
    project.write("build/kept.py", "another")
    assert project.tree() != before
    assert project.recall() is None
    project.close()


@pytest.mark.parametrize("options", [{"overrides": ()}, {"overrides": ("train.depth=4",)}, {}])
def test_other_options_take_the_long_way(project: Project, options: dict[str, object]) -> None:
    project.run()
    assert project.recall(options) is None
    assert project.recall() is not None


def test_another_folder_with_the_same_content_takes_the_long_way(project: Project) -> None:
    project.run()
    copy = project.folder.parent / "copy"
    shutil.copytree(project.folder, copy, symlinks=True)
    assert recall(project.state, copy, OPTIONS) is None


@pytest.mark.parametrize("name", ["PATH", "UV_INDEX_URL", "INTERLOCK_DATABASE", "PYTHONPATH", "XDG_CONFIG_HOME"])
def test_another_variable_that_counts_takes_the_long_way(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    project.run()
    monkeypatch.setenv("SOME_SESSION", "other")
    assert project.recall() is not None
    monkeypatch.setenv(name, os.environ.get(name, "") + "/elsewhere")
    assert project.recall() is None


def test_another_interlock_takes_the_long_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "package"
    (own / "edges").mkdir(parents=True)
    (own / "edges/one.py").write_text("x = 1\n")
    monkeypatch.setattr(leaving, "PACKAGE", own)
    project = Project(tmp_path)
    project.run()
    assert project.recall() is not None
    (own / "edges/two.py").write_text("y = 1\n")
    assert project.recall() is None
    time.sleep(SETTLED)
    project.run()
    assert project.recall() is not None
    (own / "edges/one.py").write_text("x = 2\n")
    assert project.recall() is None
    project.close()


@pytest.mark.parametrize("change", [CHANGES["edited"], CHANGES["new file"], CHANGES["ignored data edited"]])
def test_what_changes_while_a_run_goes_on_leaves_no_note(project: Project, change: Callable[[Project], object]) -> None:
    project.run(meanwhile=lambda: change(project))
    assert project.recall() is None


def test_what_was_written_just_before_leaves_no_note_yet(project: Project) -> None:
    project.write("src/train.py", "print(4)\n")
    project.run()
    assert project.recall() is None
    time.sleep(SETTLED)
    project.run()
    assert project.recall() is not None


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.ERRORED, Phase.HELD, Phase.CANCELLED])
def test_only_success_leaves_a_note(project: Project, phase: Phase) -> None:
    project.run(phase=phase)
    assert project.recall() is None


def test_old_notes_go(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run()
    note = next((project.state / FOLDER).iterdir())
    for number in range(5):
        (note.parent / f"old{number}").write_bytes(b"")
        os.utime(note.parent / f"old{number}", (number, number))
    monkeypatch.setattr(leaving, "MOST_NOTES", 3)
    project.run()
    assert sorted(path.name for path in note.parent.iterdir()) == sorted([note.name, "old3", "old4"])


def test_a_clock_that_was_set_tells_nothing() -> None:
    hour, tick = 3600 * SECOND, FINE_NANOSECONDS // 2
    began = Moment(wall=10 * hour + 5, running=hour)
    old = sign(["/"])
    old[5] = 9 * hour + 1
    assert are_settled(old, began, Moment(began.wall + SECOND, began.running + SECOND))
    assert are_settled(old, began, Moment(began.wall + SECOND + tick, began.running + SECOND))
    assert not are_settled(old, began, Moment(began.wall - hour, began.running + SECOND))
    assert not are_settled(old, began, Moment(began.wall + hour, began.running + SECOND))


@pytest.mark.parametrize(
    ("before", "is_settled"),
    [
        (FINE_NANOSECONDS + 1, True),
        (FINE_NANOSECONDS - 1, False),
        (0, False),
        (-SECOND, False),  # in the future: the clock was set back
        (SECOND, False),  # whole seconds: perhaps a file system that keeps no finer times
        (COARSE_NANOSECONDS + SECOND * 9 // 10, True),
    ],
)
def test_a_time_close_to_the_beginning_is_not_settled(before: int, is_settled: bool) -> None:
    began = Moment(wall=10**6 * SECOND, running=0)
    signature = sign(["/"])
    signature[5] = began.wall - before
    assert are_settled(signature, began, Moment(began.wall + 5, 5)) is is_settled


PATHS = ["a.py", "src/b.py", "src/deep/c.py", "data/d.csv", "build/e.py", "f.log", ".gitignore", "src/.gitignore"]
EDITS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(PATHS), st.sampled_from(["", "x\n", "y\n", "*.py\n", "deep/\n"])),
    st.tuples(st.just("remove"), st.sampled_from(PATHS), st.none()),
    st.tuples(st.just("touch"), st.sampled_from(PATHS), st.none()),
    st.tuples(st.just("link"), st.sampled_from(PATHS), st.sampled_from(PATHS)),
    st.tuples(st.just("track"), st.sampled_from(PATHS), st.none()),
)


def edit(project: Project, kind: str, name: str, more: str | None) -> None:
    path = project.folder / name
    if kind == "write":
        if path.is_symlink():
            path.unlink()
        project.write(name, more or "")
    elif kind == "remove":
        path.unlink(missing_ok=True)
    elif kind == "touch" and path.is_file():
        os.utime(path)
    elif kind == "link" and name != more:
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(project.folder / str(more), path.parent))
    elif kind == "track" and os.path.lexists(path):
        git(project.folder, "add", "-f", name)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(EDITS, max_size=4), after=st.lists(EDITS, max_size=3), is_repository=st.booleans())
def test_a_note_never_answers_for_another_tree(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[str, str, str | None]],
    after: list[tuple[str, str, str | None]],
    is_repository: bool,
) -> None:
    """Whatever was there and whatever is done: where a note answers, a snapshot taken anew is the same tree."""
    project = Project(tmp_path_factory.mktemp("any"), is_repository)
    try:
        for kind, name, more in before:
            if is_repository or kind != "track":
                edit(project, kind, name, more)
        time.sleep(SETTLED)
        ran = project.run()
        if not any(kind == "link" for kind, _, _ in before):
            assert project.recall() is not None
        for kind, name, more in after:
            if is_repository or kind != "track":
                edit(project, kind, name, more)
        if project.recall() is not None:
            assert project.tree() == ran
    finally:
        project.close()


def test_what_may_not_be_looked_at_has_a_signature_of_its_own(tmp_path: Path) -> None:
    """A search path may have folders of somebody else's."""
    program = tmp_path / "closed" / "git"
    program.parent.mkdir()
    program.touch()
    program.parent.chmod(0)
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        denied = sign([str(program)])
    finally:
        os.seteuid(user)
    program.parent.chmod(0o700)
    assert len({tuple(one) for one in (denied, sign([str(program)]), sign([str(program.parent / "none")]))}) == 3
    assert are_settled(denied, now := Moment.now(), now)

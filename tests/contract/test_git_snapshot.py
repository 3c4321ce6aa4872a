"""The working tree as it is now, without touching the user's own repository."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from interlock.edges.git import CommandGit
from interlock.edges.git.snapshots import LARGE_BYTES
from interlock.errors import NotFound, Refused


def run(folder: Path, *words: str) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org",
    }
    ended = subprocess.run(["git", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return ended.stdout.strip()


def write(folder: Path, files: dict[str, str]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


@pytest.fixture
def git(tmp_path: Path) -> CommandGit:
    return CommandGit(tmp_path / "state")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = write(tmp_path / "flights", {"train.py": "one", "README.md": "text"})
    run(folder, "init", "-q")
    run(folder, "add", "-A")
    run(folder, "commit", "-q", "-m", "first")
    return folder


def files(git: CommandGit, folder: Path, *include: str) -> dict[str, str]:
    commit = git.snapshot(str(folder), include)
    paths = list(git.tree(commit))
    return {path: content.decode() for path, content in git.read(commit, paths).items()}


def test_uncommitted_and_untracked_files_are_in_it(git: CommandGit, repository: Path) -> None:
    write(repository, {"train.py": "two", "new/file.py": "new"})
    (repository / "README.md").unlink()
    assert files(git, repository) == {"train.py": "two", "new/file.py": "new"}


def test_it_looks_like_a_commit(git: CommandGit, repository: Path, tmp_path: Path) -> None:
    commit = git.snapshot(str(repository))
    assert (commit.repository, commit.ref) == ("flights", "worktree")
    assert commit.sha == commit.tree == run(repository, "rev-parse", "HEAD^{tree}")
    assert Path(commit.git_directory).is_relative_to(tmp_path / "state")
    git.export(commit, str(tmp_path / "out"))
    assert (tmp_path / "out" / "train.py").read_text() == "one"


def test_the_users_repository_is_not_touched(git: CommandGit, repository: Path) -> None:
    write(repository, {"train.py": "two", "new.py": "new", "staged.py": "staged"})
    run(repository, "add", "staged.py")

    def everything() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}

    before = everything()
    git.snapshot(str(repository))
    assert everything() == before


def test_it_follows_every_kind_of_change(git: CommandGit, tmp_path: Path) -> None:
    folder = write(tmp_path / "plain", {"a": "1", "b/c": "2", "d": "3"})
    assert files(git, folder) == {"a": "1", "b/c": "2", "d": "3"}
    write(folder, {"a": "9"})  # same size, maybe the same moment
    assert files(git, folder) == {"a": "9", "b/c": "2", "d": "3"}
    (folder / "b/c").unlink()
    (folder / "b").rmdir()
    write(folder, {"b": "a file now"})
    (folder / "d").unlink()
    write(folder, {"d/e": "a folder now"})
    assert files(git, folder) == {"a": "9", "b": "a file now", "d/e": "a folder now"}
    (folder / "a").chmod(0o755)
    assert git.tree(git.snapshot(str(folder)))["a"].mode == "100755"


def test_the_same_content_has_the_same_id(git: CommandGit, tmp_path: Path) -> None:
    content = {"a": "1", "b/c": "2"}
    one, two = write(tmp_path / "one", content), write(tmp_path / "two", content)
    assert git.snapshot(str(one)).sha == git.snapshot(str(two)).sha == git.snapshot(str(one)).sha


def test_an_empty_folder(git: CommandGit, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert files(git, tmp_path / "empty") == {}


def test_a_folder_that_is_not_there(git: CommandGit, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        git.snapshot(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("has_repository", [True, False])
def test_ignored_files_are_left_out_unless_they_are_named(
    git: CommandGit, tmp_path: Path, has_repository: bool
) -> None:
    folder = write(
        tmp_path / "project",
        {".gitignore": "data/\n*.log\n", "data/train.csv": "1", "data/deep/x.csv": "2", "a.log": "3", "b.py": "4"},
    )
    if has_repository:
        run(folder, "init", "-q")
    (folder / "data" / "link.csv").symlink_to("train.csv")
    ordinary = {".gitignore": "data/\n*.log\n", "b.py": "4"}
    assert files(git, folder) == ordinary
    assert files(git, folder, "data/train.csv", "a.log") == ordinary | {"data/train.csv": "1", "a.log": "3"}
    data = {"data/train.csv": "1", "data/deep/x.csv": "2", "data/link.csv": "train.csv"}
    assert files(git, folder, "data/", "nothing/there") == ordinary | data
    assert files(git, folder) == ordinary


def test_a_file_that_is_ignored_from_now_on_is_gone(git: CommandGit, tmp_path: Path) -> None:
    folder = write(tmp_path / "plain", {"a.py": "1", "b.log": "2"})
    assert "b.log" in files(git, folder)
    write(folder, {".gitignore": "*.log"})
    assert "b.log" not in files(git, folder)


def test_a_tracked_file_stays_although_it_is_ignored(git: CommandGit, repository: Path) -> None:
    write(repository, {".gitignore": "*.csv", "kept.csv": "1", "other.csv": "2"})
    run(repository, "add", "-f", "kept.csv")
    assert set(files(git, repository)) == {"train.py", "README.md", ".gitignore", "kept.csv"}


def test_a_folder_of_a_larger_repository(git: CommandGit, repository: Path) -> None:
    write(
        repository, {".gitignore": "*.log", "models/a/train.py": "a", "models/a/x.log": "no", "models/b/train.py": "b"}
    )
    assert files(git, repository / "models" / "a") == {"train.py": "a"}


def test_a_folder_that_a_larger_repository_ignores(git: CommandGit, repository: Path) -> None:
    write(repository, {".gitignore": "scratch/", "scratch/train.py": "a"})
    assert files(git, repository / "scratch") == {"train.py": "a"}


@pytest.mark.parametrize("has_repository", [True, False])
@pytest.mark.parametrize("has_commit", [True, False])
def test_a_repository_within_is_a_folder_of_files(
    git: CommandGit, tmp_path: Path, has_repository: bool, has_commit: bool
) -> None:
    folder = write(
        tmp_path / "outer", {"a.py": "a", "lib/inner/b.py": "b", "lib/inner/.gitignore": "*.o", "lib/inner/c.o": "c"}
    )
    run(folder / "lib/inner", "init", "-q")
    if has_commit:
        run(folder / "lib/inner", "add", "b.py")
        run(folder / "lib/inner", "commit", "-q", "-m", "inner")
    if has_repository:
        run(folder, "init", "-q")
    assert files(git, folder) == {"a.py": "a", "lib/inner/b.py": "b", "lib/inner/.gitignore": "*.o"}


def test_a_submodule_is_a_folder_of_files_and_an_empty_one_nothing(git: CommandGit, repository: Path) -> None:
    sha = run(repository, "rev-parse", "HEAD")
    run(repository, "update-index", "--add", "--cacheinfo", f"160000,{sha},empty")
    (repository / "empty").mkdir()
    run(repository, "clone", "-q", ".", "full")
    run(repository, "update-index", "--add", "--cacheinfo", f"160000,{sha},full")
    assert set(files(git, repository)) == {"train.py", "README.md", "full/train.py", "full/README.md"}


def test_links_stay_links_and_what_lies_behind_them_is_not_read(git: CommandGit, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"big.csv": "secret"})
    folder = write(tmp_path / "project", {"a.py": "a"})
    (folder / "data").symlink_to(outside)
    assert files(git, folder) == {"a.py": "a", "data": str(outside)}
    commit = git.snapshot(str(folder), ["data/big.csv", "data"])
    assert git.tree(commit)["data"].mode == "120000"
    assert set(git.tree(commit)) == {"a.py", "data"}
    with pytest.raises(Refused, match="data"):
        git.export(commit, str(tmp_path / "out"))


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd"])
def test_what_is_named_lies_below_the_folder(git: CommandGit, repository: Path, path: str) -> None:
    with pytest.raises(Refused) as refusal:
        git.snapshot(str(repository), [path])
    assert refusal.value.where == path


def test_bytes_are_kept_whatever_the_attributes_say(git: CommandGit, repository: Path) -> None:
    write(repository, {".gitattributes": "* text=auto eol=lf\n*.id ident\n*.big filter=lfs\n", "c.id": "$Id: x $"})
    (repository / "a.txt").write_bytes(b"one\r\ntwo\r\n")
    write(repository, {"d.big": "the content, not a pointer"})
    found = files(git, repository)
    assert (found["a.txt"], found["c.id"], found["d.big"]) == (
        "one\r\ntwo\r\n",
        "$Id: x $",
        "the content, not a pointer",
    )


def test_odd_names_and_special_files(git: CommandGit, tmp_path: Path) -> None:
    names = {"with space", "new\nline", "-dash", "é", "*", '"'}
    folder = write(tmp_path / "a folder\nof two lines", dict.fromkeys(names, "x"))
    os.mkfifo(folder / "pipe")
    assert set(files(git, folder)) == names


def test_the_state_folder_is_never_in_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "project", {"a.py": "a", ".interlock/other": "state"})
    git = CommandGit(folder / ".interlock" / "snapshots")
    git.snapshot(str(folder))
    assert set(files(git, folder)) == {"a.py", ".interlock/other"}


def test_no_program_of_the_repository_is_run(git: CommandGit, repository: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    run(repository, "config", "core.fsmonitor", f"touch {witness}; false")
    run(repository, "config", "filter.evil.clean", f"touch {witness}; cat")
    write(repository, {".gitattributes": "*.py filter=evil\n", "train.py": "changed"})
    assert files(git, repository)["train.py"] == "changed"
    assert not witness.exists()


def test_several_at_once(git: CommandGit, repository: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(git.snapshot(str(repository)).sha)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [run(repository, "rev-parse", "HEAD^{tree}")] * 4


def large(folder: Path, path: str) -> None:
    write(folder, {path: ""})
    with (folder / path).open("wb") as file:
        file.truncate(LARGE_BYTES)


def test_large_data_that_no_repository_tracks_lies_beside(git: CommandGit, repository: Path, tmp_path: Path) -> None:
    alone = write(tmp_path / "alone", {"train.py": "one", "data/small.txt": "s", "few/rows.csv": "r"})
    for folder in (alone, write(repository, {"data/small.txt": "s", "few/rows.csv": "r"})):
        large(folder, "data/large.bin")
        large(folder, "model.bin")
        taken = git.snapshot(str(folder), data=["data/", "few"])
        assert taken.beside == ("data",)
        assert {"train.py", "few/rows.csv", "model.bin"} <= git.tree(taken).keys()
        assert not any(path.startswith("data/") for path in git.tree(taken))
        assert git.snapshot(str(folder), data=["few"]).beside == ()
    run(repository, "add", "data/small.txt")
    taken = git.snapshot(str(repository), data=["data/"])
    assert taken.beside == ()
    assert {"data/small.txt", "data/large.bin"} <= git.tree(taken).keys()


def test_large_data_with_links_stays_a_part_of_the_tree(git: CommandGit, tmp_path: Path) -> None:
    large(tmp_path / "alone", "data/large.bin")
    (tmp_path / "alone/data/link").symlink_to("large.bin")
    assert git.snapshot(str(tmp_path / "alone"), data=["data"]).beside == ()

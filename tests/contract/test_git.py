"""Real repositories, read by the git program."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interlock.edges.git import CommandGit, program
from interlock.edges.git.objects import open_contents
from interlock.errors import GitFault, NotFound, Refused
from interlock.source.commit import Commit

ODD_NAMES = ["with space.py", 'quo"te', "new\nline", "-dash", "é/ü.txt", "back\\slash", "tab\t", "*", "a:b", ".hidden"]


class Clone:
    """A bare repository and a clone of it, as a user has them."""

    def __init__(self, folder: Path) -> None:
        self.bare = str(folder / "origin.git")
        self.folder = folder / "clone"
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
        self.environment = environment
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.bare], check=True, env=environment)
        subprocess.run(
            ["git", "clone", "-q", self.bare, str(self.folder)], check=True, env=environment, capture_output=True
        )
        self.git("config", "user.name", "Someone")
        self.git("config", "user.email", "someone@example.org")
        self.git("checkout", "-q", "-b", "main")

    def git(self, *words: str, content: bytes | None = None) -> str:
        ended = subprocess.run(
            ["git", *words], cwd=self.folder, env=self.environment, input=content, check=True, capture_output=True
        )
        return ended.stdout.decode().strip()

    def write(self, path: str, content: str | bytes = "") -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def push(self, message: str = "a change", *, branch: str = "main") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.git("push", "-q", "origin", f"HEAD:{branch}")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.fixture
def git(tmp_path: Path) -> CommandGit:
    return CommandGit(tmp_path / "state")


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def head(git: CommandGit, clone: Clone) -> Commit:
    return git.commit("flights", clone.bare, "refs/heads/main")


def test_refs_follow_pushes_and_deletions(clone: Clone, git: CommandGit) -> None:
    assert git.refs(clone.bare) == {}
    first = clone.push()
    second = clone.push(branch="feature/é")
    clone.git("tag", "v1")
    clone.git("push", "-q", "origin", "v1")
    branches = {"refs/heads/main": first, "refs/heads/feature/é": second}
    assert git.refs(clone.bare) == {**branches, "refs/tags/v1": second}
    clone.git("push", "-q", "origin", ":feature/é", ":v1")
    assert git.refs(clone.bare) == {"refs/heads/main": first}


def test_refs_are_read_although_they_are_packed(clone: Clone, git: CommandGit) -> None:
    first = clone.push()
    subprocess.run(["git", "--git-dir", clone.bare, "gc", "-q"], check=True)
    assert git.refs(clone.bare) == {"refs/heads/main": first}
    assert head(git, clone).sha == first


def test_a_commit_is_resolved_by_ref_and_by_revision(clone: Clone, git: CommandGit) -> None:
    first = clone.push("The first\nin two lines\n\nand a body")
    second = clone.push("second")
    latest = head(git, clone)
    assert (latest.sha, latest.subject, latest.repository) == (second, "second", "flights")
    assert latest.tree == clone.git("rev-parse", "HEAD^{tree}")
    assert git.commit("flights", clone.bare, "refs/heads/main", first).message.endswith("\n\nand a body")
    for revision in (first, first[:10], "main~1", "HEAD^"):
        earlier = git.commit("flights", clone.bare, "refs/heads/main", revision)
        assert (earlier.sha, earlier.subject, earlier.ref) == (first, "The first in two lines", "refs/heads/main")


def test_an_annotated_tag_means_its_commit(clone: Clone, git: CommandGit) -> None:
    sha = clone.push("tagged")
    clone.git("tag", "-a", "v1", "-m", "a tag")
    clone.git("push", "-q", "origin", "v1")
    assert git.commit("flights", clone.bare, "refs/tags/v1").sha == sha


def test_a_message_of_another_encoding(clone: Clone, git: CommandGit) -> None:
    clone.git("config", "i18n.commitEncoding", "ISO-8859-1")
    clone.git("commit", "-q", "--allow-empty", "-F", "-", content="Größe".encode("latin-1"))
    clone.git("push", "-q", "origin", "HEAD:main")
    assert head(git, clone).subject == "Größe"


@pytest.mark.parametrize(
    "revision", ["", "nothing", "f" * 40, "--all", "a b", "main\nmain", "main:file", "main^{tree}"]
)
def test_a_commit_that_is_not_there_is_not_found(clone: Clone, git: CommandGit, revision: str) -> None:
    clone.write("file")
    clone.push(branch="main" if revision else "other")
    with pytest.raises(NotFound):
        git.commit("flights", clone.bare, "refs/heads/main", revision)


def test_an_empty_repository_has_no_commit(clone: Clone, git: CommandGit) -> None:
    with pytest.raises(NotFound):
        head(git, clone)


def test_no_repository_is_a_fault(tmp_path: Path, git: CommandGit) -> None:
    with pytest.raises(GitFault, match="no git repository"):
        git.refs(str(tmp_path))


def test_a_commit_without_files(clone: Clone, git: CommandGit, tmp_path: Path) -> None:
    clone.push()
    commit = head(git, clone)
    assert git.tree(commit) == {}
    git.export(commit, str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_tree_read_and_export_agree_on_odd_names(clone: Clone, git: CommandGit, tmp_path: Path) -> None:
    for name in ODD_NAMES:
        clone.write(name, f"this is {name}")
    clone.push()
    commit = head(git, clone)
    tree = git.tree(commit)
    assert set(tree) == set(ODD_NAMES)
    assert git.read(commit, ODD_NAMES) == {name: f"this is {name}".encode() for name in ODD_NAMES}
    assert {name: entry.size for name, entry in tree.items()} == {
        name: len(f"this is {name}".encode()) for name in ODD_NAMES
    }
    git.export(commit, str(tmp_path / "out"))
    assert content_of(tmp_path / "out") == git.read(commit, ODD_NAMES)


def test_a_name_that_is_not_utf8_is_refused(clone: Clone, git: CommandGit) -> None:
    Path(os.fsdecode(os.fsencode(clone.folder) + b"/caf\xe9.py")).touch()
    clone.push()
    with pytest.raises(Refused, match=r"caf\\xe9\.py"):
        git.tree(head(git, clone))


def test_reading_leaves_out_what_is_not_there(clone: Clone, git: CommandGit) -> None:
    clone.write("folder/file", "content")
    clone.write("empty")
    clone.push()
    commit = head(git, clone)
    assert git.read(commit, ["folder/file", "folder", "nothing", "", "empty"]) == {
        "folder/file": b"content",
        "empty": b"",
    }
    assert git.read(commit, []) == {}


def test_reading_needs_no_checkout_and_sees_that_very_commit(clone: Clone, git: CommandGit) -> None:
    clone.write("interlock.yaml", "version: 1")
    clone.push()
    commit = head(git, clone)
    clone.write("interlock.yaml", "version: 2")
    clone.push()
    assert git.read(commit, ["interlock.yaml"]) == {"interlock.yaml": b"version: 1"}


def test_modes_links_and_submodules(clone: Clone, git: CommandGit, tmp_path: Path) -> None:
    clone.write("run.sh", "echo").chmod(0o755)
    clone.write("data/real.csv", "1,2")
    (clone.folder / "link.csv").symlink_to("data/real.csv")
    (clone.folder / "dangling").symlink_to("data/later")
    sha = clone.push()
    clone.git("update-index", "--add", "--cacheinfo", f"160000,{sha},vendored")
    clone.git("commit", "-q", "-m", "a submodule")
    clone.git("push", "-q", "origin", "HEAD:main")
    commit = head(git, clone)
    modes = {path: entry.mode for path, entry in git.tree(commit).items()}
    assert modes == {"run.sh": "100755", "data/real.csv": "100644", "link.csv": "120000", "dangling": "120000"}
    out = tmp_path / "out"
    git.export(commit, str(out))
    assert stat.S_IMODE((out / "run.sh").stat().st_mode) & 0o111
    assert not stat.S_IMODE((out / "data/real.csv").stat().st_mode) & 0o111
    assert str((out / "link.csv").readlink()) == "data/real.csv"
    assert not (out / "vendored").exists()


def test_what_is_exported_is_a_private_copy(clone: Clone, git: CommandGit, tmp_path: Path) -> None:
    clone.write("file", "as committed")
    clone.push()
    commit = head(git, clone)
    git.export(commit, str(tmp_path / "one"))
    (tmp_path / "one" / "file").write_text("overwritten by a stage")
    git.export(commit, str(tmp_path / "two"))
    assert (tmp_path / "two" / "file").read_text() == "as committed"


def test_only_some_files_of_a_project_are_exported(clone: Clone, git: CommandGit, tmp_path: Path) -> None:
    for name in ("p/a", "p/b/c", "p/b/d", "q"):
        clone.write(name, name)
    clone.push()
    git.export(head(git, clone), str(tmp_path / "out"), "p", only={"b/c", "none"})
    assert content_of(tmp_path / "out") == {"b/c": b"p/b/c"}


def test_one_project_of_several_is_exported(clone: Clone, git: CommandGit, tmp_path: Path) -> None:
    clone.write("models/churn/src/train.py", "churn")
    clone.write("models/churn2/train.py", "other")
    clone.write("README.md", "top")
    clone.push()
    git.export(head(git, clone), str(tmp_path / "out"), project="models/churn")
    assert content_of(tmp_path / "out") == {"src/train.py": b"churn"}
    with pytest.raises(NotFound, match="models/chur"):
        git.export(head(git, clone), str(tmp_path / "none"), project="models/chur")


@pytest.mark.parametrize(
    ("path", "aim"),
    [("a", "/etc/passwd"), ("a", "../outside"), ("deep/a", "../../outside"), ("a", "inner/../../outside")],
)
def test_a_link_that_leaves_the_tree_is_refused(
    clone: Clone, git: CommandGit, tmp_path: Path, path: str, aim: str
) -> None:
    clone.write("inner/file")
    (clone.folder / path).parent.mkdir(exist_ok=True)
    (clone.folder / path).symlink_to(aim)
    clone.push()
    with pytest.raises(Refused) as refusal:
        git.export(head(git, clone), str(tmp_path / "out"))
    assert refusal.value.where == path


def test_a_link_through_a_link_does_not_leave_the_tree_either(clone: Clone, git: CommandGit, tmp_path: Path) -> None:
    clone.write("top/inner/file")
    (clone.folder / "short").symlink_to("top/inner")
    (clone.folder / "top" / "out").symlink_to("../short/../../../outside")
    clone.push()
    with pytest.raises(Refused, match="top/out"):
        git.export(head(git, clone), str(tmp_path / "out"))


def test_links_in_a_circle_lead_nowhere_and_are_kept(clone: Clone, git: CommandGit, tmp_path: Path) -> None:
    (clone.folder / "a").symlink_to("b")
    (clone.folder / "b").symlink_to("a")
    clone.push()
    git.export(head(git, clone), str(tmp_path / "out"))
    assert content_of(tmp_path / "out") == {"a": b"b", "b": b"a"}


@pytest.mark.parametrize("name", ["..", ".git", ".GIT"])
def test_a_crafted_tree_writes_nothing_outside(clone: Clone, git: CommandGit, tmp_path: Path, name: str) -> None:
    blob = clone.git("hash-object", "-w", "--stdin", content=b"evil")
    inner = clone.git("mktree", content=f"100644 blob {blob}\tconfig\n".encode())
    raw = f"40000 {name}\0".encode() + bytes.fromhex(inner)
    tree = clone.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", content=raw)
    commit = Commit(
        repository="r", git_directory=str(clone.folder / ".git"), ref="refs/heads/main", sha=tree, tree=tree
    )
    with pytest.raises(Refused, match="not one of a working tree"):
        git.export(commit, str(tmp_path / "deep" / "out"))
    written = [path for path in (tmp_path / "deep").rglob("*") if path.is_file()]
    assert written == []


def test_no_filter_hook_or_conversion_is_run(clone: Clone, git: CommandGit, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    clone.write(".gitattributes", "*.txt text eol=crlf\n*.bin filter=evil\n*.id ident\n")
    clone.write("a.txt", "one\ntwo\n")
    clone.write("b.bin", "pointer")
    clone.write("c.id", "$Id$")
    clone.push()
    config = Path(clone.bare) / "config"
    config.write_text(
        config.read_text() + f'[filter "evil"]\nsmudge = touch {witness}\nrequired = true\n'
        f"[core]\nfsmonitor = touch {witness}\nhooksPath = {tmp_path}\n"
    )
    commit = head(git, clone)
    git.export(commit, str(tmp_path / "out"))
    assert content_of(tmp_path / "out") == git.read(commit, list(git.tree(commit)))
    assert (tmp_path / "out" / "a.txt").read_bytes() == b"one\ntwo\n"
    assert not witness.exists()


def test_the_callers_own_git_settings_do_not_matter(
    clone: Clone, git: CommandGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = clone.push()
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent/index")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "not a number")
    assert git.refs(clone.bare) == {"refs/heads/main": sha}
    assert git.tree(git.snapshot(str(clone.folder))) == {}


def test_a_lost_object_is_a_fault(clone: Clone, git: CommandGit, tmp_path: Path) -> None:
    clone.write("file", "content")
    clone.write("other", "other")
    clone.push()
    commit = head(git, clone)
    blob = git.tree(commit)["file"].blob
    (Path(clone.bare) / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(GitFault):
        git.read(commit, ["other", "file"])
    with pytest.raises(GitFault):
        git.export(commit, str(tmp_path / "out"))


def test_export_does_not_overwrite(clone: Clone, git: CommandGit, tmp_path: Path) -> None:
    clone.write("file", "content")
    clone.push()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("mine")
    with pytest.raises(GitFault, match="file"):
        git.export(head(git, clone), str(tmp_path / "out"))
    assert (tmp_path / "out" / "file").read_text() == "mine"


def test_two_thousand_files_and_one_large_one(clone: Clone, git: CommandGit, tmp_path: Path) -> None:
    large = os.urandom(5_000_000)
    clone.write("large.bin", large)
    for number in range(2000):
        clone.write(f"part{number % 40}/file{number}.py", f"number = {number}\n" * (number % 50))
    clone.push()
    commit = head(git, clone)
    tree = git.tree(commit)
    assert len(tree) == 2001
    git.export(commit, str(tmp_path / "out"))
    written = content_of(clone.folder)
    assert content_of(tmp_path / "out") == {path: written[path] for path in written if not path.startswith(".git/")}
    assert git.read(commit, ["large.bin"]) == {"large.bin": large}
    snapshot = git.snapshot(str(clone.folder))
    assert snapshot.tree == commit.tree
    assert git.tree(snapshot) == tree


# --- a git that does not do its work ---

SILENT = "exec sleep 60"
HALF = 'echo "$0 blob 100"; exec sleep 60'
UNENDING = "exec >&-; exec sleep 60"


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a program before git that does something else for one of git's verbs."""
    real = shutil.which("git")

    def put(verb: str, deed: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "git").write_text(f'#!/bin/sh\ncase "$*" in *{verb}*) {deed};; *) exec {real} "$@";; esac\n')
        (folder / "git").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return put


@pytest.mark.parametrize("deed", [SILENT, HALF, UNENDING])
@pytest.mark.parametrize("verb", ["--batch-check", "--buffer", "diff-tree", "ls-tree", "for-each-ref"])
def test_a_git_that_hangs_is_given_up_and_ended(
    clone: Clone,
    git: CommandGit,
    broken: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    deed: str,
) -> None:
    old, new = clone.push(), clone.push()
    monkeypatch.setattr(program, "READING_SECONDS", 0.3)
    broken(verb, deed)
    began = time.monotonic()

    def read_all() -> None:
        git.refs(clone.bare)
        git.changed_paths(clone.bare, old, new)
        commit = git.commit("demo", clone.bare, "refs/heads/main")
        git.read(commit, list(git.tree(commit)))

    with pytest.raises(GitFault):
        read_all()
    assert time.monotonic() - began < 20


def test_a_reader_who_takes_longer_than_git_may_is_not_cut_off(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "READING_SECONDS", 2.0)
    content = os.urandom(4 << 20)
    clone.write("large", content)
    clone.push()
    git = CommandGit(tmp_path / "state")
    blob = git.tree(head(git, clone))["large"].blob

    class Slow(io.BytesIO):
        def write(self, piece: Any) -> int:
            time.sleep(0 if self.tell() else 3)
            return super().write(piece)

    written = Slow()
    with open_contents(clone.bare, [blob]) as contents:
        contents.copy(blob, written)
    assert written.getvalue() == content


def test_a_git_that_says_more_than_a_pipe_holds_of_its_trouble_is_heard(
    clone: Clone, git: CommandGit, broken: Callable[[str, str], None]
) -> None:
    clone.write("file", "content")
    clone.push()
    commit = head(git, clone)
    git.tree(commit)
    broken("--buffer", "yes trouble | head -c 1000000 >&2; exit 3")
    with pytest.raises(GitFault):
        git.read(commit, ["file"])


def test_a_machine_without_git_is_a_fault_wherever_git_is_asked(
    clone: Clone, git: CommandGit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone.write("file", "content")
    clone.push()
    commit = head(git, clone)
    git.tree(commit)
    monkeypatch.setenv("PATH", str(tmp_path))
    for ask in (
        lambda: git.refs(clone.bare),
        lambda: git.commit("demo", clone.bare, "refs/heads/main"),
        lambda: git.read(commit, ["file"]),
        lambda: git.export(commit, str(tmp_path / "out")),
    ):
        with pytest.raises(GitFault, match="could not be run"):
            ask()

"""Hostile repositories (A6, A19, G4): whatever one holds, nothing of it is run, and no file of the host gets into it.

Each is looked at twice: as a folder of this machine that is read in place, and as a remote that a mirror follows.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock.edges.git import CommandGit
from interlock.errors import GitFault, Refused
from interlock.source.commit import Commit

SECRET = b"the host's own secret"
MAIN = "refs/heads/main"
SECONDS = 120.0
"""Nothing may hang; the machine may be busy."""


class World:
    """A repository that somebody hostile made, and the traps that tell whether it did any harm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.canary = folder / "canary"
        self.secret = folder / "host" / "secret"
        self.secret.parent.mkdir()
        self.secret.write_bytes(SECRET)
        self.origin = folder / "origin.git"
        self.git("init", "-q", "--bare", "-b", "main", str(self.origin), at=folder)
        self.touch = f"touch {self.canary}"

    def git(self, *words: str, content: bytes = b"", at: Path | None = None) -> str:
        who = {f"GIT_{role}_{what}": "a@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(self.folder), **who}
        command = ["git", *words]
        ended = subprocess.run(
            command, cwd=at or self.origin, env=environment, input=content, capture_output=True, check=True
        )
        return ended.stdout.decode().strip()

    def blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", content=content)

    def raw_tree(self, *entries: tuple[str, bytes, str]) -> str:
        """A tree of (mode, name, id) as they are, whatever git thinks of them."""
        raw = b"".join(f"{mode} ".encode() + name + b"\0" + bytes.fromhex(sha) for mode, name, sha in entries)
        return self.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", content=raw)

    def tree(self, files: dict[str, bytes], links: dict[str, str] | None = None) -> str:
        lines = [("100644", self.blob(content), path) for path, content in files.items()]
        lines += [("120000", self.blob(os.fsencode(aim)), path) for path, aim in (links or {}).items()]
        return self.tree_of(lines)

    def tree_of(self, lines: list[tuple[str, str, str]]) -> str:
        """A tree of (mode, id, path), folders made as needed."""
        here = [(mode, path.encode(), sha) for mode, sha, path in lines if "/" not in path]
        for name in sorted({path.partition("/")[0] for _, _, path in lines if "/" in path}):
            below = [(mode, sha, path.partition("/")[2]) for mode, sha, path in lines if path.startswith(f"{name}/")]
            here.append(("40000", name.encode(), self.tree_of(below)))
        return self.raw_tree(*sorted(here, key=lambda entry: entry[1]))

    def commit(self, tree: str, message: bytes = b"a change", ref: str = MAIN) -> str:
        sha = self.git("commit-tree", tree, content=message)
        self.git("update-ref", ref, sha)
        return sha

    def commit_files(self, files: dict[str, bytes], links: dict[str, str] | None = None) -> str:
        return self.commit(self.tree(files, links))

    def configure(self, text: str) -> None:
        with (self.origin / "config").open("a") as file:
            file.write(text)


Build = Callable[[World], str | None]
"""Makes the repository; answers how its files are refused, where they are."""


def bare_repository_within(world: World) -> str | None:
    evil = f"[core]\nrepositoryformatversion=0\nbare=true\nfsmonitor={world.touch}\nhooksPath=hooks\n"
    files = {"HEAD": b"ref: refs/heads/main\n", "config": evil.encode(), "objects/x": b"", "refs/heads/x": b""}
    files["hooks/post-checkout"] = f"#!/bin/sh\n{world.touch}\n".encode()
    world.commit_files({f"inner/{path}": content for path, content in files.items()})
    return None


def root_that_is_a_bare_repository(world: World) -> str | None:
    evil = f'[core]\nbare=false\nworktree=.\nfsmonitor={world.touch}\n[filter "x"]\nclean={world.touch}\n'
    files = {"HEAD": b"ref: refs/heads/main\n", "config": evil.encode(), "objects/x": b"", "refs/heads/x": b""}
    world.commit_files(files)
    return None


def filters_and_conversions(world: World) -> str | None:
    world.configure(
        f'[filter "evil"]\nsmudge={world.touch}\nclean={world.touch}\nprocess={world.touch}\nrequired=true\n'
    )
    attributes = b"* filter=evil diff=evil merge=evil export-subst working-tree-encoding=UTF-16\n"
    world.configure(f'[diff "evil"]\ntextconv={world.touch}\ncommand={world.touch}\n')
    world.commit_files({".gitattributes": attributes, "a.txt": b"$Format:%H$\n$Id$\n"})
    return None


def lfs_pointers(world: World) -> str | None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    lfs = b'[lfs]\nurl = "http://127.0.0.1:1/steal"\n[lfs "customtransfer.x"]\npath = touch\n'
    world.commit_files({".gitattributes": b"*.bin filter=lfs\n", ".lfsconfig": lfs, "model.bin": pointer})
    return None


def submodules(world: World) -> str | None:
    aims = {
        "host": f"file://{world.secret.parent}",
        "helper": f"ext::{world.touch}",
        "option": f"--upload-pack={world.touch}",
    }
    text = "".join(f'[submodule "{name}"]\n\tpath = {name}\n\turl = {url}\n' for name, url in aims.items())
    lines = [("160000", "1" * 40, name) for name in aims]
    world.commit(world.tree_of([*lines, ("100644", world.blob(text.encode()), ".gitmodules")]))
    return None


def submodule_within_git(world: World) -> str | None:
    text = '[submodule "../../hooks"]\n\tpath = .git/hooks\n\turl = ./x\n\tupdate = !touch canary\n'
    blob = world.blob(text.encode())
    world.commit(world.tree_of([("100644", blob, ".gitmodules"), ("160000", "1" * 40, ".git/hooks")]))
    return None


def link_to_a_file_of_the_host(world: World) -> str | None:
    world.commit_files({"train.py": b"open('data.csv')"}, {"data.csv": str(world.secret)})
    return "symbolic link leaves"


def link_that_climbs(world: World) -> str | None:
    world.commit_files({"a/b": b""}, {"a/data": "../../../../../../../../../../../etc/passwd"})
    return "symbolic link leaves"


def link_to_a_folder_of_the_host(world: World) -> str | None:
    world.commit_files({}, {"data": str(world.secret.parent)})
    return "symbolic link leaves"


def file_behind_a_link_of_the_same_name(world: World) -> str | None:
    inner = world.raw_tree(("100644", b"secret", world.blob(b"overwritten")))
    link = world.blob(os.fsencode(world.secret.parent))
    world.commit(world.raw_tree(("120000", b"data", link), ("40000", b"data", inner)))
    return "could not be written"


def link_as_long_as_a_novel(world: World) -> str | None:
    world.commit_files({}, {"link": "a/" * 500_000})
    return "points further"


def names_for_a_shell(world: World) -> str | None:
    names = [
        f"$(touch {world.canary.name})",
        "`id`",
        "--help",
        "-rf",
        "a\nb",
        "a;b",
        "'\"",
        "*",
        "|",
        "con",
        "\x1b[31m",
        "é",
    ]
    world.commit_files({name: name.encode() for name in names})
    return None


def refs_for_a_shell(world: World) -> str | None:
    sha = world.commit_files({"a": b"a"})
    for name in (
        'a$(touch${IFS}P);`id`"<img/src=x>',
        "--upload-pack=x",
        "-x",
        "a'b",
        "é\u2028x",
        "x\u0085y",
        "%0a",
        "x" * 200,
    ):
        for room in ("heads", "tags"):
            world.git("update-ref", f"refs/{room}/{name}", sha)
    return None


def ref_that_is_not_utf8(world: World) -> str | None:
    sha = world.commit_files({"a": b"a"})
    with (world.origin / "packed-refs").open("ab") as file:
        file.write(f"{sha} refs/heads/caf".encode() + b"\xe9\n")
    return None


def refs_that_climb(world: World) -> str | None:
    world.commit_files({"a": b"a"})
    (world.origin / "refs" / "heads" / "link").symlink_to(world.secret)
    (world.origin / "refs" / "heads" / "text").write_bytes(SECRET)
    (world.origin / "refs" / "heads" / "circle").write_text("ref: refs/heads/circle\n")
    return None


def head_that_climbs(world: World) -> str | None:
    world.commit_files({"a": b"a"})
    (world.origin / "HEAD").write_text("ref: refs/heads/../../../../host/secret\n")
    return None


def name_that_is_not_utf8(world: World) -> str | None:
    world.commit(world.raw_tree(("100644", b"caf\xff.py", world.blob(b""))))
    return "not UTF-8"


def name_of_255_bytes(world: World) -> str | None:
    world.commit_files({"n" * 255: b"as long as one may be"})
    return None


def name_of_300_bytes(world: World) -> str | None:
    world.commit_files({"n" * 300: b"longer"})
    return "longer than 255 bytes"


def names_that_differ_in_case(world: World) -> str | None:
    world.commit_files({"README": b"1", "readme": b"2", "Src/a": b"3", "src/a": b"4"})
    return None


def git_folder_in_capitals(world: World) -> str | None:
    world.commit_files({".GIT/config": f"[core]\nfsmonitor={world.touch}\n".encode()})
    return "not one of a working tree"


def tree_that_climbs(world: World) -> str | None:
    inner = world.raw_tree(("100644", b"secret", world.blob(b"overwritten")))
    world.commit(world.raw_tree(("40000", b"..", world.raw_tree(("40000", b"host", inner)))))
    return "not one of a working tree"


def name_with_a_slash(world: World) -> str | None:
    world.commit(world.raw_tree(("100644", b"../host/secret", world.blob(b"overwritten"))))
    return "not one of a working tree"


def tree_as_deep_as_the_sea(world: World) -> str | None:
    tree = world.raw_tree(("100644", b"f", world.blob(b"")))
    stream = f"commit {MAIN}\ncommitter a <a@example.org> 0 +0000\ndata 0\n\nM 040000 {tree} {'d/' * 1600}d\n\n"
    world.git("fast-import", "--quiet", content=stream.encode())
    return "longer than 3000 bytes"


def tree_of_more_files_than_atoms(world: World) -> str | None:
    tree = world.raw_tree(("100644", b"f", world.blob(b"")))
    for _ in range(10):
        tree = world.raw_tree(*(("40000", f"d{number:02}".encode(), tree) for number in range(100)))
    world.commit(tree)
    return "too many files"


def files_larger_than_disks(world: World) -> str | None:
    blob = world.blob(b"\0" * (64 << 20))
    world.commit(world.tree_of([("100644", blob, f"f{number}") for number in range(1100)]))
    return "68 GiB together"


def alternates_of_the_host(world: World) -> str | None:
    world.commit_files({"a": b"a"})
    aims = ["/etc", str(world.secret.parent), "/nonexistent", '"\\n', "../../../../../../etc", "/dev/zero"]
    (world.origin / "objects" / "info" / "alternates").write_text("\n".join(aims) + "\n")
    world.configure(f"[core]\nalternateRefsCommand={world.touch}\n")
    return None


def replaced_commit(world: World) -> str | None:
    other = world.git("commit-tree", world.tree({"evil": b"evil"}), content=b"evil")
    honest = world.commit_files({"honest": b"honest"})
    world.git("replace", honest, other)
    return None


def grafts(world: World) -> str | None:
    other = world.git("commit-tree", world.tree({"evil": b"evil"}), content=b"evil")
    honest = world.commit_files({"honest": b"honest"})
    (world.origin / "info").mkdir(exist_ok=True)
    (world.origin / "info" / "grafts").write_text(f"{honest} {other}\n")
    return None


def settings_that_name_programs(world: World) -> str | None:
    world.commit_files({"a": b"a"})
    hooks = world.folder / "hooks"
    hooks.mkdir()
    for name in (
        "post-checkout",
        "reference-transaction",
        "pre-auto-gc",
        "post-index-change",
        "proc-receive",
        "fsmonitor",
    ):
        for place in (hooks, world.origin / "hooks"):
            (place / name).write_text(f"#!/bin/sh\n{world.touch}\n")
            (place / name).chmod(0o755)
    keys = ("pager", "editor", "sshCommand", "gitProxy", "askPass", "alternateRefsCommand", "fsmonitor")
    world.configure("[core]\n" + "".join(f"{key}={world.touch}\n" for key in keys) + f"hooksPath={hooks}\n")
    world.configure(f"[uploadpack]\npackObjectsHook={world.touch}\n[credential]\nhelper=!{world.touch}\n")
    world.configure(f"[alias]\nfor-each-ref=!{world.touch}\ncat-file=!{world.touch}\n[gpg]\nprogram={world.touch}\n")
    world.configure(f'[protocol]\nallow=always\n[url "ext::{world.touch} "]\ninsteadOf={world.origin}\n')
    return None


def settings_of_another_file(world: World) -> str | None:
    world.commit_files({"a": b"a"})
    (world.folder / "more").write_text(f"[core]\nfsmonitor={world.touch}\n")
    world.configure(f"[include]\npath={world.folder}/more\npath={world.secret.parent}/nothing\n")
    return None


def content_that_is_elsewhere(world: World) -> str | None:
    tree = world.tree_of([("100644", world.blob(b"lost"), "a")])
    world.commit(tree)
    world.git("config", "core.repositoryFormatVersion", "1")
    world.git("config", "extensions.partialClone", "evil")
    world.git("config", "remote.evil.url", f"ext::sh -c {world.touch}")
    world.git("config", "remote.evil.promisor", "true")
    world.git("config", "protocol.ext.allow", "always")
    lost = world.blob(b"lost")
    (world.origin / "objects" / lost[:2] / lost[2:]).unlink()
    return "does not have the content|missing|could not"


def message_that_is_a_program(world: World) -> str | None:
    message = b"fix $(touch canary) \x1b]0;title\x07 <script>\0" + b"x" * (3 << 20)
    raw = b"tree %s\nauthor a <a> 0 +0000\ncommitter a <a> 0 +0000\n\n" % world.tree({"a": b"a"}).encode() + message
    sha = world.git("hash-object", "-w", "-t", "commit", "--literally", "--stdin", content=raw)
    world.git("update-ref", MAIN, sha)
    return None


def tag_of_a_tag_of_a_tag(world: World) -> str | None:
    sha, kind = world.commit_files({"a": b"a"}), "commit"
    for _ in range(50):
        raw = f"object {sha}\ntype {kind}\ntag t\ntagger a <a> 0 +0000\n\nx\n".encode()
        sha, kind = world.git("hash-object", "-w", "-t", "tag", "--stdin", content=raw), "tag"
    world.git("update-ref", "refs/tags/deep", sha)
    world.git("update-ref", "refs/tags/file", world.blob(SECRET))
    return None


def twenty_thousand_refs(world: World) -> str | None:
    sha = world.commit_files({"a": b"a"})
    world.git(
        "update-ref", "--stdin", content="".join(f"create refs/tags/t{n} {sha}\n" for n in range(20_000)).encode()
    )
    world.git("pack-refs", "--all")
    return None


def pipes_for_files(world: World) -> str | None:
    world.commit_files({"a": b"a"})
    os.mkfifo(world.origin / "info-pipe")
    os.mkfifo(world.origin / "hooks" / "pipe")
    return None


CORPUS: list[Build] = [
    bare_repository_within,
    root_that_is_a_bare_repository,
    filters_and_conversions,
    lfs_pointers,
    submodules,
    submodule_within_git,
    link_to_a_file_of_the_host,
    link_that_climbs,
    link_to_a_folder_of_the_host,
    file_behind_a_link_of_the_same_name,
    link_as_long_as_a_novel,
    names_for_a_shell,
    refs_for_a_shell,
    ref_that_is_not_utf8,
    refs_that_climb,
    head_that_climbs,
    name_that_is_not_utf8,
    name_of_255_bytes,
    name_of_300_bytes,
    names_that_differ_in_case,
    git_folder_in_capitals,
    tree_that_climbs,
    name_with_a_slash,
    tree_as_deep_as_the_sea,
    tree_of_more_files_than_atoms,
    files_larger_than_disks,
    alternates_of_the_host,
    replaced_commit,
    grafts,
    settings_that_name_programs,
    settings_of_another_file,
    content_that_is_elsewhere,
    message_that_is_a_program,
    tag_of_a_tag_of_a_tag,
    twenty_thousand_refs,
    pipes_for_files,
]

UNFETCHABLE = (content_that_is_elsewhere, refs_that_climb)
"""Broken as repositories: git itself clones none of them."""


def look_through(git: CommandGit, directory: str, target: Path) -> str:
    """All that a server does with a repository; answers how its files were refused."""
    refs = git.refs(directory)
    told = ""
    commit = git.commit("hostile", directory, MAIN, refs[MAIN])
    assert len(commit.message) <= 2000
    acts = [
        lambda: git.changed_paths(directory, "0" * 40, commit.sha),
        lambda: read_everything(git, commit),
        lambda: git.export(commit, str(target)),
    ]
    for act in acts:
        try:
            act()
        except (Refused, GitFault) as problem:
            told += f"{problem}\n"
    return told


def read_everything(git: CommandGit, commit: Commit) -> None:
    tree = git.tree(commit)
    small = [path for path, entry in tree.items() if entry.size < 1 << 20][:100]
    assert all(SECRET not in content for content in git.read(commit, small).values())


def assert_no_harm(world: World, target: Path) -> None:
    assert not world.canary.exists()
    assert not list(Path.cwd().glob("canary"))
    assert world.secret.read_bytes() == SECRET
    for parent, folders, names in os.walk(target):  # no links are followed
        for name in [*names, *folders]:
            path = Path(parent, name)
            kind = path.lstat().st_mode
            assert stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind)
            if stat.S_ISREG(kind):
                assert SECRET not in path.read_bytes()[: 1 << 20]


@pytest.mark.parametrize("build", CORPUS, ids=lambda build: build.__name__)
def test_a_hostile_repository_does_no_harm(build: Build, tmp_path: Path) -> None:
    world = World(tmp_path)
    refusal = build(world)
    git = CommandGit(tmp_path / "state", protocols=["file"])
    mirror = str(tmp_path / "mirror.git")
    began = time.monotonic()
    told = [look_through(git, str(world.origin), tmp_path / "in-place")]
    if build in UNFETCHABLE:
        with pytest.raises(GitFault, match="git fetch"):
            git.follow(str(world.origin), mirror)
    else:
        assert git.follow(str(world.origin), mirror) == git.refs(mirror)
        told.append(look_through(git, mirror, tmp_path / "mirrored"))
    assert time.monotonic() - began < SECONDS
    for words in told:
        assert words == "" if refusal is None else any(part in words for part in refusal.split("|")), words
    for target in (tmp_path / "in-place", tmp_path / "mirrored"):
        assert_no_harm(world, target)
        shutil.rmtree(target, ignore_errors=True)
    assert_no_harm(world, Path(mirror))


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len({build.__name__ for build in CORPUS}) >= 36


def test_what_replaces_another_commit_is_not_believed(tmp_path: Path) -> None:
    world = World(tmp_path)
    git = CommandGit(tmp_path / "state", protocols=["file"])
    replaced_commit(world)
    assert set(git.tree(git.commit("r", str(world.origin), MAIN))) == {"honest"}
    grafted = World((tmp_path / "grafted", (tmp_path / "grafted").mkdir())[0])
    grafts(grafted)
    head = grafted.git("rev-parse", MAIN)
    assert grafted.git("rev-parse", f"{head}^")  # plain git believes it
    with pytest.raises(GitFault, match="does not have"):
        git.changed_paths(str(grafted.origin), head, f"{head}^")


def test_a_ref_that_leads_out_of_its_repository_is_a_fault(tmp_path: Path) -> None:
    world = World(tmp_path)
    sha = world.commit_files({"a": b"a"})
    (world.origin / "packed-refs").write_text(f"{sha} refs/heads/../../../x\n")
    with pytest.raises(GitFault, match="dangerous"):
        CommandGit(tmp_path / "state").refs(str(world.origin))


def test_a_hostile_folder_is_taken_as_the_files_it_is(tmp_path: Path) -> None:
    """The export of a commit that looks like a repository, snapshotted as ``interlock run`` does."""
    world = World(tmp_path)
    root_that_is_a_bare_repository(world)
    git = CommandGit(tmp_path / "state")
    git.export(git.commit("r", str(world.origin), MAIN), str(tmp_path / "out"))
    for folder in ("objects/info", "refs/heads"):
        (tmp_path / "out" / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / ".gitattributes").write_text("* filter=x\n")
    snapshot = git.snapshot(str(tmp_path / "out"))
    assert {"HEAD", "config"} <= set(git.tree(snapshot))
    assert not world.canary.exists()


@pytest.mark.slow
def test_a_file_of_gigabytes_is_written_and_never_read_as_a_whole(tmp_path: Path) -> None:
    world = World(tmp_path)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(300 << 20)
    blob = world.git("hash-object", "-w", str(large))
    world.commit(world.tree_of([("100644", blob, "interlock.yaml")]))
    git = CommandGit(tmp_path / "state", protocols=["file"])
    git.follow(str(world.origin), str(tmp_path / "mirror.git"))
    commit = git.commit("r", str(tmp_path / "mirror.git"), MAIN)
    with pytest.raises(Refused, match="300 MiB; at most 256"):
        git.read(commit, ["interlock.yaml"])
    git.export(commit, str(tmp_path / "out"))
    assert (tmp_path / "out" / "interlock.yaml").stat().st_size == 300 << 20
    for path in (large, tmp_path / "out" / "interlock.yaml"):
        path.unlink()

"""Odd commits, odd trees and torn streams: what is read out of git's objects."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.edges.git.objects import (
    Contents,
    SmallContents,
    find_commits,
    read_commit,
    read_contents,
    read_refs,
    read_tree,
)
from interlock.errors import GitFault, Refused

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
BLOB = "a" * 40


def git(folder: Path, *words: str, content: bytes = b"") -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, input=content, check=True, capture_output=True).stdout.decode().strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "--quiet", "--bare", ".")
    git(folder, "hash-object", "-w", "-t", "tree", "--stdin")
    return folder


def keep_commit(repository: Path, message: bytes, header: bytes = b"") -> str:
    who = b"A <a@example.org> 1700000000 +0000"
    content = b"tree %s\nauthor %s\ncommitter %s\n%s\n%s" % (EMPTY_TREE.encode(), who, who, header, message)
    words = ("hash-object", "-w", "-t", "commit", "--literally", "--stdin")
    return git(repository, *words, content=content)


@pytest.mark.parametrize(
    ("message", "header", "subject"),
    [
        (b"Try\n", b"", "Try"),
        (b"Try\n\nbecause of this\n", b"", "Try"),
        (b"\n\n  Try  \n", b"", "Try"),
        (b"one\ntwo\n\nthree\n", b"", "one two"),
        (b"one\r\n\r\nbody\r\n", b"", "one"),
        (b"one\n \t \nbody\n", b"", "one"),
        (b"", b"", ""),
        (b"\n\n", b"", ""),
        (b"H\xe4user\n", b"encoding ISO-8859-1\n", "Häuser"),
        ("Häuser\n".encode(), b"", "Häuser"),
        (b"H\xe4user\n", b"", "H\ufffduser"),
        (b"plain\n", b"encoding no-such-codec\n", "plain"),
        (b"plain\n", b"encoding hex\n", "plain"),
        (b"pl\xc3\xa4in\n", b"encoding idna\n", "pläin"),
        (b"pl\xc3\xa4in\n", b"encoding undefined\n", "pläin"),
        (b"pl\xc3\xa4in\n", b"encoding punycode\n", "pläin"),
        (b"lone \\ud800 half\n", b"encoding unicode_escape\n", "lone ? half"),
        (b"signed\n", b"gpgsig -----BEGIN\n tree 0000\n encoding hex\n -----END\n", "signed"),
    ],
)
def test_the_subject_of_a_commit_whatever_it_is_written_in(
    repository: Path, message: bytes, header: bytes, subject: str
) -> None:
    sha = keep_commit(repository, message, header)
    found = read_commit(str(repository), sha)
    assert found is not None
    assert (found.sha, found.tree, found.subject) == (sha, EMPTY_TREE, subject)
    assert found.message.startswith(subject.split(" ", maxsplit=1)[0])


@pytest.mark.parametrize("name", ["", "\n", "main\nmain", "nowhere", "refs/heads/none", "0" * 40, EMPTY_TREE, "a b"])
def test_a_name_that_means_no_commit_means_none(repository: Path, name: str) -> None:
    assert read_commit(str(repository), name) is None


def test_branches_are_listed_by_their_full_names(repository: Path) -> None:
    assert read_refs(str(repository)) == {}
    sha = keep_commit(repository, b"first\n")
    for name in ("main", "feature/löse-#1"):
        git(repository, "update-ref", f"refs/heads/{name}", sha)
    assert read_refs(str(repository)) == {"refs/heads/main": sha, "refs/heads/feature/löse-#1": sha}
    for name in ("main", "feature/löse-#1"):
        git(repository, "update-ref", "-d", f"refs/heads/{name}")


def keep_tag(repository: Path, kind: str, sha: str) -> str:
    content = f"object {sha}\ntype {kind}\ntag any\ntagger A <a@example.org> 1700000000 +0000\n\nwords\n".encode()
    return git(repository, "hash-object", "-w", "-t", "tag", "--stdin", content=content)


def test_tags_mean_the_commits_behind_them_however_deep_and_nothing_else(repository: Path) -> None:
    sha = keep_commit(repository, b"tagged\n")
    blob = git(repository, "hash-object", "-w", "--stdin", content=b"no commit")
    annotated = keep_tag(repository, "commit", sha)
    meant = {
        "light": sha,
        "annotated": sha,
        "twice": sha,
        "of-a-file": None,
        "of-files": None,
        "of-a-tag-of-a-file": None,
    }
    pointed = {
        "light": sha,
        "annotated": annotated,
        "twice": keep_tag(repository, "tag", annotated),
        "of-a-file": blob,
        "of-files": EMPTY_TREE,
        "of-a-tag-of-a-file": keep_tag(repository, "blob", blob),
    }
    for name, of in pointed.items():
        git(repository, "update-ref", f"refs/tags/{name}", of)
    assert read_refs(str(repository)) == {f"refs/tags/{name}": of for name, of in meant.items() if of}
    for name in pointed:
        git(repository, "update-ref", "-d", f"refs/tags/{name}")


def test_names_are_answered_one_for_one(repository: Path) -> None:
    sha = keep_commit(repository, b"asked for\n")
    names = [sha, "nowhere", "two\nlines", "", "a b", f"x {sha}", "\udcff", sha[:12], EMPTY_TREE, "0" * 40]
    expected = [sha, None, None, None, None, None, None, sha, None, None]
    assert find_commits(str(repository), names) == expected


def test_the_message_is_kept_as_far_as_two_thousand_letters(repository: Path) -> None:
    text = "Try\n\n[skip ci]\n" + "ü" * 5000
    found = read_commit(str(repository), keep_commit(repository, text.encode()))
    assert found is not None
    assert found.message == text[:2000]


def test_a_commit_larger_than_anybody_reads_is_read_as_far_as_a_mebibyte(repository: Path) -> None:
    found = read_commit(str(repository), keep_commit(repository, b"Huge\n\n" + b"x" * (5 << 20)))
    assert found is not None
    assert (found.subject, len(found.message)) == ("Huge", 2000)


def test_what_no_database_keeps_is_replaced(repository: Path) -> None:
    found = read_commit(str(repository), keep_commit(repository, b"nul\0byte\n"))
    assert found is not None
    assert found.subject == found.message == "nul\ufffdbyte"


def keep_tree(repository: Path, *entries: tuple[str, str, str, bytes]) -> str:
    lines = [b"%s %s %s\t%s" % (mode.encode(), kind.encode(), sha.encode(), name) for mode, kind, sha, name in entries]
    return git(repository, "mktree", "-z", "--missing", content=b"".join(line + b"\0" for line in lines))


def test_a_tree_holds_files_and_links_but_no_submodule(repository: Path) -> None:
    blob = git(repository, "hash-object", "-w", "--stdin", content=b"abc")
    inner = keep_tree(repository, ("100644", "blob", blob, b"tab\tand\nline"))
    tree = keep_tree(
        repository,
        ("100644", "blob", blob, b"a b.txt"),
        ("120000", "blob", blob, b"link"),
        ("100755", "blob", blob, "löse".encode()),
        ("160000", "commit", "1" * 40, b"module"),
        ("040000", "tree", inner, b"deep"),
    )
    found = read_tree(str(repository), tree)
    assert {path: entry.mode for path, entry in found.items()} == {
        "a b.txt": "100644",
        "link": "120000",
        "löse": "100755",
        "deep/tab\tand\nline": "100644",
    }
    assert {(entry.blob, entry.size) for entry in found.values()} == {(blob, 3)}
    assert read_tree(str(repository), EMPTY_TREE) == {}


def test_a_name_that_no_plan_could_write_down_is_refused(repository: Path) -> None:
    blob = git(repository, "hash-object", "-w", "--stdin", content=b"abc")
    with pytest.raises(Refused, match="not UTF-8") as refused:
        read_tree(str(repository), keep_tree(repository, ("100644", "blob", blob, b"bad\xff")))
    assert refused.value.where == "bad\\xff"


def test_contents_are_read_by_name_in_any_order(repository: Path) -> None:
    written = {name: git(repository, "hash-object", "-w", "--stdin", content=name.encode() * 5) for name in "zay"}
    assert read_contents(str(repository), written, SmallContents()) == {name: name.encode() * 5 for name in "zay"}
    assert read_contents(str(repository), {}, SmallContents()) == {}
    with pytest.raises(GitFault, match="does not have the content"):
        read_contents(str(repository), {"gone": "1" * 40}, SmallContents())


@given(contents=st.lists(st.binary(max_size=50), max_size=5))
def test_a_stream_is_cut_into_the_contents_it_is_made_of(contents: list[bytes]) -> None:
    stream = io.BytesIO(b"".join(b"%s blob %d\n%s\n" % (BLOB.encode(), len(one), one) for one in contents))
    reader = Contents(stream)
    for one in contents:
        target = io.BytesIO()
        reader.copy(BLOB, target)
        assert target.getvalue() == one
    assert stream.read() == b""


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (b"", "it ended"),
        (f"{BLOB} missing\n".encode(), "missing"),
        (f"{'b' * 40} blob 3\nabc\n".encode(), "does not have"),
        (f"{BLOB} tree 3\nabc\n".encode(), "tree 3"),
        (f"{BLOB} blob 9\nabc".encode(), "ended within"),
        (b"\xff\xfe\n", "does not have"),
    ],
)
def test_a_stream_that_is_not_what_was_asked_for_is_a_fault(stream: bytes, said: str) -> None:
    with pytest.raises(GitFault, match=said):
        Contents(io.BytesIO(stream)).copy(BLOB, io.BytesIO())


def test_small_contents_are_kept_within_their_room_the_oldest_go_first() -> None:
    small = SmallContents(most=10, largest=4)
    for name in "abcd":
        small.keep(name, name.encode() * 4)
        small.keep(name, b"never another")
    small.keep("large", b"12345")
    assert [small.find(name) for name in "abcd"] == [None, None, b"cccc", b"dddd"]
    assert small.find("large") is None
    assert small.is_small(4)
    assert not small.is_small(5)


def test_what_is_kept_is_not_asked_of_git_again(repository: Path) -> None:
    small = SmallContents()
    small.keep("1" * 40, b"known")
    assert read_contents(str(repository), {"a": "1" * 40}, small) == {"a": b"known"}

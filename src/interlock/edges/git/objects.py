"""Reading git's objects: branches, commits, trees and the contents of files."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import IO

from interlock.edges.git.program import command_line, environment, git_directory_of, readable, run_git
from interlock.errors import GitFault, Refused
from interlock.source.commit import FileEntry, Tree

SUBMODULE = "160000"


def _at(git_directory: str) -> list[str]:
    return ["--git-dir", str(git_directory_of(git_directory))]


def read_branches(git_directory: str) -> dict[str, str]:
    """Full branch names to commit ids."""
    listing = run_git([*_at(git_directory), "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads"]).stdout
    return dict(line.split(" ") for line in os.fsdecode(listing).splitlines())


def read_commit(git_directory: str, name: str) -> tuple[str, str, str] | None:
    """The id, the tree and the subject of the commit that ``name`` means; None where it means none."""
    if "\n" in name or not name:
        return None
    question = os.fsencode(f"{name}^{{commit}}\n")
    answer = run_git([*_at(git_directory), "cat-file", "--batch"], content=question).stdout
    header, _, content = answer.partition(b"\n")
    sha, _, rest = header.decode(errors="replace").partition(" ")
    if not rest.startswith("commit "):
        return None
    fields, _, message = content.partition(b"\n\n")
    named = dict(line.split(b" ", 1) for line in fields.splitlines() if b" " in line)
    return sha, named[b"tree"].decode(), _subject(message, named.get(b"encoding", b"utf-8").decode(errors="replace"))


def _subject(message: bytes, encoding: str) -> str:
    try:
        text = message.decode(encoding, errors="replace")
    except (LookupError, ValueError):  # a commit may name any codec, also one that replaces nothing (idna)
        text = message.decode(errors="replace")
    lines = takewhile(str.strip, text.strip().splitlines())
    return " ".join(" ".join(lines).split()).encode(errors="replace").decode()  # some codecs make lone surrogates


def read_tree(git_directory: str, tree: str) -> Tree:
    """Every file and symbolic link of a tree by path. A submodule is no file: it is left out.

    Refused for a name that is not UTF-8, which no plan could write down.
    """
    listing = run_git([*_at(git_directory), "ls-tree", "-r", "-l", "-z", "--full-tree", tree]).stdout
    found: dict[str, FileEntry] = {}
    for line in listing.split(b"\0")[:-1]:
        facts, _, name = line.partition(b"\t")
        mode, _, blob, size = facts.decode().split()
        if mode == SUBMODULE:
            continue
        if not size.isdigit():
            raise GitFault(f"git does not have the content {blob} of {_path(name)}")
        found[_path(name)] = FileEntry(mode, blob, int(size))
    return found


def _path(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as problem:
        shown = name.decode(errors="backslashreplace")
        raise Refused("the file's name is not UTF-8", where=shown, remedy="rename it") from problem


class Contents:
    """The contents of blobs, one after the other, as a stream."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def copy(self, blob: str, target: IO[bytes]) -> None:
        """Writes the next content, which must be that of ``blob``. GitFault where it is missing or cut short."""
        header = self._stream.readline().decode(errors="replace").split()
        if header[:2] != [blob, "blob"]:
            raise GitFault(f"git does not have the content {blob}: {' '.join(header) or 'it ended'}")
        left = int(header[2])
        while left:
            piece = self._stream.read(min(left, 1 << 20))
            if not piece:
                raise GitFault(f"git ended within the content {blob}")
            target.write(piece)
            left -= len(piece)
        self._stream.read(1)


@contextmanager
def open_contents(git_directory: str, blobs: Sequence[str]) -> Iterator[Contents]:
    """The contents of ``blobs``, to be read in this order."""
    with tempfile.TemporaryFile() as questions:  # a file, not a pipe: neither side can wait for the other
        questions.write("".join(f"{blob}\n" for blob in blobs).encode())
        questions.seek(0)
        process = subprocess.Popen(
            command_line([*_at(git_directory), "cat-file", "--batch", "--buffer"]),
            stdin=questions,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment({}),
            bufsize=1 << 20,
        )
        with process:
            assert process.stdout is not None
            try:
                yield Contents(process.stdout)
            except BaseException:
                process.kill()
                raise
            _, said = process.communicate()
    if process.returncode != 0:
        raise GitFault(f"git cat-file: {readable(said)}")


def read_contents(git_directory: str, blobs: Mapping[str, str]) -> dict[str, bytes]:
    """The contents of blobs by the names that ``blobs`` gives them."""
    found: dict[str, bytes] = {}
    with open_contents(git_directory, list(blobs.values())) as contents:
        for name, blob in blobs.items():
            content = io.BytesIO()
            contents.copy(blob, content)
            found[name] = content.getvalue()
    return found

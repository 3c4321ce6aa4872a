"""Reading git's objects: branches, commits, trees and the contents of files."""

from __future__ import annotations

import io
import os
import select
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import takewhile
from typing import IO, Any, NamedTuple

from interlock.edges.git import program
from interlock.edges.git.program import TooMuchOutput, command_line, environment, git_directory_of, readable
from interlock.errors import GitFault, Refused
from interlock.source.commit import FileEntry, Tree

SUBMODULE = "160000"
COMMIT_BYTES = 1 << 20
"""How far a commit is read: one may be as large as its author likes."""
MESSAGE_LETTERS = 2000
LIST_BYTES = 32 << 20
"""The names of about 300,000 files: a tree of trees can hold more than there are atoms."""


def at(git_directory: str) -> list[str]:
    """The words that make git use this repository and look for no other."""
    return ["--git-dir", str(git_directory_of(git_directory))]


def _read(
    git_directory: str,
    arguments: Sequence[str],
    content: bytes = b"",
    *,
    accepted: Sequence[int] = (0,),
    most: int = program.OUTPUT_BYTES,
) -> bytes:
    """What git says of the repository."""
    words, silence = [*at(git_directory), *arguments], program.READING_SECONDS
    return program.run_git(words, content=content, accepted=accepted, silence=silence, most=most).stdout


def read_refs(git_directory: str) -> dict[str, str]:
    """Full names of branches and tags to the ids of the commits they mean.

    A tag of something else than a commit, and a name that is not UTF-8, is left out.
    """
    refs = read_raw_refs(git_directory)
    tags = [ref for ref in refs if ref.startswith("refs/tags/")]
    commits = dict(zip(tags, find_commits(git_directory, [refs[ref] for ref in tags]), strict=True)) if tags else {}
    return {ref: sha for ref, of in refs.items() if (sha := commits.get(ref, of)) is not None}


def read_raw_refs(git_directory: str) -> dict[str, str]:
    """Full names of branches and tags to the ids of the objects they point to, annotated tags unpeeled."""
    choice = ["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags"]
    return parse_refs(_read(git_directory, choice))


def read_listing(git_directory: str, pattern: str) -> dict[str, str]:
    """Full names of the refs of a pattern to the ids of what they point to."""
    return parse_refs(_read(git_directory, ["for-each-ref", "--format=%(objectname) %(refname)", pattern]))


def parse_refs(listing: bytes) -> dict[str, str]:
    """Names to ids, from lines of an id and a name. A name that is not UTF-8 is left out: nothing could name it."""
    found: dict[str, str] = {}
    for line in listing.split(b"\n"):
        sha, _, name = line.replace(b"\t", b" ").partition(b" ")
        with suppress(UnicodeDecodeError):
            if name:
                found[name.decode()] = sha.decode()
    return found


def find_commits(git_directory: str, names: Sequence[str]) -> list[str | None]:
    """The id of the commit that each name means, tags peeled; None where it means none."""
    asked = [f"{name}^{{commit}}" if "\n" not in name else "" for name in names]
    content = "".join(f"{name}\n" for name in asked).encode(errors="surrogateescape")
    check = ["cat-file", "--batch-check=%(objectname) %(objecttype)"]
    lines = _read(git_directory, check, content).split(b"\n")[:-1]
    return [line.split(b" ")[0].decode() if line.endswith(b" commit") else None for line in lines]


def read_changes(git_directory: str, old: str, new: str, since_fork: bool) -> tuple[str, ...]:
    """The paths that differ between two commits, or between their merge base and ``new``; see the port.

    Bytes of a name that are no UTF-8 are escaped. Refused where the names are more than 32 MiB.
    """
    before, after = find_commits(git_directory, [old, new])
    if after is None:
        raise GitFault(f"git does not have the commit {new}")
    if before is not None and since_fork:
        base = _read(git_directory, ["merge-base", before, after], accepted=(0, 1))
        before = base.decode().strip() or None
    if before is None:
        listing = _list(git_directory, ["ls-tree", "-r", "-z", "--name-only", "--full-tree", after])
    else:
        plain = ["--no-renames", "--no-ext-diff", "--no-textconv"]
        listing = _list(git_directory, ["diff-tree", "-r", "-z", "--name-only", *plain, before, after])
    return tuple(name.decode(errors="backslashreplace") for name in listing)


def _list(git_directory: str, arguments: Sequence[str]) -> list[bytes]:
    try:
        return _read(git_directory, arguments, most=LIST_BYTES).split(b"\0")[:-1]
    except TooMuchOutput as limit:
        remedy = "keep generated files out of the repository"
        problem = f"the commit has too many files: their list is longer than {LIST_BYTES >> 20} MiB"
        raise Refused(problem, arguments[-1], remedy) from limit


class FoundCommit(NamedTuple):
    """``subject`` in one line; ``message`` is the beginning of the whole message; ``author`` as ``Ada <ada@h>``."""

    sha: str
    tree: str
    subject: str
    message: str
    author: str


def read_commit(git_directory: str, name: str) -> FoundCommit | None:
    """The commit that ``name`` means; None where it means none."""
    if "\n" in name or not name:
        return None
    with _answers(git_directory, [f"{name}^{{commit}}"]) as stream:
        header = stream.readline().decode(errors="replace").split()
        if header[1:2] != ["commit"]:
            return None
        content = stream.read(min(int(header[2]) + 1, COMMIT_BYTES))
    fields, _, message = content.partition(b"\n\n")
    named = dict(line.split(b" ", 1) for line in fields.splitlines() if b" " in line)
    if b"tree" not in named:
        return None
    encoding = named.get(b"encoding", b"utf-8").decode(errors="replace")
    text = _decoded(message, encoding)
    author = _decoded(named.get(b"author", b"").rpartition(b">")[0], encoding)
    subject = " ".join(" ".join(takewhile(str.strip, text.splitlines())).split())
    tree = named[b"tree"].decode()
    told = (subject[:MESSAGE_LETTERS], text[:MESSAGE_LETTERS], f"{author[:MESSAGE_LETTERS]}>" if author else "")
    return FoundCommit(header[0], tree, *told)


def _decoded(message: bytes, encoding: str) -> str:
    try:
        text = message.decode(encoding, errors="replace")
    except (LookupError, ValueError):  # a commit may name any codec, also one that replaces nothing (idna)
        text = message.decode(errors="replace")
    text = text.replace("\0", "\ufffd").strip()  # no database keeps a NUL
    return text.encode(errors="replace").decode()  # some codecs make lone surrogates


def read_tree(git_directory: str, tree: str) -> Tree:
    """Every file and symbolic link of a tree by path. A submodule is no file: it is left out.

    Refused for a name that is not UTF-8, which no plan could write down, and for more names than 32 MiB hold.
    """
    found: dict[str, FileEntry] = {}
    for line in _list(git_directory, ["ls-tree", "-r", "-l", "-z", "--full-tree", tree]):
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
    with _answers(git_directory, blobs) as stream:
        yield Contents(stream)


@contextmanager
def _answers(git_directory: str, names: Sequence[str]) -> Iterator[IO[bytes]]:
    """Objects by their names as one stream; where its reader stops early, so does git.

    GitFault where git cannot be run, or says nothing for READING_SECONDS.
    """
    with ExitStack() as opened:
        try:  # files, not pipes: neither side can wait for the other
            questions, words = (opened.enter_context(tempfile.TemporaryFile()) for _ in range(2))
            questions.write("".join(f"{name}\n" for name in names).encode(errors="surrogateescape"))
            questions.seek(0)
            process = subprocess.Popen(
                command_line([*at(git_directory), "cat-file", "--batch", "--buffer"]),
                stdin=questions,
                stdout=subprocess.PIPE,
                stderr=words,
                env=environment({}),
                bufsize=0,
            )
        except OSError as problem:
            raise GitFault(f"git could not be run: {problem}") from problem
        assert process.stdout is not None
        opened.enter_context(process)
        is_read = False
        try:
            stream = io.BufferedReader(_Patient(process.stdout.fileno()), 1 << 20)
            yield stream
            is_read = not stream.read(1)
            if is_read:
                process.wait(program.READING_SECONDS)
        except subprocess.TimeoutExpired as problem:
            raise GitFault("git cat-file does not end") from problem
        finally:
            if process.returncode is None:
                process.kill()
        words.seek(0)
        said = words.read()
    if is_read and process.returncode != 0:
        raise GitFault(f"git cat-file: {readable(said)}")


class _Patient(io.RawIOBase):
    """What comes from a pipe. GitFault where nothing comes for READING_SECONDS; its reader may take longer."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._bell = select.poll()
        self._bell.register(descriptor, select.POLLIN)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Waits for some bytes; 0 at the end."""
        if not self._bell.poll(program.READING_SECONDS * 1000):
            raise GitFault(f"git cat-file said nothing for {program.READING_SECONDS:g} s")
        return os.readv(self._descriptor, [buffer])


class SmallContents:
    """Small contents that were read last, by the ids of their blobs: every stage of a run is given the same ones.

    For several threads. At most ``most`` bytes are kept, of contents of at most ``largest`` each.
    """

    def __init__(self, most: int = 64 << 20, largest: int = 1 << 20) -> None:
        self._most, self._largest = most, largest
        self._guard = threading.Lock()
        self._kept: dict[str, bytes] = {}
        self._size = 0

    def find(self, blob: str) -> bytes | None:
        """The content, if it is kept."""
        return self._kept.get(blob)

    def is_small(self, size: int) -> bool:
        """Whether a content of so many bytes would be kept."""
        return size <= self._largest

    def keep(self, blob: str, content: bytes) -> None:
        """Keeps a small content, and forgets the oldest ones for it."""
        with self._guard:
            if blob in self._kept or not self.is_small(len(content)):
                return
            self._kept[blob] = content
            self._size += len(content)
            while self._size > self._most:
                self._size -= len(self._kept.pop(next(iter(self._kept))))


def read_contents(
    git_directory: str, blobs: Mapping[str, str], small: SmallContents, beside: Collection[str] = ()
) -> dict[str, bytes]:
    """The contents of blobs by the names that ``blobs`` gives them; small ones are kept, and not read again.

    Where git is asked at all, it is asked for ``beside`` too, small ones that will be wanted next.
    """
    found = {name: content for name, blob in blobs.items() if (content := small.find(blob)) is not None}
    missing = {name: blob for name, blob in blobs.items() if name not in found}
    if missing:
        wanted = dict.fromkeys((*missing.values(), *(blob for blob in beside if small.find(blob) is None)))
        read: dict[str, bytes] = {}
        with open_contents(git_directory, list(wanted)) as contents:
            for blob in wanted:
                target = io.BytesIO()
                contents.copy(blob, target)
                read[blob] = target.getvalue()
                small.keep(blob, read[blob])
        found |= {name: read[blob] for name, blob in missing.items()}
    return found

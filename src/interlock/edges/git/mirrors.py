"""Mirrors: bare repositories of our own that follow remotes. They are never checked out, and nothing is run in them.

Nothing that once arrived is removed: a run of a commit that the remote has forgotten can still be run again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interlock.edges.git.objects import at, find_commits, read_raw_refs
from interlock.edges.git.program import run_git
from interlock.edges.git.remotes import Remotes
from interlock.errors import GitFault, Refused

MARK = "interlock-mirror"
"""A file in every mirror: only what has it is ever written to."""
SETTINGS = {"gc.auto": "0", "fetch.unpackLimit": "1", "core.logAllRefUpdates": "false"}
REFSPECS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
OWN = "refs/interlock/"
"""Where single refs are kept: no fetch of branches prunes them."""
PACKS_KEPT = 20
"""Every fetch brings a pack; with more than these they are put together, all objects kept."""
LOOSE_REFS = 1000
"""With more than these moved at once, refs are put into one file, which is read faster."""
LOCK_POLL_SECONDS = 0.05


class Mirrors:
    """Mirrors of remotes, for several threads and processes at once, which take turns by a lock beside each mirror.

    git itself holds that lock too: where a server dies, nobody else begins before its last git has ended.
    """

    def __init__(self, remotes: Remotes) -> None:
        self._remotes = remotes

    def follow(self, url: str, git_directory: str) -> None:
        """The mirror has the branches and tags of the remote; see the port."""
        remote = self._remotes.address(url)
        mirror = Path(git_directory)
        with self._turn(mirror) as descriptor:
            _ensure(mirror)
            theirs, ours = self._remotes.listing(remote, git_directory, descriptor), read_raw_refs(git_directory)
            if theirs == ours:
                return
            _sweep(mirror)
            self._remotes.fetch(remote, git_directory, REFSPECS, descriptor, prune=True)
            _tidy(mirror, len(set(theirs.items()) - set(ours.items())), descriptor)

    def fetch(self, url: str, git_directory: str, ref: str) -> str | None:
        """One ref of the remote, kept below ``refs/interlock/``; see the port."""
        remote = self._remotes.address(url)
        mirror, kept = Path(git_directory), OWN + ref.removeprefix("refs/")
        with self._turn(mirror) as descriptor:
            _ensure(mirror)
            _sweep(mirror)
            is_there = self._remotes.fetch(remote, git_directory, [f"+{ref}:{kept}"], descriptor, prune=False)
            _tidy(mirror, 0, descriptor)
        return find_commits(git_directory, [kept])[0] if is_there else None

    def listing(self, url: str, git_directory: str, pattern: str) -> dict[str, str]:
        """The remote's refs of a pattern; see the port."""
        remote = self._remotes.address(url)
        mirror = Path(git_directory)
        with self._turn(mirror) as descriptor:
            _ensure(mirror)
            return self._remotes.matching(remote, git_directory, pattern, descriptor)

    def push(self, url: str, git_directory: str, sha: str, ref: str) -> None:
        """The remote has the commit under a new ref; see the port."""
        remote = self._remotes.address(url)
        mirror = Path(git_directory)
        with self._turn(mirror) as descriptor:
            _ensure(mirror)
            self._remotes.push(remote, git_directory, sha, ref, descriptor)

    @contextmanager
    def _turn(self, mirror: Path) -> Iterator[int]:
        """Holds the mirror's lock, given as a descriptor for git to hold too. GitFault where its turn does not come."""
        mirror.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(f"{mirror}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            until = time.monotonic() + self._remotes.patience
            while not _try_to_hold(descriptor):
                if time.monotonic() > until:
                    raise GitFault(f"another git is at work in {mirror} for {self._remotes.patience:.0f} s already")
                time.sleep(LOCK_POLL_SECONDS)
            yield descriptor
        finally:
            os.close(descriptor)


def _try_to_hold(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_name_of_ref(ref: str) -> bool:
    """Whether git could have a ref of this full name."""
    if not ref.startswith("refs/") or not ref.isprintable():
        return False
    return run_git(["check-ref-format", ref], accepted=(0, 1)).returncode == 0


def _ensure(mirror: Path) -> None:
    """Makes the mirror, so that it is never seen half made. Refused where another repository is in its place."""
    if (mirror / MARK).is_file():
        return
    if mirror.exists() and any(mirror.iterdir()):
        remedy = "name another folder for the mirror: branches that its remote does not have are removed in it"
        raise Refused("this folder is no mirror of Interlock's", str(mirror), remedy)
    part = mirror.with_name(f"{mirror.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    run_git(["init", "--bare", "--quiet", "--template=", "--", str(part)])
    for name, value in SETTINGS.items():
        run_git([*at(str(part)), "config", name, value])
    (part / MARK).touch()
    part.rename(mirror)


def _sweep(mirror: Path) -> None:
    """Removes what a git that was killed left behind. Nobody else writes here while the lock is held."""
    refs = [path for path in (mirror / "refs").rglob("*") if path.is_file()]
    torn = [path for path in refs if path.stat().st_size == 0]
    locks = [path for path in (*mirror.glob("*.lock"), *refs) if path.name.endswith(".lock")]
    packs = [path for name in ("*.tmp*", "tmp_*", "*.keep") for path in (mirror / "objects" / "pack").glob(name)]
    for path in {*torn, *locks, *packs}:
        path.unlink()
    for path in (mirror / "objects").glob("incoming-*"):
        shutil.rmtree(path)


def _tidy(mirror: Path, moved: int, descriptor: int) -> None:
    if moved > LOOSE_REFS:
        run_git([*at(str(mirror)), "pack-refs", "--all"], descriptors=(descriptor,))
    if sum(1 for _ in (mirror / "objects" / "pack").glob("*.pack")) > PACKS_KEPT:
        run_git([*at(str(mirror)), "repack", "-d", "-q", "--geometric=2"], descriptors=(descriptor,))

"""What a stage used and made: the value that a cache hit is decided on."""

from __future__ import annotations

from typing import Literal, NamedTuple

from interlock.vocabulary import Digest, Json, Stored

ABSENT = "absent"
"""The fingerprint of a file or folder that the commit does not hold."""
RULES = 2
"""Raised when what counts as a change is decided anew, so that no trace from before is used again."""


class KeyInputs(Stored):
    """Everything a stage's result depends on that is known before it runs.

    ``environment`` is the digest of the locked Python environment; ``artifacts`` are products of earlier stages by
    path; ``platform`` names system, machine and interpreter; ``program`` identifies the code of a built-in stage;
    ``inputs`` says whether it saw the whole project, or only what it declares.
    """

    stage: str
    command: str | None
    program: str | None = None
    params: dict[str, Json] | None = None
    env: dict[str, str] = {}
    environment: str = ""
    artifacts: dict[str, Digest] = {}
    settings: dict[str, Json] = {}
    products: tuple[str, ...] = ()
    network: bool = False
    platform: str = ""
    inputs: Literal["auto", "strict"] = "auto"


class Trace(Stored):
    """One successful execution: what it was given, what it read, what it made.

    ``reads`` maps each file of the commit that was read, or could be imported, to its fingerprint; ``listings`` each
    folder whose names were seen, or could matter, to the fingerprint of those names. ``sources`` holds the content, as
    git has it, of what is fingerprinted by what it does: where that is the same, nothing need be read. ``report`` is
    the artifact of what a built-in stage measured. ``run`` is where it was executed, ``rules`` how changes were told.
    ``is_deterministic``: it was executed twice, and both made the same.
    """

    inputs: KeyInputs
    reads: dict[str, str]
    listings: dict[str, str]
    products: dict[str, Digest]
    report: Digest | None = None
    run: str
    attempt: str
    seconds: float
    made: float
    is_deterministic: bool = False
    sources: dict[str, str] = {}
    rules: int = 1


class Prints(NamedTuple):
    """Fingerprints of files and of folders' names, by path, of one commit."""

    reads: dict[str, str]
    listings: dict[str, str]


class Lookup(Stored):
    """Whether a stage has to run. ``because`` is the whole reason in one line, ``differences`` the parts of it."""

    key: str
    hit: Trace | None
    because: str
    differences: tuple[str, ...] = ()

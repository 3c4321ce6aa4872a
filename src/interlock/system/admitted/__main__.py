"""``python -m interlock.system.admitted [OPTIONS] -- PROGRAM ...``: becomes the program if all is as it was admitted.

Nothing of the model or its environment is run or loaded before. The model's own bytes are compared by the model server,
on the copy that it loads. Exit codes, each with one line on stderr: 3 a file has other bytes; 6 the environment holds
something else than was installed; 7 the model is quarantined; 8 the version's signed statement does not hold, or
is about something else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from blake3 import blake3

from .contents import digest_contents
from .statement import read_statement

OTHER_BYTES, OTHER_ENVIRONMENT, QUARANTINED, UNSIGNED = 3, 6, 7, 8


class NotAdmitted(Exception):
    """Why the program may not start, and the exit code that says so."""

    def __init__(self, code: int, because: str) -> None:
        super().__init__(because)
        self.code = code


def main(arguments: list[str]) -> NoReturn:
    """Becomes the program, or exits."""
    cut = arguments.index("--")
    options, program = _read(arguments[:cut]), arguments[cut + 1 :]
    try:
        check(options)
    except NotAdmitted as refusal:
        sys.stderr.write(f"not started: {refusal}\n")
        sys.exit(refusal.code)
    os.execve(program[0], program, {})  # noqa: S606 - a list of words, no shell


def check(options: argparse.Namespace) -> None:
    """NotAdmitted where something is not as it was admitted; what costs least is looked at first."""
    _check_quarantine(Path(options.quarantined), options.model, options.version)
    for path, digest in options.file:
        _check_file(Path(path), digest)
    if options.statement is not None:
        _check_statement(Path(options.statement), Path(options.key), options.model, options.lock)
    if options.environment is not None:
        _check_environment(*options.environment)


def _check_quarantine(path: Path, model: str, version: str) -> None:
    try:
        because = json.loads(path.read_bytes())["digests"].get(model)
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, AttributeError) as problem:
        raise NotAdmitted(QUARANTINED, f"what is quarantined cannot be read: {problem!r}") from problem
    if because is not None:
        raise NotAdmitted(QUARANTINED, f"{version} is quarantined: {because}")


def _check_file(path: Path, digest: str) -> None:
    try:
        found = f"blake3:{blake3(path.read_bytes()).hexdigest()}"
    except OSError as problem:
        raise NotAdmitted(OTHER_BYTES, f"{path} cannot be read: {problem.strerror}") from problem
    if found != digest:
        raise NotAdmitted(OTHER_BYTES, f"{path} has the digest {found}, not the admitted {digest}")


def _check_statement(envelope: Path, key: Path, model: str, lock: str) -> None:
    try:
        said = read_statement(envelope, key)
    except (OSError, ValueError) as problem:
        raise NotAdmitted(UNSIGNED, f"the signed statement {envelope} cannot be relied on: {problem}") from problem
    if (said.model, said.lock) != (model, lock):
        raise NotAdmitted(UNSIGNED, f"the signed statement is about model {said.model} and lock {said.lock}")


def _check_environment(folder: str, digest: str) -> None:
    try:
        found = digest_contents(folder)
    except OSError as problem:
        raise NotAdmitted(OTHER_ENVIRONMENT, f"its environment cannot be read: {problem}") from problem
    if found != digest:
        because = f"its environment {folder} does not hold what was installed"
        raise NotAdmitted(OTHER_ENVIRONMENT, f"{because}: remove that folder, and it is built again")


def _read(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="interlock.system.admitted", allow_abbrev=False)
    parser.add_argument("--version", required=True, help="what people call it, as flights v3")
    parser.add_argument("--model", required=True, help="the model's digest")
    parser.add_argument("--lock", required=True, help="the digest of the lock that its environment is made of")
    parser.add_argument("--quarantined", required=True, help="the file that lists quarantined digests")
    parser.add_argument("--file", nargs=2, action="append", default=[], metavar=("PATH", "DIGEST"))
    parser.add_argument("--statement", help="the version's signed statement")
    parser.add_argument("--key", help="the public key that it must hold under")
    parser.add_argument("--environment", nargs=2, metavar=("FOLDER", "DIGEST"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])

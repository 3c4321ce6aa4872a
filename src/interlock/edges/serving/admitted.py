"""What each start of a replica looks at first, and who cannot start because of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from interlock.delivery.revision import Revision
from interlock.errors import StaleWrite
from interlock.system.files import write_atomically
from interlock.vocabulary import Digest

QUARANTINED = "quarantined.json"
OTHER_ENVIRONMENT = 6
REPAIRABLE = (3, 8)
"""Exit codes of a start at which the copies that it was given do not hold what was admitted."""


class Installed(NamedTuple):
    """The Python environment of a revision: its folder, and the digest of what was installed (None: not known)."""

    folder: str
    contents: str | None


def guarded(
    argv: Sequence[str],
    revision: Revision,
    installed: Installed,
    copies: Mapping[Digest, Path],
    folder: Path,
    key: Path,
) -> list[str]:
    """The command that becomes ``argv`` if all is as it was admitted.

    ``copies`` are the revision's artifacts beside its model, which its server compares itself; ``key`` is the public
    key, ``folder`` the data plane's.
    """
    command = [sys.executable, "-P", "-m", "interlock.system.admitted"]
    command += ["--version", revision.title, "--model", revision.model_digest, "--lock", revision.lock]
    command += ["--quarantined", str(folder / QUARANTINED)]
    for digest, path in copies.items():
        command += ["--file", str(path), digest]
    if revision.provenance is not None:
        command += ["--statement", str(copies[revision.provenance]), "--key", str(key)]
    if installed.contents is not None:
        command += ["--environment", installed.folder, installed.contents]
    return [*command, "--", *argv]


def write_quarantined(folder: Path, digests: Mapping[str, str], version: int) -> None:
    """From now on no replica of these models starts; to each digest belongs the reason.

    StaleWrite where others were written at a later ``version``. Whoever calls holds the replicas' lock.
    """
    path = folder / QUARANTINED
    try:
        known = json.loads(path.read_bytes())
        in_force, is_known = int(known["version"]), known["digests"] == dict(digests)
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # not there yet, or somebody else's doing
        in_force, is_known = 0, False
    if is_known:
        return
    if version < in_force:
        raise StaleWrite(f"what is quarantined was decided at version {in_force}, not {version}")
    write_atomically(path, json.dumps({"version": version, "digests": dict(digests)}).encode())

"""Reading pins and locks well enough to say which requirement is wrong; uv has the last word on all of it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from interlock.errors import Refused, SeveralRefused
from interlock.pipeline.locks.packages import canonical_name, logical_lines

PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\s*\[[^\]]*\])?\s*==\s*[^\s;,*]+\s*(;[^#]*)?")
REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*([^;]*)")
HOW_TO_PIN = "`interlock run --lock` pins it, by `uv pip compile --generate-hashes`"


def refuse_loose_pins(text: str, name: str) -> None:
    """SeveralRefused with every line that is not ``package==version --hash=...``."""
    refusals = []
    for number, line in logical_lines(text):
        requirement, *options = re.split(r"\s+(?=--)", line)
        where = f"{name}:{number}"
        if not PIN.fullmatch(requirement):
            refusals.append(Refused(f"{requirement!r} is not pinned with ==", where, HOW_TO_PIN))
        elif not options or not all(option.startswith("--hash=") for option in options):
            refusals.append(Refused(f"{requirement!r} has no --hash, or another option beside it", where, HOW_TO_PIN))
    if refusals:
        raise SeveralRefused(refusals)


def without_hashes(text: str) -> str:
    """The pins alone, as constraints for another installation."""
    return "".join(re.split(r"\s+--", line)[0] + "\n" for _, line in logical_lines(text))


def changed_requirements(project: str, lock: str) -> list[str]:
    """What the project file asks for and the lock was not made for, and the other way round, one sentence each.

    Empty where no such difference is seen; the lock may be outdated all the same.
    """
    wanted, locked = _wanted(tomllib.loads(project)), _locked(tomllib.loads(lock))
    if locked is None:
        return []
    sentences = []
    for name in sorted(wanted.keys() | locked.keys()):
        if name not in locked:
            sentences.append(f"{name}{wanted[name]} is in pyproject.toml and not in the lock")
        elif name not in wanted:
            sentences.append(f"{name}{locked[name]} is in the lock and no longer in pyproject.toml")
        elif wanted[name] != locked[name]:
            sentences.append(
                f"pyproject.toml asks for {name}{wanted[name]}, the lock was made for {name}{locked[name]}"
            )
    return sentences


def refuse_local_sources(project: str, lock: str) -> None:
    """SeveralRefused with every package that would be built from a folder: that runs its code outside the sandbox.

    The project itself is not installed, so its own entry is fine.
    """
    own = canonical_name(str(tomllib.loads(project).get("project", {}).get("name", "")))
    refusals = []
    for package in tomllib.loads(lock).get("package", []):
        source = package.get("source", {})
        name = canonical_name(str(package.get("name", "")))
        if source.keys() & {"editable", "directory"} and name != own:
            remedy = "depend on a wheel of it: only pyproject.toml and uv.lock are there when packages are installed"
            refusals.append(Refused(f"{name} would be built from a folder", "uv.lock", remedy))
    if refusals:
        raise SeveralRefused(refusals)


def _wanted(project: Mapping[str, Any]) -> dict[str, str]:
    """Requirement names to version ranges, of the project and its dependency groups."""
    lines = list(project.get("project", {}).get("dependencies", []))
    for group in project.get("dependency-groups", {}).values():
        lines += [line for line in group if isinstance(line, str)]
    found = {}
    for line in lines:
        match = REQUIREMENT.match(line)
        if match:
            found[canonical_name(match[1])] = _range(match[3])
    return found


def _locked(lock: Mapping[str, Any]) -> dict[str, str] | None:
    """The same as the lock remembers it; None where it does not say."""
    for package in lock.get("package", []):
        if package.get("source", {}).keys() & {"virtual", "editable"} and "metadata" in package:
            entries = list(package["metadata"].get("requires-dist", []))
            for group in package["metadata"].get("requires-dev", {}).values():
                entries += group
            return {canonical_name(entry["name"]): _range(entry.get("specifier", "")) for entry in entries}
    return None


def _range(specifier: str) -> str:
    parts = specifier.replace(" ", "").strip("()").split(",")
    return ",".join(sorted(part for part in parts if part))

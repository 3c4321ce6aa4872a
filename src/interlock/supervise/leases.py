"""Leases: a candidate whose control plane has gone loses its weight, and no request is copied to it any more.

A lease is a file ``{"expires": seconds, "file": the route file, "lock": the lock that guards it, "candidate": its
cluster, "stable": its cluster, "mirror": the cluster that copies for it go to}`` with paths relative to the data-plane
folder. The control plane touches it while it is there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from .files import read_object, record, try_locked, write_atomically


def expire(folder: Path, now: float) -> None:
    """Ends every lease that nobody renewed; ``now`` in seconds since 1970. A route file in use is tried again later."""
    for path in (folder / "leases").glob("[!.]*.json"):
        try:
            lease = read_object(path)
            if _age(path, now) > float(lease["expires"]):
                _end(folder, path, lease, now)
        except OSError:  # it was ended meanwhile, or the disk is full: to set it aside would leave the weight for ever
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            record(folder, path.stem, "lease", f"cannot be read, and is set aside: {problem!r}")
            path.replace(path.with_suffix(".broken"))


def _age(path: Path, now: float) -> float:
    return now - path.stat().st_mtime


def _end(folder: Path, path: Path, lease: dict[str, Any], now: float) -> None:
    candidate, stable = str(lease["candidate"]), str(lease["stable"])
    with try_locked(folder / lease["lock"]) as is_ours:
        if not is_ours or _age(path, now) <= float(lease["expires"]):  # it may have been renewed just now
            return
        file = folder / lease["file"]
        document = read_object(file)
        moved = _move_weight(document, candidate, stable)
        is_copied = _end_copies(document, lease.get("mirror"))
        if moved or is_copied:
            document["version_info"] = f"lease ended {time.time_ns()}"
            write_atomically(file, document)
        path.unlink()
        because = f"no control plane renewed the lease for {float(lease['expires']):g} s"
        copies = f", no request is copied to {candidate} any more" if is_copied else ""
        record(folder, path.stem, "lease", f"{because}: {moved} of weight moved from {candidate} to {stable}{copies}")


def _move_weight(document: dict[str, Any], candidate: str, stable: str) -> int:
    """Gives the candidate's weight to stable wherever it has one; answers how much that was."""
    moved = 0
    for configuration in document["resources"]:
        for host in configuration["virtual_hosts"]:
            for route in host["routes"]:
                clusters = route.get("route", {}).get("weighted_clusters", {}).get("clusters", [])
                weights = {cluster["name"]: cluster for cluster in clusters}
                if candidate in weights and stable in weights:
                    moved += int(weights[candidate]["weight"])
                    weights[stable]["weight"] += weights[candidate]["weight"]
                    weights[candidate]["weight"] = 0
    return moved


def _end_copies(document: dict[str, Any], mirror: object) -> bool:
    """Takes out the routes of requests that are copied there; whether there were any."""
    found = False
    for configuration in document["resources"]:
        for host in configuration["virtual_hosts"]:
            kept = [route for route in host["routes"] if mirror not in _mirrors(route)]
            found = found or len(kept) < len(host["routes"])
            host["routes"] = kept
    return found


def _mirrors(route: dict[str, Any]) -> list[object]:
    return [policy.get("cluster") for policy in route.get("route", {}).get("request_mirror_policies", [])]

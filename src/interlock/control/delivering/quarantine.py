"""Digests that were rolled back. A rollback that does not stick would be shipped again by the next push."""

from __future__ import annotations

from interlock.control.rows import read_state, write_state
from interlock.delivery.environment import Environment
from interlock.delivery.revision import Revision
from interlock.ports import Store
from interlock.vocabulary import Kind, Stored, Write

BLOCKED = "blocked"
LIFTED = "lifted"


class Quarantine(Stored):
    """A digest that was rolled back, and why. It is admitted nowhere until a person lifts it, with a reason."""

    digest: str
    title: str
    because: str


def blocked_because(store: Store, digest: str) -> str | None:
    """Why the digest is quarantined; None where it is not."""
    row = store.load(Kind.QUARANTINE, digest)
    return None if row is None or row.phase != BLOCKED else read_state(row, Quarantine).because


def forbidden(store: Store) -> dict[str, str]:
    """The quarantined digests, of which no replica may start any more under any number, and why.

    Not one that an environment serves which has nothing to go back to: to serve it is better than to serve nobody.
    """
    blocked = [read_state(row, Quarantine) for row in store.rows(Kind.QUARANTINE, phases=(BLOCKED,))]
    if not blocked:
        return {}
    digests = {one.digest for one in blocked}
    environments = [read_state(row, Environment) for row in store.rows(Kind.ENVIRONMENT)]
    needed = {
        environment.stable.model_digest
        for environment in environments
        if environment.stable and (environment.previous is None or environment.previous.model_digest in digests)
    }
    return {one.digest: one.because for one in blocked if one.digest not in needed}


def quarantine(store: Store, revision: Revision, because: str) -> Write:
    """The save that quarantines the revision's digest."""
    row = store.load(Kind.QUARANTINE, revision.model_digest)
    return write_state(
        Kind.QUARANTINE,
        revision.model_digest,
        Quarantine(digest=revision.model_digest, title=revision.title, because=because),
        expected=row.version if row else 0,
        phase=BLOCKED,
        because=because,
    )


def lift(store: Store, digest: str, reason: str) -> Write | None:
    """The save that lifts the quarantine of a digest; None where there is none."""
    row = store.load(Kind.QUARANTINE, digest)
    if row is None or row.phase != BLOCKED:
        return None
    state = read_state(row, Quarantine)
    because = f"lifted by a person: {reason}"
    return write_state(Kind.QUARANTINE, digest, state, expected=row.version, phase=LIFTED, because=because)

"""Every error Interlock raises, as one tree.

::

    InterlockError
    +-- Refused                 bad input: a problem, where it is, and the remedy; shown without a traceback
    |   +-- SeveralRefused      all problems of one input at once
    |   +-- NotFound            a thing was named that is not there
    |   +-- Unauthenticated     nobody knows who asks
    |   +-- Forbidden           who asks is known, and may not
    |   +-- Conflict            it cannot be done as things stand now
    +-- Fault                   our machinery or the world; backed off and retried, never blamed on the user
    |   +-- StoreFault          the database could not be read or written
    |   |   +-- StaleWrite      somebody saved the row first; the loser does nothing
    |   |   +-- AlreadyExists   a row of this key or identity was inserted before
    |   +-- GitFault            git did not answer as it should
    |   +-- ArtifactFault       content is missing, torn, or not what its digest says
    |   +-- EnvironmentFault    a Python environment could not be built for a reason of ours
    |   +-- ExecutorFault       a stage could not be started or observed
    |   +-- SandboxFault        this machine cannot isolate a stage as asked
    |   +-- ServingFault        a replica could not be started or stopped
    |   +-- ProxyFault          the proxy could not be reached, or rejected its configuration
    |   +-- SigningFault        a signature could not be made
    |   +-- ForgeFault          a forge could not be told or asked something
    |   +-- VaultFault          a secret could not be opened with this server's key
    |   +-- WatchFault          a watched path or prefix could not be listed
    |   +-- DataFault           data that is no part of a commit could not be read
    |   +-- TelemetryFault      a live metric could not be had from who measures it
    +-- SignatureInvalid        the bytes are not the ones that were signed

A third kind of wrong, the failed verdict on the user's code, data or model, is a value and never an exception.
"""

from __future__ import annotations

from collections.abc import Sequence


class InterlockError(Exception):
    """Root of all errors that Interlock raises on purpose."""


class Refused(InterlockError):
    """Bad input: what is wrong, where, and what to do about it."""

    def __init__(self, problem: str, where: str = "", remedy: str = "") -> None:
        self.problem = problem
        self.where = where
        self.remedy = remedy
        super().__init__(": ".join(part for part in (where, problem) if part) + (f" ({remedy})" if remedy else ""))


class SeveralRefused(Refused):
    """All problems of one input, so that a user mends them in one go."""

    def __init__(self, refusals: Sequence[Refused]) -> None:
        self.refusals = tuple(refusals)
        super().__init__("\n".join(str(refusal) for refusal in refusals))


class NotFound(Refused):
    """A thing was named that is not there."""


class Unauthenticated(Refused):
    """Nobody knows who asks: no token, or one that is unknown, expired or revoked."""


class Forbidden(Refused):
    """Who asks is known, and may not."""


class Conflict(Refused):
    """It cannot be done as things stand now, though it could at another time."""


class Fault(InterlockError):
    """Our machinery or the world failed."""


class StoreFault(Fault):
    """The database could not be read or written."""


class StaleWrite(StoreFault):
    """Somebody saved the row first, or an act carried an older version than the one in force."""


class AlreadyExists(StoreFault):
    """A row of this key or identity was inserted before."""


class GitFault(Fault):
    """git did not answer as it should."""


class ArtifactFault(Fault):
    """Content is missing, torn, or not what its digest says."""


class EnvironmentFault(Fault):
    """A Python environment could not be built for a reason that is not the user's."""


class ExecutorFault(Fault):
    """A stage could not be started or observed."""


class SandboxFault(Fault):
    """This machine cannot isolate a stage as asked."""


class ServingFault(Fault):
    """A replica could not be started or stopped."""


class ProxyFault(Fault):
    """The proxy could not be reached, or rejected its configuration."""


class SigningFault(Fault):
    """A signature could not be made."""


class ForgeFault(Fault):
    """A forge could not be told or asked something: unreachable, overloaded, or at its rate limit.

    ``retry_after`` is what it asked for, in seconds.
    """

    def __init__(self, problem: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(problem)


class VaultFault(Fault):
    """A secret could not be opened with this server's key."""


class WatchFault(Fault):
    """A watched path or prefix could not be listed."""


class DataFault(Fault):
    """Data that is no part of a commit could not be read: no answer, no rights, or it changes all the time."""


class TelemetryFault(Fault):
    """A live metric could not be had from who measures it, or was not one finite number."""


class SignatureInvalid(InterlockError):
    """The bytes are not the ones that were signed."""

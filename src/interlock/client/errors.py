"""What can go wrong between a client and the server.

::

    ClientError
    +-- Unreachable    no answer came: nobody is there, or the connection was lost too often
    +-- ApiError       the server answered that it will not, or cannot, do what was asked
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ClientError(Exception):
    """Root of what the client raises."""


class Unreachable(ClientError):
    """No answer came. ``is_certain``: what was asked was certainly not done."""

    def __init__(self, url: str, problem: str, *, is_certain: bool = True) -> None:
        self.url = url
        self.problem = problem
        self.is_certain = is_certain
        doubt = "" if is_certain else "; whether it was done is not known: look before you ask again"
        super().__init__(f"{url}: {problem}{doubt}")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what, where, and what to do about it."""

    problem: str
    where: str = ""
    remedy: str = ""


class ApiError(ClientError):
    """An answer of problem+json (RFC 9457). ``kind`` is the last part of its type; ``problems`` are never empty.

    ``retry_after`` is in seconds, where the server said when to come again.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        problems: Sequence[Problem],
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.kind = kind
        self.title = title
        self.problems = tuple(problems) or (Problem(title),)
        self.retry_after = retry_after
        first = self.problems[0]
        told = ": ".join(part for part in (first.where, first.problem) if part)
        super().__init__(told + (f" ({first.remedy})" if first.remedy else ""))

    @property
    def is_refusal(self) -> bool:
        """Whether what was asked is to blame, and not the server."""
        return 400 <= self.status < 500

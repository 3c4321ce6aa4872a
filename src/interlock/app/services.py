"""What the outside may ask of a running server, in one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from interlock.control.delivering.requests import Requests
from interlock.control.front.keys import Keys
from interlock.control.front.retiring import Retiring
from interlock.control.inbox import Inbox
from interlock.control.people import People
from interlock.control.running.requests import RunRequests
from interlock.control.secrets import Secrets
from interlock.ports import Logs, Store
from interlock.source.repository import Watched
from interlock.vocabulary import Json, Stored


class Health(Stored):
    """How the server is, as it last saw itself. ``store_problem`` is why the last look at the store failed;
    ``loop_age`` the seconds since the loop last passed, None before it did. ``rounds`` are the seconds for which each
    round of work beside the loop is under way, 0 between two; ``slowest`` is the longest of those that all wait for.
    """

    store_problem: str | None = None
    loop_age: float | None = None
    rounds: dict[str, float] = {}
    slowest: float = 0.0


@dataclass(frozen=True)
class Services:
    """``webhook_secrets`` answers the secrets valid for a repository, none where hooks are refused; ``look`` looks at a
    repository now and answers lines for whoever pushed those refs to those commits; ``health`` is asked without a token
    and must cost nothing; ``refused`` counts the requests that the front refused, by environment name, model and
    status; ``certificates`` tells by environment name when (wall seconds) the one that is shown there ends; ``say``
    hears of every request, as one line of the access log.
    """

    store: Store
    logs: Logs
    inbox: Inbox
    runs: RunRequests
    deliveries: Requests
    people: People
    keys: Keys
    retiring: Retiring
    secrets: Secrets
    repositories: Mapping[str, Watched]
    webhook_secrets: Callable[[str], Sequence[bytes]]
    look: Callable[[str, Mapping[str, str]], list[str]]
    health: Callable[[], Health]
    refused: Callable[[], Mapping[tuple[str, str, str], int]]
    certificates: Callable[[], Mapping[str, float]]
    say: Callable[[Mapping[str, Json]], None]

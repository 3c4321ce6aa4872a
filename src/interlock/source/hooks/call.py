"""A hook call as a notice. What it says is only ever looked up again in the configured repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from interlock.source.hooks import gitea, github, gitlab
from interlock.source.hooks.body import Fields, read_body
from interlock.source.notice import Notice
from interlock.source.repository import ForgeKind

READERS: Mapping[ForgeKind, Callable[[Mapping[str, str], Fields, str], Notice]] = MappingProxyType(
    {"github": github.read_event, "gitlab": gitlab.read_event, "gitea": gitea.read_event}
)


def read_call(
    forge: ForgeKind, headers: Mapping[str, str], body: bytes, repository: str, project: str | None = None
) -> Notice:
    """What a call says happened in the configured ``repository``; ``headers`` by lower-case name.

    Only JSON is read: a form is refused, so choose ``application/json`` where the forge asks for the content type. Of
    events that begin nothing the notice is ``other``. Refused for everything that is no such call; ``where`` is
    ``content-type`` for a body of another kind, the name of the header, or the place in the body.

    With the ``project`` that the repository is at its forge, a pull request of another project is taken for one from
    outside: two repositories may share a secret.
    """
    payload = read_body(headers.get("content-type", ""), body)
    notice = READERS[forge](headers, payload, repository)
    pull_request = notice.pull_request
    if pull_request is None or project is None or _named(forge, payload) == project.lower():
        return notice
    return notice.model_copy(update={"pull_request": pull_request.model_copy(update={"is_fork": True})})


def _named(forge: ForgeKind, payload: Fields) -> str:
    """The project that a call says it is about."""
    told = payload.optional("project" if forge == "gitlab" else "repository")
    return "" if told is None else told.shown("path_with_namespace" if forge == "gitlab" else "full_name").lower()

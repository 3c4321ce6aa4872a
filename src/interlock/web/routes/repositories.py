"""The configured repositories, and looking at one now."""

from __future__ import annotations

from fastapi import APIRouter

from interlock.access.caller import Action
from interlock.errors import NotFound
from interlock.source.repository import Watched
from interlock.web.routes.asking import CallerOf, ServicesOf
from interlock.web.routes.shapes import Lines, WatchedRepository

ROUTES = APIRouter(prefix="/repositories", tags=["repositories"])


@ROUTES.get("")
def list_repositories(services: ServicesOf, caller: CallerOf) -> list[WatchedRepository]:
    """The configured repositories, by name."""
    caller.require(Action.READ)
    return [
        _shown(repository)
        for name, repository in sorted(services.repositories.items())
        if caller.may(Action.READ, repository=name)
    ]


@ROUTES.get("/{name}")
def show_repository(name: str, services: ServicesOf, caller: CallerOf) -> WatchedRepository:
    """How one repository is configured."""
    caller.require(Action.READ, repository=name)
    return _shown(_known(services, name))


@ROUTES.post("/{name}/sync")
def sync_repository(name: str, services: ServicesOf, caller: CallerOf) -> Lines:
    """Looks at a repository now, as if a push had been told of."""
    caller.require(Action.RUN, repository=name)
    return Lines(lines=tuple(services.look(_known(services, name).name, {})))


def _known(services: ServicesOf, name: str) -> Watched:
    if name not in services.repositories:
        raise NotFound(f"there is no repository {name}", remedy="/api/v1/repositories lists them")
    return services.repositories[name]


def _shown(repository: Watched) -> WatchedRepository:
    return WatchedRepository(
        name=repository.name,
        forge=repository.forge,
        default_branch=repository.default_branch,
        trusted=repository.trusted,
        forks=repository.forks,
        most_runs=repository.most_runs,
    )

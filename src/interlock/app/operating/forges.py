"""Forges and watched repositories as the settings describe them, with the credentials that were read."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from interlock.app.operating.credentials import Credentials
from interlock.app.settings import ForgeSettings, RepositorySettings
from interlock.edges.forge import GiteaForge, GitHubApp, GitHubForge, GitLabForge
from interlock.ports import Forge
from interlock.source.repository import Watched

GITHUB = "github.com"
USERS = {"github": "x-access-token", "gitlab": "oauth2", "gitea": "interlock"}
"""The user under which a forge takes a token as the password of a fetch or push."""


class Forges:
    """Everything that stands behind the repositories: what is told of runs, and how their remotes are asked."""

    def __init__(
        self, repositories: Mapping[str, RepositorySettings], credentials: Credentials, now: Callable[[], float]
    ) -> None:
        self._tokens = {
            name: token
            for name, repository in repositories.items()
            if repository.forge and (token := _token(name, repository.forge, credentials, now)) is not None
        }
        self.by_repository: dict[str, Forge] = {
            name: _forge(repository.forge, self._tokens[name])
            for name, repository in repositories.items()
            if repository.forge is not None and name in self._tokens
        }
        self._fetched = {
            repository.url: (name, repository.forge)
            for name, repository in repositories.items()
            if repository.url and repository.forge and name in self._tokens
        }

    def authorization(self, url: str) -> str | None:
        """The header that lets us fetch and push: only at the very host that the forge's credential is for."""
        name, forge = self._fetched.get(url, (None, None))
        if name is None or forge is None:
            return None
        remote, home = urlsplit(url), urlsplit(forge.url)
        if (remote.scheme, remote.netloc) != (home.scheme, home.netloc):
            return None
        pair = f"{USERS[forge.kind]}:{self._tokens[name]()}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _token(
    name: str, forge: ForgeSettings, credentials: Credentials, now: Callable[[], float]
) -> Callable[[], str] | None:
    if forge.app is not None:
        return GitHubApp(_api(forge), forge.app.id, forge.app.installation, credentials.app_keys[name], now)
    token = credentials.tokens.get(name)
    return None if token is None else lambda: token


def _forge(settings: ForgeSettings, token: Callable[[], str]) -> Forge:
    if settings.kind == "github":
        return GitHubForge(_api(settings), settings.project, token)
    if settings.kind == "gitlab":
        return GitLabForge(settings.url, settings.project, token)
    return GiteaForge(settings.url, settings.project, token)


def _api(forge: ForgeSettings) -> str:
    """GitHub's own API has a host of its own; that of an Enterprise server is below its address."""
    if urlsplit(forge.url).hostname == GITHUB:
        return "https://api.github.com"
    return f"{forge.url}/api/v3"


def watch_list(repositories: Mapping[str, RepositorySettings], mirrors: Path) -> dict[str, Watched]:
    """The repositories in the words of the domain; what has a URL is read from its mirror."""
    return {
        name: Watched(
            name=name,
            git_directory=str(one.path if one.path is not None else mirrors / f"{name}.git"),
            url=one.url,
            default_branch=one.default_branch,
            trusted=one.trusted,
            forge=one.forge.kind if one.forge else None,
            project=one.forge.project if one.forge else None,
            forks=one.forks,
            most_runs=one.most_runs,
            propose_reverts=one.propose_reverts,
        )
        for name, one in repositories.items()
    }

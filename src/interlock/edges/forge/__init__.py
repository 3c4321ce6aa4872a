"""Forges: where commits and pull requests are shown what became of them."""

from interlock.edges.forge.app import GitHubApp
from interlock.edges.forge.gitea import GiteaForge
from interlock.edges.forge.github import GitHubForge
from interlock.edges.forge.gitlab import GitLabForge
from interlock.edges.forge.memory import MemoryForge

__all__ = ["GitHubApp", "GitHubForge", "GitLabForge", "GiteaForge", "MemoryForge"]

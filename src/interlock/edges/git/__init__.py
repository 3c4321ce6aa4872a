"""Repositories, read by the git program without a checkout."""

from interlock.edges.git.command import CommandGit

__all__ = ["CommandGit"]

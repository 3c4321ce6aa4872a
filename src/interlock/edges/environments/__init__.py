"""Locked Python environments."""

from interlock.edges.environments.uv import UvEnvironments

__all__ = ["UvEnvironments"]

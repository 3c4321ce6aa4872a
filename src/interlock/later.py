"""Modules that are loaded when they are first used: what is heavy and seldom needed does not slow every start."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """The module ``name``, to be named at the top of a module as an import would be, under ``TYPE_CHECKING`` beside it.

    Threads that use it first at the same moment wait for one another: the import system's own lock.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)

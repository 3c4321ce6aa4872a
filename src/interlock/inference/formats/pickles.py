"""A second wall before pickles: what a model has no use for is not even imported while one is loaded.

The first walls are the digest, checked before, and the sandbox around all this. A list of what is dangerous can never
be whole, so this one stops what is copied from elsewhere without a look, and promises no more. It goes by the name that
the pickle asks for, before anything of that name is looked up (the interpreter's audit event ``pickle.find_class``), so
it holds whatever reads the pickle: pickle, joblib, cloudpickle or a library that uses them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..model import Unloadable

COMMANDS = frozenset(
    {
        *("asyncio", "bdb", "code", "codeop", "commands", "ctypes", "ftplib", "http", "httpx", "imaplib", "importlib"),
        *("io", "multiprocessing", "nt", "os", "pdb", "pip", "posix", "pty", "requests", "runpy", "shutil", "signal"),
        *("smtplib", "socket", "socketserver", "subprocess", "sys", "telnetlib", "urllib", "urllib3", "webbrowser"),
    }
)
"""Modules by which files, processes and the network are reached."""

CALLS = frozenset({"__import__", "breakpoint", "compile", "eval", "exec", "input", "open"})
"""Built-in functions that do the same."""


@contextmanager
def refusing_commands() -> Iterator[None]:
    """While the block lasts, a pickle that names one of those raises Unloadable."""
    is_on = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if is_on and event == "pickle.find_class" and is_command(*map(str, arguments[:2])):
            raise Unloadable(f"it names {arguments[0]}.{arguments[1]}, for which a model has no use")

    sys.addaudithook(watch)  # there for ever, and after the block without effect
    try:
        yield
    finally:
        is_on = False


def is_command(module: str, name: str) -> bool:
    """Whether ``module`` and ``name``, which may have dots, reach one of COMMANDS or CALLS."""
    parts = [*module.lstrip("_").split("."), *name.split(".")]
    if module in ("builtins", "__builtin__") and name in CALLS:
        return True
    return parts[0] in COMMANDS or any(part in COMMANDS for part in name.split("."))

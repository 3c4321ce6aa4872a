"""Addresses of remotes: which are allowed, and how they and their credentials are told to people."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from interlock.errors import Refused

KNOWN = ("https", "http", "ssh", "git", "file")
WITH_SCHEME = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.-]*)://(.+)")
LIKE_SCP = re.compile(r"(?:[A-Za-z0-9_][\w.+-]*@)?[A-Za-z0-9_][\w.-]*:(?!//)[^\s:-]\S*")
USER = re.compile(r"(?<=://)[^/@\s]+@")

SECRET_LETTERS = 4
"""What is shorter is no secret, and would tear every text apart."""


class Address(NamedTuple):
    """A remote that may be asked. ``origin`` is its ``https://host:port``; empty for what is not HTTP."""

    url: str
    protocol: str
    origin: str


def read_address(url: str, allowed: Collection[str]) -> Address:
    """The address. Refused for a protocol that is not allowed, for passwords, and for what git would read as an option.

    A path of this machine is the protocol ``file``, ``user@host:path`` is ``ssh``.
    """
    protocol = _protocol_of(url)
    if protocol is None:
        remedy = "write https://host/path, ssh://user@host/path, user@host:path or a path of this machine"
        raise Refused("this is no address of a git repository", masked(url), remedy)
    if protocol not in allowed:
        remedy = f"allowed are {', '.join(sorted(allowed))}; the server's settings can allow more"
        raise Refused(f"the protocol {protocol} is not allowed", masked(url), remedy)
    if "://" not in url:
        return Address(url, protocol, "")
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as problem:
        raise Refused(f"this is no address: {problem}", masked(url), "correct it") from problem
    if parts.password is not None or (protocol in ("http", "https") and parts.username is not None):
        remedy = "remove it from the address; the server's settings name the variable or file that holds a token"
        raise Refused("the address holds a user name or password", masked(url), remedy)
    if (parts.hostname or "").startswith("-") or (parts.username or "").startswith("-"):
        raise Refused("the host would be read as an option", masked(url), "correct the address")
    if not parts.hostname and protocol != "file":
        raise Refused("the address names no host", masked(url), "correct it")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return Address(url, protocol, f"{protocol}://{host}{port}" if protocol in ("http", "https") else "")


def _protocol_of(url: str) -> str | None:
    if not url.isprintable() or url.startswith("-"):
        return None
    match = WITH_SCHEME.fullmatch(url)
    if match is not None:
        return match[1] if match[1] in KNOWN and not match[2].startswith("-") else None
    if url.startswith("/"):
        return "file"
    return "ssh" if LIKE_SCP.fullmatch(url) else None


def masked(text: str, credential: str = "") -> str:
    """The text without user names and passwords of addresses, and without any form of the credential."""
    for secret in sorted(_forms(credential), key=len, reverse=True):
        text = text.replace(secret, "***")
    return USER.sub("***@", text)


def _forms(credential: str) -> set[str]:
    """An HTTP authorization value, the token in it, and the password that is written in it."""
    token = credential.rpartition(" ")[2]
    forms = {credential, token}
    with suppress(binascii.Error, UnicodeDecodeError):
        forms.add(base64.b64decode(token, validate=True).decode().partition(":")[2])
    return {form for form in forms if len(form) >= SECRET_LETTERS}

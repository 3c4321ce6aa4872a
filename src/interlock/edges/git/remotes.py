"""Remotes: their addresses and how these are told to people, asking them, fetching from them, pushing to them."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from interlock.edges.git.objects import at, parse_refs
from interlock.edges.git.program import run_git
from interlock.errors import GitFault, Refused

KNOWN = ("https", "http", "ssh", "git", "file")
WITH_SCHEME = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.-]*)://(.+)")
LIKE_SCP = re.compile(r"(?:[A-Za-z0-9_][\w.+-]*@)?[A-Za-z0-9_][\w.-]*:(?!//)[^\s:-]\S*")
USER = re.compile(r"(?<=://)[^/@\s]+@")

SECRET_LETTERS = 4
"""What is shorter is no secret, and would tear every text apart."""

PROTOCOLS = ("https", "ssh")
PATIENCE_SECONDS = 120.0
SSH = "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=15 -oServerAliveCountMax=4 -oControlPath=none"
PASSED_ON = ("http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "ALL_PROXY", "SSH_AUTH_SOCK")
"""What of the server's environment reaches a git that asks the network."""
NO_SUCH_REF = "fatal: couldn't find remote ref"
FETCH = (
    "fetch",
    "--progress",  # its words are how a slow remote is told from a silent one
    "--no-tags",
    "--force",
    "--update-shallow",
    "--no-write-fetch-head",
    "--no-auto-maintenance",
    "--no-recurse-submodules",
    "--no-show-forced-updates",
)

Credentials = Callable[[str], str | None]
"""The value of the HTTP header ``Authorization`` for a URL; None for a remote that needs none."""


class Remotes:
    """Remotes of the allowed ``protocols``.

    A credential is sent to the URL's own host only: it is in no command line, and no redirect is followed. A remote
    that says nothing for ``patience`` seconds is given up.
    """

    def __init__(self, protocols: Collection[str], credentials: Credentials, patience: float) -> None:
        self._protocols = tuple(protocols)
        self._credentials = credentials
        self.patience = patience

    def address(self, url: str) -> Address:
        """The address to ask. Refused where it is not allowed."""
        return read_address(url, self._protocols)

    def listing(self, remote: Address, git_directory: str, descriptor: int) -> dict[str, str]:
        """The remote's branches and tags, annotated tags unpeeled."""
        arguments = ["ls-remote", "--refs", "--heads", "--tags", "--", remote.url]
        return parse_refs(self._run(remote, git_directory, arguments, descriptor))

    def matching(self, remote: Address, git_directory: str, pattern: str, descriptor: int) -> dict[str, str]:
        """The remote's refs of a pattern with one star; git itself takes it for the end of a name."""
        first, _, last = pattern.partition("*")
        listing = self._run(remote, git_directory, ["ls-remote", "--refs", "--", remote.url, pattern], descriptor)
        return {ref: sha for ref, sha in parse_refs(listing).items() if ref.startswith(first) and ref.endswith(last)}

    def fetch(
        self, remote: Address, git_directory: str, refspecs: Sequence[str], descriptor: int, *, prune: bool
    ) -> bool:
        """Brings what the refspecs say; False where the remote has no such ref."""
        arguments = [*FETCH, *(["--prune"] if prune else []), "--", remote.url, *refspecs]
        try:
            self._run(remote, git_directory, arguments, descriptor)
        except GitFault as fault:
            if any(line.removeprefix("git fetch: ").startswith(NO_SUCH_REF) for line in str(fault).splitlines()):
                return False
            raise
        return True

    def push(self, remote: Address, git_directory: str, sha: str, ref: str, descriptor: int) -> None:
        """The remote has the commit under a new ref. GitFault where it has the ref, or does not take it."""
        is_new = f"--force-with-lease={ref}:"
        words = ["push", "--progress", "--no-follow-tags", "--no-recurse-submodules", is_new, "--", remote.url]
        self._run(remote, git_directory, [*words, f"{sha}:{ref}"], descriptor)

    def _run(self, remote: Address, git_directory: str, arguments: Sequence[str], descriptor: int) -> bytes:
        credential = self._credential(remote)
        try:
            return run_git(
                [*at(git_directory), *arguments],
                more=_environment(remote, credential, self.patience),
                silence=self.patience,
                descriptors=(descriptor,),
            ).stdout
        except GitFault as fault:
            told = masked(str(fault), credential)
            if "returned error: 30" in told:
                told += "\nit redirects, which is not followed: configure the address it redirects to"
            raise GitFault(told) from None  # what git said may hold the credential

    def _credential(self, remote: Address) -> str:
        value = self._credentials(remote.url) or "" if remote.origin else ""
        if not value.isprintable():
            problem = "the credential holds characters that no HTTP header can have"
            raise Refused(problem, masked(remote.url), "remove line breaks from the token")
        return value


def _environment(remote: Address, credential: str, patience: float) -> dict[str, str]:
    settings = {
        "credential.helper": "",
        "http.followRedirects": "false",
        "http.lowSpeedLimit": "1",
        "http.lowSpeedTime": str(max(1, int(patience))),
    }
    if "SSL_CERT_FILE" in os.environ:
        settings["http.sslCAInfo"] = os.environ["SSL_CERT_FILE"]
    if credential:
        settings[f"http.{remote.origin}/.extraHeader"] = f"Authorization: {credential}"
    numbered = dict(enumerate(settings.items()))
    return {
        "GIT_ALLOW_PROTOCOL": remote.protocol,
        "GIT_SSH_COMMAND": SSH,
        "GIT_SSH_VARIANT": "ssh",
        "GIT_CONFIG_COUNT": str(len(numbered)),
        **{f"GIT_CONFIG_KEY_{number}": key for number, (key, _) in numbered.items()},
        **{f"GIT_CONFIG_VALUE_{number}": value for number, (_, value) in numbered.items()},
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
    }


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

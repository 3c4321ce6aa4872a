"""The body of a hook call: strict JSON, and fields that are what they are taken for."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from interlock.errors import Refused

MOST_LETTERS = 200
"""How much is kept of a title, a name or a number of a call; they are only shown."""
MOST_NUMBER = 2**53
"""Beyond it JSON numbers are no longer exact everywhere."""

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NO_BRANCH = re.compile(r"^[-/]|//|\.\.|/\.|^\.|@\{|[/.]$|\.lock(/|$)|[\x00-\x20~^:?*\[\\\x7f]")
"""What git allows in no name of a branch (git-check-ref-format)."""
_MOST_NAME = 1000
_SENDER = "a forge sends no such call; look at its list of recent deliveries"


class Fields(NamedTuple):
    """One mapping of a payload and the place where it stands."""

    values: dict[str, Any]
    place: str = "body"

    def mapping(self, name: str) -> Fields:
        """The mapping of this name. Refused where there is none."""
        found = self.optional(name)
        return self._refuse(name, "no mapping") if found is None else found

    def optional(self, name: str) -> Fields | None:
        """The mapping of this name; None where it is null or missing. Refused for anything else."""
        value = self.values.get(name)
        if value is None:
            return None
        return Fields(value, f"{self.place}.{name}") if isinstance(value, dict) else self._refuse(name, "no mapping")

    def text(self, name: str) -> str:
        """The text of this name."""
        value = self.values.get(name)
        return value if isinstance(value, str) else self._refuse(name, "no text")

    def shown(self, name: str) -> str:
        """A text that is only shown: shortened, and without what cannot be printed; empty where there is none."""
        value = self.values.get(name)
        return shown(value) if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        """The positive whole number of this name."""
        value = self.values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_NUMBER:
            return value
        return self._refuse(name, "no positive whole number")

    def branch(self, name: str, prefix: str = "") -> str:
        """The name of a branch, a tag or, with its ``prefix``, a ref."""
        value = self.text(name)
        is_name = value.startswith(prefix) and not _NO_BRANCH.search(value) and 0 < len(value) <= _MOST_NAME
        return value if is_name and value.isprintable() else self._refuse(name, "no name that git allows")

    def sha(self, name: str) -> str:
        """The id of a commit; all zeros stand for none."""
        value = self.text(name)
        return value if _SHA.fullmatch(value) else self._refuse(name, "no id of a commit")

    def _refuse(self, name: str, what: str) -> NoReturn:
        raise Refused(f"{name} is {what}", f"{self.place}.{name}", _SENDER)


def shown(text: str) -> str:
    """A text of a stranger's as it may be stored and shown."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text[:MOST_LETTERS])


def read_body(content_type: str, body: bytes) -> Fields:
    """The object that the body holds. Refused for anything else, however deep, doubled or long."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        said = shown(content_type) or "of no kind at all"
        raise Refused(f"the body is {said}", "content-type", "choose application/json as the hook's content type")
    try:
        value = _STRICT.decode(body.decode("utf-8"))
    except RecursionError:
        raise Refused("the body is nested too deeply", "body", _SENDER) from None
    except ValueError as error:
        raise Refused(f"the body is no JSON: {shown(str(error))}", "body", _SENDER) from None
    if not isinstance(value, dict):
        raise Refused("the body is no JSON object", "body", _SENDER)
    return Fields(value)


def _without_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of reach")
    return number


_STRICT = json.JSONDecoder(object_pairs_hook=_without_doubles, parse_constant=_refuse_constant, parse_float=_finite)

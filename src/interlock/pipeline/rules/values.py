"""What one value of ``interlock.yaml`` may be: texts, paths, durations, sizes, names, words, and keys that are planned.

Each type says what is wrong in the user's words, with a remedy.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from interlock.pipeline.document import WrittenFloat, WrittenInteger

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = r"[0-9]+(\.[0-9]+)?[smhd]"
_SIZES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = r"[0-9]+(\.[0-9]+)?[KMGT]iB"
_LEAST, _MOST = 16 * 2**20, 1024 * 2**40


class Section(BaseModel):
    """A mapping with fixed keys; unknown ones are refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


def wrong(problem: str, remedy: str) -> PydanticCustomError:
    """What a validator raises: the problem and its remedy in the user's words."""
    return PydanticCustomError("refused", "{problem}", {"problem": problem, "remedy": remedy})


def written_text(value: Any) -> Any:
    """``3.10`` in a place for texts is the text "3.10"."""
    return value.text if isinstance(value, WrittenInteger | WrittenFloat) else value


def said(value: Any) -> str:
    """The value as it is named in a message."""
    if isinstance(value, bool):
        return str(value).lower()
    text = written_text(value)
    kinds = {dict: "a mapping", list: "a list", type(None): "nothing"}
    return kinds.get(type(text)) or (text if len(text) <= 60 else f"{text[:60]}...")


def seconds(value: Any) -> float:
    """A duration in seconds. Refused for what is none."""
    text = written_text(value)
    if not isinstance(text, str) or not re.fullmatch(_DURATION, text):
        raise wrong(f"{said(value)} is no duration", "write a number and its unit: 30s, 5m, 2h or 1d")
    found = float(text[:-1]) * _UNITS[text[-1]]
    if not 0.0 < found <= 366 * _UNITS["d"]:
        raise wrong(f"the duration {text} is out of reach", "write more than 0s and at most 366d")
    return found


def _bytes(value: Any) -> int:
    text = written_text(value)
    if not isinstance(text, str) or not re.fullmatch(_SIZE, text):
        near = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt])(?:i?b?)?\s*", str(text), re.IGNORECASE)
        remedy = "write a number and its unit: 512MiB or 4GiB"
        raise wrong(f"{said(value)} is no size", f"did you mean {near[1]}{near[2].upper()}iB?" if near else remedy)
    size = int(float(text[:-3]) * _SIZES[text[-3:]])
    if not _LEAST <= size <= _MOST:
        raise wrong(f"the size {text} is out of reach", "write at least 16MiB and at most 1024TiB")
    return size


def relative(path: str) -> str:
    """A path of the project, made normal. Refused for what leaves it."""
    parts = path.split("/")
    if path.startswith(("/", "~")) or "\\" in path or ":" in parts[0]:
        raise wrong(f"the path {path} leaves the repository", "write it relative to the folder of this file, with /")
    if ".." in parts or ".git" in parts:
        raise wrong(f"the path {path} leaves the project", "name a file or folder below the folder of this file")
    if not path.isprintable():
        raise wrong(f"the path {path} holds a character that cannot be printed", "rename the file")
    if any(letter in path for letter in "*?[]"):
        raise wrong(f"the path {path} is a pattern, which is not supported yet", "name the file, or its whole folder")
    if (normal := posixpath.normpath(path)) == ".":
        raise wrong("the path is the whole project", "name a file or folder in it")
    return normal


def _once(secrets: list[str]) -> list[str]:
    for index, secret in enumerate(secrets):
        if secret in secrets[:index]:
            raise wrong(f"the secret {secret} is given twice", "remove one")
    return secrets


def ends_with(*endings: str) -> AfterValidator:
    """A path with one of these endings."""

    def check(path: str) -> str:
        if not path.lower().endswith(endings):
            raise wrong(
                f"{path} is of a kind that is not supported yet", f"use a file that ends in {' or '.join(endings)}"
            )
        return path

    return AfterValidator(check)


def shape_of(value: Any) -> str:
    """Which side of ``text or mapping`` a value is meant to be."""
    return "<text>" if isinstance(written_text(value), str) else "<mapping>"


def shape_of_list(value: Any) -> str:
    """Which side of ``text or list`` a value is meant to be."""
    return "<list>" if isinstance(value, list) else "<text>"


@dataclass(frozen=True)
class Choice:
    """A word out of ``known``; those in ``later`` are planned."""

    known: tuple[str, ...]
    later: tuple[str, ...] = ()
    remedy: str = ""

    def check(self, value: Any) -> str:
        """The word itself. Refused with a suggestion."""
        if value in self.known:
            return str(value)
        remedy = self.remedy or f"use {' or '.join(self.known)}"
        if value in self.later:
            raise wrong(f"{value} is not supported yet", remedy)
        close = difflib.get_close_matches(said(value), self.known, n=1)
        raise wrong(f"{said(value)} is not known here", f"did you mean {close[0]}?" if close else remedy)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.known)}


def named(pattern: str, words: str) -> Any:
    """A text of this pattern, which ``words`` tell to people."""

    def check(name: str) -> str:
        if not re.fullmatch(pattern, name):
            raise wrong(f"{name or 'an empty text'} is no name", f"use {words}")
        return name

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^({pattern})$"})


Text: TypeAlias = Annotated[str, BeforeValidator(written_text), StringConstraints(min_length=1)]
Path: TypeAlias = Annotated[Text, AfterValidator(relative)]
Duration: TypeAlias = Annotated[
    float, BeforeValidator(seconds), WithJsonSchema({"type": "string", "pattern": f"^{_DURATION}$"})
]
Size: TypeAlias = Annotated[int, BeforeValidator(_bytes), WithJsonSchema({"type": "string", "pattern": f"^{_SIZE}$"})]
Alpha: TypeAlias = Annotated[float, Field(gt=0.0, lt=0.5)]
StageName: TypeAlias = Annotated[
    Text, *named("[a-z][a-z0-9_-]{0,62}", "lower-case letters, digits, _ and -, a letter first")
]
ModelName: TypeAlias = Annotated[
    Text, *named("[a-z0-9][a-z0-9-]{0,62}", "at most 63 lower-case letters, digits and -, no - first")
]
Variable: TypeAlias = Annotated[Text, *named("[A-Za-z_][A-Za-z0-9_]*", "letters, digits and _, no digit first")]
Secrets: TypeAlias = Annotated[list[Variable], AfterValidator(_once)]
ParamName: TypeAlias = Annotated[
    Text, *named(r"[^\s.=]+(\.[^\s.=]+)*", "a dotted name of params.yaml: train.max_depth")
]

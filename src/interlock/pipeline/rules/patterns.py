"""What begins a run, one value at a time: patterns, cron expressions, time zones, places of data, groups."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from interlock.errors import Refused
from interlock.pipeline.rules.values import Text, named, relative, seconds, wrong
from interlock.source.schedule import check_expression, find_time_zone

_STORE = re.compile(r"(s3|gs|az)://[a-z0-9][a-z0-9._-]{1,62}(/[^?#@\\]*)?")
_NO_REF = re.compile(r"[\x00-\x20\x7f~^:\\]|\.\.|@\{|//")
_MOST_LETTERS = 255


def _ref_pattern(text: str) -> str:
    pattern = _glob(text, "main, release/* or !release/old")
    if pattern.startswith(("refs/", "/")):
        raise wrong(f"{text} is a full ref", "write the name alone: main")
    if _NO_REF.search(pattern) or not pattern:
        raise wrong(f"{text or 'an empty text'} is no name that git allows", "write main, release/* or !release/old")
    return text


def _path_pattern(text: str) -> str:
    pattern = _glob(text, "src/**, *.py or !docs/**")
    parts = pattern.split("/")
    if pattern.startswith(("/", "./", "~")) or ".." in parts or not pattern:
        raise wrong(
            f"{text} leaves the project", "write it relative to the folder of this file, without ./ before it: src/**"
        )
    if pattern.endswith("/"):
        raise wrong(f"{text} matches no file", f"write {text}** for all files in it")
    return text


def _glob(text: str, examples: str) -> str:
    """The pattern without its mark. Refused for what would mean something else than people expect."""
    pattern = text.removeprefix("!")
    if len(text) > _MOST_LETTERS:
        raise wrong(f"a pattern has {len(text)} letters", f"write at most {_MOST_LETTERS}: {examples}")
    odd = next((letter for letter in pattern if letter in "[]{}\\!" or not letter.isprintable()), None)
    if odd is not None:
        raise wrong(f"{text} holds {odd}, which no pattern may", f"patterns have *, ** and ?: {examples}")
    return pattern


def _lets_something_in(texts: list[str]) -> list[str]:
    if texts and all(text.startswith("!") for text in texts):
        raise wrong("these patterns only take away", 'put what is let in first: ["**", "!docs/**"]')
    return texts


def _unwrapped(value: Any) -> Any:
    if isinstance(value, dict) and "cron" in value:
        raise wrong("schedule holds a mapping", 'write the expression alone: schedule: "0 3 * * 1"')
    return value


def _cron(text: str) -> str:
    try:
        check_expression(text)
    except Refused as refused:
        where = f", {refused.where}" if refused.where.startswith("field") else ""
        raise wrong(f"{text}{where}: {refused.problem}", refused.remedy) from None
    return text


def _time_zone(name: str) -> str:
    try:
        find_time_zone(name)
    except Refused as refused:
        raise wrong(refused.problem, refused.remedy) from None
    return name


def _data_place(place: str) -> str:
    if "://" in place:
        if not _STORE.fullmatch(place) or ".." in place.split("/") or not place.isprintable():
            raise wrong(f"{place} is no prefix of an object store", "write s3://bucket/prefix, gs://... or az://...")
        return place
    if not place.startswith("/") or ".." in place.split("/") or not place.isprintable():
        raise wrong(
            f"{place} is no whole path", "write a path of the server's machine from / on, or s3://bucket/prefix"
        )
    return posixpath.normpath(place)


def _data_home(place: str) -> str:
    return _data_place(place) if "://" in place or place.startswith("/") else relative(place)


def _refresh(value: Any) -> Any:
    """``always``, or the seconds of a duration."""
    if value == "always":
        return value
    try:
        return seconds(value)
    except PydanticCustomError as odd:
        raise wrong(odd.message(), "write always, 24h, or {cmd: python version.py}") from None


RefPatterns: TypeAlias = Annotated[
    list[Annotated[Text, AfterValidator(_ref_pattern)]],
    Field(min_length=1, max_length=50),
    AfterValidator(_lets_something_in),
]
PathPatterns: TypeAlias = Annotated[
    list[Annotated[Text, AfterValidator(_path_pattern)]],
    Field(min_length=1, max_length=50),
    AfterValidator(_lets_something_in),
]
Cron: TypeAlias = Annotated[Text, BeforeValidator(_unwrapped), AfterValidator(_cron)]
TimeZone: TypeAlias = Annotated[Text, AfterValidator(_time_zone)]
DataPlace: TypeAlias = Annotated[Text, AfterValidator(_data_place)]
DataHome: TypeAlias = Annotated[Text, AfterValidator(_data_home)]
Refresh: TypeAlias = Annotated[
    Literal["always"] | float,
    BeforeValidator(_refresh),
    WithJsonSchema({"type": "string", "pattern": r"^(always|[0-9]+(\.[0-9]+)?[smhd])$"}),
]
GroupName: TypeAlias = Annotated[
    Text, *named("[A-Za-z0-9][A-Za-z0-9._/-]{0,99}", "letters, digits and ._/-: a group is a plain name")
]

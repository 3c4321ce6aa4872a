"""What is not as it was when a stage was executed, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from interlock.pipeline.inputs.definitions import tell_definitions
from interlock.pipeline.inputs.names import names_in
from interlock.pipeline.inputs.packages import Packages, tell_packages
from interlock.pipeline.params import flatten
from interlock.pipeline.trace import ABSENT, KeyInputs, Prints, Trace
from interlock.vocabulary import Json, canonical

_PLAIN_FIELDS = ("network", "platform", "environment", "program", "products")


class Known(NamedTuple):
    """What reasons are told with, as far as it is known: the stage that makes each product, the definitions of a Python
    file (of the path, with this fingerprint), the packages of an environment by its digest.
    """

    makers: Mapping[str, str] = {}
    definitions: Callable[[str, str], Mapping[str, str] | None] = lambda _path, _print: None
    packages: Callable[[str], Packages | None] = lambda _environment: None


NOTHING = Known()


def differences(inputs: KeyInputs, trace: Trace, current: Prints, known: Known = NOTHING) -> Iterator[str]:
    """Everything that differs, each in a few words. Whether anything does is not asked here: see ``keys.look_up``."""
    before = trace.inputs
    if before.inputs != inputs.inputs:  # it saw other files by rule, so that those it did not see tell nothing
        yield f"inputs: {before.inputs} -> {inputs.inputs}"
    else:
        told = (*_changed_files(trace.reads, current.reads, known), *_changed_names(trace.listings, current.listings))
        yield from dict.fromkeys(told)
    yield from _changed_artifacts(before, inputs, known.makers)
    yield from _changed_values("parameter ", flatten(before.params or {}), flatten(inputs.params or {}))
    if (before.params is None) is not (inputs.params is None):
        yield "it declares its parameters now" if before.params is None else "it no longer declares its parameters"
    if before.command != inputs.command:
        yield f"command: {before.command} -> {inputs.command}"
    yield from _changed_values("env ", before.env, inputs.env)
    yield from _changed_values("setting ", flatten(before.settings), flatten(inputs.settings))
    if before.stage != inputs.stage:
        yield f"it was the stage {before.stage}"
    for name in _PLAIN_FIELDS:
        if getattr(before, name) != getattr(inputs, name):
            yield _changed_field(name, before, inputs, known)


def _changed_field(name: str, before: KeyInputs, inputs: KeyInputs, known: Known) -> str:
    if name == "environment":
        return tell_packages(known.packages(before.environment), known.packages(inputs.environment))
    if name == "program":
        return "the program of this stage changed"
    if name == "products":
        return f"products: {', '.join(before.products)} -> {', '.join(inputs.products)}"
    return f"{name}: {_said(getattr(before, name))} -> {_said(getattr(inputs, name))}"


def _changed_files(before: Mapping[str, str], now: Mapping[str, str], known: Known) -> Iterator[str]:
    recast = []
    for path in _changed(before, now):
        was, then = before.get(path, ABSENT), now.get(path, ABSENT)
        if then == ABSENT:
            yield f"{path} is gone"
        elif was == ABSENT:
            yield f"{path} is new"
        elif {_kind(was), _kind(then)} == {"py", "git"}:
            recast.append(path)
        else:
            yield _told_in(path, was, then, known) or f"{path} changed"
    yield from _changed_recast(recast, before, now, known)


def _changed_recast(paths: list[str], before: Mapping[str, str], now: Mapping[str, str], known: Known) -> Iterator[str]:
    """Files compared by their text now and by what they do before, or the reverse: what they do tells which changed."""
    told = [_told_in(path, before[path], now[path], known) for path in paths]
    certain = [one for one in told if one]
    if certain:
        yield from certain
    elif len(paths) == 1:
        yield f"{paths[0]} changed"
    elif paths:
        yield f"one of {len(paths)} Python files changed: {', '.join(paths)}"


def _told_in(path: str, was: str, then: str, known: Known) -> str | None:
    """Which parts of a Python file changed; None where that is not known, or no part did and none is to be blamed."""
    if not path.endswith(".py"):
        return None
    parts_before, parts_now = known.definitions(path, was), known.definitions(path, then)
    if not parts_before or not parts_now:
        return None
    told = tell_definitions(parts_before, parts_now)
    if told:
        return f"{path}: {told}"
    if _kind(was) != _kind(then):
        return None
    if _kind(then) == "git":
        return f"{path}: its text changed, and not what it does; it counts because sources may be read as text"
    return f"{path}: the order of its parts changed"


def _changed_names(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for folder in _changed(before, now):
        names_before, names_now = names_in(before.get(folder, ABSENT)), names_in(now.get(folder, ABSENT))
        place = f"{folder}/" if folder else ""
        if names_before is None or names_now is None or names_before == names_now:
            yield f"the names in {folder or 'the project folder'} changed"
            continue
        yield from (f"{place}{name} is new" for name in sorted(names_now - names_before))
        yield from (f"{place}{name} is gone" for name in sorted(names_before - names_now))


def _changed_artifacts(before: KeyInputs, inputs: KeyInputs, makers: Mapping[str, str]) -> Iterator[str]:
    for path in _changed(before.artifacts, inputs.artifacts):
        maker = f" (from {makers[path]})" if path in makers else ""
        if path not in inputs.artifacts:
            yield f"{path}{maker} is no longer given"
        else:
            yield f"{path}{maker} changed" if path in before.artifacts else f"{path}{maker} is given now"


def _changed_values(what: str, before: Mapping[str, Json], now: Mapping[str, Json]) -> Iterator[str]:
    for name in sorted({*before, *now}):
        if name not in now:
            yield f"{what}{name} is gone"
        elif name not in before:
            yield f"{what}{name} is new: {_said(now[name])}"
        elif canonical(before[name]) != canonical(now[name]):
            yield f"{what}{name}: {_said(before[name])} -> {_said(now[name])}"


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(path for path in {*before, *now} if before.get(path) != now.get(path))


def _said(value: Json) -> str:
    text = value if isinstance(value, str) else canonical(value).decode()
    return text if len(text) <= 60 else f"{text[:60]}..."


def _kind(fingerprint: str) -> str:
    return fingerprint.partition(":")[0]

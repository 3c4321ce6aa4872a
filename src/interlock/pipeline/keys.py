"""Cache keys, and whether an earlier execution of a stage may be used again.

A key is known before a stage runs: its command, parameters, environment, products it is given. What it reads of the
commit is known only afterwards, so an execution leaves a trace: the files it read and the folders whose names it saw,
each with a fingerprint. It may be used again if the key is the same and every fingerprint is the same in the commit of
today.

A trace's fingerprints can be computed again from four things: the paths, the tree, the contents, and whether the
stage's command is a Python program. Ask for exactly the paths of the trace: whether comments of a Python file matter is
decided for the whole set.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence

from blake3 import blake3

from interlock.pipeline.entries import module_files, words_of
from interlock.pipeline.fingerprint import fingerprint_names, fingerprint_python, needs_source_text
from interlock.pipeline.params import flatten
from interlock.pipeline.plan import Plan
from interlock.pipeline.trace import KeyInputs, Lookup, Trace
from interlock.source.commit import FileEntry, Tree
from interlock.vocabulary import Json, canonical

ABSENT = "absent"
"""The fingerprint of a file or folder that the commit does not hold."""

_TEXT = "text"
_RULES = "1"
"""Raised when ``fingerprint`` decides anew, so that nothing remembered from before is used."""

_REGULAR = "100644"
_DIFFERENCES_SHOWN = 3
_PLAIN_FIELDS = ("network", "platform", "environment", "program", "products")


def key_of(inputs: KeyInputs) -> str:
    """The key of a stage: a digest of everything its result depends on that is known before it runs."""
    return f"blake3:{blake3(canonical(inputs.model_dump(mode='json'))).hexdigest()}"


def is_python_command(command: str, paths: Collection[str] = ()) -> bool:
    """Whether a command is one Python program of the project and nothing else: ``python src/train.py --fast``.

    ``paths`` are the project's files; they tell whether ``python -m package.train`` is its own. Everything that might
    read sources as text is no such command: a shell line, pytest (its plugins and settings may), ``python -c``, an
    argument that names a source.
    """
    words = words_of(command)
    if any(mark in command for mark in "|&;<>()$`*?[{~\n") or not words:
        return False
    program = posixpath.basename(words[0])
    if not program.startswith("python") or program.removeprefix("python").strip("0123456789."):
        return False
    rest = words[2:] if words[1:2] == ["-u"] else words[1:]
    if rest[:1] == ["-m"]:
        is_own = len(rest) > 1 and bool(module_files(rest[1], paths))
        rest = rest[1:]
    else:
        is_own = bool(rest) and rest[0].endswith(".py") and not rest[0].startswith("-")
    return is_own and not any(".py" in word for word in rest[1:])


def fingerprint_reads(
    reads: Sequence[str],
    tree: Tree,
    contents: Callable[[Sequence[str]], Mapping[str, bytes]],
    python_command: bool,
    remembered: MutableMapping[str, str] | None = None,
) -> dict[str, str]:
    """The fingerprint of each file that was read, by path.

    ``git:`` and git's object id (and the mode, where it is not that of a plain file); ``absent`` where the tree has no
    such file. Where the command is a Python program that cannot see the text of its sources, its Python files are told
    by what they do, ``py:``. One file that might look at sources turns all of them to ``git:``.

    Paths are relative to the project, those of ``tree`` too. ``contents`` is asked once, for files not in
    ``remembered``, which maps git's object ids to what was found out about them and may be kept for ever.
    """
    prints = {path: _print_of(tree.get(path)) for path in reads}
    sources = {path: tree[path].blob for path in reads if path.endswith(".py") and _is_file(tree.get(path))}
    if not python_command or not sources:
        return prints
    known: MutableMapping[str, str] = {} if remembered is None else remembered
    unknown = {path: blob for path, blob in sources.items() if _memory_key(blob) not in known}
    found = contents(sorted(unknown)) if unknown else {}
    for path, blob in unknown.items():
        known[_memory_key(blob)] = _source_print(found.get(path))
    found_out = {path: known[_memory_key(blob)] for path, blob in sources.items()}
    if _TEXT in found_out.values():
        return prints
    return prints | {path: told + _mode_of(tree[path]) for path, told in found_out.items()}


def fingerprint_listings(folders: Iterable[str], tree: Tree) -> dict[str, str]:
    """The fingerprint of the names in each folder, by path (``""`` is the project's own folder).

    Names that programs do not look for (``fingerprint_names``) are left out in the project's folder and in folders that
    hold Python files, which the import system lists all the time; in folders of data every name counts.
    """
    normal = {folder: "" if folder == "." else folder.strip("/") for folder in folders}
    names: dict[str, set[str]] = {folder: set() for folder in normal.values()}
    for path in tree:
        folder = path
        while folder:
            folder, _, name = folder.rpartition("/")
            if folder in names:
                names[folder].add(name)
    return {folder: _listing_print(place, names[place]) for folder, place in normal.items()}


def look_up(
    inputs: KeyInputs,
    traces: Sequence[Trace],
    history: Sequence[Trace],
    current: Callable[[Trace], tuple[dict[str, str], dict[str, str]]],
    makers: Mapping[str, str] | None = None,
) -> Lookup:
    """Whether the stage must run, and why.

    ``traces`` are executions of the same key, newest first, ``history`` others of the same stage; ``current`` gives the
    fingerprints of a trace's reads and listings in the commit of today. ``makers`` names the stage that makes each
    product, for the reason. A miss is explained against the execution with the fewest differences.
    """
    key = key_of(inputs)
    nearest: tuple[str, ...] | None = None
    for trace in (*traces, *history):
        found = tuple(differences(inputs, trace, current(trace), makers or {}))
        if not found and key_of(trace.inputs) == key:
            return Lookup(key=key, hit=trace, because=f"reused from run {trace.run}")
        if nearest is None or len(found) < len(nearest):
            nearest = found or ("its inputs changed",)
    if nearest is None:
        return Lookup(key=key, hit=None, because="never ran before")
    more = len(nearest) - _DIFFERENCES_SHOWN
    told = "; ".join(nearest[:_DIFFERENCES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    return Lookup(key=key, hit=None, because=told, differences=nearest)


def makers_in(plan: Plan) -> dict[str, str]:
    """The stage that makes each product of a plan."""
    return {product: stage.name for stage in plan.stages for product in stage.products}


def differences(
    inputs: KeyInputs, trace: Trace, current: tuple[dict[str, str], dict[str, str]], makers: Mapping[str, str]
) -> Iterator[str]:
    """Everything that is not as it was when the trace was made, in words; nothing if it may be used again."""
    before = trace.inputs
    reads, listings = current
    yield from _changed_files(trace.reads, reads)
    yield from (
        f"the names in {folder or 'the project folder'} changed" for folder in _changed(trace.listings, listings)
    )
    yield from _changed_artifacts(before, inputs, makers)
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
            yield _changed_field(name, before, inputs)


def _changed_field(name: str, before: KeyInputs, inputs: KeyInputs) -> str:
    if name == "environment":
        return "environment changed"
    if name == "program":
        return "the program of this stage changed"
    if name == "products":
        return f"products: {', '.join(before.products)} -> {', '.join(inputs.products)}"
    return f"{name}: {_said(getattr(before, name))} -> {_said(getattr(inputs, name))}"


def _changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    changed = _changed(before, now)
    # Where sources are compared by their text now and were not before (or the reverse), nobody knows which changed.
    recast = [path for path in changed if {_kind(before.get(path)), _kind(now.get(path))} == {"py", "git"}]
    if recast:
        yield (
            f"{recast[0]} changed"
            if len(recast) == 1
            else f"one of {len(recast)} Python files changed: {', '.join(recast)}"
        )
    for path in changed:
        if path in recast:
            continue
        if now.get(path, ABSENT) == ABSENT:
            yield f"{path} is gone"
        else:
            yield f"{path} is new" if before.get(path, ABSENT) == ABSENT else f"{path} changed"


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


def _is_file(entry: FileEntry | None) -> bool:
    return entry is not None and entry.mode in {_REGULAR, "100755"}


def _mode_of(entry: FileEntry) -> str:
    return "" if entry.mode == _REGULAR else f":{entry.mode}"


def _kind(fingerprint: str | None) -> str:
    return (fingerprint or "").partition(":")[0]


def _print_of(entry: FileEntry | None) -> str:
    return ABSENT if entry is None else f"git:{entry.blob}{_mode_of(entry)}"


def _memory_key(blob: str) -> str:
    return f"python-{_RULES}:{blob}"


def _source_print(source: bytes | None) -> str:
    return _TEXT if source is None or needs_source_text(source) else fingerprint_python(source)


def _listing_print(folder: str, names: Collection[str]) -> str:
    if not names:
        return ABSENT
    holds_code = any(name.endswith(".py") for name in names)
    return fingerprint_names(names, is_whole=bool(folder) and not holds_code)

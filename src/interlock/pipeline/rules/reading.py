"""Reads a pipeline file and tells everything that is wrong with it at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from pydantic import ValidationError

from interlock.pipeline.document import Document, Path, Problem, read_document, refuse_all
from interlock.pipeline.rules import delivery, triggers, work
from interlock.pipeline.rules.graph import makers_of
from interlock.pipeline.rules.refusals import problems_of
from interlock.pipeline.spec import FileSpec
from interlock.vocabulary import Json

Rule: TypeAlias = Callable[[FileSpec], Iterator[Problem]]

RULES: tuple[tuple[Rule, frozenset[str]], ...] = (
    (work.check_names, frozenset({"checks"})),
    (work.check_stage_names, frozenset({"checks", "stages"})),
    (work.check_products, frozenset({"stages"})),
    (work.check_cycle, frozenset({"stages"})),
    (work.check_data, frozenset({"data"})),
    (work.check_overlap, frozenset({"data"})),
    (work.check_made_data, frozenset({"data", "stages"})),
    (work.check_model, frozenset({"model", "stages"})),
    (work.check_gates, frozenset({"gates"})),
    (work.check_gate_inputs, frozenset({"gates", "stages", "model", "data"})),
    (triggers.check_until, frozenset({"on", "stages", "model", "data"})),
    (triggers.check_time_zone, frozenset({"on"})),
    (triggers.check_secrets, frozenset({"stages"})),
    (triggers.check_refresh, frozenset({"stages"})),
    (delivery.check_deployed_model, frozenset({"deploy", "model"})),
    (delivery.check_environments, frozenset({"deploy"})),
    (delivery.check_canaries, frozenset({"deploy"})),
)
"""Every rule with the sections it speaks of; it is asked only where all of them could be read."""


@dataclass(frozen=True)
class PipelineFile:
    """A pipeline file that is right as far as can be told without its commit."""

    spec: FileSpec
    document: Document

    def declared_paths(self) -> set[str]:
        """The small files of the commit that it names (no products, no data), relative to its own folder."""
        model = work.model_of(self.spec)
        makers = makers_of(self.spec.stages)
        named = [dataset.schema_path for dataset in self.spec.data.values()]
        named += [self.spec.python.lock, model.golden if model else None]
        return {path for path in named if path is not None and not makers.behind(path)}


@lru_cache(maxsize=4)  # a run of a working tree reads its file twice: as it lies there, and as it was recorded
def read_pipeline(text: bytes, where: str = "interlock.yaml") -> PipelineFile:
    """The file's content. SeveralRefused, each with line and column, for everything that is wrong."""
    document = read_document(text, where)
    if document.value is None:
        problem = Problem((), "the file says nothing", "write at least `version: 1`")
        refuse_all(document.refusals([*document.problems, problem]))
    spec, problems = _validate(document)
    refuse_all(document.refusals([*document.problems, *problems]))
    assert spec is not None
    return PipelineFile(spec, document)


def _validate(document: Document) -> tuple[FileSpec | None, list[Problem]]:
    """The content, and what is wrong with it. Sections that cannot be read do not keep the others from being judged."""
    if not isinstance(document.value, dict):
        return None, [Problem((), "a pipeline file is a mapping", "begin with `version: 1`")]
    problems = list(_empty_values(document.value, ()))
    empty = {problem.path for problem in problems}
    broken: frozenset[str] = frozenset()
    try:
        spec = FileSpec.model_validate(document.value)
    except ValidationError as error:
        problems += [problem for problem in problems_of(error, document) if problem.path not in empty]
        broken = frozenset(str(details["loc"][0]) for details in error.errors(include_url=False))
        readable = {key: value for key, value in document.value.items() if key not in broken}
        spec = FileSpec.model_validate({**readable, "version": 1})
    for rule, sections in RULES:
        if not sections & broken:
            problems += rule(spec)
    return spec, problems


def _empty_values(value: Json, path: Path) -> Iterator[Problem]:
    if value is None:
        name = next(part for part in reversed(path) if isinstance(part, str))
        yield Problem(path, f"{name} has no value", "write one, or remove it")
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, inner in parts:
        yield from _empty_values(inner, (*path, part))

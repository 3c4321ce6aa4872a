"""The reference page and the JSON Schema are those of the models."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from interlock.errors import SeveralRefused
from interlock.pipeline.document import plain, read_document
from interlock.pipeline.resolve import read_pipeline
from interlock.pipeline.rules.reference import describe_schema, write_page, write_schema

DOCS = Path(__file__).resolve().parents[2] / "docs"
MAKE = "run python -m interlock.pipeline.rules.reference"


def test_the_documents_are_up_to_date() -> None:
    assert (DOCS / "pipeline-file.md").read_text() == write_page(), f"{MAKE} page > docs/pipeline-file.md"
    assert (DOCS / "interlock.schema.json").read_text() == write_schema(), f"{MAKE} schema > docs/interlock.schema.json"


@pytest.mark.filterwarnings("ignore:.*found in sys.modules.*:RuntimeWarning")
@pytest.mark.parametrize(("word", "text"), [("page", write_page()), ("schema", write_schema())])
def test_they_are_written_to_standard_output(
    word: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["reference", word])
    runpy.run_module("interlock.pipeline.rules.reference", run_name="__main__")
    assert capsys.readouterr().out == text


def every_property(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    sections = [schema, *schema["$defs"].values()]
    return [(key, value) for section in sections for key, value in section["properties"].items()]


def test_the_schema_is_valid_and_says_what_each_key_means() -> None:
    schema = json.loads(write_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert all(value["description"] for _, value in every_property(schema))
    assert all(section["additionalProperties"] is False for section in schema["$defs"].values())


def test_the_page_has_a_row_for_every_key() -> None:
    page = write_page()
    schema = describe_schema()
    for key, value in every_property(schema):
        assert any(line.startswith(f"| `{key}` |") and value["description"] in line for line in page.splitlines())


FIVE_LINES = "version: 1\nstages: {a: {cmd: x, outs: [m], metrics: [m.json], timeout: 5m}}\nmodel: m\n"
FILES = [
    (FIVE_LINES, True),
    (FIVE_LINES + "gates: [{metric: accuracy, min: 0.9}]", True),
    (FIVE_LINES + "deploy: {a: {strategy: rolling}, b: {approvals: 0, requires: [a]}}", True),
    (FIVE_LINES + "deploy: {a: {strategy: {canary: {steps: [{set_weight: 5}, {analysis: {for: 5m}}]}}}}", True),
    (FIVE_LINES + "checks: [syntax, {name: unit, cmd: pytest}]", True),
    (FIVE_LINES + "on: {push: {branches: [main], tags: [v*]}, pull_request: {until: a}, schedule: 0 3 * * 1}", True),
    (FIVE_LINES + 'on: {schedule: ["0 3 * * 1"], time_zone: UTC, data: [s3://bucket/x]}', True),
    (FIVE_LINES + "concurrency: training", True),
    (FIVE_LINES + "concurrency: {group: training, cancel_superseded: true}", True),
    (FIVE_LINES + "concurrency: a b", False),
    (FIVE_LINES + "on: {schedule: {}}", False),
    (FIVE_LINES + "on: {push: {branches: []}}", False),
    (FIVE_LINES + "deploy: {a: {approvals: 1}}", True),
    (FIVE_LINES + "deploy: {a: {approvals: -1}}", False),
    (FIVE_LINES + "deploy: {a: {autoscaling: {}}}", False),
    (FIVE_LINES + "deploy: {a: {replicas: 3}, b: {replicas: {min: 1, max: 8, memory: 1GiB}}}", True),
    (FIVE_LINES + "deploy: {a: {replicas: {max: 65}}}", False),
    (FIVE_LINES + "deploy: {a: {replicas: many}}", False),
    (FIVE_LINES + "gates: [{metric: accuracy, treshold: 0.9}]", False),
    (FIVE_LINES + "checks: [sintax]", False),
    (FIVE_LINES.replace("5m", "5"), False),
    (FIVE_LINES.replace("{a:", "{A:"), False),
    (FIVE_LINES.replace("version: 1", "version: 2"), False),
]


@pytest.mark.parametrize(("text", "is_right"), FILES)
def test_editors_say_what_the_reader_says(text: str, is_right: bool) -> None:
    validator = jsonschema.Draft202012Validator(describe_schema())
    assert validator.is_valid(plain(read_document(text.encode(), "f").value)) is is_right
    if is_right:
        read_pipeline(text.encode())
    else:
        with pytest.raises(SeveralRefused):
            read_pipeline(text.encode())


def test_the_example_of_the_page_is_right_and_has_five_lines() -> None:
    example = write_page().split("```yaml\n")[1].split("```")[0]
    assert len(example.splitlines()) == 5
    read_pipeline(example.encode())

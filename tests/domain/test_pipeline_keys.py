"""Whether an earlier execution may be used again, and the reason in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.pipeline.inputs.differences import Known
from interlock.pipeline.inputs.packages import Packages
from interlock.pipeline.inputs.sources import Source, read_source
from interlock.pipeline.keys import (
    fingerprint_reads,
    in_short,
    is_file,
    is_python_command,
    key_of,
    look_up,
    makers_in,
    marks_of,
)
from interlock.pipeline.plan import Plan, StagePlan
from interlock.pipeline.trace import RULES, KeyInputs, Prints, Trace
from interlock.source.commit import FileEntry, Tree
from interlock.vocabulary import Digest

FILES = {
    "train.py": b"import helper\nprint(helper.scale(1))\n",
    "helper.py": b"def scale(x):\n    return x * 2\n",
    "pkg/deep.py": b"VALUE = 1\n",
    "data/rows.csv": b"1,2\n",
    "params.yaml": b"train: {depth: 3}\n",
    "README.md": b"# A model\n",
}


class World:
    """A project's files, and which were asked for."""

    def __init__(self, files: Mapping[str, bytes], modes: Mapping[str, str] | None = None) -> None:
        self.files = dict(files)
        self.modes = dict(modes or {})
        self.asked: list[str] = []

    @property
    def tree(self) -> Tree:
        return {
            path: FileEntry(self.modes.get(path, "100644"), blake3(content).hexdigest()[:40], len(content))
            for path, content in self.files.items()
        }

    def sources(self, paths: Sequence[str]) -> dict[str, Source]:
        self.asked += paths
        return {path: read_source(self.files[path]) for path in paths if path in self.files}

    def reads(self, *paths: str, python: bool = True) -> dict[str, str]:
        return fingerprint_reads(paths or sorted(self.files), self.tree, self.sources, python)


def edited(path: str, content: bytes, files: Mapping[str, bytes] = FILES) -> World:
    return World({**files, path: content})


def test_data_is_told_by_its_content_and_python_by_what_it_does() -> None:
    prints = World(FILES).reads()
    assert {path: value.split(":")[0] for path, value in prints.items()} == {
        path: "py" if path.endswith(".py") else "git" for path in FILES
    }


def test_a_comment_in_a_helper_changes_nothing_and_real_code_does() -> None:
    before = World(FILES).reads()
    assert edited("helper.py", b"# doubles\ndef scale(x):\n    return x * 2  # twice\n").reads() == before
    after = edited("helper.py", b"def scale(x):\n    return x * 3\n").reads()
    assert [path for path in FILES if after[path] != before[path]] == ["helper.py"]
    assert edited("data/rows.csv", b"1,2 \n").reads() != before


def test_one_file_that_may_look_at_sources_makes_all_of_them_count_as_they_are() -> None:
    files = {**FILES, "train.py": b"import inspect, helper\nprint(inspect.getsource(helper))\n"}
    before = World(files).reads()
    assert all(value.startswith("git:") for value in before.values())
    after = edited("helper.py", b"# doubles\n" + FILES["helper.py"], files).reads()
    assert after["helper.py"] != before["helper.py"]
    # a set without that file is not touched by it
    assert World(files).reads("helper.py")["helper.py"].startswith("py:")


def test_a_command_that_is_no_python_program_reads_texts() -> None:
    assert World(FILES).reads(python=False)["train.py"].startswith("git:")


def test_a_file_that_is_not_there_is_told() -> None:
    prints = World(FILES).reads("train.py", "gone.py", "gone.csv")
    assert prints["gone.py"] == prints["gone.csv"] == "absent"
    assert prints["train.py"].startswith("py:")


def test_contents_that_cannot_be_had_are_never_guessed() -> None:
    world = World(FILES)
    prints = fingerprint_reads(["train.py"], world.tree, lambda _: {}, True)
    assert prints["train.py"].startswith("git:")


def test_modes_count() -> None:
    plain = World(FILES).reads()
    modes = World(FILES, {"train.py": "100755", "params.yaml": "100755", "helper.py": "120000"}).reads()
    assert modes["train.py"] == f"{plain['train.py']}:100755"
    assert modes["params.yaml"] == f"{plain['params.yaml']}:100755"
    assert modes["helper.py"].startswith("git:")
    assert modes["helper.py"].endswith(":120000")


def test_what_is_told_by_what_it_does_is_marked_by_its_content_too() -> None:
    world = World(FILES, {"train.py": "100755"})
    marks = marks_of(world.reads(), world.tree)
    assert set(marks) == {"helper.py", "pkg/deep.py", "train.py"}
    assert marks["train.py"] == f"git:{world.tree['train.py'].blob}:100755"
    assert marks_of(world.reads(python=False), world.tree) == {}
    assert [is_file(entry) for entry in (None, FileEntry("120000", "b", 1), FileEntry("100755", "b", 1))] == [
        False,
        False,
        True,
    ]


def test_without_python_files_no_content_is_asked_for() -> None:
    world = World(FILES)
    assert world.reads("data/rows.csv")["data/rows.csv"].startswith("git:")
    assert world.reads() == world.reads()
    assert "data/rows.csv" not in world.asked


INPUTS = KeyInputs(
    stage="train",
    command="python train.py",
    params={"train": {"depth": 3, "kind": "mean"}},
    env={"THREADS": "2"},
    environment="blake3:e",
    artifacts={"data/features": Digest("blake3:f")},
    settings={"model": {"format": "skops"}},
    products=("model",),
    platform="linux",
)


def trace(inputs: KeyInputs = INPUTS, run: str = "41", **prints: str) -> Trace:
    reads = {path: value for path, value in prints.items() if path != "folder"}
    folders = {path: value for path, value in prints.items() if path == "folder"}
    return Trace(
        inputs=inputs,
        reads=reads,
        listings=folders,
        products={},
        run=run,
        attempt=f"{run}/train/1",
        seconds=1,
        made=1,
        rules=RULES,
    )


def current(**prints: str) -> Any:
    def answer(found: Trace) -> Prints:
        return Prints(
            {path: prints.get(path, "1") for path in found.reads},
            {path: prints.get(path, "1") for path in found.listings},
        )

    return answer


def test_the_same_inputs_and_reads_are_used_again() -> None:
    found = look_up(INPUTS, [trace(helper="1", folder="1")], [], current())
    assert found.hit is not None
    assert found.because == "reused from run 41"
    assert found.differences == ()
    assert found.key == key_of(INPUTS)


def test_the_newest_of_several_is_used() -> None:
    traces = [trace(helper="2", run="43"), trace(helper="1", run="42"), trace(helper="1", run="41")]
    assert look_up(INPUTS, traces, [], current()).because == "reused from run 42"


def test_without_any_execution_it_never_ran() -> None:
    found = look_up(INPUTS, [], [], current())
    assert (found.hit, found.because) == (None, "never ran before")


MAKERS = {"data/features": "features"}


def changed(**fields: Any) -> KeyInputs:
    return INPUTS.model_copy(update=fields)


@pytest.mark.parametrize(
    ("inputs", "because"),
    [
        (changed(command="python train.py --fast"), "command: python train.py -> python train.py --fast"),
        (changed(params={"train": {"depth": 4, "kind": "mean"}}), "parameter train.depth: 3 -> 4"),
        (changed(params={"train": {"depth": 3.0, "kind": "mean"}}), "parameter train.depth: 3 -> 3.0"),
        (changed(params={"train": {"depth": True, "kind": "mean"}}), "parameter train.depth: 3 -> true"),
        (changed(params={"train": {"depth": 3}}), "parameter train.kind is gone"),
        (changed(params={"train": {"depth": 3, "kind": "mean"}, "seed": None}), "parameter seed is new: null"),
        (changed(params=None), "it no longer declares its parameters"),
        (changed(env={"THREADS": "4"}), "env THREADS: 2 -> 4"),
        (changed(environment="blake3:x"), "environment changed"),
        (changed(artifacts={"data/features": "blake3:x"}), "data/features (from features) changed"),
        (changed(artifacts={}), "data/features (from features) is no longer given"),
        (changed(artifacts={**INPUTS.artifacts, "raw": "blake3:r"}), "raw is given now"),
        (changed(settings={"model": {"format": "joblib"}}), "setting model.format: skops -> joblib"),
        (changed(products=("model", "metrics.json")), "products: model -> model, metrics.json"),
        (changed(network=True), "network: false -> true"),
        (changed(inputs="strict"), "inputs: auto -> strict"),
        (changed(platform="linux " * 20), f"platform: linux -> {('linux ' * 20)[:60]}..."),
        (changed(program="served 2"), "the program of this stage changed"),
        (changed(stage="fit"), "it was the stage train"),
    ],
)
def test_each_change_of_the_inputs_is_told_in_words(inputs: KeyInputs, because: str) -> None:
    found = look_up(inputs, [], [trace(helper="1")], current(), Known(MAKERS))
    assert found.hit is None
    assert because in found.differences
    assert found.key != key_of(INPUTS)


def test_declared_parameters_are_told_from_undeclared_ones() -> None:
    found = look_up(changed(params={}), [], [trace(changed(params=None))], current())
    assert found.because == "it declares its parameters now"


@pytest.mark.parametrize(
    ("prints", "because"),
    [
        ({"helper": "2"}, "helper changed"),
        ({"helper": "absent"}, "helper is gone"),
        ({"later": "2"}, "later is new"),
        ({"folder": "2"}, "the names in folder changed"),
    ],
)
def test_each_change_of_what_it_read_is_told_in_words(prints: dict[str, str], because: str) -> None:
    found = look_up(
        INPUTS, [trace(helper="1", later="absent", folder="1")], [], current(**{"later": "absent", **prints})
    )
    assert found.hit is None
    assert found.because == because


def told(before: Mapping[str, str], now: Mapping[str, str], definitions: Mapping[str, Mapping[str, str]]) -> str:
    """The reason where these files had and have these fingerprints, and these stand for these definitions."""
    known = Known(definitions=lambda path, print_of: definitions.get(print_of))
    return look_up(INPUTS, [trace(**before)], [], current(**now), known).because


PARTS = {
    "py:1": {"function scale": "a", "constant LIMIT": "= 3"},
    "py:2": {"function scale": "b", "constant LIMIT": "= 4"},
}


def test_a_changed_source_is_told_by_its_parts() -> None:
    name = "src/f.py"
    assert told({name: "py:1"}, {name: "py:2"}, PARTS) == f"{name}: function scale changed, constant LIMIT: 3 -> 4"
    assert told({name: "py:1"}, {name: "py:3"}, PARTS) == f"{name} changed"
    assert told({"f.csv": "py:1"}, {"f.csv": "py:2"}, PARTS) == "f.csv changed"
    same = {**PARTS, "py:2": PARTS["py:1"]}
    assert told({name: "py:1"}, {name: "py:2"}, same) == f"{name}: the order of its parts changed"
    texts = {"git:1": PARTS["py:1"], "git:2": PARTS["py:1"]}
    assert told({name: "git:1"}, {name: "git:2"}, texts).startswith(f"{name}: its text changed, and not what it does")


def test_sources_that_are_compared_another_way_now_are_told_by_what_they_do() -> None:
    """When one source begins to look at sources, all are compared by their text: their parts tell which changed."""
    before, now = {"a.py": "py:1", "b.py": "py:1"}, {"a.py": "git:8", "b.py": "git:9"}
    assert told({"a.py": "py:1"}, {"a.py": "git:8"}, {}) == "a.py changed"
    assert told(before, now, {}) == "one of 2 Python files changed: a.py, b.py"
    parts = {**PARTS, "git:8": PARTS["py:1"], "git:9": {**PARTS["py:1"], "the imports": "c"}}
    assert told(before, now, parts) == "b.py: the imports are new"


def test_what_changed_in_an_environment_is_told_by_package() -> None:
    held = {
        "blake3:e": Packages(python="3.12.1", packages={"numpy": "2.2.0", "six": "1.16"}, files={}),
        "blake3:x": Packages(python="3.12.1", packages={"numpy": "2.3.1", "pandas": "2.3.0"}, files={}),
    }
    found = look_up(changed(environment="blake3:x"), [], [trace()], current(), Known(packages=held.get))
    assert found.because == "numpy 2.2.0 -> 2.3.1, pandas 2.3.0 is new, six 1.16 is gone"


def test_names_are_told_as_far_as_they_are_known() -> None:
    def because(before: str, now: str) -> str:
        return look_up(INPUTS, [trace(folder=before)], [], current(folder=now)).because

    assert because("names:/a.py/b.py", "names:/b.py/c.py") == "folder/c.py is new; folder/a.py is gone"
    assert because("absent", "names:/a.py") == "folder/a.py is new"
    assert because("names:0123", "names:/a.py") == "the names in folder changed"
    assert because("names:/a.py", "lookups:/a.py") == "the names in folder changed"


def test_what_was_traced_by_other_rules_is_not_used() -> None:
    old = trace(helper="1").model_copy(update={"rules": RULES - 1})
    found = look_up(INPUTS, [old], [], current())
    assert (found.hit, found.because) == (None, "its inputs changed")


def test_only_the_first_differences_are_told_in_short() -> None:
    assert in_short(["a", "b"]) == "a; b"
    assert in_short(list("abcde")) == "a; b; c; and 2 more"


def test_the_nearest_execution_explains_a_miss() -> None:
    far = trace(changed(command="x", environment="y", platform="z"), run="40", helper="1")
    near = trace(changed(environment="y"), run="39", helper="1")
    assert look_up(INPUTS, [], [far, near], current()).because == "environment changed"
    assert look_up(INPUTS, [], [near, far], current()).because == "environment changed"
    only = look_up(INPUTS, [], [far], current(helper="2"))
    assert only.because.endswith("; and 1 more")
    assert len(only.differences) == 4


def test_a_key_that_words_cannot_tell_apart_is_still_no_hit() -> None:
    nested, dotted = changed(params={"a": {"b": 1}}), changed(params={"a.b": 1})
    found = look_up(nested, [], [trace(dotted)], current())
    assert (found.hit, found.because) == (None, "its inputs changed")


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.text(max_size=2))
INPUT_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "command": st.sampled_from(["a", "b", None]),
        "params": st.none() | st.dictionaries(st.text(max_size=2), LEAVES, max_size=2),
        "env": st.dictionaries(st.sampled_from("AB"), st.sampled_from("12"), max_size=2),
        "environment": st.sampled_from(["x", "y"]),
        "artifacts": st.dictionaries(st.sampled_from("pq"), st.sampled_from("12"), max_size=2),
        "settings": st.dictionaries(st.text(max_size=2), LEAVES, max_size=2),
        "products": st.lists(st.sampled_from("pq"), max_size=2).map(tuple),
        "network": st.booleans(),
        "platform": st.sampled_from(["x", "y"]),
        "program": st.sampled_from(["x", None]),
        "stage": st.sampled_from(["x", "y"]),
    },
)


@settings(max_examples=200)
@given(INPUT_CHANGES, INPUT_CHANGES)
def test_only_equal_inputs_are_ever_used_again(one: dict[str, Any], other: dict[str, Any]) -> None:
    before, now = changed(**one), changed(**other)
    found = look_up(now, [], [trace(before)], current())
    assert (found.hit is not None) == (
        before.model_dump_json() == now.model_dump_json() or key_of(before) == key_of(now)
    )
    assert found.because


def test_a_field_of_the_inputs_cannot_be_forgotten_by_the_key() -> None:
    fields = {
        "stage": "x",
        "command": "x",
        "program": "x",
        "params": {},
        "env": {},
        "environment": "x",
        "artifacts": {},
    }
    fields |= {"settings": {}, "products": (), "network": True, "platform": "x", "inputs": "strict"}
    assert set(fields) == set(KeyInputs.model_fields)
    assert (
        len({key_of(INPUTS), *(key_of(changed(**{name: value})) for name, value in fields.items())}) == len(fields) + 1
    )


def test_the_makers_of_a_plan() -> None:
    stages = (StagePlan(name="a", kind="stage", outs=("o",), metrics=("m.json",)), StagePlan(name="b", kind="stage"))
    made = makers_in(Plan(stages=stages))
    assert made == {"o": "a", "m.json": "a"}
    assert (len(made), "o" in made, "p" in made) == (2, True, False)


@pytest.mark.parametrize(
    ("command", "is_python"),
    [
        ("python src/train.py", True),
        ("python3.12 src/train.py --depth 3", True),
        ("/usr/bin/python3 -u train.py", True),
        ("python -m pkg.train", True),
        ("python -m pytest tests", False),
        ("pytest -q", False),
        ("python -c 'print(1)'", False),
        ("python -m", False),
        ("python", False),
        ("", False),
        ("python lint.py train.py", False),
        ("python train.py src/*", False),
        ("python train.py > log", False),
        ("python train.py && cat train.py", False),
        ("pythonic train.py", False),
        ("bash run.sh", False),
        ("FAST=1 python train.py", False),
    ],
)
def test_commands_that_are_one_python_program(command: str, is_python: bool) -> None:
    assert is_python_command(command, ["pkg/train.py"]) is is_python

"""What one content of a Python file does, which of its parts changed, and what it could import."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from interlock.pipeline.fingerprint import fingerprint_python, needs_source_text
from interlock.pipeline.inputs.definitions import tell_definitions
from interlock.pipeline.inputs.sources import Import, Source, files_of, importable, read_source

BEFORE = '''\
"""A module."""
import csv
import math

LIMIT = 3
RATE: float = 0.5
TOKEN = "not to be shown"
threshold = -1.5
x, y = 1, 2


class Scaler(Base):
    """Scales."""

    factor = 2

    def scale(self, x):
        """Scales."""
        return x * self.factor

    async def later(self):
        return 1


def scale(x):
    """Scales."""
    return x * 2


def other(x):
    return x


if __name__ == "__main__":
    scale(LIMIT)
'''


def told(before: str, after: str) -> str:
    assert before in BEFORE
    changed = BEFORE.replace(before, after)
    return tell_definitions(read_source(BEFORE.encode()).definitions, read_source(changed.encode()).definitions)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("    return x * 2", "    return x * 3", "function scale changed"),
        ("return x * self.factor", "return x", "method Scaler.scale changed"),
        ("        return 1", "        return 2", "method Scaler.later changed"),
        ("factor = 2", "factor = 3", "class Scaler changed"),
        ("class Scaler(Base)", "class Scaler(Other)", "class Scaler changed"),
        ("LIMIT = 3", "LIMIT = 4", "constant LIMIT: 3 -> 4"),
        ("LIMIT = 3", "LIMIT = None", "constant LIMIT: 3 -> None"),
        ("LIMIT = 3", "LIMIT = load()", "constant LIMIT changed"),
        ("RATE: float = 0.5", "RATE: float = 0.6", "constant RATE changed"),
        ("threshold = -1.5", "threshold = -2.5", "variable threshold: -1.5 -> -2.5"),
        ('"not to be shown"', '"nor this"', "constant TOKEN changed"),
        ("x, y = 1, 2", "x, y = 1, 3", "top-level code changed"),
        ("    scale(LIMIT)", "    scale(1)", "top-level code changed"),
        ("import math", "import json", "the imports changed"),
        ("import csv\nimport math\n", "", "the imports are gone"),
        ("def other(x):\n    return x\n", "", "function other is gone"),
        ("def other(x)", "def fresh(x)", "function fresh is new, function other is gone"),
        ("LIMIT = 3", "LIMIT = 3\nLIMIT = 4", "constant LIMIT changed"),
        ('"""A module."""', "# said otherwise", ""),
        ('    """Scales."""\n    return x * 2', "    return x * 2", ""),
        ("LIMIT = 3", "LIMIT=3  # at most", ""),
    ],
)
def test_each_part_that_changed_is_told(before: str, after: str, words: str) -> None:
    assert told(before, after) == words


def test_only_the_first_parts_are_told() -> None:
    many = "\n".join(f"def f{number}(): pass" for number in range(9))
    assert tell_definitions({}, read_source(many.encode()).definitions).endswith("function f3 is new and 5 more")


def test_texts_are_never_in_what_is_remembered() -> None:
    assert "not to be shown" not in str(read_source(BEFORE.encode()).definitions)
    assert read_source(b"N = " + b"1" * 40).definitions["constant N"].isalnum()


@pytest.mark.parametrize(
    "content", [BEFORE.encode(), b"", b"def broken(:", b"\xff", b"import inspect\n", b"x = " + b"(" * 150 + b")" * 150]
)
def test_one_look_tells_the_same_as_several(content: bytes) -> None:
    source = read_source(content)
    assert source.fingerprint == fingerprint_python(content)
    assert source.sees_text == needs_source_text(content)


def test_a_source_that_is_nested_too_deeply_is_told_by_its_text() -> None:
    deep = b"x = " + b"-" * 3000 + b"1\n"
    assert read_source(deep).sees_text
    for length in (1500, 20_000):  # one that can be parsed and is too deep to be written out, and one that cannot
        chain = b"x = 1" + b" + 1" * length + b"\n"
        assert read_source(chain).sees_text
        assert read_source(chain).fingerprint == fingerprint_python(chain)
        assert read_source(chain).fingerprint.startswith("raw:")


def imports(text: str) -> tuple[Import, ...]:
    return tuple(one._replace(line=0) for one in read_source(text.encode()).imports)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import a.b, c", (Import("a.b"), Import("c"))),
        ("def f():\n    from a import b, c", (Import("a", ("b", "c")),)),
        ("from . import b", (Import("", ("b",), 1),)),
        ("from ..a.b import *", (Import("a.b", ("*",), 2),)),
        ("import importlib\nimportlib.import_module('a.b')", (Import("importlib"), Import("a.b"))),
        ("x = __import__('a')", (Import("a"),)),
        ("import_module('.b', package='a')", (Import("b", (), 1),)),
        ("import_module(name)", ()),
        ("import_module()", ()),
        ("import_module(3)", ()),
        ("(lambda: 1)('a')", ()),
    ],
)
def test_imports_are_found_wherever_they_are(text: str, found: tuple[Import, ...]) -> None:
    assert imports(text) == found


PATHS = {
    "train.py",
    "src/train.py",
    "src/helper.py",
    "src/pkg/__init__.py",
    "src/pkg/a.py",
    "src/pkg/deep/b.py",
    "src/pkg/deep/__init__.py",
    "lib/util.py",
    "lib/helper.py",
}


@pytest.mark.parametrize(
    ("one", "path", "files"),
    [
        (Import("helper"), "src/train.py", {"src/helper.py"}),
        (Import("helper"), "train.py", {"src/helper.py"}),
        (Import("src.helper"), "src/train.py", {"src/helper.py"}),
        (Import("pkg.a"), "src/train.py", {"src/pkg/__init__.py", "src/pkg/a.py"}),
        (Import("pkg", ("a", "x")), "src/train.py", {"src/pkg/__init__.py", "src/pkg/a.py"}),
        (
            Import("pkg.deep.b"),
            "src/train.py",
            {"src/pkg/__init__.py", "src/pkg/deep/__init__.py", "src/pkg/deep/b.py"},
        ),
        (Import("", ("a",), 1), "src/pkg/x.py", {"src/pkg/__init__.py", "src/pkg/a.py"}),
        (Import("a", ("f",), 2), "src/pkg/deep/b.py", {"src/pkg/__init__.py", "src/pkg/a.py"}),
        (Import("", ("deep",), 1), "src/pkg/x.py", {"src/pkg/__init__.py", "src/pkg/deep/__init__.py"}),
        (Import("", ("x",), 5), "train.py", set()),
        (Import("numpy"), "src/train.py", set()),
        (Import("util"), "src/train.py", set()),
    ],
)
def test_an_import_could_mean_these_files(one: Import, path: str, files: set[str]) -> None:
    assert set(files_of(one, path, (), PATHS)) == files


def test_all_that_could_be_imported_is_reached_through_what_it_imports_and_no_more() -> None:
    texts = {
        "src/train.py": "if luck():\n    import fast\nelse:\n    import slow\n",
        "src/fast.py": "from kernels import cpu\n",
        "src/slow.py": "import train, fast\n",
        "src/kernels/cpu.py": "import util\n",
        "lib/util.py": "",
        "lib/start.py": "",
        "src/unused.py": "import nothing",
    }
    asked: list[str] = []

    def sources(paths: Sequence[str]) -> Mapping[str, Source]:
        asked.extend(paths)
        return {path: read_source(texts[path].encode()) for path in paths}

    found = importable(["src/train.py", "lib/start.py", "gone.py"], texts.keys(), sources)
    assert found == set(texts) - {"src/unused.py"}
    assert sorted(asked) == sorted(found), "each once"

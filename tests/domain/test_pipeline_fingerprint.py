"""What of a Python file matters."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.pipeline.fingerprint import fingerprint_python, needs_source_text

SOURCE = '''\
"""A module."""
import numpy as np

RATE = 0.1


class Scaler:
    """Scales."""

    factor: float = 2.0

    def scale(self, values, offset=0):
        """Scales values."""
        return [value * self.factor + offset for value in values]


@staticmethod
def train(rows):
    """Trains."""
    total = 0
    for row in rows:
        if row > 1:
            total += row
    return total


async def later():
    "Later."
'''


def fingerprint(source: str) -> str:
    return fingerprint_python(source.encode())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("RATE = 0.1", "RATE = 0.1  # learning rate"),
        ("RATE = 0.1", "RATE = (\n    0.1\n)"),
        ("RATE = 0.1", "\n\n\nRATE=.1"),
        ('"""A module."""', ""),
        ('"""Scales."""', '"""Scales things."""'),
        ('"""Scales values."""', '"""Scales all values,\n\n        one by one."""'),
        ('"""Trains."""', "'Trains a model.'"),
        ('    "Later."', '    "Much later."'),
        ("offset=0):", "offset=0,):"),
        ("if row > 1:\n            total += row", "if row > 1: total += row"),
    ],
)
def test_how_it_is_written_does_not_matter(before: str, after: str) -> None:
    assert before in SOURCE
    changed = SOURCE.replace(before, after)
    assert changed != SOURCE
    assert fingerprint(changed) == fingerprint(SOURCE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("RATE = 0.1", "RATE = 0.2"),
        ("RATE = 0.1", "RATE: float = 0.1"),
        ("RATE", "RATES"),
        ("offset=0", "offset=1"),
        ("@staticmethod\n", ""),
        ("@staticmethod", "@classmethod"),
        ("row > 1", "row >= 1"),
        ("            total += row", "        total += row"),
        ("factor: float = 2.0", "factor: float = -2.0"),
        ("class Scaler:", "class Scaler(dict):"),
        ("async def", "def"),
        ("import numpy as np", "import numpy as np, os"),
        ('    "Later."', "    pass"),
        ("return total", 'return "total"'),
        ("def train(rows):", "def train(rows, /):"),
    ],
)
def test_what_it_does_matters(before: str, after: str) -> None:
    assert before in SOURCE
    changed = SOURCE.replace(before, after)
    if before.startswith("            total"):
        changed = SOURCE.replace("if row > 1:\n" + before, "if row > 1:\n            pass\n" + after)
    assert fingerprint(changed) != fingerprint(SOURCE)


def test_the_fingerprints_say_how_they_were_made() -> None:
    assert fingerprint(SOURCE).startswith("py:")
    assert fingerprint("def broken(:").startswith("raw:")
    assert fingerprint("def broken(:") != fingerprint("def broken(:  # comment")


@pytest.mark.parametrize(
    ("source", "edited"),
    [
        ('class Prompt(Signature):\n    """Answer."""\n', 'class Prompt(Signature):\n    """Answer well."""\n'),
        ('class Prompt(metaclass=M):\n    """A."""\n', 'class Prompt(metaclass=M):\n    """B."""\n'),
        ('@register\nclass A:\n    """A."""\n', '@register\nclass A:\n    """B."""\n'),
        ('@tool\ndef f():\n    """A."""\n', '@tool\ndef f():\n    """B."""\n'),
        ('@app.command()\ndef f():\n    """A."""\n', '@app.command()\ndef f():\n    """B."""\n'),
        ('x = 1\n"""A."""\n', 'x = 1\n"""B."""\n'),
    ],
)
def test_a_docstring_that_other_code_is_handed_is_kept(source: str, edited: str) -> None:
    assert fingerprint(source) != fingerprint(edited)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"x = '\x00'",
        b"x = " + b"(" * 5000,
        b"x = " + b"-" * 100_000 + b"1",
        b"def f(:\n",
        b"# coding: no-such\n",
    ],
)
def test_what_cannot_be_parsed_counts_as_it_is(content: bytes) -> None:
    assert fingerprint_python(content).startswith("raw:")
    assert fingerprint_python(content) == fingerprint_python(content)
    assert fingerprint_python(content) != fingerprint_python(content + b"#")
    assert needs_source_text(content)


def test_an_encoding_is_no_mere_comment() -> None:
    latin, utf8 = b"# coding: latin-1\nx = '\xc3\xa9'\n", b"# coding: utf-8\nx = '\xc3\xa9'\n"
    assert fingerprint_python(latin) != fingerprint_python(utf8)


@pytest.mark.parametrize("depth", [300, 500, 3000])
def test_a_tree_too_deep_to_write_out_counts_as_it_is(depth: int) -> None:
    deep = ("x = " + "+".join(["1"] * depth)).encode()
    assert fingerprint_python(deep) == fingerprint_python(deep)
    assert fingerprint_python(deep) != fingerprint_python(deep + b"+1")
    assert needs_source_text(deep) in (True, False)


COMMENTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x0c\x00"), max_size=20).filter(
    lambda text: "coding" not in text
)


@settings(max_examples=60)
@given(line=st.integers(0, SOURCE.count("\n")), comment=COMMENTS, blanks=st.integers(0, 3), data=st.data())
def test_comments_never_change_a_fingerprint(line: int, comment: str, blanks: int, data: st.DataObject) -> None:
    lines = SOURCE.split("\n")
    indent = " " * data.draw(st.integers(0, 8))
    commented = [*lines[:line], *[""] * blanks, f"{indent}# {comment}", *lines[line:]]
    assert fingerprint("\n".join(commented)) == fingerprint(SOURCE)
    if lines[line].strip() and '"' not in lines[line]:
        lines[line] += f"  # {comment}"
        assert fingerprint("\n".join(lines)) == fingerprint(SOURCE)


@settings(max_examples=60)
@given(st.integers(), st.integers())
def test_another_number_is_another_fingerprint(one: int, other: int) -> None:
    assert (fingerprint(f"x = {one}") == fingerprint(f"x = {other}")) == (one == other)


@settings(max_examples=60)
@given(st.binary(max_size=60))
def test_no_bytes_ever_give_a_traceback(content: bytes) -> None:
    assert fingerprint_python(content)
    assert needs_source_text(content) in (True, False)


REVEALING = [
    *("import inspect", "import ast", "import os, tokenize", "import torch.jit", "import importlib, runpy"),
    *("from inspect import getsource", "from torch import jit", "from torch.jit import script", "from ast import *"),
    *("from os import *", "from os import system as call", "from os import popen", "from glob import glob as g"),
    *("from asyncio import subprocess", "import xml.etree, linecache", "import click", "import subprocess as s"),
    *("print(__doc__)", "p = ArgumentParser(description=__doc__)", "train.__doc__", "getattr(f, '__doc__')"),
    *("os.system('ls')", "os.popen(x)", "os.execvp(a, b)", "os.spawnl(m, a)", "o.system(x)", "posix_spawn(a, b, c)"),
    *("exec(text)", "eval(text)", "compile(a, b, c)", "help(f)", "__import__(name)", "importlib.import_module(name)"),
    *(
        "open(__file__)",
        "print(__file__)",
        "Path(__file__).read_text()",
        "open(module.__file__)",
        "Path(p, x=__file__)",
    ),
    *(
        "Path(__file__).with_suffix('.txt')",
        "name = 'train.py'",
        "run(f'{name}.py')",
        "x = b'x.py'",
        "x = '*.PY'",
        "x = 'python a.py b'",
    ),
    *(
        "os.listdir(folder)",
        "os.walk('.')",
        "folder.iterdir()",
        "folder.glob('*')",
        "folder.rglob(pattern)",
        "glob('src/**')",
    ),
    *("g = glob.glob", "folder.glob()", "sys.argv[0]", "argv[0]", "frame.f_lineno", "x = '%(lineno)d'", "f.__code__"),
    *(
        "importlib.util.find_spec(name)",
        "shutil.copytree(a, b)",
        "asyncio.subprocess",
        "torch.jit.script(f)",
        "__loader__",
    ),
    *(
        "Model.model_json_schema()",
        "import dspy",
        "try:\n    import pdb\nexcept ImportError:\n    pass",
        "import builtins",
    ),
]


@pytest.mark.parametrize("source", REVEALING)
def test_code_that_might_look_at_sources_is_told(source: str) -> None:
    assert needs_source_text(f"{source}\n".encode())


INNOCENT = [
    *(
        "import os, sys, re, json",
        "from pathlib import Path",
        "import numpy as np, pandas as pd",
        "from . import inspect",
    ),
    *("from .ast import parse", "re.compile('x')", "model.eval()", "model.compile(loss='x')", "frame.eval('a + b')"),
    *(
        "Path(__file__).parent / 'data'",
        "Path(__file__).resolve().parents[1]",
        "os.path.dirname(os.path.abspath(__file__))",
    ),
    *(
        "pathlib.Path(__file__).absolute().parent",
        "folder.glob('*.csv')",
        "glob.glob('data/*.parquet')",
        "glob('x/*.json')",
    ),
    *(
        "from glob import glob",
        "import glob",
        "sys.argv[1]",
        "sys.argv[0:2]",
        "'data.pyx'",
        "'numpy.python'",
        "'docs.pytest.org'",
    ),
    *(
        'def f():\n    """Run train.py and see __doc__."""\n',
        "x.parent",
        "import importlib.metadata",
        "x = b'\\xff\\x00'",
    ),
    *("import tracemalloc", "import codecs", "platform.machine()", "data.system_of(x)", "1 + 2.5", "import astropy"),
    *("class A:\n    'See a.py'\n    x = 1", "walk_forward(x)", "mod.__file__.parent"),
]


@pytest.mark.parametrize("source", INNOCENT)
def test_plain_training_code_is_not_suspected(source: str) -> None:
    assert not needs_source_text(f"{source}\n".encode())

"""What a lock names, and how two environments differ in words."""

from __future__ import annotations

import pytest

from interlock.pipeline.inputs.packages import Packages, read_packages, tell_packages

UV_LOCK = b"""\
version = 1

[[package]]
name = "project"
version = "0.1"
source = { virtual = "." }

[[package]]
name = "numpy"
version = "2.2.0"
source = { registry = "somewhere" }

[[package]]
name = "numpy"
version = "2.1.0"

[[package]]
name = "without"
"""


def test_a_uv_lock_names_its_packages_and_not_the_project() -> None:
    found = read_packages("3.12.1", {"uv.lock": UV_LOCK, "pyproject.toml": b"[project]\n"})
    assert (found.python, found.packages) == ("3.12.1", {"numpy": "2.1.0 and 2.2.0"})
    assert set(found.files) == {"uv.lock", "pyproject.toml"}


def test_pins_name_their_packages() -> None:
    pins = b"# all\nNum_Py==2.2.0 \\\n    --hash=sha256:aa\nsix[extra] == 1.16.0 ; python_version > '3'\nloose>=1\n"
    assert read_packages("3", {"requirements.txt": pins}).packages == {"num-py": "2.2.0", "six": "1.16.0"}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[[package", b"package = 3\n", b"package = [3]\n", b""])
def test_a_lock_that_cannot_be_read_names_nothing(content: bytes) -> None:
    assert read_packages("3", {"uv.lock": content}).packages == {}


def held(python: str = "3.12.1", files: str = "f", **packages: str) -> Packages:
    return Packages(python=python, packages=packages, files={"uv.lock": "l", "pyproject.toml": files})


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (held(numpy="2.2.0", six="1.16"), held(numpy="2.3.1", six="1.16"), "numpy 2.2.0 -> 2.3.1"),
        (held(), held(pandas="2.3.0"), "pandas 2.3.0 is new"),
        (held(six="1.16"), held(), "six 1.16 is gone"),
        (held("3.11.9"), held("3.12.1"), "python 3.11.9 -> 3.12.1"),
        (held(files="a"), held(files="b"), "environment changed: pyproject.toml changed, and no package did"),
        (held(), held(), "environment changed"),
        (None, held(), "environment changed"),
        (held(), None, "environment changed"),
        (
            held(),
            held(a="1", b="1", c="1", d="1", e="1", f="1"),
            "a 1 is new, b 1 is new, c 1 is new, d 1 is new and 2 more packages",
        ),
    ],
)
def test_environments_differ_by_their_packages(before: Packages | None, now: Packages | None, words: str) -> None:
    assert tell_packages(before, now) == words

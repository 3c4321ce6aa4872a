"""What locks say: the packages they name, and what differs between two of them."""

from __future__ import annotations

import pytest

from interlock.pipeline.locks.packages import changes_between, logical_lines, packages_in

UV_LOCK = b"""
version = 1

[[package]]
name = "demo"
version = "0"
source = { virtual = "." }

[[package]]
name = "NumPy"
version = "1.26.4"
source = { registry = "https://example.org/simple" }

[[package]]
name = "numpy"
version = "2.1.0"
source = { registry = "https://example.org/simple" }

[[package]]
name = "no-version"
source = { git = "https://example.org/x" }
"""
REQUIREMENTS = b"""
# made by hand
Scikit_Learn==1.5.0 \\
    --hash=sha256:00
six [extra] == 1.17.0 ; python_version > "3" --hash=sha256:11
loose>=2
--index-url https://example.org/simple
"""


@pytest.mark.parametrize(
    ("files", "packages"),
    [
        ({"uv.lock": UV_LOCK, "pyproject.toml": b"name = 1"}, {"numpy": "1.26.4 and 2.1.0"}),
        ({"requirements.txt": REQUIREMENTS}, {"scikit-learn": "1.5.0", "six": "1.17.0"}),
        ({"uv.lock": b"not toml ["}, {}),
        ({"uv.lock": b"package = 3"}, {}),
        ({"uv.lock": b"package = [3]"}, {}),
        ({"requirements.txt": b"\xff\xfe"}, {}),
        ({}, {}),
    ],
)
def test_the_packages_of_a_lock(files: dict[str, bytes], packages: dict[str, str]) -> None:
    assert packages_in(files) == packages


def test_what_differs_between_two_locks_is_told_by_name() -> None:
    before = {"numpy": "1.26.4", "six": "1.17.0", "same": "1"}
    after = {"numpy": "2.1.0", "attrs": "24.1", "same": "1"}
    told = [str(change) for change in changes_between(before, after)]
    assert told == ["attrs 24.1 is new", "numpy 1.26.4 -> 2.1.0", "six 1.17.0 is gone"]
    assert changes_between(before, before) == ()


def test_a_line_that_goes_on_begins_where_it_began() -> None:
    text = "a==1 \\\n  --hash=x\n\n# c\nb==2 # why\nc==3 \\"
    assert list(logical_lines(text)) == [(1, "a==1 --hash=x"), (5, "b==2"), (6, "c==3")]

"""The log of an attempt, and what is read out of it."""

from __future__ import annotations

import signal
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.edges.executor.blame import blame, name_of_exit
from interlock.edges.executor.log import CappedLog, read_tail

FILES = frozenset({"src/train.py", "src/helper.py", "tests/test_a.py"})
INSIDE = "/workspace"


def read(text: str) -> tuple[str, list[tuple[str | None, int | None]]]:
    found = blame(textwrap.dedent(text), INSIDE, FILES)
    return found.line, [(problem.path, problem.line) for problem in found.problems]


@given(pieces=st.lists(st.binary(max_size=40), max_size=30), limit=st.integers(min_value=2, max_value=60))
def test_a_log_keeps_its_beginning_and_its_end(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], limit: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "a.log"
    with CappedLog(path, limit) as log:
        for piece in pieces:
            log.write(piece)
    sent, kept, half = b"".join(pieces), path.read_bytes(), limit // 2
    if len(sent) <= 2 * half:
        assert kept == sent
    else:
        dropped = len(sent) - 2 * half
        assert kept == sent[:half] + f"\n[interlock] {dropped} bytes dropped\n".encode() + sent[-half:]
    assert [entry.name for entry in path.parent.iterdir()] == ["a.log"]


def test_a_log_is_seen_while_it_grows_and_a_line_of_our_own_begins_a_line(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/a.log"
    log = CappedLog(path)
    log.write(b"half a line")
    assert path.read_bytes() == b"half a line"
    log.say("said")
    log.say("again")
    assert path.read_bytes() == b"half a line\n[interlock] said\n[interlock] again\n"
    log.close()
    log.close()


def test_the_end_is_read_as_text_whatever_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * 100 + b"\x1b[31mred\x1b[0m \xff\0 \x1b]0;title\x07 10%\r20%\rdone")
    assert read_tail(path).splitlines()[-1] == "done"
    assert "\x1b" not in read_tail(path)
    assert "red \\xff" in read_tail(path)
    assert "title" not in read_tail(path)
    assert read_tail(path, 4) == "done"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (1, "exit code 1"),
        (127, "exit code 127"),
        (137, "killed by SIGKILL"),
        (-9, "killed by SIGKILL"),
        (128 + signal.SIGSEGV, "killed by SIGSEGV"),
        (255, "exit code 255"),
    ],
)
def test_an_exit_is_named(code: int, name: str) -> None:
    assert name_of_exit(code) == name


def test_the_last_traceback_is_blamed_at_its_innermost_line_of_the_project() -> None:
    line, places = read(
        """
        Traceback (most recent call last):
          File "/workspace/src/helper.py", line 9, in early
            early()
        KeyError: 'x'

        During handling of the above exception, another exception occurred:

        Traceback (most recent call last):
          File "/workspace/src/train.py", line 3, in <module>
            fit()
          File "/workspace/src/helper.py", line 12, in fit
            model.fit(None)
          File "/environments/1/lib/python3.11/site-packages/sklearn/base.py", line 1, in wrapper
            return fit_method(estimator, *args, **kwargs)
        ValueError: Input X contains NaN.
        some more advice
        [interlock] failed
        """
    )
    assert line == "ValueError: Input X contains NaN."
    assert places == [("src/helper.py", 12)]


def test_a_file_that_does_not_parse_is_blamed() -> None:
    line, places = read(
        """
          File "/workspace/src/train.py", line 2
            def (
                ^
        SyntaxError: invalid syntax
        """
    )
    assert line == "SyntaxError: invalid syntax"
    assert places == [("src/train.py", 2)]


def test_a_traceback_outside_the_project_blames_no_line_of_it() -> None:
    line, places = read(
        """
        Traceback (most recent call last):
          File "/elsewhere/tool.py", line 2, in run
        json.decoder.JSONDecodeError: Expecting value
        """
    )
    assert line == "json.decoder.JSONDecodeError: Expecting value"
    assert places == []


def test_failed_tests_are_named_with_their_lines() -> None:
    line, places = read(
        """
        =================================== FAILURES ===================================
        ___________________________________ test_one ___________________________________
            def test_one():
        >       assert late([1]) == 2
        E       assert 1 == 2
        tests/test_a.py:7: AssertionError
        ___________________________________ test_two ___________________________________
        tests/test_a.py:11:
        src/helper.py:4: ValueError
        =========================== short test summary info ============================
        FAILED tests/test_a.py::test_one - assert 1 == 2
        FAILED tests/test_a.py::test_two - ValueError: bad
        2 failed, 3 passed in 0.10s
        """
    )
    assert line == "tests/test_a.py:7: test_one: assert 1 == 2 (and 1 more)"
    assert places == [("tests/test_a.py", 7), ("tests/test_a.py", 11)]


def test_a_test_file_that_cannot_be_collected_is_named() -> None:
    line, places = read(
        """
        ERROR collecting tests/test_a.py
        tests/test_a.py:1: in <module>
            import nothing
        E   ModuleNotFoundError: No module named 'nothing'
        =========================== short test summary info ============================
        ERROR tests/test_a.py
        """
    )
    assert places == [("tests/test_a.py", 1)]
    assert line.startswith("tests/test_a.py:1")


@pytest.mark.parametrize(
    ("text", "last"),
    [("", ""), ("\n \n", ""), ("one\ntwo\n\n", "two"), ("two\n[interlock] ours\n", "two"), ("x" * 999, "x" * 300)],
)
def test_else_the_last_line_is_all_there_is(text: str, last: str) -> None:
    assert read(text) == (last, [])


@given(st.text())
def test_no_log_is_too_odd_to_be_read(text: str) -> None:
    found = blame(text, INSIDE, FILES)
    assert len(found.line) <= 300 + len(" (and 99 more)")

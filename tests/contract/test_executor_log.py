"""The log of an attempt, and what is read out of it."""

from __future__ import annotations

import signal
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.access.masking import Masker
from interlock.edges.executor import LogFiles
from interlock.edges.executor.blame import blame, name_of_exit
from interlock.edges.executor.lines import LONGEST, MOST_BYTES, STEP, index_path
from interlock.edges.executor.log import CappedLog, readable
from interlock.errors import NotFound

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
    index = {"a.log.lines"} if len(kept) >= STEP else set()
    assert {entry.name for entry in path.parent.iterdir()} == {"a.log", *index}


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


def test_output_is_read_as_text_whatever_was_sent() -> None:
    text = readable(b"x" * 100 + b"\x1b[31mred\x1b[0m \xff\0 \x1b]0;title\x07 10%\r20%\rdone")
    assert text.splitlines()[-1] == "done"
    assert "\x1b" not in text
    assert "red \\xff" in text
    assert "title" not in text


@given(
    pieces=st.lists(st.text("abc\n", max_size=40), max_size=30),
    limit=st.integers(min_value=2, max_value=60),
    size=st.integers(min_value=1, max_value=80),
)
def test_the_end_is_what_was_written_last_also_beyond_the_cap(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str], limit: int, size: int
) -> None:
    sent, half = "".join(pieces), limit // 2
    with CappedLog(tmp_path_factory.mktemp("log") / "a.log", limit) as log:
        for piece in pieces:
            log.write(piece.encode())
        tail = log.read_tail(size)
    kept = sent if len(sent) <= 2 * half else sent[-half:]
    assert tail == kept[-size:]


# --- secrets in it ---

SECRET = "s3cr3t-Value_01"


def test_what_is_printed_and_what_is_said_is_masked_before_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with CappedLog(path) as log:
        log.masker = Masker([SECRET])
        for letter in f"begin {SECRET} end\n":
            log.write(letter.encode())
            assert SECRET[:2].encode() not in path.read_bytes()
        log.say(f"failed: no host {SECRET}.example")
    assert path.read_bytes() == b"begin *** end\n[interlock] failed: no host ***.example\n"


def test_what_could_begin_a_secret_comes_when_the_output_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with CappedLog(path) as log:
        log.masker = Masker([SECRET])
        log.write(f"ends with {SECRET[:-1]}".encode())
        assert path.read_bytes() == b"ends with "
        log.flush()
        assert path.read_bytes() == f"ends with {SECRET[:-1]}".encode()
        log.write(SECRET[:4].encode())
    assert path.read_bytes() == f"ends with {SECRET[:-1]}{SECRET[:4]}".encode()


def test_a_word_of_our_own_within_a_secret_does_not_uncover_it(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with CappedLog(path) as log:
        log.masker = Masker([SECRET])
        log.write(SECRET[:7].encode())
        log.say("ending the stage")
        log.write(SECRET[7:].encode() + b"\n")
    assert path.read_bytes() == b"[interlock] ending the stage\n***\n"


def test_secrets_beyond_the_cap_are_masked_too(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with CappedLog(path, 400) as log:
        log.masker = Masker([SECRET])
        for _ in range(1000):
            log.write(SECRET[:9].encode())
            log.write(SECRET[9:].encode() + b" ")
    assert set(path.read_bytes().split(b"[interlock]")[0]) <= set(b"* \n")
    assert SECRET.encode() not in path.read_bytes()


# --- by line ---


class Followed:
    """A log and its windows; ``lines`` is what a simple reader of the whole file finds."""

    def __init__(self, folder: Path) -> None:
        self.files = LogFiles(folder)
        self.path = self.files.path("1/train/1")

    def log(self, limit: int = 64 << 20) -> CappedLog:
        return CappedLog(self.path, limit)

    @property
    def lines(self) -> list[str]:
        content = self.path.read_bytes().decode("utf-8", "replace")
        return content.removesuffix("\n").split("\n") if content else []

    def window(self, first: int, most: int = 1000) -> tuple[list[str], int, bool]:
        window = self.files.window("1/train/1", first, most)
        assert window.following == window.first + len(window.lines)
        return list(window.lines), window.following, window.is_end

    def check_everywhere(self, most: int = 1000) -> None:
        lines, step = self.lines, max(1, len(self.lines) // 37)
        for first in {*range(0, len(lines) + 2, step), len(lines) - 1, len(lines)}:
            found, following, is_end = self.window(max(0, first), most)
            assert found == lines[max(0, first) : max(0, first) + most]
            assert is_end is (following >= len(lines))


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.integers(0, 3 * STEP).map(lambda size: b"x" * size),
            st.integers(0, 3000).map(lambda count: b"a line\n" * count),
            st.integers(0, 2 * STEP).map(lambda count: b"\n" * count),
        ),
        max_size=8,
    ),
    first=st.integers(-50, 5000),
    most=st.integers(0, 100),
    has_index=st.booleans(),
)
def test_any_window_is_that_of_the_whole_file(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[bytes],
    first: int,
    most: int,
    has_index: bool,
) -> None:
    followed = Followed(tmp_path_factory.mktemp("log"))
    with followed.log() as log:
        for piece in pieces:
            log.write(piece)
    if not has_index:
        index_path(followed.path).unlink(missing_ok=True)
    lines = [line if len(line) <= LONGEST else None for line in followed.lines]
    begin = first if first >= 0 else max(0, len(lines) + first)
    found, following, is_end = followed.window(first, most)
    shown = lines[begin : begin + most][: len(found)]
    assert [line if shown[place] is not None else None for place, line in enumerate(found)] == shown
    assert found or not lines[begin : begin + most]
    assert following == begin + len(found)
    assert is_end is (following >= len(lines))


def test_a_long_log_is_read_anywhere(followed: Followed) -> None:
    with followed.log() as log:
        for number in range(0, 60_000, 100):
            log.write(b"".join(b"line %d of the log\n" % one for one in range(number, number + 100)))
    assert index_path(followed.path).stat().st_size == followed.path.stat().st_size // STEP * 8
    followed.check_everywhere()
    assert followed.window(-3)[0] == [f"line {number} of the log" for number in (59_997, 59_998, 59_999)]
    assert followed.window(10**9) == ([], 10**9, True)
    assert followed.window(5, 0) == ([], 5, False)


def test_a_follower_gets_every_line_once_while_the_log_grows(followed: Followed) -> None:
    got: list[str] = []

    def follow() -> None:
        while True:
            found, following, is_end = followed.window(len(got), 7)
            got.extend(found)
            assert following == len(got)
            if is_end:
                return

    with followed.log(limit=4 * STEP) as log:
        for number in range(20_000):
            log.write(b"line %d of " % number)
            if number % 97 == 0:
                follow()
            log.write(b"the log\n")
        follow()
        grown = len(got)
        assert got == [f"line {number} of the log" for number in range(grown)]
    follow()
    assert got == followed.lines
    assert len(got) > grown, "the end was put behind the beginning"
    assert [line for line in got if "bytes dropped" in line]


def test_a_line_is_shown_when_it_has_ended_or_nobody_writes_any_more(followed: Followed) -> None:
    log = followed.log()
    log.write(b"one\nhalf")
    assert followed.window(0) == (["one"], 1, True)
    assert followed.window(-1) == (["one"], 1, True)
    log.close()
    assert followed.window(0) == (["one", "half"], 2, True)
    assert followed.window(1) == (["half"], 2, True)


def test_an_index_that_is_missing_short_torn_or_too_long_is_no_matter(followed: Followed) -> None:
    with followed.log() as log:
        log.write(b"".join(b"line %d\n" % number for number in range(50_000)))
    index = index_path(followed.path).read_bytes()
    for odd in (None, b"", index[:11], index[:-3], index + b"\xff" * 24):
        if odd is None:
            index_path(followed.path).unlink(missing_ok=True)
        else:
            index_path(followed.path).write_bytes(odd)
        followed.check_everywhere(50)


def test_an_index_that_cannot_be_written_fails_nobody(followed: Followed) -> None:
    followed.path.parent.mkdir(parents=True)
    index_path(followed.path).symlink_to("/dev/full")
    with followed.log() as log:
        log.write(b"a line\n" * 50_000)
        log.write(b"a line\n" * 50_000)
    index_path(followed.path).unlink()
    assert len(followed.lines) == 100_000
    followed.check_everywhere(10)


def test_a_line_without_end_is_cut_and_costs_little(followed: Followed) -> None:
    with followed.log() as log:
        log.write(b"before\n")
        for _ in range(40):
            log.write(b"x" * MOST_BYTES)
        log.write(b"\nafter\n")
    assert followed.window(0, 1) == (["before"], 1, False)
    (long,), following, is_end = followed.window(1)
    assert long == "x" * LONGEST + f" [interlock: {40 * MOST_BYTES - LONGEST} more bytes of this line]"
    assert (following, is_end) == (2, False)
    assert followed.window(2) == (["after"], 3, True)
    assert followed.window(-1)[0] == ["after"]


def test_a_window_has_a_most_of_bytes_and_tells_where_to_go_on(followed: Followed) -> None:
    with followed.log() as log:
        for number in range(100):
            log.write(b"%03d" % number + b"x" * 50_000 + b"\n")
    got: list[str] = []
    windows = 0
    while len(got) < 100:
        found, following, _ = followed.window(len(got))
        assert sum(map(len, found)) <= MOST_BYTES
        got += found
        assert following == len(got)
        windows += 1
    assert [line[:3] for line in got] == [f"{number:03}" for number in range(100)]
    assert windows == 5


def test_odd_bytes_are_kept_and_shown_as_text(followed: Followed) -> None:
    content = b"caf\xe9 \0 \x1b[31mred\x1b[0m\n10%\r20%\r\n\xff\n"
    with followed.log() as log:
        log.write(content)
    assert followed.path.read_bytes() == content
    assert followed.window(0)[0] == ["caf\ufffd \0 \x1b[31mred\x1b[0m", "10%\r20%\r", "\ufffd"]


def test_where_nothing_is_kept_there_are_no_lines(followed: Followed) -> None:
    assert followed.window(0) == ([], 0, True)
    assert followed.window(7) == ([], 7, True)
    assert followed.window(-7) == ([], 0, True)
    with followed.log():
        assert followed.window(-7) == ([], 0, True)
    for name in ("../x", "a//b", "", "a/../../b"):
        with pytest.raises(NotFound, match="no name of an attempt"):
            followed.files.window(name, 0, 1)


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

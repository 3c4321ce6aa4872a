"""What real tools leave in a log, and which line of which file is blamed for it."""

from __future__ import annotations

import signal
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.edges.executor.blame import LONGEST, MOST_PROBLEMS, blame, name_of_exit

INSIDE = "/workspace"
FILES = frozenset({"train.py", "src/train.py", "src/helper.py", "tests/test_a.py", "tests/test_b.py"})

PLAIN = """
    loading flights.csv
    Traceback (most recent call last):
      File "/workspace/train.py", line 8, in <module>
        main()
      File "/workspace/src/helper.py", line 3, in main
        return rows["late"]
               ~~~~^^^^^^^^
    KeyError: 'late'
"""
BECAUSE_OF = """
    Traceback (most recent call last):
      File "/workspace/src/helper.py", line 5, in read
        open(path)
    FileNotFoundError: [Errno 2] No such file or directory: 'x.csv'

    The above exception was the direct cause of the following exception:

    Traceback (most recent call last):
      File "/workspace/src/train.py", line 21, in <module>
        read(path)
      File "/workspace/src/helper.py", line 7, in read
        raise RuntimeError("no data") from problem
    RuntimeError: no data
"""
DURING = """
    Traceback (most recent call last):
      File "/workspace/src/train.py", line 2, in <module>
    ZeroDivisionError: division by zero

    During handling of the above exception, another exception occurred:

    Traceback (most recent call last):
      File "/workspace/src/train.py", line 4, in <module>
    NameError: name 'log' is not defined
"""
RECURSION = """
    Traceback (most recent call last):
      File "/workspace/src/train.py", line 4, in <module>
        depth(1)
      File "/workspace/src/helper.py", line 2, in depth
        return depth(n + 1)
      File "/workspace/src/helper.py", line 2, in depth
        return depth(n + 1)
      [Previous line repeated 996 more times]
    RecursionError: maximum recursion depth exceeded
"""
NOTES = """
    Traceback (most recent call last):
      File "/workspace/src/train.py", line 4, in <module>
        fit()
    ValueError: Input X contains NaN.
    LogisticRegression does not accept missing values encoded as NaN natively.
    Hint: drop them
"""
SMALL_LETTERS = """
    Traceback (most recent call last):
      File "/workspace/src/train.py", line 9, in <module>
        zlib.decompress(content)
    zlib.error: Error -3 while decompressing data: incorrect header check
    Note: the file was downloaded today
"""
LOCAL_CLASS = """
    Traceback (most recent call last):
      File "/workspace/src/train.py", line 9, in <module>
        make()
    make.<locals>.Broken: by hand
    Total: 3 rows
"""
INTERRUPTED = """
    Traceback (most recent call last):
      File "/workspace/src/train.py", line 30, in <module>
        time.sleep(60)
    KeyboardInterrupt
"""
IMPORTED_WITH_A_SLIP = """
    Traceback (most recent call last):
      File "/workspace/src/train.py", line 1, in <module>
        import helper
      File "/workspace/src/helper.py", line 14
        if rows = 3:
           ^^^^^^^^
    SyntaxError: invalid syntax. Maybe you meant '==' or ':=' instead of '='?
"""
INDENTED_WRONGLY = """
      File "/workspace/train.py", line 3
        return 1
    IndentationError: unexpected indent
"""
LOGGED = """
    2026-01-01 ERROR Traceback (most recent call last):
      File "/workspace/src/train.py", line 6, in <module>
        fit()
    TypeError: fit() missing 1 required positional argument: 'x'
"""
TWO_OF_THEM = """
    Traceback (most recent call last):
      File "/workspace/src/helper.py", line 2, in once
    OSError: a first try
    trying again
    Traceback (most recent call last):
      File "/workspace/src/train.py", line 5, in <module>
    OSError: a second try
"""
WITHIN_A_LIBRARY = """
    Traceback (most recent call last):
      File "/workspace/src/train.py", line 11, in <module>
        frame.merge(other)
      File "/environments/ab/lib/python3.12/site-packages/pandas/core/frame.py", line 10832, in merge
        return merge(
      File "/environments/ab/lib/python3.12/site-packages/pandas/core/reshape/merge.py", line 170, in merge
        op = _MergeOperation(
    pandas.errors.MergeError: No common columns to perform merge on
"""
IN_A_WORKER = '''
    joblib.externals.loky.process_executor._RemoteTraceback:
    """
    Traceback (most recent call last):
      File "/environments/ab/joblib/parallel.py", line 1, in __call__
      File "/workspace/src/helper.py", line 40, in one_fold
    ValueError: fold is empty
    """

    The above exception was the direct cause of the following exception:

    Traceback (most recent call last):
      File "/workspace/src/train.py", line 12, in <module>
        Parallel(n_jobs=2)(jobs)
      File "/environments/ab/joblib/parallel.py", line 2007, in __call__
    ValueError: fold is empty
'''
UNITTEST = """
    F.
    ======================================================================
    FAIL: test_one (tests.test_a.Late.test_one)
    ----------------------------------------------------------------------
    Traceback (most recent call last):
      File "/workspace/tests/test_a.py", line 6, in test_one
        self.assertEqual(late(3), 4)
    AssertionError: 3 != 4

    ----------------------------------------------------------------------
    Ran 2 tests in 0.001s

    FAILED (failures=1)
"""
GROUPED = """
      + Exception Group Traceback (most recent call last):
      |   File "/workspace/src/train.py", line 3, in <module>
      |     raise ExceptionGroup("folds", found)
      | ExceptionGroup: folds (2 sub-exceptions)
      +-+---------------- 1 ----------------
        | Traceback (most recent call last):
        |   File "/workspace/src/helper.py", line 8, in fold
        |     raise ValueError("one class only")
        | ValueError: one class only
        +---------------- 2 ----------------
        | KeyError: 'late'
        +------------------------------------
"""
GROUPED_WITHOUT_FRAMES = """
      + Exception Group Traceback (most recent call last):
      |   File "/workspace/src/train.py", line 3, in <module>
      | ExceptionGroup: folds (1 sub-exception)
      +-+---------------- 1 ----------------
        | KeyError: 'late'
        +------------------------------------
"""
CRASHED = """
    Fatal Python error: Segmentation fault

    Thread 0x00007f01 (most recent call first):
      File "/workspace/src/helper.py", line 99 in watch
      File "/usr/lib/python3.12/threading.py", line 1010 in run

    Current thread 0x00007f02 (most recent call first):
      File "/environments/ab/numpy/linalg.py", line 5 in solve
      File "/workspace/src/helper.py", line 17 in inner
      File "/workspace/src/train.py", line 3 in <module>

    Extension modules: numpy._core._multiarray_umath, numpy.linalg (total: 2)
"""
CRASHED_ELSEWHERE = """
    Fatal Python error: Aborted

    Current thread 0x00007f02 (most recent call first):
      <no Python frame>
"""

TRACEBACKS = {
    "innermost line of the project": (PLAIN, "KeyError: 'late'", ("src/helper.py", 3)),
    "direct cause": (BECAUSE_OF, "RuntimeError: no data", ("src/helper.py", 7)),
    "during handling": (DURING, "NameError: name 'log' is not defined", ("src/train.py", 4)),
    "recursion": (RECURSION, "RecursionError: maximum recursion depth exceeded", ("src/helper.py", 2)),
    "advice below the exception": (NOTES, "ValueError: Input X contains NaN.", ("src/train.py", 4)),
    "an exception in small letters": (
        SMALL_LETTERS,
        "zlib.error: Error -3 while decompressing data: incorrect header check",
        ("src/train.py", 9),
    ),
    "an exception's class within a function": (LOCAL_CLASS, "make.<locals>.Broken: by hand", ("src/train.py", 9)),
    "an exception without words": (INTERRUPTED, "KeyboardInterrupt", ("src/train.py", 30)),
    "a slip in an imported file": (
        IMPORTED_WITH_A_SLIP,
        "SyntaxError: invalid syntax. Maybe you meant '==' or ':=' instead of '='?",
        ("src/helper.py", 14),
    ),
    "wrong indentation": (INDENTED_WRONGLY, "IndentationError: unexpected indent", ("train.py", 3)),
    "behind a logger's words": (
        LOGGED,
        "TypeError: fit() missing 1 required positional argument: 'x'",
        ("src/train.py", 6),
    ),
    "the last of two": (TWO_OF_THEM, "OSError: a second try", ("src/train.py", 5)),
    "raised within a library": (
        WITHIN_A_LIBRARY,
        "pandas.errors.MergeError: No common columns to perform merge on",
        ("src/train.py", 11),
    ),
    "raised in a worker": (IN_A_WORKER, "ValueError: fold is empty", ("src/train.py", 12)),
    "unittest": (UNITTEST, "AssertionError: 3 != 4", ("tests/test_a.py", 6)),
    "a group of exceptions": (GROUPED, "ValueError: one class only", ("src/helper.py", 8)),
    "a group whose parts have no frames": (
        GROUPED_WITHOUT_FRAMES,
        "ExceptionGroup: folds (1 sub-exception)",
        ("src/train.py", 3),
    ),
    "a crash of the interpreter": (CRASHED, "Fatal Python error: Segmentation fault", ("src/helper.py", 17)),
}


def read(text: str) -> tuple[str, list[tuple[str | None, int | None, str]]]:
    found = blame(textwrap.dedent(text), INSIDE, FILES)
    return found.line, [(problem.path, problem.line, problem.message) for problem in found.problems]


@pytest.mark.parametrize(("log", "said", "place"), TRACEBACKS.values(), ids=TRACEBACKS)
def test_one_line_is_said_and_one_place_is_blamed(log: str, said: str, place: tuple[str, int]) -> None:
    assert read(log) == (said, [(*place, said)])


@pytest.mark.parametrize(("log", "said", "place"), TRACEBACKS.values(), ids=TRACEBACKS)
def test_what_interlock_adds_to_the_log_changes_no_blame(log: str, said: str, place: tuple[str, int]) -> None:
    noisy = textwrap.dedent(log) + "\n[interlock] the stage took 3 s\n\n[interlock] exit code 1\n"
    assert read(noisy) == read(log)


@pytest.mark.parametrize(("log", "said", "place"), TRACEBACKS.values(), ids=TRACEBACKS)
def test_another_project_with_the_same_log_is_not_blamed(log: str, said: str, place: tuple[str, int]) -> None:
    found = blame(textwrap.dedent(log), "/workspace", frozenset({"other.py"}))
    assert (found.line, found.problems) == (said, ())


def test_a_crash_without_frames_is_said_all_the_same() -> None:
    assert read(CRASHED_ELSEWHERE) == ("Fatal Python error: Aborted", [])


@pytest.mark.parametrize("path", ["/workspace/train.py", "./train.py", "train.py"])
def test_a_path_of_the_project_is_known_however_it_is_written(path: str) -> None:
    log = f'Traceback (most recent call last):\n  File "{path}", line 2, in <module>\nTypeError: no\n'
    assert read(log)[1] == [("train.py", 2, "TypeError: no")]


@pytest.mark.parametrize("path", ["/workspace2/train.py", "/elsewhere/workspace/train.py", "<string>", "<stdin>"])
def test_a_path_that_only_looks_like_one_of_the_project_is_not(path: str) -> None:
    log = f'Traceback (most recent call last):\n  File "{path}", line 2, in <module>\nTypeError: no\n'
    assert read(log) == ("TypeError: no", [])


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("/bin/sh: 1: pyton: not found\n", "/bin/sh: 1: pyton: not found"),
        ("+ python train.py\ntrain.sh: line 3: syntax error near `fi'\n", "train.sh: line 3: syntax error near `fi'"),
        ("cat: x.csv: No such file or directory\n\n", "cat: x.csv: No such file or directory"),
        (
            "python: can't open file '/workspace/t.py': [Errno 2]\n",
            "python: can't open file '/workspace/t.py': [Errno 2]",
        ),
        ("step 1\nKilled\n", "step 1"),
        ("make: *** [Makefile:2: train] Error 1\n", "make: *** [Makefile:2: train] Error 1"),
        ("src/train.py:3:1: F401 unused import\nFound 1 error.\n", "Found 1 error."),
        ("| a | b |\n| 1 | 2 |\n", "| 1 | 2 |"),
        ("  indented at the end  \n", "indented at the end"),
        ("FAILED to connect\n", "FAILED to connect"),
        ("ERROR src/nowhere.py - gone\n", "ERROR src/nowhere.py - gone"),
        ("[interlock] only ours\n", ""),
    ],
)
def test_what_is_no_traceback_is_told_by_its_last_line(log: str, said: str) -> None:
    assert read(log) == (said, [])


SECTIONS = """
    =================================== FAILURES ===================================
    ___________________________________ test_one ___________________________________

        def test_one():
    >       compare(late([1]), 2)

    tests/test_a.py:12:
    _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _
    tests/test_a.py:4: AssertionError
    ______________________________ TestLate.test_two _______________________________
    tests/test_a.py:20: ValueError
    _________________________ ERROR at setup of test_three _________________________
    tests/test_b.py:3: RuntimeError
    =========================== short test summary info ============================
    FAILED tests/test_a.py::test_one - assert 1 == 2
    FAILED tests/test_a.py::TestLate::test_two - ValueError: bad
    ERROR tests/test_b.py::test_three - RuntimeError: no server
    ========================= 2 failed, 1 error in 0.12s ==========================
"""


def test_each_failed_test_is_blamed_at_its_own_line() -> None:
    line, problems = read(SECTIONS)
    assert problems == [
        ("tests/test_a.py", 12, "test_one: assert 1 == 2"),
        ("tests/test_a.py", 20, "TestLate::test_two: ValueError: bad"),
        ("tests/test_b.py", 3, "test_three: RuntimeError: no server"),
    ]
    assert line == "tests/test_a.py:12: test_one: assert 1 == 2 (and 2 more)"


def test_a_test_is_not_taken_for_another_whose_name_ends_alike() -> None:
    log = """
        ________ another_test_one ________
        tests/test_a.py:30: ValueError
        ________ test_one ________
        tests/test_a.py:7: KeyError
        FAILED tests/test_a.py::test_one - KeyError: 'x'
        FAILED tests/test_a.py::another_test_one - ValueError: y
    """
    assert [(line, said) for _, line, said in read(log)[1]] == [
        (7, "test_one: KeyError: 'x'"),
        (30, "another_test_one: ValueError: y"),
    ]


def test_tests_of_one_name_in_two_files_are_told_apart() -> None:
    log = """
        ________ test_one ________
        tests/test_a.py:7: KeyError
        ________ test_one ________
        tests/test_b.py:9: KeyError
        FAILED tests/test_b.py::test_one - KeyError: 'b'
        FAILED tests/test_a.py::test_one - KeyError: 'a'
    """
    assert [(path, line) for path, line, _ in read(log)[1]] == [("tests/test_b.py", 9), ("tests/test_a.py", 7)]


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ("FAILED tests/test_a.py::test_one[1-2] - assert 1 == 2", "test_one[1-2]: assert 1 == 2"),
        ("FAILED tests/test_a.py::test_one[a - b] - ValueError: c - d", "test_one[a - b]: ValueError: c - d"),
        ("FAILED tests/test_a.py::test_one[x] - assert [1] == [2]", "test_one[x]: assert [1] == [2]"),
        ("FAILED tests/test_a.py::test_one - assert [1] == [2]", "test_one: assert [1] == [2]"),
        ("FAILED tests/test_a.py::test_one", "test_one: failed"),
        ("FAILED tests/test_a.py::TestA::test_one[left", "TestA::test_one[left: failed"),
        (
            "ERROR tests/test_a.py - ModuleNotFoundError: No module named 'x'",
            "ModuleNotFoundError: No module named 'x'",
        ),
        ("ERROR tests/test_a.py", "failed"),
    ],
)
def test_a_line_of_the_summary_is_enough(summary: str, message: str) -> None:
    line, problems = read(summary)
    assert problems == [("tests/test_a.py", None, message)]
    assert line == f"tests/test_a.py: {message}"


def test_without_sections_places_are_taken_in_their_order() -> None:
    log = """
        /workspace/tests/test_a.py:7: AssertionError: first
        /workspace/tests/test_a.py:9: AssertionError: second
        FAILED tests/test_a.py::test_one
        FAILED tests/test_a.py::test_two
        FAILED tests/test_a.py::test_three
    """
    assert read(log)[1] == [
        ("tests/test_a.py", 7, "test_one: AssertionError"),
        ("tests/test_a.py", 9, "test_two: AssertionError"),
        ("tests/test_a.py", None, "test_three: failed"),
    ]


@given(count=st.integers(1, 60))
def test_of_many_failed_tests_some_are_shown_and_all_are_counted(count: int) -> None:
    line, problems = read("\n".join(f"FAILED tests/test_a.py::test_{number} - no" for number in range(count)))
    assert [said for _, _, said in problems] == [f"test_{number}: no" for number in range(min(count, MOST_PROBLEMS))]
    assert line.endswith(f"(and {count - 1} more)") == (count > 1)


@given(words=st.text(alphabet="abc :'[]-", min_size=1, max_size=900), line=st.integers(1, 10**6))
def test_whatever_an_exception_says_it_is_blamed_where_it_was_raised(words: str, line: int) -> None:
    log = f'Traceback (most recent call last):\n  File "/workspace/train.py", line {line}, in fit\nError: {words}\n'
    found = blame(log, INSIDE, FILES)
    assert found.line == f"Error: {words}".rstrip()[:LONGEST]
    assert [(one.path, one.line, one.message) for one in found.problems] == [("train.py", line, found.line)]


@given(before=st.lists(st.text(alphabet="ab |+-_:.", max_size=30), max_size=8))
def test_what_was_printed_before_a_traceback_does_not_matter(before: list[str]) -> None:
    assert read("\n".join([*before, textwrap.dedent(PLAIN)])) == read(PLAIN)


@pytest.mark.parametrize("one", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT, signal.SIGXCPU])
def test_a_signal_has_one_name_whether_the_shell_or_the_kernel_told_it(one: signal.Signals) -> None:
    assert name_of_exit(-one) == name_of_exit(128 + one) == f"killed by {one.name}"


@given(code=st.integers(1, 128))
def test_an_ordinary_exit_code_is_no_signal(code: int) -> None:
    assert name_of_exit(code) == f"exit code {code}"

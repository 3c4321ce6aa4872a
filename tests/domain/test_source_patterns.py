"""Patterns, trusted refs, and what begins a run."""

from __future__ import annotations

import posixpath
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.source.commit import OccasionKind
from interlock.source.patterns import Pattern, Patterns
from interlock.source.repository import Watched
from interlock.source.selection import is_wanted
from interlock.source.triggers import PullRequestPlan, Triggers
from interlock.source.trust import is_trusted

# a pattern, what it matches, what it does not
MATCHES = [
    ("main", ["main"], ["", "mai", "main2", "Main", "a/main"]),
    ("release/*", ["release/1", "release/"], ["release", "release/1/2", "xrelease/1"]),
    ("release/**", ["release/1", "release/1/2", "release/"], ["release", "releases/1"]),
    ("*", ["", "main", "v1.0"], ["a/b", "/"]),
    ("**", ["", "main", "a/b/c"], []),
    ("v?", ["v1", "vx"], ["v", "v10", "v/"]),
    ("v*.?", ["v1.2", "v1.2.3", "v.2"], ["v1.", "v1/.2"]),
    ("*.py", ["a.py", ".py"], ["src/a.py", "a.pyc"]),
    ("**/*.py", ["a.py", "src/a.py", "a/b/c.py"], ["a.py/b", "apy"]),
    ("**/docs/**", ["docs/a", "x/docs/a", "x/y/docs/a/b"], ["docs", "xdocs/a"]),
    ("src/**/test_*.py", ["src/test_a.py", "src/a/b/test_c.py"], ["test_a.py", "src/atest_b.py", "src/a/b.py"]),
    ("a/**/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb"]),
    ("**a*b", ["ab", "xa/ab", "a/ab", "aab"], ["a/b", "ba", "a"]),
    ("a***b", ["ab", "a/x/b"], ["a", "b"]),
    ("a**b/c", ["ab/c", "a/x/b/c"], ["a/c"]),
    ("a**/b", ["a/b", "ax/b", "a/x/b"], ["ab", "b"]),
    (".*", [".env", "."], ["env", "./a"]),
    ("a+b(c)|d$", ["a+b(c)|d$"], ["aab(c)", "d"]),
    ("", [""], ["a"]),
]


@pytest.mark.parametrize(("pattern", "matching", "others"), MATCHES, ids=[case[0] or "empty" for case in MATCHES])
def test_patterns(pattern: str, matching: list[str], others: list[str]) -> None:
    compiled = Pattern(pattern)
    assert [text for text in matching if not compiled.matches(text)] == []
    assert [text for text in others if compiled.matches(text)] == []


@pytest.mark.parametrize(
    ("patterns", "text", "is_in"),
    [
        ([], "main", False),
        (["main"], "main", True),
        (["**", "!wip/**"], "wip/x", False),
        (["**", "!wip/**"], "main", True),
        (["**", "!wip/**", "wip/keep"], "wip/keep", True),
        (["!main", "**"], "main", True),
        (["!main"], "other", False),
    ],
)
def test_the_last_pattern_that_matches_decides(patterns: list[str], text: str, is_in: bool) -> None:
    assert Patterns(patterns).include(text) is is_in


@settings(max_examples=300)
@given(st.text("ab/*?", max_size=8), st.text("ab/", max_size=8))
def test_a_pattern_says_what_its_words_say(pattern: str, text: str) -> None:
    """The words of the documentation as a regular expression, which is slow on hostile patterns and right on these."""
    parts = re.split(r"((?:(?<=/)|^)\*\*/|\*\*|\*|\?)", pattern)
    said = {"**/": r"(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    expression = "".join(said.get(part, re.escape(part)) for part in parts)
    assert Pattern(pattern).matches(text) == bool(re.fullmatch(expression, text))


@settings(max_examples=100)
@given(st.text("abc/.-_é ", max_size=30))
def test_a_plain_name_is_its_own_pattern(name: str) -> None:
    assert Pattern(name).matches(name)
    assert not Pattern(name).matches(f"{name}x")


def test_a_hostile_pattern_does_not_hold_the_server() -> None:
    """A regular expression would need longer than anybody lives."""
    assert not Pattern("*a" * 60 + "b").matches("a" * 2000)
    assert not Pattern("**/" * 60 + "b").matches("a/" * 1000)


def watched(*trusted: str) -> Watched:
    return Watched(name="flights", git_directory="/srv/git/flights.git", trusted=trusted)


@pytest.mark.parametrize(
    ("ref", "trusted", "expected"),
    [
        ("refs/heads/main", ("main",), True),
        ("refs/heads/feature", ("main",), False),
        ("refs/heads/release/1", ("main", "release/*"), True),
        ("refs/heads/release/1/2", ("main", "release/*"), False),
        ("refs/heads/release/old", ("release/*", "!release/old"), False),
        ("refs/heads/release/old", ("!release/old", "release/*"), True),
        ("refs/tags/v1", ("main",), False),
        ("refs/tags/v1", ("v1", "**"), False),
        ("refs/tags/v1", ("refs/tags/v*",), True),
        ("refs/tags/v1-rc", ("refs/tags/v*", "!refs/tags/*-rc"), False),
        ("refs/heads/main", ("refs/heads/main",), True),
        ("refs/heads/refs/tags/v1", ("refs/tags/v*",), False),
        ("refs/heads/main", (), False),
        ("main", ("main", "**"), False),
        ("", ("**",), False),
    ],
)
def test_trusted_refs_are_those_of_the_settings(ref: str, trusted: tuple[str, ...], expected: bool) -> None:
    assert is_trusted(ref, watched(*trusted)) is expected


@pytest.mark.parametrize(
    "ref", ["refs/pull/7/head", "refs/pull/7/merge", "refs/merge-requests/7/head", "refs/for/main"]
)
@pytest.mark.parametrize("pattern", ["**", "refs/**", "refs/pull/**", "refs/pull/7/head"])
def test_refs_that_anybody_may_write_are_never_trusted(ref: str, pattern: str) -> None:
    assert not is_trusted(ref, watched(pattern))


ALL = Triggers(
    branches=("main", "release/*"),
    tags=("v*",),
    paths=("src/**", "!src/docs/**", "params.yaml"),
    pull_request=PullRequestPlan(branches=("main",), paths=("src/**",), until="train"),
    schedule=("0 3 * * 1",),
    data=("/srv/data",),
)
NONE = Triggers(branches=())

# what, ref, what changed, is a run wanted, and because of what
WANTED: list[tuple[OccasionKind, str, list[str] | None, bool, str]] = [
    ("push", "refs/heads/main", ["src/a.py"], True, "src/a.py changed, which is one of on.push.paths"),
    ("push", "refs/heads/main", ["README.md", "params.yaml"], True, "params.yaml changed"),
    ("push", "refs/heads/main", ["src/docs/a.md"], False, "none of 1 changed files is one of on.push.paths"),
    ("push", "refs/heads/main", [], False, "none of 0 changed files"),
    ("push", "refs/heads/main", None, True, "what changed is not known"),
    ("push", "refs/heads/feature", ["src/a.py"], False, "feature is none of on.push.branches"),
    ("push", "refs/tags/v1", ["src/a.py"], False, "refs/tags/v1 is no branch"),
    ("tag", "refs/tags/v1", [], True, "v1 is one of on.push.tags"),
    ("tag", "refs/tags/1", ["src/a.py"], False, "1 is none of on.push.tags"),
    ("pull_request", "main", ["src/a.py"], True, "src/a.py changed, which is one of on.pull_request.paths"),
    ("pull_request", "main", ["params.yaml"], False, "none of 1 changed files is one of on.pull_request.paths"),
    ("pull_request", "release/1", ["src/a.py"], False, "release/1 is none of on.pull_request.branches"),
    ("schedule", "refs/heads/main", None, True, "on.schedule says so"),
    ("data", "refs/heads/main", None, True, "on.data says so"),
    ("person", "refs/heads/feature", None, True, "somebody asked for it"),
    ("rerun", "refs/heads/feature", None, True, "somebody asked for it"),
    ("local", "", None, True, "somebody asked for it"),
]


@pytest.mark.parametrize(("kind", "ref", "changed", "expected", "because"), WANTED)
def test_what_begins_a_run(
    kind: OccasionKind, ref: str, changed: list[str] | None, expected: bool, because: str
) -> None:
    wanted = is_wanted(ALL, kind, ref, changed)
    assert bool(wanted) is wanted.is_wanted is expected
    assert because in wanted.because


@pytest.mark.parametrize(
    ("kind", "because"),
    [
        ("push", "on.push.branches lists nothing"),
        ("tag", "on.push.tags lists nothing"),
        ("pull_request", "the pipeline file has no on.pull_request"),
        ("schedule", "there is no schedule"),
        ("data", "no data is watched"),
    ],
)
def test_what_begins_none(kind: OccasionKind, because: str) -> None:
    wanted = is_wanted(NONE, kind, "refs/heads/main", ["a"])
    assert not wanted
    assert wanted.because == because


def test_without_paths_any_push_begins_a_run() -> None:
    wanted = is_wanted(Triggers(), "push", "refs/heads/main", [])
    assert wanted
    assert wanted.because == "main is one of on.push.branches"


@pytest.mark.parametrize(
    ("project", "changed", "expected"),
    [
        ("models/churn", ["models/churn/src/a.py"], True),
        ("models/churn", ["src/a.py"], False),
        ("models/churn", ["models/churn-2/src/a.py"], False),
        ("models/churn", ["models/churn"], False),
        ("", ["models/churn/src/a.py"], False),
    ],
)
def test_paths_are_relative_to_the_project(project: str, changed: list[str], expected: bool) -> None:
    assert is_wanted(ALL, "push", "refs/heads/main", changed, project=project).is_wanted is expected


@pytest.mark.parametrize(
    "message",
    ["Fix a typo [skip ci]", "[CI SKIP] x", "x\n\nSome more\n[no ci]", "Retune [Skip Interlock]"],
)
@pytest.mark.parametrize(
    ("kind", "ref"), [("push", "refs/heads/main"), ("tag", "refs/tags/v1"), ("pull_request", "main")]
)
def test_a_commit_message_can_say_that_there_is_nothing_to_run(kind: OccasionKind, ref: str, message: str) -> None:
    assert is_wanted(ALL, kind, ref, None)
    skipped = is_wanted(ALL, kind, ref, None, message=message)
    assert not skipped
    assert skipped.because.startswith("the commit message says [")


@pytest.mark.parametrize("kind", ["schedule", "data", "person", "rerun", "local"])
def test_a_commit_message_stops_nothing_else(kind: OccasionKind) -> None:
    assert is_wanted(ALL, kind, "refs/heads/main", None, message="[skip ci]")


@pytest.mark.parametrize("message", ["skip ci", "[skip-ci]", "[skip  ci]", "", "the word [skip"])
def test_only_the_whole_words_count(message: str) -> None:
    assert is_wanted(ALL, "push", "refs/heads/main", None, message=message)


def test_a_change_too_large_to_compare_begins_a_run() -> None:
    paths = tuple(f"{'x' * 200}{number}/**" for number in range(40))
    changed = [posixpath.join("y" * 250, str(number)) for number in range(10_000)]
    wanted = is_wanted(Triggers(paths=paths), "push", "refs/heads/main", changed)
    assert wanted.because == "too much changed to compare it with on.push.paths: 10000 files"
    assert wanted


NAMES = st.text("abv/*!.", min_size=1, max_size=6)


@settings(max_examples=200)
@given(
    st.lists(NAMES, max_size=4),
    st.lists(NAMES, max_size=4),
    st.sampled_from(["push", "tag", "pull_request", "schedule", "data", "rerun", "local", "person"]),
    st.text(max_size=12),
    st.none() | st.lists(st.text("abv/.", max_size=6), max_size=4),
    st.text(max_size=12),
)
def test_every_question_has_an_answer_with_a_reason(
    branches: list[str], paths: list[str], kind: Any, ref: str, changed: list[str] | None, message: str
) -> None:
    request = PullRequestPlan(branches=tuple(branches), paths=tuple(paths))
    triggers = Triggers(branches=tuple(branches), tags=tuple(branches), paths=tuple(paths), pull_request=request)
    assert is_wanted(triggers, kind, ref, changed, message=message).because

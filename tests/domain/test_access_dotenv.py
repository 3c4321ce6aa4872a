"""Files of variables: what a line means, and what is not understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.access.dotenv import read_secrets, read_variables
from interlock.errors import Refused, SeveralRefused


def values(text: str) -> dict[str, str]:
    return {name: found.value for name, found in read_variables(text, ".env").items()}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=one", "one"),
        ("A=one\n", "one"),
        ("A=one\r\nB=2\r\n", "one"),
        ("\ufeffA=one", "one"),
        ("export A=one", "one"),
        ("  export\tA = one  ", "one"),
        ("A=", ""),
        ("A=   # nothing", ""),
        ("A=one # two", "one"),
        ("A=one#two", "one#two"),
        ("A=# all of it", ""),
        ("A=one two", "one two"),
        ("A=a=b==", "a=b=="),
        ("A='one # two'", "one # two"),
        ("A='one' # two", "one"),
        ("A=''", ""),
        (r"A='a\n${B}'", r"a\n${B}"),
        ('A="one # two"', "one # two"),
        (r'A="a\nb\t\"c\"\\d\$e\q"', 'a\nb\t"c"\\d$e\\q'),
        ('A="-----BEGIN-----\nkey\n-----END-----"\nB=1', "-----BEGIN-----\nkey\n-----END-----"),
        ("A='a\nb'", "a\nb"),
        ("# A=no\n\n  # nor this\nA=one", "one"),
        ("A=pa$$word", "pa$$word"),
        (r'A="\${B}"', "${B}"),
        ("A=it's", "it's"),
    ],
)
def test_what_a_line_means(text: str, value: str) -> None:
    assert values(text)["A"] == value


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ("A", ".env:1", "this is no variable"),
        ("A B=1", ".env:1", "this is no variable"),
        ("\n\n1A=1", ".env:3", "this is no variable"),
        ("=1", ".env:1", "this is no variable"),
        ("A='one", ".env:1", "the quotes of A do not end"),
        ('A="one" two', ".env:1", "or something follows them"),
        ("B=1\nA=1\nA=2", ".env:3", "A was given in line 2 already"),
        ("A=${HOME}/x", ".env:1", "A refers to another variable"),
        ('B="1\n2"\nA="${B}"', ".env:3", "A refers to another variable"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_line(text: str, where: str, problem: str) -> None:
    with pytest.raises(SeveralRefused) as refused:
        read_variables(text, ".env")
    (one,) = refused.value.refusals
    assert (one.where, problem in one.problem, bool(one.remedy)) == (where, True, True)


def test_all_of_it_is_told_at_once_and_no_value_ever() -> None:
    with pytest.raises(SeveralRefused) as refused:
        read_variables("A='s3cretvalue\nB\nC=${s3cretvalue}\n", ".env")
    assert [one.where for one in refused.value.refusals] == [".env:1", ".env:2", ".env:3"]
    assert "s3cretvalue" not in str(refused.value)


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_characters="'\r\0", exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(NAMES, TEXTS, max_size=5))
def test_whatever_is_put_in_single_quotes_is_read_as_it_is(wanted: dict[str, str]) -> None:
    assert values("".join(f"{name}='{value}'\n" for name, value in wanted.items())) == wanted


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        values(text)
    except SeveralRefused as refused:
        assert all(one.where.startswith(".env:") for one in refused.refusals)  # noqa: PT017 - both ends are right


def test_secrets_are_those_that_are_asked_for() -> None:
    text = "TOKEN=12345678\nOTHER=x\n"
    assert read_secrets(text, ["TOKEN", "TOKEN"], ".env") == {"TOKEN": "12345678"}
    assert read_secrets(text, [], ".env") == {}


def test_a_secret_that_is_missing_or_too_short_to_be_masked_is_refused() -> None:
    with pytest.raises(Refused, match=r"\.env: there is no TOKEN, which a stage names as a secret \(add TOKEN=...\)"):
        read_secrets("", ["TOKEN"], ".env")
    with pytest.raises(SeveralRefused) as refused:
        read_secrets("A=1\nTOKEN='  1234567  '\n", ["TOKEN", "B"], ".env")
    assert [one.where for one in refused.value.refusals] == [".env:2", ".env"]
    assert "1234567" not in str(refused.value)

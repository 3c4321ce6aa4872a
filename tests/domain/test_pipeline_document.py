"""YAML text to values with places, and parameter files."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import SeveralRefused
from interlock.pipeline import document as document_module
from interlock.pipeline.document import Problem, plain, read_document, read_value, refuse_all
from interlock.pipeline.params import flatten, override, parse_overrides, read_params, select


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on: no", {"on": "no"}),
        ("a: yes", {"a": "yes"}),
        ("a: 3.10", {"a": 3.1}),
        ("a: 0x1F", {"a": 31}),
        ("a: 0o17", {"a": 15}),
        ("a: 010", {"a": 10}),
        ("a: 1e-3", {"a": 0.001}),
        ("a: -.5", {"a": -0.5}),
        ("a: 12:30:00", {"a": "12:30:00"}),
        ("a: 2013-01-01", {"a": "2013-01-01"}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: '1'", {"a": "1"}),
        ("a: [~, null, true, FALSE]", {"a": [None, None, True, False]}),
        ("1: a", {"1": "a"}),
        ("a: |\n  b\n  c\n", {"a": "b\nc\n"}),
        ("\ufeffa: 1", {"a": 1}),
        ("", None),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, value: Any) -> None:
    document = read_document(text.encode(), "f")
    assert document.value == value
    assert type(plain(document.value)) is type(value)
    assert document.problems == ()


def test_a_number_knows_how_it_was_written() -> None:
    value = read_document(b"a: 3.10\nb: 0x10", "f").value
    assert isinstance(value, dict)
    assert [getattr(value[key], "text", None) for key in "ab"] == ["3.10", "0x10"]


def test_every_value_and_key_has_its_place() -> None:
    document = read_document(b"a:\n  - b: 1\n    cc: [x,\n     y]\n", "f")
    assert document.place(("a", 0, "cc"), at_key=True) == "f:3:5"
    assert document.place(("a", 0, "cc", 1)) == "f:4:6"
    assert document.place(("a", 0, "zz", 4)) == "f:2:5"
    assert document.place(("zz",), at_key=True) == "f:1:1"


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        (b"a: 1\n---\nb: 2", "f:2:1", "a second document begins here"),
        (b"? [a]: b", "f:1:3", "a key must be a plain text"),
        (b"a: b: c", "f:1:5", "mapping values are not allowed here"),
        (b"a: 'x", "f:1:6", "found unexpected end of stream"),
        (b"a: \x07", "f:1:1", "unacceptable character"),
        (b'a: "\\U99999999"', "f:1:1", "this is no YAML"),
        (b"a: b\nc: \xff", "f:2:4", "byte 0xff is no UTF-8"),
        (b"[" * 1000, "f:1:21", "nested deeper than 20 levels"),
        (b"{a: " * 30, "f:1:", "nested deeper"),
        (b"#" * 300_000, "f:1:1", "the file has 300,000 bytes"),
        (b"[" + b"1," * 30_000 + b"]", "f:1:", "more than 20,000 values"),
        (b"a: 1" + b"\na: 1" * 30_000, "f:2000", "more than 20,000 values"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: bytes, place: str, problem: str) -> None:
    with pytest.raises(SeveralRefused) as caught:
        read_document(text, "f")
    (refusal,) = caught.value.refusals
    assert refusal.where.startswith(place)
    assert problem in refusal.problem
    assert refusal.remedy


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "f:3:1", "the key a is given twice, first in line 1"),
        ("a: &x 1", "f:1:4", "anchor &x is refused"),
        ("a: *x", "f:1:4", "alias *x is refused"),
        ("a: !!python/object 1", "f:1:4", "the tag tag:yaml.org,2002:python/object is refused"),
        ("a: -.inf", "f:1:4", "-.inf is no number to work with"),
        ("a: 1e999", "f:1:4", "the number 1e999... is too large"),
        ("a: 9223372036854775808", "f:1:4", "is too large"),
        ("a: " + "9" * 5000, "f:1:4", "is too large"),
    ],
)
def test_smaller_problems_are_kept_beside_the_values(text: str, place: str, problem: str) -> None:
    document = read_document(text.encode(), "f")
    (refusal,) = document.refusals(document.problems)
    assert refusal.where == place
    assert problem in refusal.problem
    assert refusal.remedy


def test_of_duplicate_keys_the_first_is_kept() -> None:
    assert read_document(b"a: {b: 1}\na: {b: 2, c: 3}", "f").value == {"a": {"b": 1}}


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    document = read_document(bomb.encode(), "f")
    assert len(document.problems) == 12 + 11 * 9
    with pytest.raises(SeveralRefused) as caught:
        refuse_all(document.refusals(document.problems))
    assert len(caught.value.refusals) == 51
    assert caught.value.refusals[-1].problem == "and 61 more problems"


def test_problems_are_told_once_and_in_the_order_of_the_file() -> None:
    document = read_document(b"a: 1\nb: 2\n", "f")
    found = [Problem(("b",), "late", "x"), Problem(("a",), "early", "x"), Problem(("b",), "late", "x")]
    assert [refusal.problem for refusal in document.refusals(found)] == ["early", "late"]
    refuse_all([])


@pytest.mark.parametrize(
    "text",
    [
        "a: no",
        "a: On",
        "a: 2013-01-01",
        "a: 010",
        "a: 0o10",
        "a: 1_000",
        "a: 12:30:00",
        "0: 1",
        "<<: {a: 1}",
        "a: =",
        "true: 1",
    ],
)
def test_a_parameter_that_programs_would_read_otherwise_is_refused(text: str) -> None:
    with pytest.raises(SeveralRefused) as caught:
        read_params(text.encode())
    assert caught.value.refusals[0].where.startswith("params.yaml:1:")
    assert "in quotes" in caught.value.refusals[0].remedy


def test_parameters_are_a_mapping_or_nothing() -> None:
    assert read_params(b"") == {}
    assert read_params(b"a: {b: [1, 2.5, x, true, null]}\nrate: 1e-3\n") == {
        "a": {"b": [1, 2.5, "x", True, None]},
        "rate": 0.001,
    }
    with pytest.raises(SeveralRefused, match="parameters are a mapping"):
        read_params(b"- 1")


LETTERS = st.text(st.characters(codec="utf-8", categories=("L",)), max_size=20)
NUMBERS = st.one_of(st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.dictionaries(
    LETTERS.filter(bool),
    st.recursive(st.one_of(st.none(), st.booleans(), NUMBERS, LETTERS), lambda inner: st.lists(inner, max_size=3)),
    max_size=5,
)


@settings(max_examples=60)
@given(VALUES)
def test_what_other_programs_write_is_read_back(values: dict[str, Any]) -> None:
    assert read_params(yaml.safe_dump(values, allow_unicode=True).encode()) == values


PARAMS: dict[str, Any] = {"train": {"max_depth": 3, "rate": 0.1}, "seed": 7, "features": {"window": [1, 2]}}


def test_overrides_are_typed_by_yaml() -> None:
    texts = [
        "train.max_depth=4",
        "train.rate=1e-3",
        "seed=null",
        "name=a=b",
        "layers=[64, 32]",
        "flag=true",
        "kind='4'",
    ]
    assert parse_overrides(texts) == {
        "train.max_depth": 4,
        "train.rate": 0.001,
        "seed": None,
        "name": "a=b",
        "layers": [64, 32],
        "flag": True,
        "kind": "4",
    }


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["train"], "train is no override"),
        (["=4"], "=4 is no override"),
        (["a..b=4"], "is no override"),
        (["a="], "is no override"),
        (["a=[1"], "this is no YAML"),
        (["a=.nan"], ".nan is no number"),
        (["a={b: 1}"], "a would become a group"),
        (["a=1", "a=2"], "a is overridden twice"),
    ],
)
def test_nonsense_is_no_override(texts: list[str], problem: str) -> None:
    with pytest.raises(SeveralRefused) as caught:
        parse_overrides(texts)
    assert problem in caught.value.refusals[0].problem
    assert caught.value.refusals[0].where.startswith("-S ")


def test_all_bad_overrides_are_told_at_once() -> None:
    with pytest.raises(SeveralRefused) as caught:
        parse_overrides(["a", "b=1", "c=[", "="])
    assert len(caught.value.refusals) == 3


def test_an_override_changes_one_value_and_nothing_else() -> None:
    assert override(PARAMS, {"train.max_depth": 4}) == {**PARAMS, "train": {"max_depth": 4, "rate": 0.1}}
    assert PARAMS["train"]["max_depth"] == 3


@pytest.mark.parametrize(
    ("name", "problem", "remedy"),
    [
        ("train.max_dpth", "params.yaml has no train.max_dpth", "did you mean train.max_depth?"),
        ("seed.x", "params.yaml has no seed.x", "did you mean seed?"),
        ("zzzzzz.y.q", "params.yaml has no zzzzzz.y.q", "add it to params.yaml"),
        ("train", "train is a group of parameters", "one by one"),
    ],
)
def test_an_override_of_what_is_not_there_is_refused(name: str, problem: str, remedy: str) -> None:
    with pytest.raises(SeveralRefused) as caught:
        override(PARAMS, {name: 1})
    (refusal,) = caught.value.refusals
    assert (problem, f"-S {name}") == (refusal.problem, refusal.where)
    assert remedy in refusal.remedy


def test_a_stage_sees_just_the_parameters_it_names() -> None:
    assert select(PARAMS, ["train.rate", "features"]) == ({"train": {"rate": 0.1}, "features": {"window": [1, 2]}}, [])
    assert select(PARAMS, ["train", "train.rate"])[0] == {"train": PARAMS["train"]}
    assert select(PARAMS, ["seed.x", "nothing"]) == ({}, ["seed.x", "nothing"])


def test_parameters_are_flattened_to_dotted_names() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": [1]}) == {"a.b": 1, "a.c": {}, "d": [1]}
    assert flatten({}) == {}


def test_one_value_is_read_alone() -> None:
    assert read_value("[1, x]", "-S a") == [1, "x"]


WRITTEN = st.lists(
    st.sampled_from(
        [
            *"ab:-?,[]{}#'\"|>!&*%@`~ \t\n",
            ": ",
            "- ",
            "\n  ",
            "\n- ",
            "'x'",
            "1.5",
            "\u2028",
            "\x85",
            "é",
            "\ufeff",
            "...",
            "---",
        ]
    ),
    max_size=24,
).map("".join)


@settings(max_examples=1500)
@given(WRITTEN)
def test_what_both_parsers_accept_means_the_same(text: str) -> None:
    def read() -> object:
        try:
            document = read_document(text.encode(), "f")
        except SeveralRefused:
            return "it is refused"
        return "it is refused" if document.problems else [document.value]

    quick = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_module, "FASTEST", yaml.SafeLoader)
        assert read() in (quick, "it is refused")  # the quick one also accepts tabs where YAML lets them stand

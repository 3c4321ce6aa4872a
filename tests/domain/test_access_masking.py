"""Masking, told by what people print: each encoder below is the tool itself, not the form the masker looks for."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import shlex
import string
import urllib.parse
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.access.forms import forms_of, warning_about
from interlock.access.masking import MASK, Masker

TOKEN = "gh/p+A9'x\"7Z\\q é~w$K`3"
PLAIN = "s3cr3t-Value_01"
PEM = (
    "-----BEGIN PRIVATE KEY-----\n"
    + base64.encodebytes(bytes(range(7, 250))).decode()
    + "AbCd12==\n-----END PRIVATE KEY-----\n"
)

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "base64": base64.b64encode,
    "base64 for addresses": base64.urlsafe_b64encode,
    "base64 without padding": lambda raw: base64.b64encode(raw).rstrip(b"="),
    "hexadecimal": binascii.hexlify,
    "HEXADECIMAL": lambda raw: binascii.hexlify(raw).upper(),
    "address": lambda raw: urllib.parse.quote(raw, safe="").encode(),
    "path": lambda raw: urllib.parse.quote(raw).encode(),
    "form": lambda raw: urllib.parse.quote_plus(raw).encode(),
    "address in small letters": lambda raw: _small_codes(urllib.parse.quote(raw, safe="")),
    "JSON": lambda raw: json.dumps(raw.decode()).encode(),
    "JSON in UTF-8": lambda raw: json.dumps(raw.decode(), ensure_ascii=False).encode(),
    "JSON with escaped slashes": lambda raw: json.dumps(raw.decode()).replace("/", "\\/").encode(),
    "Python": lambda raw: repr(raw.decode()).encode(),
    "shell": lambda raw: shlex.quote(raw.decode()).encode(),
}


def _small_codes(text: str) -> bytes:
    out, at = "", 0
    while at < len(text):
        size = 3 if text[at] == "%" else 1
        out += text[at : at + size].lower() if size == 3 else text[at]
        at += size
    return out.encode()


def stream(masker: Masker, pieces: Iterable[bytes]) -> bytes:
    return b"".join([masker.feed(piece) for piece in pieces]) + masker.end()


def cuts(content: bytes) -> Iterable[tuple[bytes, bytes]]:
    return ((content[:at], content[at:]) for at in range(len(content) + 1))


def longest_common(text: bytes, secret: bytes) -> int:
    """The length of the longest piece of the secret that stands in the text."""
    best = 0
    for at in range(len(secret)):
        while secret[at : at + best + 1] in text and at + best < len(secret):
            best += 1
    return best


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("value", [TOKEN, PLAIN, "12345678", "ÄÖÜß€uro"])
@pytest.mark.parametrize("before", [b"", b"x", b"xy"], ids=len)
def test_every_form_is_masked_at_every_cut(name: str, value: str, before: bytes) -> None:
    """What was before the secret moves it to each of the three places that base64 knows."""
    encoded = ENCODERS[name](before + value.encode() + b"\n")
    line = b"log: " + encoded + b" end\n"
    whole = Masker([value]).mask(line)
    assert MASK in whole
    assert longest_common(whole, ENCODERS[name](value.encode())) <= 4
    assert whole.startswith(b"log: ")
    assert whole.endswith(b" end\n")
    masker = Masker([value, "another-secret"])
    for first, second in cuts(line):
        assert stream(masker, [first, second]) == whole


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("value", [TOKEN, PLAIN])
def test_bytes_one_by_one_are_masked_like_all_at_once(name: str, value: str) -> None:
    line = ENCODERS[name](value.encode()) + b" " + value.encode()[:-1] + b"\n"
    assert stream(Masker([value]), [line[at : at + 1] for at in range(len(line))]) == Masker([value]).mask(line)


@given(
    values=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=40), min_size=1, max_size=4),
    parts=st.lists(st.one_of(st.binary(max_size=12), st.integers(0, 3)), max_size=12),
    places=st.lists(st.integers(0, 400), max_size=6),
    encoder=st.sampled_from(["raw", "base64", "hexadecimal", "address", "form", "JSON"]),
)
def test_no_secret_comes_through_however_the_stream_is_cut(
    values: list[str], parts: list[bytes | int], places: list[int], encoder: str
) -> None:
    encoded = [ENCODERS[encoder](value.encode()) for value in values]
    content = b"".join(part if isinstance(part, bytes) else encoded[part % len(encoded)] for part in parts)
    points = [0, *sorted(min(place, len(content)) for place in places), len(content)]
    pieces = [content[begin:end] for begin, end in itertools.pairwise(points)]
    given_out = stream(Masker(values), pieces)
    for value in values:
        raw = value.encode()
        assert raw not in given_out.replace(MASK, b"\0\0\0") or raw.strip(b"\0") == b""
    assert given_out == Masker(values).mask(content)


@given(pieces=st.lists(st.binary(max_size=60), max_size=12), letters=st.text("xyz", min_size=30, max_size=40))
def test_output_without_a_secret_is_as_it_was(pieces: list[bytes], letters: str) -> None:
    clean = [piece.translate(None, b"xyzXYZ7e4eHhQU=WV") for piece in pieces]
    assert stream(Masker([letters]), clean) == b"".join(clean)


@given(content=st.text("ab", max_size=80), places=st.lists(st.integers(0, 80), max_size=5))
def test_overlapping_secrets_are_masked_byte_by_byte(content: str, places: list[int]) -> None:
    """A byte is hidden if it belongs to any occurrence; the reference looks at every place of every value."""
    values = ["abababab", "aaaaaaaa", "babbabba"]
    hidden = [False] * len(content)
    joined = [False] * (len(content) + 1)
    for value in values:
        for at in range(len(content) - len(value) + 1):
            if content.startswith(value, at):
                hidden[at : at + len(value)] = [True] * len(value)
                joined[at + 1 : at + len(value)] = [True] * (len(value) - 1)
    expected = ""
    for at, letter in enumerate(content):
        if not hidden[at]:
            expected += letter
        elif not joined[at]:
            expected += "***"
    raw = content.encode()
    points = [0, *sorted(min(place, len(raw)) for place in places), len(raw)]
    pieces = [raw[begin:end] for begin, end in itertools.pairwise(points)]
    assert stream(Masker(values), pieces) == expected.encode()


def test_each_line_of_a_key_is_masked_alone_and_the_whole_as_one() -> None:
    masker = Masker([PEM])
    assert masker.mask(PEM.encode()) == MASK
    assert masker.mask(PEM.replace("\n", "\r\n").encode()) in (MASK, MASK + b"\r\n")
    for line in PEM.splitlines():
        assert masker.mask(b"  > " + line.encode() + b" <") == b"  > " + MASK + b" <"
    assert masker.mask(json.dumps({"key": PEM}).encode()) == b'{"key": "' + MASK + b'"}'
    assert stream(masker, [line.encode() + b"\n" for line in PEM.splitlines()]) == MASK


@pytest.mark.parametrize("before", [b"", b"x", b"KEY="])
@pytest.mark.parametrize("width", [64, 76])
def test_wrapped_base64_is_masked_but_for_the_ends_of_its_lines(before: bytes, width: int) -> None:
    encoded = base64.b64encode(before + PEM.encode())
    wrapped = b"\n".join(encoded[at : at + width] for at in range(0, len(encoded), width))
    masked = Masker([PEM]).mask(wrapped)
    *left, last = [line.replace(MASK, b"") for line in masked.split(b"\n")[1:]]
    assert all(len(line) <= 6 for line in left)
    assert len(last) < 15


def test_a_line_without_a_secret_is_not_held_back() -> None:
    masker = Masker([TOKEN, PLAIN])
    assert masker.feed(b"epoch 1\n") == b"epoch 1\n"
    assert masker.feed(b"prompt? ") == b"prompt? "
    assert masker.feed(b"s3cr") == b""
    assert masker.feed(b"ew\n") == b"s3crew\n"


def test_no_more_is_held_back_than_the_beginning_of_a_secret() -> None:
    masker = Masker([PLAIN])
    for size in range(1, len(PLAIN)):
        assert masker.feed(b"x" + PLAIN[:size].encode()) == b"x"
        assert masker.end() == PLAIN[:size].encode()
    assert masker.feed(b"x" * 100_000) == b"x" * 100_000


def test_text_and_nothing_are_masked_too() -> None:
    masker = Masker([PLAIN])
    assert masker.mask_text(f"fatal: https://{PLAIN}@host \udcff") == "fatal: https://***@host \udcff"
    assert Masker(()).feed(b"anything") == b"anything"
    assert Masker(()).end() == b""
    assert Masker(()).mask(b"anything") == b"anything"


def test_a_short_value_cannot_be_masked() -> None:
    with pytest.raises(ValueError, match="fewer than 8"):
        Masker(["1234567"])
    assert min(map(len, forms_of("12345678\n1234567\nabc"))) >= 8


@pytest.mark.parametrize(
    ("value", "is_warned"),
    [
        ("password", True),
        ("Production1", True),
        ("PASSWORD", True),
        ("12345678", True),
        ("----------", True),
        ("correct horse battery", False),
        (string.ascii_lowercase, False),
        (PLAIN, False),
    ],
)
def test_a_value_that_hides_other_things_is_warned_about(value: str, is_warned: bool) -> None:
    assert (warning_about(value) is not None) is is_warned

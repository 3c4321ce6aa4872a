"""The forms in which a secret turns up in output: encoded, escaped, quoted, and line by line."""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

SHORTEST = 8
"""Characters of the shortest secret, and of the shortest line of one, that can be masked."""

LINE_LENGTH = 64
WINDOW, STRIDE = 12, 4
"""Tools break base64 into lines of 64 letters or more, anywhere in a longer secret. So pieces of it are forms too: of
any 15 letters in a row 12 are found, and of a whole line all but three at either end."""

URL_SAFE = bytes.maketrans(b"+/", b"-_")

WORD = re.compile(r"([A-Z]?[a-z]+|[A-Z]+)\d{0,4}|\d+")
LONGEST_WORD = 14


def warning_about(value: str) -> str | None:
    """Why masking this value will hide other things too; None where it will not."""
    if len(value) <= LONGEST_WORD and WORD.fullmatch(value):
        return "it looks like a word or a number: wherever a log says it, the log will show *** instead"
    if len(set(value)) <= 2:
        return "it is hardly more than one letter repeated: it can be guessed, and rulers in logs will be masked"
    return None


def forms_of(value: str) -> set[bytes]:
    """Every form of a secret to search for, and of each line of it that has 8 characters or more; none is shorter."""
    lines = [line for line in re.split(r"[\r\n]+", value) if len(line) >= SHORTEST]
    parts = {part for part in (value, value.strip(), *lines) if len(part) >= SHORTEST}
    return {*_pieces(value.encode()), *(form for part in parts for form in _forms_of_part(part))}


def _forms_of_part(part: str) -> Iterator[bytes]:
    raw = part.encode()
    yield raw
    yield raw.replace(b"\n", b"\r\n")
    yield from (raw.hex().encode(), raw.hex().upper().encode())
    for standard in _in_base64(raw):
        yield standard
        yield standard.translate(URL_SAFE)
    for text in _escaped(part):
        yield text.encode()


def _in_base64(raw: bytes) -> Iterator[bytes]:
    """The letters that are the same whatever stands around the bytes, at each of three places.

    And, where nothing follows, the last letter too, with and without padding.
    """
    for before in range(3):
        encoded = b64encode(b"\0" * before + raw)
        begin = -(-8 * before // 6)
        yield encoded[begin : 8 * (before + len(raw)) // 6]
        yield encoded[begin:].rstrip(b"=")
        yield encoded[begin:]


def _pieces(raw: bytes) -> Iterator[bytes]:
    for encoded in _in_base64(raw):
        if len(encoded) > LINE_LENGTH:
            for at in range(0, len(encoded) - WINDOW + 1, STRIDE):
                piece = encoded[at : at + WINDOW]
                yield piece
                yield piece.translate(URL_SAFE)


def _escaped(part: str) -> Iterator[str]:
    """As addresses, JSON, Python and shells write it."""
    raw = part.encode()
    for escaped in (quote(raw, safe=""), quote(raw), quote(raw, safe="!'()*"), quote_plus(raw)):
        yield escaped
        yield re.sub("%..", lambda code: code[0].lower(), escaped)
    for ensure_ascii in (True, False):
        escaped = json.dumps(part, ensure_ascii=ensure_ascii)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")
    yield repr(part)[1:-1]
    yield shlex.quote(part)[1:-1] if shlex.quote(part) != part else part
    yield part.replace("'", "'\\''")
    yield re.sub(r'(["\\$`])', r"\\\1", part)
    yield re.sub(r"([^\w@%+=:,./-])", r"\\\1", part, flags=re.ASCII)

"""The one comment of ours on a pull request, on any forge: found by its mark among those that we wrote, else made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from interlock.errors import ForgeFault
from interlock.feedback.status import LONGEST_COMMENT, Comment

PAGE = 50
MOST_PAGES = 50
"""GitHub keeps 2,500 comments of a pull request."""


class Written(NamedTuple):
    """A comment that is there. ``is_ours``: our own account wrote it; anybody can copy a mark."""

    number: int
    is_ours: bool
    body: str


def ensure_comment(
    comment: Comment,
    page: Callable[[int], Sequence[Written]],
    create: Callable[[str], object],
    update: Callable[[int, str], object],
) -> None:
    """The comment is there as it is now, once. ``page`` lists what is there, from page 1, ``PAGE`` at a time."""
    text = f"{comment.mark}\n{comment.body}"[:LONGEST_COMMENT]
    for number in range(1, MOST_PAGES + 1):
        listed = page(number)
        for written in listed:
            if written.is_ours and written.body.startswith(comment.mark):
                if written.body != text:
                    update(written.number, text)
                return
        if len(listed) < PAGE:
            break
    create(text)


def field(document: Any, name: str, shape: type) -> Any:
    """A field of a forge's answer. ForgeFault where it is not there, or of another type."""
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, shape):
        raise ForgeFault(f"the forge answered without the {name} that its API documents")
    return value


def objects(document: Any) -> list[Any]:
    """A list in a forge's answer. ForgeFault where it is none."""
    if not isinstance(document, list):
        raise ForgeFault("the forge answered without the list that its API documents")
    return document

"""Notices that wait to be looked into, each on the disk before its sender is answered."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from interlock.edges.store.database import Database
from interlock.source.notice import Notice

NOTE = "INSERT INTO notices (repository, content, at, is_settled) VALUES {}"
NOTED = "(:repository{0}, :content{0}, :at, :is_settled)"
PENDING = "SELECT number, content FROM notices WHERE is_settled = :is_settled ORDER BY number LIMIT :most"
SETTLE = "UPDATE notices SET is_settled = :is_settled WHERE number IN ({})"
FORGET = "DELETE FROM notices WHERE is_settled = :is_settled AND at < :before RETURNING number"


@cache
def _note(count: int) -> str:
    return NOTE.format(", ".join(NOTED.format(place) for place in range(count)))


class SqlNotices(Database):
    """The part of the store that keeps notices: many with one statement, for a thread that writes gives way to the
    others with each.
    """

    def note(self, *notices: Notice) -> None:
        """Keeps notices, all in one durable transaction."""
        if not notices:
            return
        values: dict[str, object] = {"at": self._now(), "is_settled": False}
        for place, notice in enumerate(notices):
            values |= {f"repository{place}": notice.repository, f"content{place}": notice.model_dump_json()}
        with self._writing() as connection:
            connection.execute(_note(len(notices)), values)

    def pending(self, most: int) -> list[tuple[int, Notice]]:
        """The oldest notices that are not settled, each with its number."""
        with self._reading() as connection:
            found = connection.execute(PENDING, {"is_settled": False, "most": most})
            return [(one["number"], Notice.model_validate_json(one["content"])) for one in found]

    def settle(self, numbers: Sequence[int]) -> None:
        """These notices have been looked into."""
        if numbers:
            with self._writing() as connection:
                values = {f"number{place}": number for place, number in enumerate(numbers)}
                named = ", ".join(f":{name}" for name in values)
                connection.execute(SETTLE.format(named), {**values, "is_settled": True})

    def forget_notices(self, before: float) -> int:
        """Removes settled notices that came before this moment; how many."""
        with self._writing() as connection:
            return len(connection.execute(FORGET, {"is_settled": True, "before": before}))

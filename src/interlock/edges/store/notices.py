"""Notices that wait to be looked into, each on the disk before its sender is answered."""

from __future__ import annotations

from collections.abc import Sequence

from interlock.edges.store.database import Database
from interlock.source.notice import Notice

NOTE = "INSERT INTO notices (repository, content, at, is_settled) VALUES (:repository, :content, :at, :is_settled)"
PENDING = "SELECT number, content FROM notices WHERE is_settled = :is_settled ORDER BY number LIMIT :most"
SETTLE = "UPDATE notices SET is_settled = :is_settled WHERE number = :number"
FORGET = "DELETE FROM notices WHERE is_settled = :is_settled AND at < :before RETURNING number"


class SqlNotices(Database):
    """The part of the store that keeps notices."""

    def note(self, *notices: Notice) -> None:
        """Keeps notices, all in one durable transaction."""
        at = self._now()
        noted = [
            {"repository": notice.repository, "content": notice.model_dump_json(), "at": at, "is_settled": False}
            for notice in notices
        ]
        if noted:
            with self._writing() as connection:
                connection.execute(NOTE, *noted)

    def pending(self, most: int) -> list[tuple[int, Notice]]:
        """The oldest notices that are not settled, each with its number."""
        with self._reading() as connection:
            found = connection.execute(PENDING, {"is_settled": False, "most": most})
            return [(one["number"], Notice.model_validate_json(one["content"])) for one in found]

    def settle(self, numbers: Sequence[int]) -> None:
        """These notices have been looked into."""
        if numbers:
            with self._writing() as connection:
                connection.execute(SETTLE, *({"number": number, "is_settled": True} for number in numbers))

    def forget_notices(self, before: float) -> int:
        """Removes settled notices that came before this moment; how many."""
        with self._writing() as connection:
            return len(connection.execute(FORGET, {"is_settled": True, "before": before}))

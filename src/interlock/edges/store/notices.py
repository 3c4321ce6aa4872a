"""Notices that wait to be looked into, each on the disk before its sender is answered."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select, update

from interlock.edges.store.database import Database
from interlock.edges.store.schema import NOTICES
from interlock.source.notice import Notice


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
                connection.execute(insert(NOTICES), noted)

    def pending(self, most: int) -> list[tuple[int, Notice]]:
        """The oldest notices that are not settled, each with its number."""
        query = select(NOTICES.c.number, NOTICES.c.content).where(NOTICES.c.is_settled.is_(False))
        with self._reading() as connection:
            found = connection.execute(query.order_by(NOTICES.c.number).limit(most))
            return [(number, Notice.model_validate_json(content)) for number, content in found]

    def settle(self, numbers: Sequence[int]) -> None:
        """These notices have been looked into."""
        if numbers:
            with self._writing() as connection:
                connection.execute(update(NOTICES).where(NOTICES.c.number.in_(numbers)).values(is_settled=True))

    def forget_notices(self, before: float) -> int:
        """Removes settled notices that came before this moment; how many."""
        old = delete(NOTICES).where(NOTICES.c.is_settled.is_(True), NOTICES.c.at < before)
        with self._writing() as connection:
            return connection.execute(old).rowcount

"""The inbox over a real database whose disk is slow, full of others, or broken."""

import json
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tests.database import database_url

from interlock.control import inbox as module
from interlock.control.inbox import MOST_AT_ONCE, MOST_WAITING, Inbox
from interlock.edges.store import SqlStore
from interlock.errors import StoreFault
from interlock.source.notice import Notice


def notice(number: int) -> Notice:
    return Notice(repository="small", source="github", kind="push", delivery=str(number))


class Kept:
    """An inbox, and what is in the database as another process sees it."""

    def __init__(self, url: str) -> None:
        self.store = SqlStore(url)
        self.other = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
        self.rings = 0
        self.inbox = Inbox(self.store, self.ring)

    def ring(self) -> None:
        self.rings += 1

    def rows(self) -> list[tuple[str, float]]:
        with self.other.connect() as other:
            found = other.execute(text("SELECT content, at FROM notices ORDER BY number")).all()
        contents = [json.loads(content) if isinstance(content, str) else content for content, _ in found]
        return [(content["delivery"], at) for content, (_, at) in zip(contents, found, strict=True)]

    def do(self, statement: str) -> None:
        """Something that an administrator does to the database."""
        with self.other.connect() as other:
            other.execute(text(statement))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Another process writes: every commit has to wait."""
        is_file = self.other.dialect.name == "sqlite"
        with self.other.connect() as other:
            other.execute(text("BEGIN IMMEDIATE" if is_file else "BEGIN"))
            if not is_file:
                other.execute(text("LOCK TABLE notices IN EXCLUSIVE MODE"))
            yield
            other.execute(text("ROLLBACK"))

    def end(self) -> None:
        self.inbox.close()
        self.store.close()
        self.other.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    begun = Kept(database_url(request, tmp_path))
    yield begun
    begun.end()


def test_an_accepted_notice_is_in_the_file_and_the_bell_has_rung(kept: Kept) -> None:
    kept.inbox.accept(notice(1)).result(30)
    assert [delivery for delivery, _ in kept.rows()] == ["1"]
    kept.inbox.close()
    assert kept.rings == 1


def test_notices_that_wait_are_kept_by_one_commit_in_their_order(kept: Kept) -> None:
    with kept.locked():
        accepted = [kept.inbox.accept(notice(number)) for number in range(300)]
        assert not any(one.done() for one in accepted)
    for one in accepted:
        one.result(30)
    assert [delivery for delivery, _ in kept.rows()] == [str(number) for number in range(300)]
    moments = {at for _, at in kept.rows()}
    assert len(moments) <= 2  # the first, taken while the disk was busy, and all that came meanwhile


def test_one_commit_takes_no_more_than_its_share(kept: Kept) -> None:
    with kept.locked():
        accepted = [kept.inbox.accept(notice(number)) for number in range(2 * MOST_AT_ONCE + 1)]
    wait(accepted, 60)
    assert len({at for _, at in kept.rows()}) >= 3


def test_a_fault_reaches_everybody_who_waited_and_the_next_is_kept(kept: Kept) -> None:
    kept.do("ALTER TABLE notices RENAME TO away")
    accepted = [kept.inbox.accept(notice(number)) for number in range(20)]
    assert {type(one.exception(30)) for one in accepted} == {StoreFault}
    assert kept.rings == 0
    kept.do("ALTER TABLE away RENAME TO notices")
    kept.inbox.accept(notice(21)).result(30)
    assert [delivery for delivery, _ in kept.rows()] == ["21"]


def test_more_than_can_wait_are_refused_at_once(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 10)
    with kept.locked():
        accepted = [kept.inbox.accept(notice(number)) for number in range(12 + 10)]
        refused = [one for one in accepted if one.done()]
        assert refused
        assert all("wait for the disk" in str(one.exception()) for one in refused)
    kept_ones = [one for one in accepted if one not in refused]
    for one in kept_ones:
        one.result(30)
    assert len(kept.rows()) == len(kept_ones)
    assert MOST_WAITING > MOST_AT_ONCE


def test_what_waits_at_the_end_is_kept_and_what_comes_after_it_is_refused(kept: Kept) -> None:
    accepted = [kept.inbox.accept(notice(number)) for number in range(50)]
    kept.inbox.close()
    assert all(one.exception() is None for one in accepted)
    assert len(kept.rows()) == 50
    late = kept.inbox.accept(notice(51))
    assert isinstance(late.exception(), StoreFault)
    assert "ending" in str(late.exception())


def test_a_caller_who_went_away_loses_nobody_their_notice(kept: Kept) -> None:
    with kept.locked():
        accepted = [kept.inbox.accept(notice(number)) for number in range(20)]
        assert not any(one.cancel() for one in accepted)
    for one in accepted:
        one.result(30)
    assert len(kept.rows()) == 20

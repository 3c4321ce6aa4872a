"""The steps from an older schema to the newest, one after the other, in the transaction of the caller."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from interlock.errors import Refused

MIGRATIONS = "interlock.edges.store:migrations"


def walk_to(connection: Connection, newest: str, current: str | None, where: str) -> None:
    """Brings the database from schema ``current`` to ``newest``. Refused for one that this release does not know."""
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.set_main_option("path_separator", "os")
    known = {revision.revision for revision in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise Refused(
            f"the database has schema {current}, which this release does not know",
            where=where,
            remedy="start the newer release that wrote it, or restore the copy made before it",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, newest)

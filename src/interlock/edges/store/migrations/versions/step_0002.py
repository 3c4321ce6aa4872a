"""Labels of rows, the audit log, notices; plans of old runs say their branches where triggers are said now."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
ROWS = sa.table(
    "rows",
    sa.column("place", sa.Integer),
    sa.column("kind", sa.String),
    sa.column("state", sa.Text),
    sa.column("repository", sa.String),
    sa.column("ref", sa.String),
)
AT_ONCE = 500


def upgrade() -> None:
    """Adds what is new and brings old runs to the shape they have now."""
    op.add_column("rows", sa.Column("repository", sa.String))
    op.add_column("rows", sa.Column("ref", sa.String))
    op.create_table(
        "audit",
        sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("deed", sa.Text, nullable=False),
        sa.Column("previous", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
    )
    op.create_table(
        "notices",
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("repository", sa.String, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("is_settled", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("notices_by_settling", "notices", ["is_settled", "number"])
    connection = op.get_bind()
    change = (
        ROWS.update()
        .where(ROWS.c.place == sa.bindparam("of"))
        .values(state=sa.bindparam("now"), repository=sa.bindparam("name"), ref=sa.bindparam("at"))
    )
    for changes in _changed_runs(connection):
        connection.execute(change, changes)
    op.create_index("rows_of_a_repository", "rows", ["kind", "repository", "place"])
    op.create_index("rows_of_a_repository_by_phase", "rows", ["kind", "repository", "phase", "place"])
    op.create_index("rows_of_a_ref", "rows", ["kind", "repository", "ref", "place"])


def _changed_runs(connection: sa.Connection) -> Iterator[list[dict[str, Any]]]:
    """What changes in the rows of runs, some hundred at once: a history need not fit into memory."""
    done = 0
    runs = sa.select(ROWS.c.place, ROWS.c.state).where(ROWS.c.kind == "run").order_by(ROWS.c.place).limit(AT_ONCE)
    while found := connection.execute(runs.where(ROWS.c.place > done)).all():
        yield [_changed_run(place, json.loads(state)) for place, state in found]
        done = found[-1].place


def _changed_run(place: int, run: dict[str, Any]) -> dict[str, Any]:
    plan, commit = run["plan"], run["commit"]
    if "branches" in plan:
        plan["triggers"] = {"branches": plan.pop("branches")}
    state = json.dumps(run, allow_nan=False, separators=(",", ":"))
    return {"of": place, "now": state, "name": commit["repository"], "at": commit["ref"]}


def downgrade() -> None:
    """Removes what was added; runs keep the shape that this step gave them."""
    for table in ("notices", "audit"):
        op.drop_table(table)
    for index in ("rows_of_a_ref", "rows_of_a_repository_by_phase", "rows_of_a_repository"):
        op.drop_index(index, "rows")
    for column in ("ref", "repository"):
        op.drop_column("rows", column)

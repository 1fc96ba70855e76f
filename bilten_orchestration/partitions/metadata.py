"""What system.partition_metadata is told of each step, in the transaction of that step where it has one.

    attached     ATTACH, of a new partition or of one that was restored (then with a hold)
    detaching    before DETACH begins: what a kill leaves of it is ours to end
    detached     DETACH is over
    archived     its archive is proven, and its document written
    dropped      DROP; rows, archive and digest stay for whoever asks

Comparing this with the catalogues is reconciliation's business, not this module's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from bilten_orchestration.stores.postgres import Connection

State = Literal["planned", "attached", "detaching", "detached", "archived", "dropped"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One row. `oid` is the table's, by which it is known when somebody renamed it."""

    table: str
    partition: str
    from_at: datetime
    to_at: datetime
    state: State
    rows: int | None
    bytes: int | None
    archive: str | None
    digest: str | None
    oid: int | None
    hold_until: datetime | None


def read(connection: Connection, table: str) -> tuple[Recorded, ...]:
    """Of one parent, by lower bound. Infinity stands for no bound there."""
    with connection.transaction():
        rows = connection.execute(
            """
            select table_name, partition_name, from_at, to_at, state, rows, bytes, archive_object,
                   archive_digest, relation_oid::bigint, hold_until
            from system.partition_metadata where table_name = %s order by from_at, partition_name
            """,
            (table,),
        ).fetchall()
    return tuple(Recorded(*row) for row in rows)


def attached(
    connection: Connection,
    table: str,
    partition: str,
    from_at: datetime,
    to_at: datetime,
    *,
    rows: int,
    run: str | None,
    hold_until: datetime | None = None,
) -> None:
    connection.execute(
        """
        insert into system.partition_metadata
            (table_name, partition_name, from_at, to_at, state, rows, bytes, relation_oid, hold_until, run_id)
        values (%(table)s, %(partition)s::text, %(from_at)s, %(to_at)s, 'attached', %(rows)s,
                pg_total_relation_size(%(partition)s::text::regclass), %(partition)s::text::regclass,
                %(hold)s, %(run)s)
        on conflict (table_name, partition_name) do update set
            from_at = excluded.from_at, to_at = excluded.to_at, state = excluded.state,
            rows = excluded.rows, bytes = excluded.bytes, relation_oid = excluded.relation_oid,
            hold_until = excluded.hold_until, run_id = excluded.run_id,
            archive_object = case when excluded.hold_until is null then null
                                  else partition_metadata.archive_object end,
            archive_digest = case when excluded.hold_until is null then null
                                  else partition_metadata.archive_digest end
        """,
        {
            "table": table,
            "partition": partition,
            "from_at": from_at,
            "to_at": to_at,
            "rows": rows,
            "hold": hold_until,
            "run": run,
        },
    )

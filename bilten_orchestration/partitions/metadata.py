"""What system.partition_metadata is told of each step, in the transaction of that step where it has one.

    planned      before anything is made: what is still there after a run could not be made, and it said why
    attached     ATTACH, of a new partition or of one that was restored (then with a hold)
    detaching    before DETACH begins: what a kill leaves of it is ours to end
    detached     DETACH is over
    archived     its archive is proven, and its document written
    dropped      DROP; rows stay for whoever asks, archive and digest until the archive's own time is over

Comparing this with the catalogues is reconciliation's business, not this module's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from bilten_orchestration.partitions.actions import Action
from bilten_orchestration.stores.postgres import Connection

State = Literal["planned", "attached", "detaching", "detached", "archived", "dropped"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One row. `oid` is the table's, by which it is known when somebody renamed it."""

    table: str
    partition: str
    from_at: datetime | None
    to_at: datetime | None
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
            select table_name, partition_name, case when isfinite(from_at) then from_at end,
                   case when isfinite(to_at) then to_at end, state, rows, bytes, archive_object,
                   archive_digest, relation_oid::bigint, hold_until
            from system.partition_metadata where table_name = %s order by from_at, partition_name
            """,
            (table,),
        ).fetchall()
    return tuple(Recorded(*row) for row in rows)


def planned(connection: Connection, table: str, actions: Sequence[Action], run: str | None) -> None:
    """What is going to be made now, in place of what was planned before."""
    with connection.transaction():
        connection.execute(
            "delete from system.partition_metadata where table_name = %s and state = 'planned'", (table,)
        )
        for each in actions:
            connection.execute(
                "insert into system.partition_metadata"
                " (table_name, partition_name, from_at, to_at, state, run_id)"
                " values (%s, %s, %s, %s, 'planned', %s) on conflict do nothing",
                (table, each.partition, each.from_at, each.to_at, run),
            )


def attached(
    connection: Connection,
    table: str,
    partition: str,
    from_at: datetime | None,
    to_at: datetime | None,
    *,
    rows: int,
    run: str | None,
    hold_until: datetime | None = None,
) -> None:
    connection.execute(
        """
        insert into system.partition_metadata
            (table_name, partition_name, from_at, to_at, state, rows, bytes, relation_oid, hold_until, run_id)
        values (%(table)s, %(partition)s::text, coalesce(%(from_at)s, '-infinity'::timestamptz),
                coalesce(%(to_at)s, 'infinity'::timestamptz), 'attached', %(rows)s,
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


def changed(
    connection: Connection,
    table: str,
    partition: str,
    state: State,
    run: str | None,
    *,
    rows: int | None = None,
    bytes: int | None = None,
    archive: str | None = None,
    digest: str | None = None,
) -> None:
    """What is None stays as it was; one that is dropped has no table any more."""
    connection.execute(
        """
        update system.partition_metadata set
            state = %(state)s, run_id = %(run)s, rows = coalesce(%(rows)s, rows),
            bytes = coalesce(%(bytes)s, bytes), archive_object = coalesce(%(archive)s, archive_object),
            archive_digest = coalesce(%(digest)s, archive_digest),
            relation_oid = case when %(state)s = 'dropped' then null else relation_oid end,
            hold_until = case when %(state)s = 'attached' then hold_until end
        where table_name = %(table)s and partition_name = %(partition)s
        """,
        {
            "table": table,
            "partition": partition,
            "state": state,
            "run": run,
            "rows": rows,
            "bytes": bytes,
            "archive": archive,
            "digest": digest,
        },
    )


def expired(connection: Connection, archive: str) -> None:
    """There is no such archive any more; the journal of the repository keeps what it was."""
    connection.execute(
        "update system.partition_metadata set archive_object = null, archive_digest = null"
        " where archive_object = %s",
        (archive,),
    )


def follow(connection: Connection, table: str, partition: str) -> None:
    """The row of a table that somebody renamed takes its new name."""
    connection.execute(
        """
        update system.partition_metadata set partition_name = %(partition)s::text
        where table_name = %(table)s and partition_name <> %(partition)s::text
          and relation_oid = to_regclass(%(partition)s::text)
          and not exists (select 1 from system.partition_metadata
                          where table_name = %(table)s and partition_name = %(partition)s::text)
        """,
        {"table": table, "partition": partition},
    )


def detaching(
    connection: Connection,
    table: str,
    partition: str,
    from_at: datetime | None,
    to_at: datetime | None,
    run: str | None,
) -> None:
    """Also of a partition that nobody had recorded, or that was renamed since: its row follows the table."""
    connection.execute(
        """
        delete from system.partition_metadata
        where table_name = %(table)s and partition_name <> %(partition)s
          and relation_oid = %(partition)s::text::regclass
        """,
        {"table": table, "partition": partition},
    )
    connection.execute(
        """
        insert into system.partition_metadata
            (table_name, partition_name, from_at, to_at, state, bytes, relation_oid, run_id)
        values (%(table)s, %(partition)s::text, coalesce(%(from_at)s, '-infinity'::timestamptz),
                coalesce(%(to_at)s, 'infinity'::timestamptz), 'detaching',
                pg_total_relation_size(%(partition)s::text::regclass), %(partition)s::text::regclass, %(run)s)
        on conflict (table_name, partition_name) do update set
            from_at = excluded.from_at, to_at = excluded.to_at, state = excluded.state,
            bytes = excluded.bytes, relation_oid = excluded.relation_oid, run_id = excluded.run_id,
            archive_object = null, archive_digest = null, hold_until = null
        """,
        {"table": table, "partition": partition, "from_at": from_at, "to_at": to_at, "run": run},
    )

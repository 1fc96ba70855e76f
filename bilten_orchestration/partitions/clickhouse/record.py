"""What system.partition_metadata is told of months in ClickHouse, and what differs from it."""

from __future__ import annotations

from datetime import datetime

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.clickhouse.months import name_of
from bilten_orchestration.partitions.clickhouse.plan import Seen
from bilten_orchestration.partitions.metadata import State
from bilten_orchestration.stores.postgres import Connection


def measured(connection: Connection, seen: Seen, run: str | None) -> int:
    """Months that came with their rows are recorded, others measured anew; how many changed. One that is
    recorded as dropped stays so: rows in it are told (case 16 of plan.py)."""
    known = {each.partition: each for each in seen.recorded}
    changed = 0
    for month in seen.months:
        name = name_of(seen.table, month.period)
        record = known.get(name)
        if record is not None and (
            record.state == "dropped" or (record.rows, record.bytes) == (month.rows, month.bytes)
        ):
            continue
        if record is None and seen.archive(month.period) is not None:
            continue
        changed += 1
        connection.execute(
            """
            insert into system.partition_metadata
                (table_name, partition_name, from_at, to_at, state, rows, bytes, run_id)
            values (%s, %s, %s, %s, 'attached', %s, %s, %s)
            on conflict (table_name, partition_name) do update set
                rows = excluded.rows, bytes = excluded.bytes
            """,
            (
                seen.table.name,
                name,
                month.period.start,
                month.period.end,
                month.rows,
                month.bytes,
                run,
            ),
        )
    return changed


def changed(
    connection: Connection,
    archive: Archive,
    state: State,
    run: str | None,
    *,
    hold_until: datetime | None = None,
) -> None:
    connection.execute(
        """
        insert into system.partition_metadata
            (table_name, partition_name, from_at, to_at, state, rows, bytes, archive_object, archive_digest,
             hold_until, run_id)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        on conflict (table_name, partition_name) do update set
            state = excluded.state, rows = excluded.rows, bytes = excluded.bytes,
            archive_object = excluded.archive_object, archive_digest = excluded.archive_digest,
            hold_until = excluded.hold_until, run_id = excluded.run_id
        """,
        (
            archive.table,
            archive.partition,
            archive.from_at,
            archive.to_at,
            state,
            archive.rows,
            archive.raw_bytes,
            archive.document,
            archive.digest,
            hold_until,
            run,
        ),
    )


def drift(seen: Seen) -> list[Problem]:
    """Months that are recorded, not dropped by us, and gone. An empty one has no partition: that is none."""
    here = {name_of(seen.table, m.period) for m in (*seen.months, *seen.left)}
    return [
        Problem(
            f"{record.partition} of {seen.table.name} is gone, and maintenance did not drop it",
            expected=f"about {record.rows} rows: it was {record.state}",
            found=f"no rows; its archive is {record.archive}" if record.archive else "no rows, no archive",
            next="bilten restore clickhouse brings it back beside; see who dropped it in system.query_log",
        )
        for record in seen.recorded
        if record.state != "dropped" and record.rows and record.partition not in here
    ]

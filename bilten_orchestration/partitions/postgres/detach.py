"""Detaches a partition while the application works on the table.

    1  system.partition_metadata says `detaching`      nothing else happened; the next run plans anew
    2  DETACH CONCURRENTLY, its first transaction      pending: no new statement sees the partition; the next
                                                       run finalizes it
    3  it waits for who may still see it, and ends     the same, or a detached table that is ours to end,
                                                       because of 1
    4  system.partition_metadata says `detached`       the same

The right-hand side is what a kill leaves. Detaching is not MVCC: who reads a snapshot holds the lock
`snapshot` shared, and this holds it exclusively. Waiting is done in attempts of lock_timeout, so no statement
queues behind it; where the wait is too long the detach stays pending, which hinders nobody but the next
detach of the same table, and a TransientError says so.
"""

from __future__ import annotations

import time
from datetime import datetime

from psycopg import errors, sql
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from bilten_orchestration.errors import Refused, TransientError
from bilten_orchestration.partitions import metadata
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.locking import BUSY, Patience, retried
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import PartitionSettings
from bilten_orchestration.stores.postgres import Connection

_STATE = """
    select i.inhdetachpending from pg_inherits i
    where i.inhparent = %s::regclass and i.inhrelid = to_regclass(%s)
"""
# who holds a snapshot, or may hold locks on the table, for long
_OLD = """
    select string_agg(said, '; ') from (
        select 'pid ' || pid || ', ' || coalesce(usename, '') || ', ' || coalesce(application_name, '')
               || ', since ' || to_char(xact_start, 'YYYY-MM-DD HH24:MI:SS') as said
        from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
          and xact_start < clock_timestamp() - make_interval(secs => %(seconds)s)
        union all
        select 'prepared transaction ' || gid || ', since ' || to_char(prepared, 'YYYY-MM-DD HH24:MI:SS')
        from pg_prepared_xacts
        where database = current_database()
          and prepared < clock_timestamp() - make_interval(secs => %(seconds)s)
        limit 10) old
"""


def refuse_old_transactions(connection: Connection, seconds: int) -> None:
    """Raises TransientError: a detach would wait for them, and stay pending."""
    row = connection.execute(_OLD, {"seconds": seconds}).fetchone()
    if row is not None and row[0]:
        raise TransientError(
            "nothing is ended while a transaction is old",
            expected=f"none older than {seconds} s",
            found=row[0],
            next="wait for it, or end it: select pg_terminate_backend(pid); rollback prepared 'gid'",
        )


def detach(
    connection: Connection,
    table: PartitionedTable,
    partition: str,
    low: datetime | None,
    high: datetime | None,
    settings: PartitionSettings,
    run: str | None,
    progress: Progress,
) -> None:
    """The caller holds the lock `snapshot`. Raises TransientError, Refused, psycopg.Error."""
    refuse_old_transactions(connection, settings.oldest_transaction_seconds)
    with connection.transaction():
        metadata.detaching(connection, table.name, partition, low, high, run)
    patience = Patience.of(settings)

    def once() -> None:
        try:
            _alter(connection, table, partition, "concurrently", patience)
        except BUSY:
            # its first transaction may have ended well
            if not is_pending(connection, table, partition):
                raise

    try:
        retried(patience, f"{partition} could not be detached", once)
    except errors.ForeignKeyViolation as error:
        raise Refused(
            f"{partition} cannot be detached",
            expected="no row that references one of its rows",
            found=str(error).strip().splitlines()[0],
            next="delete the rows that reference it, or drop the foreign key",
        ) from None
    finalize(connection, table, partition, settings, run, progress)


def finalize(
    connection: Connection,
    table: PartitionedTable,
    partition: str,
    settings: PartitionSettings,
    run: str | None,
    progress: Progress,
) -> None:
    """End a detach that is pending; one that has ended is none any more. As `detach`."""
    patience = Patience.of(settings)
    began, told = time.monotonic(), False

    def once() -> None:
        nonlocal told
        if not is_pending(connection, table, partition):
            return
        if not told and time.monotonic() - began > 2:
            progress(f"{partition}: waiting for the transactions that may still see it")
            told = True
        _alter(connection, table, partition, "finalize", patience)

    try:
        Retrying(
            retry=retry_if_exception_type(BUSY),
            wait=wait_random_exponential(multiplier=0.05, max=1),
            stop=stop_after_delay(settings.detach_wait_seconds),
            reraise=True,
        )(once)
    except BUSY:
        old = connection.execute(_OLD, {"seconds": 0}).fetchone()
        raise TransientError(
            f"{partition} stays half detached: the next run finishes it",
            expected=f"no transaction that may see it, within {settings.detach_wait_seconds} s",
            found=(old and old[0]) or "none that is open now",
            next="bilten partitions apply, when those have ended",
        ) from None
    metadata.changed(connection, table.name, partition, "detached", run)


def is_pending(connection: Connection, table: PartitionedTable, partition: str) -> bool:
    row = connection.execute(_STATE, (table.name, partition)).fetchone()
    return row is not None and bool(row[0])


def _alter(
    connection: Connection, table: PartitionedTable, partition: str, how: str, patience: Patience
) -> None:
    """Not in a transaction: PostgreSQL refuses that."""
    row = connection.execute(
        "select current_setting('lock_timeout'), set_config('lock_timeout', %s, false)",
        (patience.lock_timeout,),
    ).fetchone()
    assert row is not None  # noqa: S101
    try:
        connection.execute(
            sql.SQL("alter table {} detach partition {} {}").format(
                sql.Identifier(table.schema, table.table), sql.SQL(partition), sql.SQL(how)
            )
        )
    finally:
        if not connection.closed and not connection.broken:
            connection.execute("select set_config('lock_timeout', %s, false)", (row[0],))

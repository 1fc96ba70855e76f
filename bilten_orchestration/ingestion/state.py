"""How far the sync has come: system.sync_state in PostgreSQL, analytics.sync_batches in ClickHouse.

Both tell the same story, and must: after a restore of PostgreSQL its state goes back with it, and
ClickHouse is ahead. `disagreements` finds that out, before anything is written.

The epoch names the server that marks belong to: system identifier, timeline, database and the newest
row of system.restores. Transaction ids of two epochs cannot be compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from bilten_orchestration.errors import Mismatch, Problem, Refused
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

CONSUMER = "clickhouse"

# The timeline of what is written now: pg_control_checkpoint() shows that of the last checkpoint, which
# is the old one for minutes after a promotion.
_EPOCH = """
    select (select system_identifier from pg_control_system())::text,
           case when pg_is_in_recovery() then 0
                else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int end,
           (select oid from pg_database where datname = current_database())::bigint,
           (select id::text from system.restores order by restored_at desc, id limit 1),
           pg_is_in_recovery()
"""


@dataclass(frozen=True, slots=True)
class Epoch:
    system_identifier: str
    timeline: int
    database: int
    restore_id: str | None

    def as_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def __str__(self) -> str:
        restored = f", restore {self.restore_id}" if self.restore_id else ""
        return (
            f"system {self.system_identifier}, timeline {self.timeline}, database {self.database}{restored}"
        )


@dataclass(frozen=True, slots=True)
class SyncState:
    """The row of system.sync_state; `batch` 0 where no batch was ever applied.

    `snapshot` is the one of the last applied batch: what was visible in it has been sent. `rereading`
    are tables whose rows must all be read again; `touched_days` those of a batch that is being applied.
    """

    mark: int = 0
    snapshot: str | None = None
    batch: int = 0
    applying_batch: int | None = None
    epoch: Epoch | None = None
    rereading: frozenset[str] = frozenset()
    touched_days: Mapping[date, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """The newest row of analytics.sync_batches; number 0 where there is none."""

    number: int = 0
    epoch: Epoch | None = None
    as_of: datetime | None = None


def read_epoch(connection: Connection) -> Epoch:
    """Raises Refused on a standby: it has neither batch numbers nor a state of its own."""
    row = connection.execute(_EPOCH).fetchone()
    assert row is not None  # noqa: S101 (a select without from)
    if row[4]:
        raise Refused(
            "PostgreSQL is in recovery",
            expected="the primary",
            found="a standby, or a server that is still being restored",
            next="point BILTEN_POSTGRES__HOST at the primary, or wait for the end of the restore",
        )
    return Epoch(row[0], row[1], row[2], row[3])


def read(connection: Connection, consumer: str = CONSUMER) -> SyncState:
    row = connection.execute(
        "select mark::text, snapshot::text, batch, applying_batch, epoch, rereading, touched_days "
        "from system.sync_state where consumer = %s",
        (consumer,),
    ).fetchone()
    if row is None:
        return SyncState()
    return SyncState(
        mark=int(row[0]),
        snapshot=row[1],
        batch=row[2],
        applying_batch=row[3],
        epoch=_epoch(row[4]),
        rereading=frozenset(row[5]),
        touched_days={date.fromisoformat(day): reason for day, reason in (row[6] or {}).items()},
    )


def newest_applied(client: Client) -> AppliedBatch:
    rows = client.query(
        "select batch, epoch, as_of from analytics.sync_batches final order by batch desc limit 1"
    ).result_rows
    if not rows:
        return AppliedBatch()
    number, epoch, as_of = rows[0]
    return AppliedBatch(number, _epoch(json.loads(epoch)), as_of)


def disagreements(
    state: SyncState, applied: AppliedBatch, epoch: Epoch, *, raw_is_empty: bool
) -> list[Problem]:
    """Why this PostgreSQL is not the one, or not at the moment, that ClickHouse shows; empty when it is."""
    problems = []
    # between the two lie batches that were killed before their end: one that was whole in ClickHouse, and
    # not yet in PostgreSQL, is the newest there while the next one is killed in its turn
    if not state.batch <= applied.number <= (state.applying_batch or state.batch):
        problems.append(
            Problem(
                "ClickHouse holds another batch than PostgreSQL remembers",
                expected=_batches(state),
                found=f"batch {applied.number}"
                if applied.number
                else "no batch, as after a restore of its raw tables",
            )
        )
    if applied.number == 0 and state.applying_batch is None and state.batch == 0 and not raw_is_empty:
        problems.append(
            Problem(
                "ClickHouse holds rows of batches that PostgreSQL knows nothing of",
                expected="empty raw tables before the first load",
                found="rows, and no row in analytics.sync_batches",
            )
        )
    for where, known in (
        ("PostgreSQL's sync state", state.epoch),
        ("ClickHouse's newest batch", applied.epoch),
    ):
        if known is not None and known != epoch:
            problems.append(
                Problem(
                    f"{where} belongs to another epoch of PostgreSQL", expected=str(known), found=str(epoch)
                )
            )
    return problems


def published_before(connection: Connection, client: Client) -> set[date]:
    """Days that were built again after what ClickHouse shows of them: those of marts that were restored.

    Builds take what they have built off PostgreSQL's list of dirty days, and that does not go back.
    """
    rows = client.query(
        "select day, min(batch) from analytics.mart_days final where batch > 0 group by day"
    ).result_rows
    shown: dict[date, int] = {day: batch for day, batch in rows}
    built = connection.execute(
        "select day, batch from system.metric_dirty_days where generation <= built_generation"
    ).fetchall()
    return {day for day, batch in built if shown.get(day, 0) < batch}


def begin_applying(
    connection: Connection,
    batch: int,
    touched: Mapping[date, str],
    rereading: Iterable[str],
    consumer: str = CONSUMER,
) -> None:
    """Committed before ClickHouse's raw tables change."""
    connection.execute(
        "insert into system.sync_state (consumer, applying_batch, touched_days, rereading) values (%s, %s, "
        "%s, %s) "
        "on conflict (consumer) do update set applying_batch = excluded.applying_batch, "
        "touched_days = excluded.touched_days, rereading = excluded.rereading, updated_at = "
        "clock_timestamp()",
        (consumer, batch, _days(touched), sorted(rereading)),
    )


def settled_before(client: Client, epoch: Epoch, mark: int) -> datetime:
    """The newest moment (UTC) at which batches of this epoch began and all that was open has since ended,
    as the mark shows; 1970 where there is none."""
    [(moment,)] = client.query(
        "select max(began_at) from analytics.sync_batches"
        " where epoch = {epoch:String} and next_xid between 1 and {mark:UInt64}",
        {"epoch": epoch.as_json(), "mark": mark},
    ).result_rows
    return moment.replace(tzinfo=UTC)  # type: ignore[no-any-return]


def remember_rereading(connection: Connection, tables: Iterable[str]) -> None:
    """Committed before a column is added: a kill in between must not leave it without its values."""
    connection.execute(
        "insert into system.sync_state (consumer, rereading) values (%s, %s) "
        "on conflict (consumer) do update set rereading = excluded.rereading, updated_at = clock_timestamp()",
        (CONSUMER, sorted(tables)),
    )


def finish(
    connection: Connection,
    *,
    batch: int,
    mark: int,
    snapshot: str,
    epoch: Epoch,
    as_of: datetime,
    touched: Mapping[date, str],
    consumer: str = CONSUMER,
) -> None:
    """Mark, batch, epoch and dirty days in one transaction."""
    with connection.transaction():
        connection.execute(
            "insert into system.sync_state as s (consumer, mark, snapshot, batch, epoch, as_of) "
            "values (%s, %s::text::xid8, %s::text::pg_snapshot, %s, %s, %s) on conflict (consumer) do update "
            "set "
            "mark = excluded.mark, snapshot = excluded.snapshot, batch = excluded.batch, epoch = "
            "excluded.epoch, "
            "as_of = excluded.as_of, applying_batch = null, touched_days = null, rereading = '{}', "
            "updated_at = clock_timestamp()",
            (consumer, str(mark), snapshot, batch, epoch.as_json(), as_of),
        )
        connection.execute(
            "insert into system.metric_dirty_days as d (day, batch, reason) "
            "select day, %s, reason from unnest(%s::date[], %s::text[]) as touched (day, reason) "
            "on conflict (day) do update set generation = d.generation + 1, batch = excluded.batch, "
            "reason = excluded.reason, marked_at = clock_timestamp()",
            (batch, list(touched.keys()), list(touched.values())),
        )


def next_batch(
    connection: Connection,
    above: int,
    *,
    raise_it: bool,
    holder: str = "ClickHouse",
    command: str = "bilten sync",
) -> int:
    """A new batch number, above everything `holder` holds.

    After a restore the sequence has gone back with the database; `raise_it` (an accepted epoch) lifts
    it, otherwise that is a Mismatch: a lower version would lose against what is there.
    """
    if raise_it:
        connection.execute(
            "select setval('system.batch_number', greatest(%s, last_value)) from system.batch_number",
            (above,),
        )
    row = connection.execute("select nextval('system.batch_number')").fetchone()
    assert row is not None  # noqa: S101
    batch = int(row[0])
    if batch <= above:
        raise Mismatch(
            "batch numbers have gone back",
            expected=f"a number above {above}, which {holder} holds",
            found=str(batch),
            next=f"{command} --accept-epoch, after reading what it would change",
        )
    return batch


def _batches(state: SyncState) -> str:
    known = f"batch {state.batch}" if state.batch else "no batch"
    return (
        f"{known}, or up to {state.applying_batch}, which was being applied"
        if state.applying_batch
        else known
    )


def _days(touched: Mapping[date, str]) -> str:
    return json.dumps({day.isoformat(): reason for day, reason in touched.items()})


def _epoch(value: dict[str, Any] | None) -> Epoch | None:
    return Epoch(**value) if value else None

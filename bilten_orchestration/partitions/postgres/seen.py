"""All that a plan needs to know of one table, read from PostgreSQL at once; plan.py decides, and asks nobody.

A table that was a partition is known by its row in system.partition_metadata: by its name, or, where somebody
renamed it, by its oid. Oids are others after a logical restore, so an oid alone proves nothing: such a table
has the parent's columns too, else it is none of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from psycopg import sql

from bilten_orchestration.partitions import metadata
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.metadata import Recorded
from bilten_orchestration.partitions.postgres.catalogue import Attached, attached
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection

_STANDALONE = """
    select c.oid::bigint, c.oid::regclass::text, c.relname, n.nspname, pg_total_relation_size(c.oid),
           -- the columns of one are among those of the other
           (select bool_and(exists (select 1 from pg_attribute p where p.attrelid = %(parent)s::regclass
                                    and p.attnum > 0 and not p.attisdropped
                                    and p.attname = a.attname and p.atttypid = a.atttypid))
            from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
           or (select bool_and(exists (select 1 from pg_attribute a where a.attrelid = c.oid
                                       and a.attnum > 0 and not a.attisdropped
                                       and a.attname = p.attname and a.atttypid = p.atttypid))
               from pg_attribute p where p.attrelid = %(parent)s::regclass
               and p.attnum > 0 and not p.attisdropped)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and not c.relispartition
      and (c.oid = any(%(oids)s) or c.oid::regclass::text = any(%(names)s))
"""
_FOREIGN_KEYS = """
    select conname, conrelid::regclass::text,
           (select array_agg(a.attname order by k.n) from unnest(conkey) with ordinality k(attnum, n)
            join pg_attribute a on a.attrelid = conrelid and a.attnum = k.attnum),
           (select array_agg(a.attname order by k.n) from unnest(confkey) with ordinality k(attnum, n)
            join pg_attribute a on a.attrelid = confrelid and a.attnum = k.attnum)
    from pg_constraint where contype = 'f' and confrelid = %s::regclass and conparentid = 0
    order by conname
"""


@dataclass(frozen=True, slots=True)
class Detached:
    """A table that was a partition. `recorded` what is known of it; `like_parent`: it has its columns."""

    name: str
    oid: int
    bytes: int
    like_parent: bool
    recorded: Recorded

    @property
    def low(self) -> datetime | None:
        return self.recorded.from_at

    @property
    def high(self) -> datetime | None:
        return self.recorded.to_at


@dataclass(frozen=True, slots=True)
class Seen:
    """`now` is the server's clock. `newest` is the newest partition that holds rows. `taken` are names of
    relations in the table's schema. `referenced` says, by partition that is over, which foreign key has rows
    that reference it."""

    table: PartitionedTable
    now: datetime
    attached: tuple[Attached, ...]
    recorded: tuple[Recorded, ...] = ()
    detached: tuple[Detached, ...] = ()
    newest: Attached | None = None
    taken: frozenset[str] = frozenset()
    referenced: Mapping[str, str] = field(default_factory=dict)
    archives: tuple[Archive, ...] = ()

    def hold_until(self, partition: Attached) -> datetime | None:
        for each in self.recorded:
            if each.oid == partition.oid or each.partition == partition.name:
                return each.hold_until
        return None


def read(connection: Connection, table: PartitionedTable) -> Seen:
    """Raises Refused where the table is not partitioned by range, psycopg.Error."""
    now = postgres.clock(connection)
    found = tuple(attached(connection, table.name))
    recorded = metadata.read(connection, table.name)
    here = {each.oid for each in found}
    gone = ("planned", "dropped")
    loose = [each for each in recorded if each.state not in gone and each.oid not in here]
    return Seen(
        table,
        now,
        found,
        recorded,
        _detached(connection, table, loose),
        _newest(connection, found),
        frozenset(
            name
            for (name,) in connection.execute(
                "select relname from pg_class where relnamespace = %s::regnamespace", (table.schema,)
            ).fetchall()
        ),
        _referenced(connection, table, [p for p in found if _over(table, p, now)]),
    )


def with_archives(found: Seen, archives: Sequence[Archive]) -> Seen:
    return replace(found, archives=tuple(each for each in archives if each.table == found.table.name))


def _over(table: PartitionedTable, partition: Attached, now: datetime) -> bool:
    return partition.high is not None and partition.high <= table.kept_from(now)


def _detached(
    connection: Connection, table: PartitionedTable, loose: Sequence[Recorded]
) -> tuple[Detached, ...]:
    if not loose:
        return ()
    rows = connection.execute(
        _STANDALONE,
        {
            "parent": table.name,
            "oids": [each.oid for each in loose if each.oid is not None],
            "names": [each.partition for each in loose],
        },
    ).fetchall()
    by_oid = {row[0]: row for row in rows if row[5] and row[3] == table.schema}
    by_name = {row[1]: row for row in rows}
    found = []
    for each in loose:
        row = by_name.get(each.partition) or (by_oid.get(each.oid) if each.oid is not None else None)
        if row is not None:
            found.append(Detached(row[1], row[0], row[4], bool(row[5]), each))
    return tuple(found)


def _newest(connection: Connection, partitions: Sequence[Attached]) -> Attached | None:
    for each in reversed([p for p in partitions if not p.is_default and p.heap_bytes]):
        # a name as regclass gives it is quoted where it has to be
        row = connection.execute(
            sql.SQL("select exists (select 1 from only {})").format(sql.SQL(each.name))
        ).fetchone()
        if row is not None and row[0]:
            return each
    return None


def _referenced(connection: Connection, table: PartitionedTable, over: Sequence[Attached]) -> dict[str, str]:
    if not over:
        return {}
    found: dict[str, str] = {}
    for name, referencing, columns, keys in connection.execute(_FOREIGN_KEYS, (table.name,)).fetchall():
        on = sql.SQL(" and ").join(
            sql.SQL("r.{} = p.{}").format(sql.Identifier(column), sql.Identifier(key))
            for column, key in zip(columns, keys, strict=True)
        )
        for each in over:
            row = connection.execute(
                sql.SQL("select exists (select 1 from {} r join only {} p on {})").format(
                    sql.SQL(referencing), sql.SQL(each.name), on
                )
            ).fetchone()
            if row is not None and row[0]:
                found[each.name] = f"{name} of {referencing}"
    return found

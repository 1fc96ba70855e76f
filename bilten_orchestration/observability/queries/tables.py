"""Tables of the operational database: dead rows, room that could be given back, statistics, age of rows.

Reads catalogues and statistics alone; the bloat is an estimate from the planner's column widths, good for an
order of magnitude: too high where rows are compressed or widths differ much, and unknown (None) until the
table was analysed. Exact numbers come from pgstattuple, which reads the whole table.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.stores.postgres import Connection


@dataclass(frozen=True, slots=True)
class Table:
    """One table or leaf partition. `bloat_bytes` is of the heap without TOAST. Ages are in transactions;
    `freeze_limit` is where PostgreSQL itself begins a vacuum against wraparound."""

    name: str
    size_bytes: int
    live_rows: int
    dead_rows: int
    changed_since_analyze: int
    vacuumed_at: datetime | None
    analyzed_at: datetime | None
    bloat_bytes: int | None
    frozen_age: int
    multixact_age: int
    freeze_limit: int
    vacuum_threshold: int
    analyze_threshold: int
    is_autovacuumed: bool

    @property
    def dead_share(self) -> float:
        rows = self.live_rows + self.dead_rows
        return self.dead_rows / rows if rows else 0.0

    @property
    def bloat_share(self) -> float:
        return (self.bloat_bytes or 0) / self.size_bytes if self.size_bytes else 0.0


# Bytes of a row as the manual's page "Database Page Layout" has them: a header of 23 bytes, a bitmap where a
# column may be null, both aligned to 8, and a line pointer of 4; of a page 24 are its header.
_TABLES = """
    with options as (
        select c.oid,
               coalesce((select option_value from pg_options_to_table(c.reloptions)
                         where option_name = 'fillfactor')::int, 100) as fillfactor,
               coalesce((select option_value from pg_options_to_table(c.reloptions)
                         where option_name = 'autovacuum_enabled')::boolean, true)
                   and current_setting('autovacuum')::boolean as is_autovacuumed,
               coalesce((select option_value from pg_options_to_table(c.reloptions)
                         where option_name = 'autovacuum_vacuum_threshold')::float8,
                        current_setting('autovacuum_vacuum_threshold')::float8) as vacuum_base,
               coalesce((select option_value from pg_options_to_table(c.reloptions)
                         where option_name = 'autovacuum_vacuum_scale_factor')::float8,
                        current_setting('autovacuum_vacuum_scale_factor')::float8) as vacuum_share,
               coalesce((select option_value from pg_options_to_table(c.reloptions)
                         where option_name = 'autovacuum_analyze_threshold')::float8,
                        current_setting('autovacuum_analyze_threshold')::float8) as analyze_base,
               coalesce((select option_value from pg_options_to_table(c.reloptions)
                         where option_name = 'autovacuum_analyze_scale_factor')::float8,
                        current_setting('autovacuum_analyze_scale_factor')::float8) as analyze_share
        from pg_class c where c.relkind = 'r'
    ),
    widths as (
        select a.attrelid, count(*) as columns, count(s.avg_width) as known,
               sum((1 - s.null_frac) * s.avg_width) as bytes, bool_or(s.null_frac > 0) as has_nulls
        from pg_attribute a
        join pg_class c on c.oid = a.attrelid and c.relkind = 'r'
        join pg_namespace n on n.oid = c.relnamespace
        left join pg_stats s on s.schemaname = n.nspname and s.tablename = c.relname
                             and s.attname = a.attname and not s.inherited
        where a.attnum > 0 and not a.attisdropped
        group by a.attrelid
    )
    select format('%%I.%%I', n.nspname, c.relname),
           pg_relation_size(c.oid),
           s.n_live_tup, s.n_dead_tup, s.n_mod_since_analyze,
           greatest(s.last_vacuum, s.last_autovacuum), greatest(s.last_analyze, s.last_autoanalyze),
           case when w.known = w.columns and c.reltuples >= 0 then greatest(0, pg_relation_size(c.oid) -
               ceil(c.reltuples * (4 + ceil((23 + case when w.has_nulls then (w.columns + 7) / 8 else 0 end
                                              ) / 8.0) * 8 + ceil(w.bytes / 8.0) * 8)
                    / ((current_setting('block_size')::int - 24) * o.fillfactor / 100.0))
               * current_setting('block_size')::int)::bigint end,
           age(c.relfrozenxid), mxid_age(c.relminmxid),
           current_setting('autovacuum_freeze_max_age')::bigint,
           (o.vacuum_base + o.vacuum_share * greatest(0, c.reltuples))::bigint,
           (o.analyze_base + o.analyze_share * greatest(0, c.reltuples))::bigint,
           o.is_autovacuumed
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_stat_user_tables s on s.relid = c.oid
    join options o on o.oid = c.oid
    left join widths w on w.attrelid = c.oid
    where c.relkind = 'r' and c.relpersistence <> 't'
      and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    order by 2 desc, 1
"""


def read(connection: Connection) -> tuple[Table, ...]:
    """Every table and leaf partition, the largest first."""
    return tuple(Table(*row) for row in connection.execute(_TABLES, ()).fetchall())


def to_vacuum(tables: Iterable[Table], *, share: float, rows: int) -> list[Table]:
    """With more dead rows than autovacuum would let stand, and both shares exceeded: it does not come after,
    is off, or is held up by an old transaction or slot."""
    return [
        table
        for table in tables
        if table.dead_rows >= rows and table.dead_share >= share and table.dead_rows > table.vacuum_threshold
    ]


def to_analyze(tables: Iterable[Table], *, rows: int) -> list[Table]:
    """Never analysed although it has rows, or changed by twice what autovacuum would let stand."""
    return [
        table
        for table in tables
        if (table.analyzed_at is None and table.live_rows >= rows)
        or table.changed_since_analyze > max(rows, 2 * table.analyze_threshold)
    ]


def bloated(tables: Iterable[Table], *, share: float, from_bytes: int) -> list[Table]:
    """With at least so much room, by estimate, that rows could be in."""
    return [
        table
        for table in tables
        if table.bloat_bytes is not None and table.bloat_bytes >= from_bytes and table.bloat_share >= share
    ]


def old(tables: Iterable[Table]) -> list[Table]:
    """Past the age at which PostgreSQL vacuums against wraparound by itself: that vacuum is late or is
    failing."""
    return [table for table in tables if max(table.frozen_age, table.multixact_age) > table.freeze_limit]

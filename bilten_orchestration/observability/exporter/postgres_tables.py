"""Sizes: of the databases, and of the largest tables and indexes of the operational one, a partitioned one as
the sum of its parts.

Sizes are asked of the file system by the server, and bloat is estimated from the statistics of columns: too
much for every half minute, so it has an interval of its own. Growth follows from the sizes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bilten_orchestration.observability.finding import Reading
from bilten_orchestration.observability.queries import tables
from bilten_orchestration.observability.series import Collected, counter, gauge
from bilten_orchestration.observability.sources import bounded
from bilten_orchestration.settings import Settings

_SECONDS: Final = 60.0
_T, _I = "bilten_postgres_table_", "bilten_postgres_index_"

TABLE_BYTES = gauge(f"{_T}size_bytes", "Size of the largest tables, with TOAST and without indexes", "table")
INDEXES_BYTES = gauge(f"{_T}indexes_size_bytes", "Size of all their indexes", "table")
BLOAT_BYTES = gauge(f"{_T}bloat_bytes", "Room in them that rows could be in, by estimate", "table")
LIVE_ROWS = gauge(f"{_T}live_rows", "Rows, as the server counts them", "table")
DEAD_ROWS = gauge(f"{_T}dead_rows", "Dead rows that no vacuum has taken yet", "table")
FROZEN_AGE = gauge(f"{_T}frozen_age_transactions", "Age of the oldest row that is not frozen", "table")
DATABASE_BYTES = gauge("bilten_postgres_database_size_bytes", "Size on disk", "database")
TABLES = gauge("bilten_postgres_tables", "Tables, a partitioned one as one")
INDEX_BYTES = gauge(f"{_I}size_bytes", "Size of the largest indexes", "index")
INDEX_SCANS = counter(f"{_I}scans_total", "Scans of them", "index")

_TABLES = """
    select format('%%I.%%I', n.nspname, c.relname), format('%%I.%%I', m.nspname, r.relname),
           pg_table_size(c.oid), pg_indexes_size(c.oid)
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_class r on r.oid = coalesce(pg_partition_root(c.oid), c.oid)
    join pg_namespace m on m.oid = r.relnamespace
    where c.relkind = 'r' and c.relpersistence <> 't'
      and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
"""

_INDEXES = """
    select format('%%I.%%I', m.nspname, r.relname), sum(pg_relation_size(s.indexrelid)), sum(s.idx_scan)
    from pg_stat_user_indexes s
    join pg_class r on r.oid = coalesce(pg_partition_root(s.indexrelid), s.indexrelid)
    join pg_namespace m on m.oid = r.relnamespace
    group by r.oid, 1 order by 2 desc, 1 limit %s
"""

_DATABASES = "select datname, pg_database_size(oid) from pg_database where datname = any(%s)"


@dataclass(slots=True)
class _Sum:
    """Of one table and all its partitions; bloat is None until one of them was analysed."""

    size_bytes: int = 0
    indexes_bytes: int = 0
    bloat_bytes: int | None = None
    live_rows: int = 0
    dead_rows: int = 0
    frozen_age: int = 0

    @property
    def with_indexes_bytes(self) -> int:
        return self.size_bytes + self.indexes_bytes


@dataclass(frozen=True, slots=True)
class PostgresSizes:
    settings: Settings
    name: str = "metrics/postgres-tables"
    needs: tuple[str, ...] = ("store/postgres",)

    @property
    def interval_seconds(self) -> float:
        return self.settings.serve.metrics_sizes_seconds

    def read(self) -> Reading:
        top = self.settings.serve.metrics_top
        with bounded.connected(self.settings, "the look at sizes of tables", seconds=_SECONDS) as connection:
            sizes = connection.execute(_TABLES, ()).fetchall()
            leaves = {each.name: each for each in tables.read(connection)}
            indexes = connection.execute(_INDEXES, (top,)).fetchall()
            of_platform = [self.settings.postgres.database, self.settings.postgres.dagster_database]
            databases = connection.execute(_DATABASES, (of_platform,)).fetchall()
        sums: dict[str, _Sum] = defaultdict(_Sum)
        for name, root, size, index in sizes:
            total, leaf = sums[root], leaves.get(name)
            total.size_bytes += size or 0
            total.indexes_bytes += index or 0
            if leaf is None:  # made, or dropped, between the two statements
                continue
            if leaf.bloat_bytes is not None:
                total.bloat_bytes = (total.bloat_bytes or 0) + leaf.bloat_bytes
            total.live_rows += leaf.live_rows
            total.dead_rows += leaf.dead_rows
            total.frozen_age = max(total.frozen_age, leaf.frozen_age)
        found = Collected()
        for name, size in databases:
            found.add(DATABASE_BYTES, size, name)
        found.add(TABLES, len(sums))
        largest = sorted(sums.items(), key=lambda each: (-each[1].with_indexes_bytes, each[0]))
        for name, total in largest[:top]:
            found.add(TABLE_BYTES, total.size_bytes, name)
            found.add(INDEXES_BYTES, total.indexes_bytes, name)
            found.add(BLOAT_BYTES, total.bloat_bytes, name)
            found.add(LIVE_ROWS, total.live_rows, name)
            found.add(DEAD_ROWS, total.dead_rows, name)
            found.add(FROZEN_AGE, total.frozen_age, name)
        for name, size, scans in indexes:
            found.add(INDEX_BYTES, size, name)
            found.add(INDEX_SCANS, scans, name)
        return Reading(samples=found.samples)

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None

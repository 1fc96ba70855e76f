"""Indexes of the operational database: those that nothing uses, that another one covers, that are missing.

Reads catalogues and statistics alone. An index of a partitioned table is one index: its parts are added up,
and the statement is for the parent. What never shows up here as unused: what enforces something (primary key,
unique, exclusion), a replica identity, and what has not been watched for long enough. Scans are counted per
server: with standbys that answer queries an index may be used there (`Usage.standbys`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.stores.postgres import Connection


@dataclass(frozen=True, slots=True)
class Index:
    """One index, with its partitions. `name` is schema-qualified and quoted, as `table` is. `columns` are its
    keys in order with operator class, collation and direction (what two indexes must share to be alike);
    `included`, `predicate` and `expressions` likewise as text. `scans` and `last_scan_at` since the
    statistics began."""

    oid: int
    name: str
    table: str
    method: str
    columns: tuple[str, ...]
    included: tuple[str, ...]
    predicate: str | None
    is_unique: bool
    is_constraint: bool
    is_needed: bool
    is_valid: bool
    is_building: bool
    size_bytes: int
    scans: int
    last_scan_at: datetime | None
    definition: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Since when scans are counted at least (`since`), for how long, and by how many servers besides."""

    indexes: tuple[Index, ...]
    since: datetime
    watched_days: float
    standbys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Covered:
    """`index` is not needed, because `by` does the same: `why` is duplicate or redundant."""

    index: Index
    by: Index
    why: str


@dataclass(frozen=True, slots=True)
class BareKey:
    """A foreign key whose columns no index begins with: a DELETE or key change of the parent reads the whole
    child, under a lock. `rows` as estimated."""

    table: str
    constraint: str
    columns: tuple[str, ...]
    parent: str
    rows: int
    size_bytes: int
    scans_of_whole_table: int
    is_partitioned: bool

    @property
    def statements(self) -> tuple[str, ...]:
        """CONCURRENTLY is refused on a partitioned table: there it goes partition by partition."""
        columns = ", ".join(self.columns)
        if self.is_partitioned:
            return (
                f"create index on only {self.table} ({columns})",
                "-- then create index concurrently on each partition, and alter index ... attach partition",
            )
        return (f"create index concurrently on {self.table} ({columns})",)


_INDEXES = """
    with ours as (
        select i.*, c.relname, c.relnamespace, c.relam, c.relispartition, c.relkind,
               coalesce(pg_partition_root(i.indexrelid), i.indexrelid)::oid as root
        from pg_index i
        join pg_class c on c.oid = i.indexrelid
        join pg_class t on t.oid = i.indrelid
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and t.relpersistence <> 't'
    ),
    sums as (
        select root,
               sum(case when relkind = 'i' then pg_relation_size(indexrelid) else 0 end)::bigint as bytes,
               sum(coalesce(s.idx_scan, 0))::bigint as scans,
               max((to_jsonb(s) ->> 'last_idx_scan')::timestamptz) as last_scan_at,
               bool_and(indisvalid and indisready and indislive) as is_valid,
               bool_or(p.pid is not null) as is_building
        from ours
        left join pg_stat_user_indexes s using (indexrelid)
        left join pg_stat_progress_create_index p on p.index_relid = ours.indexrelid
        group by root
    )
    select i.indexrelid::bigint,
           format('%%I.%%I', n.nspname, i.relname),
           (select format('%%I.%%I', tn.nspname, t.relname) from pg_class t
            join pg_namespace tn on tn.oid = t.relnamespace where t.oid = i.indrelid),
           a.amname,
           array(select concat_ws(' ', pg_get_indexdef(i.indexrelid, k, true), i.indclass[k - 1]::text,
                                  i.indcollation[k - 1]::text, i.indoption[k - 1]::text)
                 from generate_series(1, i.indnkeyatts) k order by k),
           array(select pg_get_indexdef(i.indexrelid, k, true)
                 from generate_series(i.indnkeyatts + 1, i.indnatts) k order by 1),
           pg_get_expr(i.indpred, i.indrelid),
           i.indisunique or i.indisexclusion,
           exists (select from pg_constraint x where x.conindid = i.indexrelid),
           i.indisunique or i.indisprimary or i.indisexclusion or i.indisreplident or i.indisclustered
               or exists (select from pg_constraint x where x.conindid = i.indexrelid),
           s.is_valid, s.is_building, s.bytes, s.scans, s.last_scan_at,
           pg_get_indexdef(i.indexrelid)
    from ours i
    join sums s on s.root = i.indexrelid
    join pg_namespace n on n.oid = i.relnamespace
    join pg_am a on a.oid = i.relam
    where not i.relispartition
    order by 2
"""

# A crash forgets the counters without a trace in stats_reset: they reach back at least to the later of both.
_SINCE = """
    select since, extract(epoch from clock_timestamp() - since)::float8 / 86400
    from (select greatest(pg_postmaster_start_time(), (select stats_reset from pg_stat_database
                          where datname = current_database())) as since) s
"""

# pg_receivewal and logical consumers replay nothing
_STANDBYS = """
    select application_name || coalesce(' at ' || client_addr, '') from pg_stat_replication
    where replay_lsn is not null and not exists (
        select from pg_replication_slots s where s.active_pid = pid and s.slot_type = 'logical')
    order by 1
"""


def read(connection: Connection) -> Usage:
    since = connection.execute(_SINCE).fetchone()
    assert since is not None  # noqa: S101 (a select without from)
    return Usage(
        tuple(
            Index(oid, name, table, method, tuple(columns), tuple(included), *rest)
            for oid, name, table, method, columns, included, *rest in connection.execute(
                _INDEXES, ()
            ).fetchall()
        ),
        since[0],
        since[1],
        tuple(name for (name,) in connection.execute(_STANDBYS).fetchall()),
    )


def unused(usage: Usage, *, after_days: float, from_bytes: int = 0) -> list[Index]:
    """Never scanned although watched for so long; the largest first. Empty while the time is not over."""
    if usage.watched_days < after_days:
        return []
    return sorted(
        (
            index
            for index in usage.indexes
            if index.scans == 0
            and index.last_scan_at is None
            and not index.is_needed
            and index.is_valid
            and not index.is_building
            and index.size_bytes >= from_bytes
        ),
        key=lambda index: (-index.size_bytes, index.name),
    )


def invalid(usage: Usage) -> list[Index]:
    """Left behind by a CREATE INDEX CONCURRENTLY that failed: written with every row, used by no query. What
    is being built now is none."""
    return [index for index in usage.indexes if not index.is_valid and not index.is_building]


def covered(indexes: Iterable[Index]) -> list[Covered]:
    """Indexes that another valid one of the same table makes needless; each once, by the widest reason.

    duplicate: same method, keys, included columns and predicate; of two, the one that enforces something
    stays, else the one that is used more, else the first by name.
    redundant: a btree whose keys are the first ones of another btree, with the same predicate, that enforces
    nothing and includes nothing that the other lacks.
    """
    usable = [index for index in indexes if index.is_valid and not index.is_building]
    by_table: dict[str, list[Index]] = {}
    for index in usable:
        by_table.setdefault(index.table, []).append(index)
    found = []
    for group in by_table.values():
        for index in group:
            if index.is_needed:
                continue
            others = [other for other in group if other.oid != index.oid and _same_kind(index, other)]
            twins = [other for other in others if _alike(index, other) and _stays(other, index)]
            if twins:
                found.append(Covered(index, min(twins, key=_rank), "duplicate"))
                continue
            wider = [other for other in others if _wider(other, index)]
            if wider:
                found.append(Covered(index, min(wider, key=lambda other: len(other.columns)), "redundant"))
    return sorted(found, key=lambda each: (-each.index.size_bytes, each.index.name))


def _same_kind(one: Index, other: Index) -> bool:
    return one.method == other.method and one.predicate == other.predicate


def _alike(one: Index, other: Index) -> bool:
    return one.columns == other.columns and set(one.included) <= set(other.included)


def _stays(other: Index, index: Index) -> bool:
    if _alike(other, index):  # equal: one of both goes
        return _rank(other) < _rank(index)
    return True


def _rank(index: Index) -> tuple[bool, bool, int, str]:
    return (not index.is_needed, not index.is_unique, -index.scans, index.name)


def _wider(other: Index, index: Index) -> bool:
    return (
        index.method == "btree"
        and len(other.columns) > len(index.columns)
        and other.columns[: len(index.columns)] == index.columns
        and set(index.included) <= {column.split(" ")[0] for column in other.columns} | set(other.included)
    )


# An index serves a foreign key when its first columns are those of the key, in whatever order, and it holds
# all rows (or all but those without a value, which reference nothing).
_BARE = """
    select format('%%I.%%I', n.nspname, t.relname), k.conname,
           array(select quote_ident(a.attname) from unnest(k.conkey) with ordinality as u (number, place)
                 join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.number order by u.place),
           k.confrelid::regclass::text,
           greatest(0, case when t.relkind = 'p' then
                (select sum(greatest(0, c.reltuples)) from pg_partition_tree(t.oid) p
                 join pg_class c on c.oid = p.relid where p.isleaf)
                else t.reltuples end)::bigint,
           (select coalesce(sum(pg_table_size(p)), 0) from (
                select relid as p from pg_partition_tree(t.oid) where isleaf
                union select t.oid where t.relkind = 'r') parts)::bigint,
           coalesce(s.seq_scan, 0)::bigint,
           t.relkind = 'p'
    from pg_constraint k
    join pg_class t on t.oid = k.conrelid
    join pg_namespace n on n.oid = t.relnamespace
    left join pg_stat_user_tables s on s.relid = t.oid
    where k.contype = 'f' and k.conparentid = 0 and not t.relispartition
      and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and not exists (
          select from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
          where i.indrelid = k.conrelid and i.indisvalid and a.amname in ('btree', 'hash')
            and cardinality(k.conkey) <= i.indnkeyatts
            and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
            and (i.indpred is null
                 or (cardinality(k.conkey) = 1
                     and pg_get_expr(i.indpred, i.indrelid) = (
                         select format('(%%I IS NOT NULL)', attname) from pg_attribute
                         where attrelid = k.conrelid and attnum = k.conkey[1]))))
    order by 6 desc, 1, 2
"""


def bare_keys(connection: Connection) -> list[BareKey]:
    """Foreign keys without an index on the side that references; the largest tables first."""
    return [
        BareKey(row[0], row[1], tuple(row[2]), *row[3:]) for row in connection.execute(_BARE, ()).fetchall()
    ]


def drop_statement(index: Index, *, is_partitioned: bool) -> str:
    """CONCURRENTLY is refused for an index of a partitioned table."""
    return f"drop index {'' if is_partitioned else 'concurrently '}{index.name}"


def partitioned(connection: Connection) -> set[int]:
    """Oids of indexes that stand over partitions."""
    return {
        oid
        for (oid,) in connection.execute("select oid::bigint from pg_class where relkind = 'I'").fetchall()
    }

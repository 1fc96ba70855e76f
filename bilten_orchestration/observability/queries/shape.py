"""Whether single tables are in shape: there, vacuumed, frozen and analysed. By the rules of the advice, of
which rebuilds are left out: room in a table is no fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bilten_orchestration.observability.queries import lines, tables
from bilten_orchestration.observability.queries.lines import Advice
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated

# a table that is not partitioned is its own only leaf
_LEAVES = """
    select named.name, format('%%I.%%I', n.nspname, c.relname)
    from unnest(%s::text[]) as named (name), pg_partition_tree(to_regclass(named.name)) as tree
    join pg_class c on c.oid = tree.relid
    join pg_namespace n on n.oid = c.relnamespace
    where tree.isleaf and c.relkind = 'r'
"""
_THERE = "select name from unnest(%s::text[]) as named (name) where to_regclass(name) is not null"


@dataclass(frozen=True, slots=True)
class Shape:
    """A table with its partitions; `advice` is what autovacuum should have done."""

    is_there: bool
    live_rows: int
    dead_rows: int
    bytes: int
    advice: tuple[Advice, ...]


def read(settings: Settings, names: Sequence[str]) -> dict[str, Shape]:
    """By name, as schema.table. Raises StoreUnavailable, AccessRefused."""
    with (
        postgres.connect(settings.postgres, application_name="bilten advice", autocommit=True) as connection,
        translated("reading the statistics of tables"),
    ):
        connection.execute(f"set statement_timeout = {settings.queries.read_seconds * 1000:d}")
        there = {name for (name,) in connection.execute(_THERE, (list(names),)).fetchall()}
        leaves: dict[str, set[str]] = {name: set() for name in names}
        for name, leaf in connection.execute(_LEAVES, (list(there),)).fetchall():
            leaves[name].add(leaf)
        found = tables.read(connection)
    waiting = [
        each for each in lines.of_tables(found, settings.queries) if each.kind in ("vacuum", "analyze")
    ]
    return {
        name: Shape(
            name in there,
            sum(table.live_rows for table in found if table.name in leaves[name]),
            sum(table.dead_rows for table in found if table.name in leaves[name]),
            sum(table.size_bytes for table in found if table.name in leaves[name]),
            tuple(each for each in waiting if each.object in leaves[name]),
        )
        for name in names
    }

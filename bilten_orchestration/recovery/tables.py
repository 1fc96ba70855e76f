"""Tables as rows are compared and written by: columns, key, foreign keys, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from psycopg import sql

from bilten_orchestration.errors import Refused
from bilten_orchestration.stores.postgres import Connection

#: Written by triggers with every change: no content of a row.
KEPT_BY_TRIGGERS = ("updated_at", "sync_xid")


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` are those that can be written (without generated ones), in their order; `key` is the primary
    key, empty where there is none."""

    schema: str
    relation: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.relation}"

    @property
    def name_sql(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.relation)

    @property
    def content(self) -> tuple[str, ...]:
        """What makes two versions of a row equal or not."""
        return tuple(column for column in self.columns if column not in KEPT_BY_TRIGGERS)

    def list(self, alias: str = "") -> sql.Composed:
        return _list(self.columns, alias)

    def key_list(self, alias: str = "") -> sql.Composed:
        return _list(self.key, alias)

    def key_text(self, alias: str) -> sql.Composed:
        """As tombstones and the audit log name a row: parts joined by |."""
        parts = sql.SQL(" || '|' || ").join(
            sql.SQL("{}::text").format(sql.Identifier(alias, column)) for column in self.key
        )
        return sql.SQL("({})").format(parts)

    def joined(self, one: str, other: str) -> sql.Composed:
        return sql.SQL(" and ").join(
            sql.SQL("{} = {}").format(sql.Identifier(one, column), sql.Identifier(other, column))
            for column in self.key
        )

    def same(self, one: str, other: str, columns: Sequence[str]) -> sql.Composed:
        """Whether both hold the same there, byte by byte: equality that every type has."""
        return sql.SQL("record_image_eq(row({}), row({}))").format(_list(columns, one), _list(columns, other))


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """`columns` of `child` point at `referenced` of `parent`."""

    name: str
    child: str
    columns: tuple[str, ...]
    parent: str
    referenced: tuple[str, ...]
    cascades: bool


def describe(connection: Connection, schema: str, relation: str) -> Table:
    row = connection.execute(
        """
        select coalesce((select array_agg(a.attname::text order by a.attnum) from pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                    and a.attgenerated = ''), '{}'),
               coalesce((select array_agg(a.attname::text order by k.place)
                  from pg_index i cross join unnest(i.indkey::int2[]) with ordinality as k (number, place)
                  join pg_attribute a on a.attrelid = c.oid and a.attnum = k.number
                 where i.indrelid = c.oid and i.indisprimary), '{}')
          from pg_class c where c.oid = to_regclass(format('%%I.%%I', %s::text, %s::text))
        """,
        (schema, relation),
    ).fetchone()
    if row is None:
        return Table(schema, relation, (), ())
    return Table(schema, relation, tuple(row[0]), tuple(row[1]))


def foreign_keys(connection: Connection, tables: Sequence[Table]) -> tuple[ForeignKey, ...]:
    """All that begin or end at one of the tables; those of partitions go with their parent's."""
    rows = connection.execute(
        """
        with named as (
            select c.oid, format('%%s.%%s', n.nspname, c.relname) as name
              from pg_class c join pg_namespace n on n.oid = c.relnamespace
        )
        select f.conname::text, child.name,
               (select array_agg(a.attname::text order by k.place)
                  from unnest(f.conkey) with ordinality as k (number, place)
                  join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.number),
               parent.name,
               (select array_agg(a.attname::text order by k.place)
                  from unnest(f.confkey) with ordinality as k (number, place)
                  join pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.number),
               f.confdeltype in ('c', 'n', 'd')
          from pg_constraint f join named child on child.oid = f.conrelid
          join named parent on parent.oid = f.confrelid
         where f.contype = 'f' and f.conparentid = 0
           and (child.name = any(%(names)s) or parent.name = any(%(names)s))
         order by 2, 1
        """,
        {"names": [table.name for table in tables]},
    ).fetchall()
    return tuple(ForeignKey(row[0], row[1], tuple(row[2]), row[3], tuple(row[4]), row[5]) for row in rows)


def unique(connection: Connection, table: Table) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Name and columns of what is unique in a table beside its primary key; of plain columns, and whole."""
    rows = connection.execute(
        """
        select c.relname::text,
               (select array_agg(a.attname::text order by k.place)
                  from unnest(i.indkey::int2[]) with ordinality as k (number, place)
                  join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
                 where k.place <= i.indnkeyatts)
          from pg_index i join pg_class c on c.oid = i.indexrelid
         where i.indrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) and i.indisunique
           and not i.indisprimary and i.indpred is null and i.indexprs is null
         order by 1
        """,
        (table.schema, table.relation),
    ).fetchall()
    return tuple((name, tuple(columns)) for name, columns in rows)


def parents_first(tables: Sequence[Table], keys: Sequence[ForeignKey]) -> tuple[Table, ...]:
    """Raises Refused where foreign keys go round in a circle of several tables."""
    by_name = {table.name: table for table in tables}
    order: TopologicalSorter[str] = TopologicalSorter({name: set() for name in sorted(by_name)})
    for key in keys:
        # a table that points at itself is written by one statement, at whose end keys are checked
        if key.child in by_name and key.parent in by_name and key.child != key.parent:
            order.add(key.child, key.parent)
    try:
        return tuple(by_name[name] for name in order.static_order())
    except CycleError as error:
        raise Refused(
            "foreign keys of the tables go round in a circle: there is no order to copy rows back in",
            expected="parents before children",
            found=" -> ".join(error.args[1]),
            next="copy by hand: bilten restore postgres --target-xid ID --exclusive stops before it",
        ) from None


def _list(columns: Sequence[str], alias: str) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.Identifier(alias, column) if alias else sql.Identifier(column) for column in columns
    )

"""What hangs on a table and does not follow a rename, read before the swap and given to its successor.

PostgreSQL binds most things to the table itself and not to its name: a view, a function with a body of SQL
(BEGIN ATOMIC), a publication, an owned sequence would all go on with the first partition. What is read here
is given to the new parent within the transaction of the swap; whatever is not read here is an obstacle
(plan.py), so that nothing is left with the partition in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from bilten_orchestration.stores.postgres import Connection


@dataclass(frozen=True, slots=True)
class Trigger:
    """`definition` as pg_get_triggerdef gives it, `enabled` as in pg_trigger; `each_row` ones have clones."""

    name: str
    definition: str
    enabled: str
    each_row: bool


@dataclass(frozen=True, slots=True)
class Sequence_:
    """A sequence that the table owns. `identity`: 'a' always, 'd' by default, '' a serial's."""

    name: str
    column: str
    identity: str
    options: str


@dataclass(frozen=True, slots=True)
class Shape:
    """`definitions`: statements that bind views and functions anew, to be run after the renaming."""

    owner: str
    comment: str | None
    replica_identity: str
    replica_index: str | None
    triggers: tuple[Trigger, ...]
    sequences: tuple[Sequence_, ...]
    foreign_keys: tuple[tuple[str, str], ...]
    referenced: tuple[str, ...]
    definitions: tuple[str, ...]
    publications: tuple[tuple[str, str], ...]
    indexes: tuple[tuple[str, str], ...]


def read(connection: Connection, table: str) -> Shape:
    """Of a table, in the transaction of `connection`, whose search_path must be empty: every name in what is
    read here is then qualified."""

    def rows(query: str) -> list[tuple[object, ...]]:
        return connection.execute(query, {"table": table}).fetchall()

    ((owner, comment, identity),) = rows(
        """
        select pg_get_userbyid(relowner), obj_description(oid, 'pg_class'), relreplident
        from pg_class where oid = %(table)s::regclass
        """
    )
    replica = rows(
        """
        select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
        where i.indrelid = %(table)s::regclass and i.indisreplident
        """
    )
    foreign_keys = rows(_FOREIGN_KEYS)
    return Shape(
        owner=str(owner),
        comment=None if comment is None else str(comment),
        replica_identity=str(identity),
        replica_index=str(replica[0][0]) if replica else None,
        triggers=tuple(
            Trigger(str(name), str(definition), str(enabled), bool(each_row))
            for name, definition, enabled, each_row in rows(_TRIGGERS)
        ),
        sequences=tuple(
            Sequence_(str(name), str(column), str(kind), str(options))
            for name, column, kind, options in rows(_SEQUENCES)
        ),
        foreign_keys=tuple((str(name), str(definition)) for name, definition, _ in foreign_keys),
        referenced=tuple(dict.fromkeys(str(other) for *_, other in foreign_keys)),
        definitions=tuple(str(text) for (text,) in rows(_VIEWS) + rows(_FUNCTIONS)),
        publications=tuple((str(name), str(rest)) for name, rest in rows(_PUBLICATIONS)),
        indexes=tuple((str(name), str(definition)) for name, definition in rows(_INDEXES)),
    )


_TRIGGERS = """
    select tgname, pg_get_triggerdef(oid), tgenabled, tgtype & 1 = 1
    from pg_trigger where tgrelid = %(table)s::regclass and not tgisinternal order by tgname
"""
# the name is the one that ALTER SEQUENCE takes; `options` continue its counting, behind its last number
_SEQUENCES = """
    select s.oid::regclass::text, a.attname, a.attidentity,
           format('start %%s increment %%s minvalue %%s maxvalue %%s cache %%s %%s',
                  q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache,
                  case when q.seqcycle then 'cycle' else 'no cycle' end)
    from pg_depend d
    join pg_class s on s.oid = d.objid and s.relkind = 'S'
    join pg_sequence q on q.seqrelid = s.oid
    join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
      and d.refobjid = %(table)s::regclass and d.deptype in ('a', 'i') order by 2
"""
_FOREIGN_KEYS = """
    select conname, pg_get_constraintdef(oid), confrelid::regclass::text
    from pg_constraint where conrelid = %(table)s::regclass and contype = 'f' order by conname
"""
# options are given again: CREATE OR REPLACE without them would take them away
_VIEWS = """
    select distinct format('create or replace view %%s%%s as %%s', v.oid::regclass,
        coalesce(' with (' || array_to_string(v.reloptions, ', ') || ')', ''), pg_get_viewdef(v.oid))
    from pg_depend d
    join pg_rewrite r on r.oid = d.objid
    join pg_class v on v.oid = r.ev_class and v.relkind = 'v'
    where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
      and d.refobjid = %(table)s::regclass
"""
_FUNCTIONS = """
    select distinct pg_get_functiondef(p.oid)
    from pg_depend d join pg_proc p on p.oid = d.objid and p.prosqlbody is not null
    where d.classid = 'pg_proc'::regclass and d.refclassid = 'pg_class'::regclass
      and d.refobjid = %(table)s::regclass
"""
_PUBLICATIONS = """
    select p.pubname,
           coalesce((select ' (' || string_agg(quote_ident(attname), ', ' order by attnum) || ')'
                       from pg_attribute
                      where attrelid = r.prrelid and attnum = any (r.prattrs::smallint[])), '')
           || coalesce(' where (' || pg_get_expr(r.prqual, r.prrelid) || ')', '')
    from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
    where r.prrelid = %(table)s::regclass order by p.pubname
"""
_INDEXES = """
    select c.relname, pg_get_indexdef(c.oid)
    from pg_index i join pg_class c on c.oid = i.indexrelid
    where i.indrelid = %(table)s::regclass order by c.relname
"""


def index_pairs(connection: Connection, parent: str) -> list[tuple[str, str]]:
    """(index of the parent, index of its one partition), as qualified names that SQL takes."""
    rows = connection.execute(
        """
        select p.oid::regclass::text, c.oid::regclass::text
        from pg_index i join pg_class p on p.oid = i.indexrelid
        join pg_inherits h on h.inhparent = p.oid join pg_class c on c.oid = h.inhrelid
        where i.indrelid = %s::regclass order by 1
        """,
        (parent,),
    ).fetchall()
    return [(str(parent_index), str(child_index)) for parent_index, child_index in rows]


def give_triggers(connection: Connection, triggers: Sequence[Trigger], table: sql.Identifier) -> None:
    """Their definitions name the table as it was named when they were read, which `table` is again."""
    enabling = {"D": "disable trigger", "R": "enable replica trigger", "A": "enable always trigger"}
    for trigger in triggers:
        connection.execute(sql.SQL(trigger.definition))
        if trigger.enabled in enabling:
            connection.execute(
                sql.SQL("alter table {} {} {}").format(
                    table, sql.SQL(enabling[trigger.enabled]), sql.Identifier(trigger.name)
                )
            )


def give_publications(
    connection: Connection, publications: Sequence[tuple[str, str]], table: sql.Identifier
) -> None:
    for name, rest in publications:
        connection.execute(
            sql.SQL("alter publication {} add table {}{}").format(sql.Identifier(name), table, sql.SQL(rest))
        )


def give_sequences(connection: Connection, sequences: Sequence[Sequence_], table: sql.Identifier) -> None:
    """Serial ones follow the column they feed; what an identity had counted is given by `give_identity`."""
    for sequence in sequences:
        if not sequence.identity:
            connection.execute(
                sql.SQL("alter sequence {} owned by {}.{}").format(
                    sql.SQL(sequence.name), table, sql.Identifier(sequence.column)
                )
            )


def counted(connection: Connection, sequence: str) -> tuple[int, bool]:
    """Last number of a sequence, and whether it was given to anybody."""
    row = connection.execute(
        sql.SQL("select last_value, is_called from {}").format(sql.SQL(sequence))
    ).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0]), bool(row[1])


def give_identity(
    connection: Connection, sequence: Sequence_, number: tuple[int, bool], table: sql.Identifier
) -> None:
    """The column of `table` counts on, in a sequence of the same name."""
    schema, name = _parts(connection, sequence.name)
    connection.execute(
        sql.SQL("alter table {} alter {} add generated {} as identity (sequence name {} {})").format(
            table,
            sql.Identifier(sequence.column),
            sql.SQL("always" if sequence.identity == "a" else "by default"),
            sql.Identifier(schema, name),
            sql.SQL(sequence.options),
        )
    )
    connection.execute("select setval(%s::regclass, %s, %s)", (sequence.name, *number))


def _parts(connection: Connection, qualified: str) -> tuple[str, str]:
    row = connection.execute("select parse_ident(%s)", (qualified,)).fetchone()
    assert row is not None  # noqa: S101
    schema, name = row[0]
    return str(schema), str(name)

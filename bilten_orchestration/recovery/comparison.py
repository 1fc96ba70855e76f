"""The three states of a row (before the transaction, after it, now), and what is to be done with it.

Compared within one transaction of production, over temporary tables that go with it. Content is every column
but updated_at and sync_xid, which triggers write. Cases, of which the first that holds counts:

    1  now as it was before                     nothing: it was put right already
    2  now as the transaction left it           put back: inserted, updated or deleted
    3  changed again since, in other columns    `merge` puts back the columns that nobody changed since
    4  changed again since, in the same columns, deleted or made again

Rows of 3 and 4 stop the whole recovery until it is said what shall become of them:

    keep        they stay as they are now
    merge       those of 3 get back what nobody changed since; those of 4 still stop it
    overwrite   they become what they were before, and what was changed since is lost
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import sql

from bilten_orchestration.recovery.images import Image, copy_in
from bilten_orchestration.recovery.tables import Table
from bilten_orchestration.stores.postgres import Connection

ChangedSince = Literal["refuse", "keep", "merge", "overwrite"]
CHANGED_SINCE: tuple[ChangedSince, ...] = ("refuse", "keep", "merge", "overwrite")
State = Literal["as_before", "as_left", "mergeable", "conflict"]
Action = Literal["insert", "update", "merge", "delete", "none"]
SAMPLE = 10


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row: its key, what is done with it, and names of columns (never what is in them): those that the
    transaction changed, and of those the ones that somebody changed again."""

    key: str
    state: State
    action: Action
    columns: tuple[str, ...]
    changed_again: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableChanges:
    """Rows of a table by what is done with them. `as_before` were put right already, `kept` stay as somebody
    changed them since. `sample` is bounded, rows that stop the recovery first."""

    table: str
    inserted: int
    updated: int
    merged: int
    deleted: int
    as_before: int
    kept: int
    in_conflict: int
    sample: tuple[RowChange, ...]

    @property
    def written(self) -> int:
        return self.inserted + self.updated + self.merged + self.deleted


@dataclass(frozen=True, slots=True)
class Staged:
    """Temporary tables of one image: `before`, `after`, and `plan` (key, state, action, columns)."""

    table: Table
    before: sql.Identifier
    after: sql.Identifier
    plan: sql.Identifier


def stage(connection: Connection, number: int, image: Image) -> Staged:
    """Both states of the transaction's rows into temporary tables."""
    table = image.table
    staged = Staged(
        table, *(sql.Identifier(f"recover_{number}_{name}") for name in ("before", "after", "plan"))
    )
    for name, file in ((staged.before, image.before), (staged.after, image.after)):
        connection.execute(
            sql.SQL("create temp table {} on commit drop as select {} from {} with no data").format(
                name, table.list(), table.name_sql
            )
        )
        copy_in(connection, name, table, file)
        connection.execute(sql.SQL("create index on {} ({})").format(name, table.key_list()))
        connection.execute(sql.SQL("analyze {}").format(name))
    return staged


def lock(connection: Connection, staged: Staged) -> None:
    """The rows as they are now, until the transaction ends: what is compared is what is overwritten."""
    connection.execute(
        sql.SQL("select from {} l where ({}) in ({}) for update").format(
            staged.table.name_sql, staged.table.key_list("l"), _keys(staged)
        )
    )


def decide(connection: Connection, staged: Staged, changed_since: ChangedSince) -> None:
    """Fill `plan`."""
    table = staged.table
    there = {alias: sql.SQL("{}.ctid is not null").format(sql.Identifier(alias)) for alias in "bal"}
    gone = {alias: sql.SQL("{}.ctid is null").format(sql.Identifier(alias)) for alias in "bal"}
    plain = [column for column in table.content if column not in table.key]
    connection.execute(
        sql.SQL(
            """
            create temp table {plan} on commit drop as
            with states as (
                select {k_key}, {b} as in_before, {a} as in_after, {l} as there_now,
                       case when {no_b} and {no_l} then 'as_before'
                            when {b} and {l} and {b_is_l} then 'as_before'
                            when {no_a} and {no_l} then 'as_left'
                            when {a} and {l} and {a_is_l} then 'as_left'
                            when {b} and {a} and {l} and cardinality({again}) = 0 then 'mergeable'
                            else 'conflict' end as state,
                       {columns} as columns, {again} as changed_again
                  from ({keys}) k
                  left join {before} b on {k_is_b} left join {after} a on {k_is_a}
                  left join {now} l on {k_is_l}
            )
            select *, case when state = 'as_before' then 'none'
                           when state = 'mergeable' and {policy} = 'merge' then 'merge'
                           when state in ('mergeable', 'conflict') and {policy} <> 'overwrite' then 'none'
                           when not in_before then 'delete'
                           when there_now then 'update'
                           else 'insert' end as action
              from states
            """
        ).format(
            plan=staged.plan,
            k_key=table.key_list("k"),
            b=there["b"],
            a=there["a"],
            l=there["l"],
            no_b=gone["b"],
            no_a=gone["a"],
            no_l=gone["l"],
            b_is_l=table.same("b", "l", table.content),
            a_is_l=table.same("a", "l", table.content),
            columns=_named(
                table, plain, (("b", "a", False),), sql.SQL("{} and {}").format(there["b"], there["a"])
            ),
            again=_named(
                table,
                plain,
                (("b", "a", False), ("l", "a", False), ("l", "b", False)),
                sql.SQL("{} and {} and {}").format(there["b"], there["a"], there["l"]),
            ),
            keys=_keys(staged),
            before=staged.before,
            after=staged.after,
            now=table.name_sql,
            k_is_b=table.joined("k", "b"),
            k_is_a=table.joined("k", "a"),
            k_is_l=table.joined("k", "l"),
            policy=sql.Literal(changed_since),
        )
    )
    connection.execute(sql.SQL("create index on {} ({})").format(staged.plan, table.key_list()))
    connection.execute(sql.SQL("analyze {}").format(staged.plan))


def _named(
    table: Table, columns: Sequence[str], pairs: Sequence[tuple[str, str, bool]], when: sql.Composable
) -> sql.Composed:
    """The columns of which every pair of rows holds something else, where `when`."""
    cases = [
        sql.SQL("case when {} then {} end").format(
            sql.SQL(" and ").join(
                sql.SQL("not ({})").format(table.same(one, other, [column])) for one, other, _ in pairs
            ),
            sql.Literal(column),
        )
        for column in columns
    ]
    return sql.SQL("case when {} then array_remove(array[{}]::text[], null) else array[]::text[] end").format(
        when, sql.SQL(", ").join(cases)
    )


def _keys(staged: Staged) -> sql.Composed:
    return sql.SQL("select {0} from {1} union select {0} from {2}").format(
        staged.table.key_list(), staged.before, staged.after
    )


def told(connection: Connection, staged: Staged) -> TableChanges:
    """Counts, and a bounded sample."""
    counts: dict[tuple[str, str], int] = {
        (state, action): number
        for state, action, number in connection.execute(
            sql.SQL("select state, action, count(*) from {} group by 1, 2").format(staged.plan)
        ).fetchall()
    }

    def of(*actions: Action) -> int:
        return sum(number for (_, action), number in counts.items() if action in actions)

    sample = connection.execute(
        sql.SQL(
            "select {}, state, action, columns, changed_again from {} p"
            " order by array_position(array['conflict', 'mergeable', 'as_left', 'as_before'], state), 1"
            " limit {}"
        ).format(staged.table.key_text("p"), staged.plan, SAMPLE)
    ).fetchall()
    kept = {state: counts.get((state, "none"), 0) for state in ("mergeable", "conflict")}
    return TableChanges(
        staged.table.name,
        of("insert"),
        of("update"),
        of("merge"),
        of("delete"),
        counts.get(("as_before", "none"), 0),
        sum(kept.values()),
        sum(number for (state, _), number in counts.items() if state == "conflict"),
        tuple(RowChange(row[0], row[1], row[2], tuple(row[3]), tuple(row[4])) for row in sample),
    )

"""What keeps rows from being copied back, all of it at once: rows that were changed again since, foreign keys
that would not hold, and unique values that somebody took meanwhile. Read within the transaction that compares
(comparison.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from bilten_orchestration.errors import Problem
from bilten_orchestration.recovery import tables
from bilten_orchestration.recovery.comparison import ChangedSince, Staged, TableChanges
from bilten_orchestration.recovery.tables import ForeignKey
from bilten_orchestration.stores.postgres import Connection


def problems(
    connection: Connection,
    staged: Sequence[Staged],
    changes: Sequence[TableChanges],
    keys: Sequence[ForeignKey],
    changed_since: ChangedSince,
) -> list[Problem]:
    """Everything that stops the recovery, at once."""
    found = []
    for change in changes:
        stopping = 0 if changed_since in ("keep", "overwrite") else change.kept
        if stopping:
            found.append(
                Problem(
                    f"{stopping} rows of {change.table} were changed again since",
                    expected="rows as the transaction left them",
                    found=f"{change.in_conflict} changed in the same columns, deleted or made again;"
                    f" {stopping - change.in_conflict} in others",
                    next="--changed-since merge|keep|overwrite: put back what nobody changed since, leave"
                    " these rows, or lose what was changed since",
                )
            )
    by_name = {each.table.name: each for each in staged}
    for key in keys:
        found += _orphans(connection, key, by_name) + _cascades(connection, key, by_name)
    for each in staged:
        for name, columns in tables.unique(connection, each.table):
            found += _taken(connection, each, name, columns)
    return found


def _taken(connection: Connection, staged: Staged, name: str, columns: Sequence[str]) -> list[Problem]:
    """Rows that would come back with a value that another row has now, which stays."""
    table = staged.table
    row = connection.execute(
        sql.SQL(
            "select count(*) from {plan} p join {before} b on {b_is_p} join {now} l on {match}"
            " where p.action in ('insert', 'update', 'merge') and not ({l_is_p})"
            " and not exists (select from {plan} q where {q_is_l} and q.action <> 'none')"
        ).format(
            plan=staged.plan,
            before=staged.before,
            b_is_p=table.joined("b", "p"),
            now=table.name_sql,
            match=_pairs("b", columns, "l", columns),
            l_is_p=table.joined("l", "p"),
            q_is_l=table.joined("q", "l"),
        )
    ).fetchone()
    assert row is not None  # noqa: S101
    if not row[0]:
        return []
    return [
        Problem(
            f"{row[0]} rows of {table.name} would come back with what others have taken since",
            expected=f"values of ({', '.join(columns)}) that no other row has: {name}",
            found="rows that were made or changed since by others",
            next="change or delete these rows first, as the application does; or take back the transaction"
            f" that made them: bilten recover rows --table {table.name} --since TIME",
        )
    ]


def _orphans(connection: Connection, key: ForeignKey, by_name: Mapping[str, Staged]) -> list[Problem]:
    """Rows that would come back and point at a parent that is not there."""
    child = by_name.get(key.child)
    if child is None:
        return []
    parent = by_name.get(key.parent)
    here = sql.Identifier(*key.parent.split(".", 1))
    columns = [sql.Identifier("b", column) for column in key.columns]
    match = _pairs("p", key.referenced, "b", key.columns)
    coming: sql.Composable = sql.SQL("false")
    if parent is not None and set(key.referenced) <= set(parent.table.key):
        coming = sql.SQL("exists (select from {} p where {} and p.action in ('insert', 'update'))").format(
            parent.plan, match
        )
    row = connection.execute(
        sql.SQL(
            "select count(*) from {plan} q join {before} b on {q_is_b} where q.action in ('insert', 'update')"
            " and {not_null} and not exists (select from {here} p where {match}) and not {coming}"
        ).format(
            plan=child.plan,
            before=child.before,
            q_is_b=child.table.joined("q", "b"),
            not_null=sql.SQL(" and ").join(sql.SQL("{} is not null").format(each) for each in columns),
            here=here,
            match=match,
            coming=coming,
        )
    ).fetchone()
    assert row is not None  # noqa: S101
    if not row[0]:
        return []
    return [
        Problem(
            f"{row[0]} rows of {key.child} would point at rows of {key.parent} that are gone",
            expected=f"their parents ({key.name})",
            found="deleted by another transaction, or kept deleted",
            next=f"take that transaction back first: bilten recover rows --table {key.parent} --since TIME",
        )
    ]


def _cascades(connection: Connection, key: ForeignKey, by_name: Mapping[str, Staged]) -> list[Problem]:
    """Rows that somebody made since below one that the transaction had made: they would vanish with it, or
    hinder it."""
    parent = by_name.get(key.parent)
    if parent is None or not set(key.referenced) <= set(parent.table.key):
        return []
    child = by_name.get(key.child)
    going: sql.Composable = sql.SQL("false")
    if child is not None:
        # those that go as well, or are put back to another parent
        going = sql.SQL("exists (select from {} q where {} and q.action in ('delete', 'update'))").format(
            child.plan, child.table.joined("q", "c")
        )
    row = connection.execute(
        sql.SQL(
            "select count(*) from {plan} p join {here} c on {match} where p.action = 'delete' and not {going}"
        ).format(
            plan=parent.plan,
            here=sql.Identifier(*key.child.split(".", 1)),
            match=_pairs("p", key.referenced, "c", key.columns),
            going=going,
        )
    ).fetchone()
    assert row is not None  # noqa: S101
    if not row[0]:
        return []
    what = "would change or vanish with them" if key.cascades else "point at them"
    return [
        Problem(
            f"{row[0]} rows of {key.child} were made since below rows of {key.parent} that are to be deleted",
            expected=f"none ({key.name})",
            found=f"rows that {what}",
            next="move or delete these rows first, as the application does",
        )
    ]


def _pairs(one: str, columns: Sequence[str], other: str, others: Sequence[str]) -> sql.Composed:
    return sql.SQL(" and ").join(
        sql.SQL("{} = {}").format(sql.Identifier(one, column), sql.Identifier(other, their))
        for column, their in zip(columns, others, strict=True)
    )

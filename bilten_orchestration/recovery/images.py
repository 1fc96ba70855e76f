"""What a transaction changed of a table, in files of COPY: rows as they were, and as it left them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.recovery import tables
from bilten_orchestration.recovery.evidence import Evidence
from bilten_orchestration.recovery.tables import Table
from bilten_orchestration.stores.postgres import Connection

COPIED = (
    "set datestyle = 'ISO'; set intervalstyle = 'postgres'; set extra_float_digits = 1;"
    " set bytea_output = 'hex'; set client_encoding = 'UTF8'; set timezone = 'UTC'"
)
#: On the server beside, where rows of before are looked up.
SCRATCH = "bilten_recover"


@dataclass(frozen=True, slots=True)
class Image:
    """What the transaction changed of one table: files of COPY, by the table's columns. `before` holds rows
    that it updated or deleted, as they were; `after` those that it inserted or updated, as it left them."""

    table: Table
    before: Path
    after: Path


def narrow(connection: Connection, image: Image, found: Evidence) -> None:
    """Rows that the transaction only locked, or wrote as they were, are no change."""
    table = image.table
    scratch = sql.Identifier(SCRATCH, image.before.stem)
    connection.execute(
        sql.SQL("create unlogged table {} as select {} from {} with no data").format(
            scratch, table.list(), table.name_sql
        )
    )
    copy_in(connection, scratch, table, image.before)
    connection.execute(sql.SQL("create index on {} ({})").format(scratch, table.key_list()))
    connection.execute(sql.SQL("analyze {}").format(scratch))
    same = sql.SQL("{} and {}").format(table.joined("t", "b"), table.same("t", "b", table.columns))
    copy_out(
        connection,
        sql.SQL("select {} from {} b where not exists (select from {} t where {})").format(
            table.list("b"), scratch, table.name_sql, same
        ),
        image.before,
    )
    copy_out(
        connection,
        sql.SQL(
            "select {} from {} t where xmin::text = any({}) and not exists (select from {} b where {})"
        ).format(table.list("t"), table.name_sql, texts(found.xids), scratch, same),
        image.after,
    )


def texts(numbers: Sequence[int]) -> sql.Composable:
    return sql.Literal([str(number) for number in numbers])


def copy_out(connection: Connection, query: sql.Composable, file: Path) -> None:
    with (
        file.open("wb") as out,
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("copy ({}) to stdout").format(query)) as copy,
    ):
        for block in copy:
            out.write(block)


def copy_in(connection: Connection, into: sql.Composable, table: Table, file: Path) -> None:
    """The rows of such a file."""
    with (
        file.open("rb") as source,
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("copy {} ({}) from stdin").format(into, table.list())) as copy,
    ):
        while block := source.read(1 << 20):
            copy.write(block)


def refuse_other_columns(production: Connection, images: Sequence[Image]) -> tuple[Image, ...]:
    """The images by the columns that production has today. Raises Mismatch where it lacks some of those."""
    problems = []
    for image in images:
        here = tables.describe(production, image.table.schema, image.table.relation)
        gone = [column for column in image.table.columns if column not in here.columns]
        if gone or here.key != image.table.key:
            problems.append(
                Problem(
                    f"{image.table.name} has other columns now than before the transaction",
                    expected=", ".join(gone) or f"the key {', '.join(image.table.key)}",
                    found="none of that name" if gone else f"the key {', '.join(here.key)}",
                    next="undo that migration first, or copy by hand: bilten restore postgres --target-xid ID"
                    " --exclusive",
                )
            )
    if problems:
        raise Mismatch(problems)
    return tuple(images)

"""The table that an archive comes back in: made, loaded, compared, then attached or left beside its parent.

Steps 3 to 5 of restore.py, which says what a kill leaves. `sweep` drops that.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import psycopg
from psycopg import sql

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.partitions import archives, metadata
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import Period, literal
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.locking import Patience, retried
from bilten_orchestration.partitions.postgres import archive, creation, digest, fitting, likeness
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

_MARK = "bilten partitions restore, under way: "
#: What the rows of an archive may break in a table that has changed since.
_BROKEN = (
    psycopg.errors.IntegrityError,
    psycopg.errors.DataError,
)
_LEFT = """
    select c.oid::regclass::text from pg_class c
    where c.relkind = 'r' and not c.relispartition and c.relnamespace = %s::regnamespace
      and starts_with(obj_description(c.oid, 'pg_class'), %s)
"""


def sweep(connection: Connection, tables: Sequence[PartitionedTable], progress: Progress) -> None:
    """Drop what a restore that was killed left. The caller holds the lock `partitions`."""
    for schema in sorted({table.schema for table in tables}):
        for (name,) in connection.execute(_LEFT, (schema, _MARK)).fetchall():
            progress(f"dropping {name}, which a restore that was killed left")
            connection.execute(sql.SQL("drop table {}").format(sql.SQL(name)))


class RestoredTable:
    """One archive on its way into the database."""

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        opened: Opened,
        table: PartitionedTable,
        from_archive: Archive,
        run: str | None,
        progress: Progress,
    ) -> None:
        self.settings, self.connection, self.opened = settings, connection, opened
        self.table, self.archive, self.run, self.progress = table, from_archive, run, progress
        self.patience = Patience.of(settings.partitions)
        self.name = _name(table, from_archive)
        self.beside_name = f"{self.name}_restored"
        self.staged = sql.Identifier(table.schema, f"{self.name}_restoring")
        self.parent = sql.Identifier(table.schema, table.table)
        self.notes: list[str] = []

    def attach(self, hold: datetime) -> list[str]:
        """Why it cannot be attached; nothing is left then. Raises Changed where the digest is another."""
        reasons, self.notes = fitting.compare(self.connection, self.table, self.archive)
        if reasons:
            return reasons
        try:
            with self.connection.transaction():
                likeness.create_like(self.connection, self.parent, self.staged, self.table.storage)
                self._mark()
            generated = fitting.generated(self.connection, self.table)
            with self.connection.transaction():
                self._load(tuple(c for c in self.archive.columns if c.name not in generated))
            with self.connection.transaction():
                creation.add_check(
                    self.connection,
                    self.table,
                    self.staged,
                    self.name,
                    low=self.archive.from_at,
                    high=self.archive.to_at,
                )
            fitting.add_foreign_keys(self.connection, self.table, self.staged, self.patience)
            retried(self.patience, f"{self.name} could not be attached", lambda: self._attach(hold))
        except _BROKEN as error:
            self._drop()
            return [fitting.words(error)]
        except BaseException:
            self._drop()
            raise
        return []

    def beside(self) -> None:
        """As it was archived. Raises Changed."""
        kinds, notes = fitting.column_definitions(self.connection, self.archive)
        self.notes += notes
        try:
            with self.connection.transaction():
                self.connection.execute(sql.SQL("create table {} ({})").format(self.staged, kinds))
                likeness.revoke_all(self.connection, self.staged)
                self._mark()
            with self.connection.transaction():
                self._load(self.archive.columns)
                comment = f"{self.table.name}, restored beside from {self.archive.id}"
                self._comment(comment)
                self.connection.execute(
                    sql.SQL("alter table {} rename to {}").format(
                        self.staged, sql.Identifier(self.beside_name)
                    )
                )
        except BaseException:
            self._drop()
            raise

    def _load(self, wanted: tuple[archives.Column, ...]) -> None:
        archive.load(
            self.connection, self.opened, self.settings, self.archive, self.staged, wanted, self.progress
        )
        self.progress(f"{self.name}: digesting what was restored")
        found = digest.compute(self.connection, self.staged, self.archive.columns)
        archive.require_equal(self.archive, found, "was restored")

    def _attach(self, hold: datetime) -> None:
        low, high = self.archive.from_at, self.archive.to_at
        bounds = (literal(low) if low else "MINVALUE", literal(high) if high else "MAXVALUE")
        child = sql.Identifier(self.table.schema, self.name)
        name = f"{self.table.schema}.{self.name}"
        with self.connection.transaction():
            self.connection.execute(
                sql.SQL("set local lock_timeout = {}").format(sql.Literal(self.patience.lock_timeout))
            )
            self.connection.execute(
                sql.SQL("alter table {} rename to {}").format(self.staged, sql.Identifier(self.name))
            )
            self.connection.execute(
                sql.SQL("comment on table {} is {}").format(
                    child, sql.Literal(f"{self.table.name}, restored from {self.archive.id}")
                )
            )
            self.connection.execute(
                sql.SQL("alter table {} attach partition {} for values from ({}) to ({})").format(
                    self.parent, child, sql.SQL(bounds[0]), sql.SQL(bounds[1])
                )
            )
            likeness.finish(self.connection, self.parent, child)
            check = creation.bounds_check(self.name)
            self.connection.execute(
                sql.SQL("alter table {} drop constraint if exists {}").format(child, check)
            )
            metadata.attached(
                self.connection,
                self.table.name,
                name,
                low,
                high,
                rows=self.archive.rows,
                run=self.run,
                hold_until=hold,
            )

    def _mark(self) -> None:
        self._comment(f"{_MARK}{self.archive.document}")

    def _comment(self, text: str) -> None:
        self.connection.execute(sql.SQL("comment on table {} is {}").format(self.staged, sql.Literal(text)))

    def _drop(self) -> None:
        if not self.connection.closed and not self.connection.broken:
            self.connection.execute(sql.SQL("drop table if exists {}").format(self.staged))


def _name(table: PartitionedTable, found: Archive) -> str:
    """That of the period, where the bounds are one."""
    if found.from_at is not None:
        period = Period.of(found.from_at, table.interval)
        if (period.start, period.end) == (found.from_at, found.to_at):
            return f"{table.table}_{period.suffix}"
    low = "begin" if found.from_at is None else f"{found.from_at:%Y%m%d}"
    return f"{table.table}_{low}"

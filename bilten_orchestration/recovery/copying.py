"""Rows compared with production and copied back: one transaction, with the journal's entry before it and its
end behind it. What a kill leaves is in rows.py, 2 to 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from uuid import UUID, uuid4

from psycopg import sql

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.progress import Progress
from bilten_orchestration.recovery import comparison, journal, obstacles, tables, writing
from bilten_orchestration.recovery.beside import Beside
from bilten_orchestration.recovery.comparison import ChangedSince, Staged, TableChanges
from bilten_orchestration.recovery.images import COPIED, refuse_other_columns
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres


def copy_back(
    settings: Settings,
    opened: Opened,
    found: Beside,
    table: str,
    changed_since: ChangedSince,
    by: str,
    progress: Progress,
    *,
    execute: bool,
) -> tuple[UUID | None, tuple[TableChanges, ...], tuple[Problem, ...]]:
    """Compare, and with `execute` write: one transaction. Without, it is rolled back."""
    progress("comparing with production")
    with postgres.connect(
        settings.postgres, application_name="bilten recover", autocommit=True
    ) as connection:
        connection.execute(COPIED)
        connection.execute("begin")
        images = refuse_other_columns(connection, found.images)
        keys = tables.foreign_keys(connection, [image.table for image in images])
        order = tables.parents_first([image.table for image in images], keys)
        by_name = {image.table.name: image for image in images}
        if execute:
            wait = settings.recovery.lock_wait_seconds
            connection.execute(sql.SQL("set local lock_timeout = {}").format(sql.Literal(f"{wait}s")))
        staged: list[Staged] = []
        for number, each in enumerate(order):
            staged.append(comparison.stage(connection, number, by_name[each.name]))
            if execute:
                comparison.lock(connection, staged[-1])
        for one in staged:
            comparison.decide(connection, one, changed_since)
        changes = tuple(comparison.told(connection, one) for one in staged)
        problems = tuple(obstacles.problems(connection, staged, changes, keys, changed_since))
        if problems and execute:
            connection.execute("rollback")
            raise Refused(problems)
        if not execute or not any(change.written for change in changes):
            connection.execute("rollback")
            return None, changes, problems
        recovery = uuid4()
        name = journal.begin(
            opened, recovery, _entry(found, table, changed_since, by, changes, images=staged)
        )
        counts: dict[str, object] = {
            change.table: {
                "inserted": change.inserted,
                "updated": change.updated + change.merged,
                "deleted": change.deleted,
            }
            for change in changes
            if change.written
        }
        progress(f"copying back {sum(change.written for change in changes):,} rows")
        try:
            writing.apply(connection, staged, keys, recovery, found.evidence.transaction, counts)
        except BaseException:
            connection.execute("rollback")
            journal.end(opened, name, "nothing", because="it was refused")
            raise
        connection.execute("commit")
        journal.end(opened, name, "done")
    return recovery, changes, ()


def _entry(
    found: Beside,
    table: str,
    changed_since: ChangedSince,
    by: str,
    changes: Sequence[TableChanges],
    *,
    images: Sequence[Staged],
) -> dict[str, object]:
    return {
        "what": "rows",
        "at": datetime.now(UTC).isoformat(),
        "by": by,
        "transaction": found.evidence.transaction,
        "commit_lsn": found.evidence.commit_lsn,
        "committed_at": found.evidence.committed_at.isoformat(),
        "backup": found.restored.backup_id,
        "table": table,
        "changed_since": changed_since,
        "order": [each.table.name for each in images],
        "tables": [asdict(change) for change in changes],
    }

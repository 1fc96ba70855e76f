"""One table from the newest dump, restored alone into an empty server, and counted against the manifest.

Another one each day, so that in time every table came back alone. What else is asked of it: every row is in
each of its indexes (amcheck), and the rules of business that need no other table hold.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from psycopg import sql

from bilten_orchestration.backups.postgres import scratch
from bilten_orchestration.backups.postgres.logical import counted_as
from bilten_orchestration.backups.postgres.logical_restore import restore
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.postgres import proofs
from bilten_orchestration.drills.report import Proof
from bilten_orchestration.errors import Refused
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import PostgresSettings, Settings
from bilten_orchestration.stores import postgres

INTO = "drill"


def walk(settings: Settings, place: Path, course: Course, progress: Progress) -> None:
    """Raises Refused (no dump), Mismatch (damage, other rows than in the manifest), as drill.walk."""
    course.bucket = "first"
    course.ordered()
    with ExitStack() as stack:
        with course.phase("find"):
            opened = stack.enter_context(Opened.of(settings, new=False, progress=progress))
            manifest = _newest(catalogue.read(opened.repository, opened.ring, "postgres"))
            database = settings.postgres.database
            table, expected = _of_the_day(manifest, database, datetime.now(UTC))
            course.backups = (manifest.id,)
        progress(f"{table} from {manifest.id}")
        with course.phase("start"):
            major = int(manifest.versions["postgres"].split(".")[0])
            server = stack.enter_context(scratch.empty(settings, place / "table", major, progress))
        with course.phase("restore"):
            report = restore(
                settings,
                manifest.id,
                INTO,
                database=database,
                table=table,
                server=server,
                roles=True,
                scratch=place,
                progress=progress,
            )
        with course.phase("first_query"):
            rows = _count(server, table)
        course.first_query()
        course.phases = _told_apart(course.phases, report.fetch_seconds, report.restore_seconds)
        course.counts = {table: rows}
        course.reached_at = manifest.started_at
        dump = [
            each
            for each in manifest.objects
            if each.name.startswith(f"objects/postgres/{manifest.id}/{database}.")
        ]
        course.stored_bytes = sum(each.bytes for each in dump)
        course.figures |= {"rows": rows, "tables": report.tables}
        with course.phase("proof"):
            course.prove(
                Proof(
                    f"rows of {table}",
                    rows == expected,
                    f"{expected:,}, as the manifest says",
                    f"{rows:,}",
                    report.count_seconds,
                )
            )
            course.restored_bytes = _prove(server, table, course)


def _newest(found: catalogue.Catalogue) -> Manifest:
    dumps = [
        each.manifest for each in found.backups if each.manifest.kind == "logical" and each.state != "expired"
    ]
    if not dumps:
        raise Refused(
            "there is no dump to take a table from",
            expected="a logical backup",
            found="none",
            next="bilten backup create postgres --kind logical",
        )
    return dumps[-1]


def _of_the_day(manifest: Manifest, database: str, now: datetime) -> tuple[str, int]:
    """A table with rows, by chance, the same for the whole day; and how many rows it has."""
    prefix = counted_as(database, "", "")[:-1]
    tables = sorted(
        name.removeprefix(prefix)
        for name, rows in manifest.counts.items()
        if name.startswith(prefix) and rows
    )
    if not tables:
        raise Refused(
            f"the dump {manifest.id} has no table with rows",
            expected=f"one in {database}",
            found="none",
            next="bilten backup list; bilten backup create postgres --kind logical",
        )
    table = random.Random(now.date().isoformat()).choice(tables)  # noqa: S311
    return table, manifest.counts[f"{prefix}{table}"]


def _count(server: PostgresSettings, table: str) -> int:
    with postgres.connect(server, application_name="bilten drill", database=INTO) as connection:
        row = connection.execute(sql.SQL("select count(*) from {}").format(_identifier(table))).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0])


def _prove(server: PostgresSettings, table: str, course: Course) -> int:
    """Indexes and rules; how many bytes the table has."""
    with postgres.connect(
        server, application_name="bilten drill", autocommit=True, database=INTO
    ) as connection:
        course.prove(proofs.indexes(connection, _identifier(table).as_string(connection)))
        for proof in proofs.kept_rules(connection, leave_out_unknown=True):
            course.prove(proof)
        row = connection.execute(
            "select pg_total_relation_size(%s::regclass)", (_identifier(table).as_string(connection),)
        ).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0])


def _identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split(".", 1))


def _told_apart(phases: dict[str, float], fetch: float, restoring: float) -> dict[str, float]:
    """The restore as what it fetched (download and decryption, one stream), and the rest."""
    found: dict[str, float] = {}
    for name, seconds in phases.items():
        if name == "restore":
            found["fetch"] = min(fetch, seconds)
            found["restore"] = min(restoring, seconds - found["fetch"])
            found["count"] = seconds - found["fetch"] - found["restore"]
        else:
            found[name] = seconds
    return found

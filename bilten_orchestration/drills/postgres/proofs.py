"""What is asked of a restored server. Each gives Proofs; none raises for what it finds."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from psycopg import errors, sql

from bilten_orchestration.backups.postgres import private
from bilten_orchestration.backups.postgres.restore import RestoreReport
from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.drills.postgres.digests import Digests
from bilten_orchestration.drills.postgres.restored import Server
from bilten_orchestration.drills.postgres.unchanged import Unchanged
from bilten_orchestration.drills.report import Proof
from bilten_orchestration.migrations import history
from bilten_orchestration.migrations.files import discover
from bilten_orchestration.migrations.plan import objections, standing
from bilten_orchestration.stores.postgres import Connection
from bilten_orchestration.trade_rules import RULES, examine

_SAMPLE = 5
_DATABASES = "select datname from pg_database where datallowconn order by datname"
_EXTENSION = "select extnamespace::regnamespace::text from pg_extension where extname = 'pg_visibility'"
_CHECKED = """
    select c.oid::regclass::text, count(*) from pg_class c cross join lateral {}(c.oid)
    where c.relkind in ('r', 'm', 't') and c.relpersistence = 'p' group by 1 order by 1
"""
_INDEXES = """
    select count(*) filter (where bt_index_check(i.indexrelid, true) is not null) from pg_index i
    join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
    where i.indrelid = %s::regclass and a.amname = 'btree' and c.relkind = 'i' and i.indisvalid
"""
_HEAPS = "select count(*) from pg_class where relkind in ('r', 'm', 't') and relpersistence = 'p'"


def verified(report: RestoreReport) -> Proof:
    """pg_verifybackup ran before the start; it would have ended the restore."""
    return Proof(
        "pg_verifybackup",
        True,
        "every file as PostgreSQL's own manifest says",
        f"{report.bytes:,} bytes accepted",
        report.phases.verify_seconds,
    )


def equal(production: Digests, restored: Digests, kept: Unchanged) -> Proof:
    """The digests of production at the point, and of what was restored to it, which is always read whole."""
    since = (
        f"; {len(kept.tables)} of them unchanged since the drill before, whose digests they are"
        if kept.tables
        else f"; all of them read ({kept.why})"
    )
    differ = digests.differences(production, restored)
    without = f"; unlogged, so without: {', '.join(production.unlogged)}" if production.unlogged else ""
    return Proof(
        "digests",
        not differ,
        f"{len(production.tables)} tables with {production.rows:,} rows, equal in both{without}{since}",
        "equal" if not differ else f"{len(differ)} differ: {_some(differ)}",
        restored.seconds,
    )


def amcheck(server: Server, program: Path, jobs: int) -> Proof:
    """B-trees and heaps of every database; every row is looked for in each index of its table."""

    def run() -> tuple[bool, str]:
        if not program.is_file():
            return False, f"no {program}: install it (postgresql-contrib)"
        done = subprocess.run(
            [
                program,
                "--all",
                "--install-missing",
                "--heapallindexed",
                f"--jobs={jobs}",
                f"--host={server.running.socket}",
                f"--port={private.PORT}",
                f"--username={server.superuser}",
                "--no-password",
            ],
            cwd=server.running.directory,
            env={"PATH": str(program.parent), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        return (
            done.returncode == 0,
            "nothing" if done.returncode == 0 else f"exit {done.returncode}: {_some(said)}",
        )

    return _proof("pg_amcheck", "no corruption, and every row in each index (heapallindexed)", run)


def indexes(connection: Connection, table: str) -> Proof:
    """Every row is in each B-tree of one table; the connection is a superuser's."""

    def run() -> tuple[bool, str]:
        connection.execute("create extension if not exists amcheck")
        try:
            row = connection.execute(_INDEXES, (table,)).fetchone()
        except (errors.IndexCorrupted, errors.DataCorrupted) as error:
            return False, str(error).splitlines()[0]
        assert row is not None  # noqa: S101
        return True, f"{row[0]} indexes are whole"

    return _proof("bt_index_check", "each row in each index (heapallindexed)", run)


def visibility(server: Server) -> Iterator[Proof]:
    """What the visibility map promises of every heap, which pg_verifybackup cannot know: rows of a page that
    is said to be all visible are counted without looking, and one all frozen is never vacuumed again."""
    for function, what in (
        ("pg_check_visible", "no row that is not visible in pages marked all-visible"),
        ("pg_check_frozen", "no row that is not frozen in pages marked all-frozen"),
    ):

        def run(function: str = function) -> tuple[bool, str]:
            heaps, wrong = 0, []
            with server.connect() as connection:
                databases = [name for (name,) in connection.execute(_DATABASES).fetchall()]
            for database in databases:
                with server.connect(database) as connection:
                    connection.execute("create extension if not exists pg_visibility")
                    schema = connection.execute(_EXTENSION).fetchone()
                    counted = connection.execute(_HEAPS).fetchone()
                    assert schema is not None and counted is not None  # noqa: S101, PT018
                    heaps += counted[0]
                    rows = connection.execute(
                        sql.SQL(_CHECKED).format(sql.Identifier(schema[0].strip('"'), function))
                    ).fetchall()
                    wrong += [f"{database}: {table} {number:,}" for table, number in rows]
            return not wrong, f"none in {heaps} heaps" if not wrong else _some(wrong)

        yield _proof(function, what, run)


def business(server: Server, *, newest: bool) -> Iterator[Proof]:
    """The rules that hold between any two transactions: money adds up, seats are counted. A moment that may
    be long ago (not `newest`) is asked those that its schema knows."""
    with server.connect() as connection:
        yield from kept_rules(connection, leave_out_unknown=not newest)


def kept_rules(connection: Connection, *, leave_out_unknown: bool) -> Iterator[Proof]:
    """One proof per rule. With `leave_out_unknown` there is none of a rule whose tables or columns are not
    there."""
    for rule in RULES:
        try:
            (verdict,) = examine(connection, [rule])
        except (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName) as error:
            if not leave_out_unknown:
                yield Proof(rule.name, False, "0 rows break it", str(error).splitlines()[0], 0.0)
            continue
        found = f"{verdict.offenders:,}"
        yield Proof(
            rule.name,
            not verdict.offenders,
            "0 rows break it",
            found if not verdict.offenders else f"{found}, such as {', '.join(verdict.sample)}",
            verdict.seconds,
        )


def migrated(server: Server, *, newest: bool) -> Proof:
    """All of PostgreSQL's migrations, or (of a moment that may be long ago) a beginning of them."""

    def run() -> tuple[bool, str]:
        files = discover()
        with server.connect() as connection:
            records = history.read(connection)
        standings = [
            standing(migration, records.get(("postgres", migration.version)))
            for migration in files["postgres"]
        ]
        against = [problem.what for problem in objections(files, records, "postgres")]
        applied = standings.count("applied")
        in_order = standings == ["applied"] * applied + ["absent"] * (len(standings) - applied)
        ok = not against and in_order and applied > 0 and (applied == len(standings) or not newest)
        return ok, f"{applied} of {len(standings)} applied" + (f"; {_some(against)}" if against else "")

    wanted = "every migration of this version applied" if newest else "migrations applied in order, unchanged"
    return _proof("migrations", wanted, run)


def reached(server: Server) -> Iterator[Proof]:
    """That replay left nothing out before its target: the heartbeat that must be there, is."""
    wanted = server.report.last_beat_at
    if wanted is None:
        return
    found = server.beat_at
    # names of WAL tell milliseconds
    ok = found is not None and found.timestamp() >= wanted.timestamp() - 0.001
    yield Proof(
        "the last heartbeat before the target",
        ok,
        f"{wanted:%F %T} UTC or later",
        "none" if found is None else f"{found:%F %T} UTC",
        0.0,
    )


def _proof(name: str, expected: str, run: Callable[[], tuple[bool, str]]) -> Proof:
    began = time.monotonic()
    ok, found = run()
    return Proof(name, ok, expected, found, time.monotonic() - began)


def _some(said: Sequence[str]) -> str:
    more = f"; and {len(said) - _SAMPLE} more" if len(said) > _SAMPLE else ""
    return "; ".join(said[:_SAMPLE]) + more

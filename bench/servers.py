"""Servers of the bench's own in a temporary directory: nothing of a running stack is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg import sql

from bilten_orchestration.local import ports
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import PostgresSettings, Settings
from tests import other_postgres, stack

ROWS_TO_SAVE = 12_000_000
# read by botocore when a client is made
_TRUST = "AWS_CA_BUNDLE"


@contextmanager
def filled(scale: float, progress: Progress) -> Iterator[Settings]:
    """PostgreSQL with the operational rows of the demo at that scale; ClickHouse migrated and empty."""
    from bilten_orchestration.migrations import runner
    from bilten_orchestration.partitions.postgres.premake import premake

    base = stack.make_base()
    try:
        with stack.stopping() as running:
            postgres = stack.start_postgres(base)
            running.append(postgres)
            clickhouse = stack.start_clickhouse(base)
            running.append(clickhouse)
            settings = Settings(
                home=base / "home",
                environment="test",
                postgres=postgres.settings(),
                clickhouse=clickhouse.settings,
            )
            runner.up(settings)
            premake(settings)
            _load(settings, scale, progress)
            yield settings
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextmanager
def empty(progress: Progress) -> Iterator[Settings]:
    """Every store that the demo fills, migrated and empty."""
    from bilten_orchestration.migrations import runner
    from bilten_orchestration.partitions.postgres.premake import premake

    base = stack.make_base()
    try:
        with stack.stopping() as running:
            postgres = stack.start_postgres(base)
            running.append(postgres)
            clickhouse = stack.start_clickhouse(base)
            running.append(clickhouse)
            redis, redis_settings = stack.start_redis(base)
            running.append(redis)
            store, objects = stack.start_object_store(base)
            running.append(store)
            settings = Settings(
                home=base / "home",
                environment="test",
                postgres=postgres.settings(),
                clickhouse=clickhouse.settings,
                redis=redis_settings,
                object_store=objects,
            )
            runner.up(settings)
            premake(settings)
            progress("  empty stores")
            yield settings
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextmanager
def saved(scale: float, progress: Progress) -> Iterator[Settings]:
    """PostgreSQL with 1.6 GiB of rows at scale 1, and an object store."""
    from bilten_orchestration.migrations import runner

    base = stack.make_base()
    try:
        with stack.stopping() as running:
            postgres = stack.start_postgres(base)
            running.append(postgres)
            store, objects = stack.start_object_store(base)
            running.append(store)
            settings = Settings(
                home=base / "home", environment="test", postgres=postgres.settings(), object_store=objects
            )
            runner.up(settings, store="postgres")
            _let_run_programs(postgres.superuser, settings.postgres.user)
            _write_rows(settings, scale, progress)
            yield settings
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextmanager
def saved_on_older(
    scale: float, progress: Progress
) -> Iterator[tuple[Settings, other_postgres.OtherPostgres]]:
    """The same rows on an older PostgreSQL that is ready to archive; the object store speaks TLS."""
    base = stack.make_base()
    try:
        with stack.stopping() as running, _trusted(base) as certificate:
            store, objects = stack.start_object_store(base, certificate=certificate)
            running.append(store)
            postgres = other_postgres.start(
                base,
                "postgres",
                other_postgres.find()[0],
                # what is archived is said later: rows are written faster without
                changed={"archive_mode": "on", "archive_command": "true", "max_wal_size": "2GB"},
            )
            running.append(postgres)
            settings = Settings(
                home=base / "home", environment="test", postgres=postgres.settings(), object_store=objects
            )
            _write_rows(settings, scale, progress)
            yield settings, postgres
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextmanager
def _trusted(base: Path) -> Iterator[stack.Certificate]:
    """A certificate for this machine's own address, which our clients trust meanwhile."""
    made = stack.Certificate(base / "certificate.pem", base / "certificate.key")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=bench"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-addext", f"subjectAltName=IP:{ports.LOOPBACK}", "-out", made.file, "-keyout", made.key),
        ],
        check=True,
        capture_output=True,
    )
    before = os.environ.get(_TRUST)
    os.environ[_TRUST] = str(made.file)
    try:
        yield made
    finally:
        del os.environ[_TRUST]
        if before is not None:
            os.environ[_TRUST] = before


def load_clicks(settings: Settings, scale: float, progress: Progress) -> None:
    """The clickstream of the same demo data: later than a first load, which comes before anybody clicks."""
    _load(settings, scale, progress, "clickstream")


def _load(settings: Settings, scale: float, progress: Progress, *parts: str) -> None:
    from bilten_orchestration.demo.load import load

    load(settings, scale=scale, parts=parts, progress=progress)


def _let_run_programs(superuser: PostgresSettings, user: str) -> None:
    """What an archive stands beside is COPY TO PROGRAM, which the owner of a schema may not do."""
    from bilten_orchestration.stores import postgres as clients

    with clients.connect(superuser, autocommit=True) as connection:
        connection.execute(sql.SQL("grant pg_execute_server_program to {}").format(sql.Identifier(user)))


def _write_rows(settings: Settings, scale: float, progress: Progress) -> None:
    from bilten_orchestration.stores import postgres as clients

    progress("writing rows")
    with clients.connect(settings.postgres, autocommit=True) as connection:
        # These servers commit asynchronously. VACUUM cannot set the hint bits of rows whose commit is not
        # flushed, and then, with checksums, the first reader after the full backup changes every page for the
        # incremental.
        connection.execute("set synchronous_commit = on")
        connection.execute(
            "create table bench_rows as select n as id, md5(n::text) as a, md5((n * 7)::text) as b,"
            " timestamptz '2026-01-01' + n * interval '1 s' as happened, n % 1000 as k,"
            f" 'organization ' || n % 57 as w from generate_series(1, {int(ROWS_TO_SAVE * scale)}) n"
        )
        connection.execute("vacuum bench_rows")
        connection.execute("checkpoint")

"""Dagster's tables, made before its services start.

Each of the three services makes missing tables when it starts, one statement at a time and without a
lock: started together on an empty database they leave some tables out. So one process makes them,
alone, and the database is then marked (a comment on it) with Dagster's version; another version
migrates them the same way. A kill before the mark leaves tables in part: nothing is in them yet, so
in a database of our own they are made anew.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Mapping

from psycopg import sql

from bilten_orchestration.errors import Mismatch
from bilten_orchestration.local import dagster_services
from bilten_orchestration.local.layout import Layout
from bilten_orchestration.local.supervision import Supervisor, base_environment
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import connect

MARK = "Dagster's storage, made by Dagster "


def prepare(
    layout: Layout,
    settings: Settings,
    supervisor: Supervisor,
    environment: Mapping[str, str],
    progress: Progress,
    *,
    ours: bool,
) -> None:
    """Make or migrate the tables unless they are of this Dagster version. `environment` is that of the
    services. `ours`: the server is embedded, so tables without a mark are a half-done start of ours.

    Raises Mismatch when Dagster's own command fails.
    """
    wanted = MARK + importlib.metadata.version("dagster")
    with connect(settings.postgres, "dagster", application_name="bilten up", autocommit=True) as connection:
        row = connection.execute(
            "select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()"
        ).fetchone()
        found = row[0] if row else None
        if found == wanted:
            return
        progress("dagster: migrating its tables" if found else "dagster: making its tables")
        for service in (dagster_services.DAEMON, dagster_services.WEBSERVER, dagster_services.CODE_SERVER):
            supervisor.stop(service)
        if found is None and ours:
            connection.execute("drop schema public cascade")
            connection.execute("create schema public")
        migrate(layout, environment)
        connection.execute(
            sql.SQL("comment on database {} is {}").format(
                sql.Identifier(settings.postgres.dagster_database), sql.Literal(wanted)
            )
        )


def migrate(layout: Layout, environment: Mapping[str, str]) -> None:
    """By Dagster's own command, alone on the database. Raises Mismatch when it fails."""
    result = subprocess.run(
        [sys.executable, "-m", "dagster", "instance", "migrate"],
        env=base_environment(layout.home) | dict(environment),
        cwd=layout.dagster_home,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise Mismatch(
            "Dagster could not make its tables",
            expected="exit 0 of `dagster instance migrate`",
            found=(result.stderr or result.stdout).strip()[-600:],
            next="bilten logs postgres; then the same again",
        )

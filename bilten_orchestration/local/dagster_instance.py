"""Dagster's own instance, for what must go by its interface and not by SQL: changing runs.

It is opened on the storage that the settings name, without anybody's dagster.yaml. Importing Dagster takes
two seconds: only those who change something come here.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bilten_orchestration.local.dagster_services import storage_url
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated

# of this process: where Dagster reads the address of its storage, with the password
_URL = "OPENED_DAGSTER_STORAGE_URL"

if TYPE_CHECKING:
    from dagster import DagsterInstance


@contextmanager
def opened(settings: Settings, name: str) -> Iterator[DagsterInstance | None]:
    """None where there is no storage, or one without tables: Dagster would make them. `name` tells the
    server who asks whether it is there.

    Raises StoreUnavailable, AccessRefused.
    """
    if not is_there(settings, name):
        yield None
        return
    from dagster import DagsterInstance

    with tempfile.TemporaryDirectory(prefix="bilten-dagster-") as home:
        # the password in it is named, not written: a kill leaves the directory
        storage = {"postgres": {"postgres_url": {"env": _URL}}}
        (Path(home) / "dagster.yaml").write_text(
            json.dumps({"storage": storage, "telemetry": {"enabled": False}})
        )
        os.environ[_URL] = storage_url(settings)
        try:
            with DagsterInstance.from_config(home) as instance:
                yield instance
        finally:
            del os.environ[_URL]


def is_there(settings: Settings, name: str) -> bool:
    """Whether Dagster has made its tables."""
    with translated("Dagster's storage"):
        with postgres.connect(settings.postgres, application_name=name, autocommit=True) as connection:
            database = connection.execute(
                "select from pg_database where datname = %s", (settings.postgres.dagster_database,)
            ).fetchone()
        if database is None:
            return False
        with postgres.connect(
            settings.postgres, "dagster", application_name=name, autocommit=True
        ) as connection:
            row = connection.execute("select to_regclass('public.runs') is not null").fetchone()
    return row is not None and bool(row[0])

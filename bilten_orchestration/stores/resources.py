"""The platform as one Dagster resource: settings read in the process that needs them, clients from them.

Nothing of it is run config, so no secret reaches Dagster's storage; nothing connects while definitions
load. Tests pass `Platform(settings)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from bilten_orchestration.settings import Settings
from bilten_orchestration.settings.loading import load_settings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from bilten_orchestration.stores.postgres import Connection


class Platform:
    """Key `platform` in every Definitions."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._given = settings

    @cached_property
    def settings(self) -> Settings:
        return self._given or load_settings()

    @contextmanager
    def postgres(self, purpose: str) -> Iterator[Connection]:
        """A connection of bilten_etl in autocommit, named after its purpose."""
        from bilten_orchestration.stores import postgres

        with postgres.connect(
            self.settings.postgres, "etl", application_name=f"bilten {purpose}", autocommit=True
        ) as connection:
            yield connection

    @contextmanager
    def clickhouse(self) -> Iterator[Client]:
        from bilten_orchestration.stores import clickhouse

        client = clickhouse.connect(self.settings.clickhouse)
        try:
            yield client
        finally:
            client.close()

"""The whole tree, and which source of a value wins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from bilten_orchestration.settings.backups import BackupSettings
from bilten_orchestration.settings.dagster import DagsterSettings
from bilten_orchestration.settings.drills import DrillSettings
from bilten_orchestration.settings.ingestion import IngestionSettings
from bilten_orchestration.settings.metrics import MetricsSettings
from bilten_orchestration.settings.observability import AlertSettings, ServeSettings
from bilten_orchestration.settings.partitions import PartitionSettings
from bilten_orchestration.settings.queries import QuerySettings
from bilten_orchestration.settings.recovery import RecoverySettings
from bilten_orchestration.settings.search import SearchSettings
from bilten_orchestration.settings.stores import (
    ClickHouseSettings,
    ObjectStoreSettings,
    OpenSearchSettings,
    PostgresSettings,
    RedisSettings,
)

PREFIX = "BILTEN_"
CHECKOUT = Path(__file__).resolve().parents[2]

# What gives a store its address: with it in the environment, nothing of stack.env counts for that store.
ADDRESSES = {
    f"{PREFIX}POSTGRES__": "HOST",
    f"{PREFIX}CLICKHOUSE__": "HOST",
    f"{PREFIX}REDIS__": "HOST",
    f"{PREFIX}OBJECT_STORE__": "ENDPOINT_URL",
    f"{PREFIX}OPENSEARCH__": "URL",
}


class Settings(BaseSettings):
    """The whole tree. `loading.load_settings()` reads it, and tells every problem at once."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    home: Path = Field(
        CHECKOUT / ".bilten", description="State directory of the embedded stack: data, logs, secrets."
    )
    environment: Literal["local", "test", "staging", "production"] = Field(
        "local", description="Named in messages; `demo load` refuses to write into production."
    )
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    clickhouse: ClickHouseSettings = Field(default_factory=ClickHouseSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    object_store: ObjectStoreSettings = Field(default_factory=ObjectStoreSettings)
    opensearch: OpenSearchSettings = Field(default_factory=OpenSearchSettings)
    dagster: DagsterSettings = Field(default_factory=DagsterSettings)
    ingestion: IngestionSettings = Field(default_factory=IngestionSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    backups: BackupSettings = Field(default_factory=BackupSettings)
    drills: DrillSettings = Field(default_factory=DrillSettings)
    recovery: RecoverySettings = Field(default_factory=RecoverySettings)
    partitions: PartitionSettings = Field(default_factory=PartitionSettings)
    queries: QuerySettings = Field(default_factory=QuerySettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    serve: ServeSettings = Field(default_factory=ServeSettings)
    search: SearchSettings = Field(default_factory=SearchSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        if isinstance(dotenv_settings, EnvSettingsSource):
            dotenv_settings.env_vars = _without_given_stores(dotenv_settings.env_vars)
        return (init_settings, env_settings, dotenv_settings)

    @property
    def stack_env(self) -> Path:
        """The file in which the embedded stack keeps addresses and secrets of what it started."""
        return self.home / "stack.env"


def _without_given_stores(stack: Mapping[str, str | None]) -> dict[str, str | None]:
    """stack.env without the stores that the environment gives an address: a password or a port of the
    embedded server must not be tried on another one."""
    given = tuple(
        prefix.lower() for prefix, address in ADDRESSES.items() if os.environ.get(f"{prefix}{address}")
    )
    return {name: value for name, value in stack.items() if not name.lower().startswith(given)}

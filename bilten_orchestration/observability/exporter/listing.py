"""All families, by the module that declares them, and the sources that sample them."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Final

from bilten_orchestration.observability.board import Source
from bilten_orchestration.observability.exporter import (
    clickhouse,
    dagster,
    object_store,
    opensearch,
    platform,
    postgres,
    postgres_tables,
    postgres_wal,
    redis,
)
from bilten_orchestration.observability.series import Family
from bilten_orchestration.settings import Settings

#: In the order of the document, with the setting that says how often they are sampled.
MODULES: Final[tuple[tuple[str, str, tuple[ModuleType, ...]], ...]] = (
    ("The platform and its promises", "", (platform,)),
    ("PostgreSQL", "BILTEN_SERVE__METRICS_SECONDS", (postgres, postgres_wal)),
    ("PostgreSQL: sizes", "BILTEN_SERVE__METRICS_SIZES_SECONDS", (postgres_tables,)),
    ("ClickHouse", "BILTEN_SERVE__METRICS_SECONDS", (clickhouse,)),
    ("Redis", "BILTEN_SERVE__METRICS_SECONDS", (redis,)),
    ("OpenSearch", "BILTEN_SERVE__METRICS_SECONDS", (opensearch,)),
    ("The object store", "BILTEN_SERVE__METRICS_SECONDS", (object_store,)),
    ("Dagster", "BILTEN_SERVE__METRICS_SECONDS", (dagster,)),
)


def declared(module: ModuleType) -> Iterator[Family]:
    """The constants of a module that are families, in their order."""
    return (each for each in vars(module).values() if isinstance(each, Family))


def families() -> tuple[Family, ...]:
    return tuple(family for _, _, modules in MODULES for module in modules for family in declared(module))


def sources(settings: Settings) -> list[Source]:
    """What `bilten serve` reads for /metrics."""
    return [
        postgres.PostgresInternals(settings),
        postgres_tables.PostgresSizes(settings),
        clickhouse.ClickHouseInternals(settings),
        redis.RedisInternals(settings),
        *([opensearch.OpenSearchInternals(settings)] if settings.opensearch.enabled else []),
        *object_store.sources(settings),
        dagster.DagsterInternals(settings),
    ]

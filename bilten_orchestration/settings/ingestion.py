"""The sync from PostgreSQL to ClickHouse."""

from __future__ import annotations

from pydantic import Field

from bilten_orchestration.settings.section import Section


class IngestionSettings(Section):
    """The sync from PostgreSQL to ClickHouse."""

    parallel_ranges: int = Field(
        2,
        ge=1,
        le=16,
        description="Readers that share one exported snapshot in a whole load, and tables whose touched days"
        " ClickHouse works out side by side.",
    )
    chunk_rows: int = Field(
        100_000, ge=1_000, le=2_000_000, description="Rows held in memory per reader and insert."
    )
    lock_wait_seconds: int = Field(
        600,
        ge=0,
        le=86_400,
        description="How long a batch waits for builds that read; then it gives up, to be tried again.",
    )
    settle_seconds: float = Field(
        1.0,
        ge=0,
        le=60,
        description="How long a batch waits for transactions that are open when it begins. While one is open"
        " that began before a day was over, the day stays provisional.",
    )

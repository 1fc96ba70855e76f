"""The daily metrics."""

from __future__ import annotations

from pydantic import Field

from bilten_orchestration.settings.section import Day, Section


class MetricsSettings(Section):
    """The daily metrics."""

    first_day: Day = Field(
        "2024-01-01",
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="Start of the daily partitions in Dagster, as YYYY-MM-DD.",
    )
    dbt_threads: int = Field(2, ge=1, le=16, description="Models that dbt builds at once.")
    lock_wait_seconds: int = Field(
        600, ge=0, le=86_400, description="How long a build waits for a running batch or build."
    )
    retry_refused_days: bool = Field(True, description="A later build tries refused days again.")

"""Slow statements, and the advice that is drawn from what the databases tell of themselves."""

from __future__ import annotations

from pydantic import Field

from bilten_orchestration.settings.section import Section


class QuerySettings(Section):
    """Slow statements, indexes, dead rows: from when on something is worth a line."""

    slow_milliseconds: int = Field(
        1000,
        ge=1,
        le=3_600_000,
        description="A statement whose mean between two looks is longer is recorded as slow.",
    )
    top_statements: int = Field(
        20,
        ge=0,
        le=1000,
        description="Of each database, so many with the most time in total are recorded besides.",
    )
    plan_milliseconds: int = Field(
        500,
        ge=10,
        le=60_000,
        description="How long PostgreSQL may take to plan one of them (EXPLAIN executes nothing).",
    )
    plans_per_look: int = Field(
        10, ge=0, le=1000, description="Plans that are asked for after one look. 0: none ever."
    )
    plan_again_hours: int = Field(
        24, ge=1, le=8760, description="A statement whose plan is younger is not planned again."
    )
    read_seconds: int = Field(
        30, ge=1, le=300, description="How long one statement of the collector may take before it is ended."
    )
    day_totals_days: int = Field(
        35,
        ge=15,
        le=400,
        description="How long the totals per statement and day are kept; two weeks are compared.",
    )
    regression_calls: int = Field(
        50, ge=1, description="Calls in each of two weeks below which their means are not compared."
    )
    regression_factor: float = Field(
        1.5,
        ge=1.05,
        le=100,
        description="A statement is told when its mean is so many times that of last week.",
    )
    regression_milliseconds: float = Field(
        5.0,
        ge=0,
        description="And when a call takes at least so much longer: noise of fast ones is not told.",
    )
    unused_days: int = Field(
        30,
        ge=1,
        le=3650,
        description="An index that was not scanned for so long is told as unused; scans are counted since the"
        " server started or its statistics were reset. A monthly report may be the only one that uses it.",
    )
    advice_bytes: int = Field(
        1 << 20,
        ge=0,
        description="Of an unused index, a table whose foreign key has none, or bloat: less is no advice.",
    )
    dead_percent: int = Field(
        20, ge=1, le=100, description="Share of dead rows from which a vacuum is advised."
    )
    dead_rows: int = Field(10_000, ge=1, description="And at least so many dead, or changed, rows.")
    bloat_percent: int = Field(
        50, ge=1, le=100, description="Share of a table that is room by estimate, from which it is told."
    )

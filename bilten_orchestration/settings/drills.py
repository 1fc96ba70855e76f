"""Restore drills and what they promise."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bilten_orchestration.settings.section import Day, Section


class DrillSettings(Section):
    """Restore drills: what they must keep to, and what they project to."""

    rpo_seconds: int = Field(
        300,
        ge=1,
        le=86_400,
        description="The check of PostgreSQL's drill, and of search's, is red when more would have been lost"
        " by the newest sample before the order. What Redis and ClickHouse may lose is as old as their"
        " backups may be.",
    )
    rto_seconds: int = Field(
        900,
        ge=1,
        le=604_800,
        description="The check is red when it took longer from the order to the first accepted query.",
    )
    within_hours: int = Field(
        26, ge=1, le=744, description="The check is red when the newest good drill of a store is older."
    )
    first_day: Day = Field(
        "2026-11-01",
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="Start of the drills' daily partitions in Dagster, as YYYY-MM-DD.",
    )
    postgres_production_bytes: int = Field(
        100 << 30,
        ge=1,
        description="Files of the PostgreSQL that the projected RTO is of, that of search too.",
    )
    clickhouse_production_bytes: int = Field(
        500 << 30, ge=1, description="Backup of the ClickHouse that the projected RTO is of, uncompressed."
    )
    redis_production_bytes: int = Field(
        8 << 30, ge=1, description="Snapshot (RDB) of the Redis that the projected RTO is of."
    )
    slot_wait_seconds: int = Field(
        30,
        ge=1,
        le=3600,
        description="How long PostgreSQL's drill waits for the transactions that were open when it asked for"
        " its point; after two attempts it locks the tables against writes for a moment instead.",
    )
    share_lock_milliseconds: int = Field(
        100,
        ge=10,
        le=1000,
        description="That moment: writers wait for at most this long while those locks are asked for, and as"
        " long again while they are held.",
    )
    share_lock_attempts: int = Field(
        50, ge=1, le=1000, description="Of those locks, a third of a second to a second apart."
    )
    digest_connections: int = Field(
        2, ge=1, le=32, description="That compute digests on production at once; each takes a core."
    )
    digest_reread_days: int = Field(
        7,
        ge=0,
        le=30,
        description="After so many days a table of production is read again, though WAL says that nothing was"
        " written to it. Until then its digest is that of the drill before. 0: all are read by every drill.",
    )
    wal_wait_seconds: int = Field(
        300,
        ge=1,
        le=3600,
        description="How long a drill waits until the WAL of its point is in the repository; a new segment"
        " is never asked for.",
    )
    shared_buffers_megabytes: int = Field(
        256,
        ge=16,
        le=1 << 20,
        description="Memory of the restored PostgreSQL, beside live traffic; also of the"
        " one that `bilten recover rows` looks into.",
    )
    proof_jobs: int = Field(2, ge=1, le=32, description="Of pg_amcheck, and of digests after the restore.")
    fall_percent: int = Field(
        20,
        ge=1,
        le=100,
        description="Rows of a table, or keys of a pattern, that are so much fewer than in the drill before"
        " are told as a warning.",
    )

    def production_bytes(self, store: Literal["postgres", "clickhouse", "redis", "search"]) -> int:
        """Of a store, as the projection takes it. Search is built from PostgreSQL, and grows with it."""
        return {
            "search": self.postgres_production_bytes,
            "postgres": self.postgres_production_bytes,
            "clickhouse": self.clickhouse_production_bytes,
            "redis": self.redis_production_bytes,
        }[store]

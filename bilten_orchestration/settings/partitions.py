"""Partition maintenance."""

from __future__ import annotations

from pydantic import Field

from bilten_orchestration.settings.section import Section


class PartitionSettings(Section):
    """Maintenance of partitioned tables: how it asks for locks, and how much it may end."""

    lock_timeout_milliseconds: int = Field(
        100,
        ge=10,
        le=100,
        description="How long one attempt waits for a lock: for so long statements may queue behind it.",
    )
    lock_retry_seconds: int = Field(
        60, ge=1, le=3600, description="For how long such attempts are repeated, with random pauses."
    )
    lock_wait_seconds: int = Field(
        120, ge=0, le=86_400, description="How long a run waits for another one of maintenance."
    )
    snapshot_wait_seconds: int = Field(
        600,
        ge=0,
        le=86_400,
        description="How long detach and drop wait for whatever reads a snapshot: the sync, dumps, drills.",
    )
    detach_wait_seconds: int = Field(
        300,
        ge=1,
        le=86_400,
        description="How long a detach waits for the transactions that may still see the partition, and keeps"
        " readers of snapshots away; then it stays pending, and the next run finishes it.",
    )
    oldest_transaction_seconds: int = Field(
        300,
        ge=1,
        le=86_400,
        description="Nothing is ended while a transaction is older than this: a detach would wait for it.",
    )
    end_limit: int = Field(
        2,
        ge=0,
        le=10_000,
        description="Partitions of one table that begin to end in one run; `bilten partitions apply --limit`"
        " takes another number.",
    )
    restored_hold_days: int = Field(
        30, ge=1, le=3650, description="A restored partition is not ended again before this."
    )
    silence_days: int = Field(
        62,
        ge=1,
        le=3650,
        description="Where the newest rows of all partitioned tables are older, nothing is ended: the clock"
        " may be ahead, and time without rows makes nothing older.",
    )
    parts_limit: int = Field(
        150,
        ge=10,
        le=100_000,
        description="Parts of one month of ClickHouse above which it is told: inserts are slowed down at"
        " 1000 (parts_to_delay_insert).",
    )
    mutation_seconds: int = Field(
        3600, ge=60, le=604_800, description="A mutation of ClickHouse that takes longer is told as stuck."
    )
    overdue_days: int = Field(
        7,
        ge=1,
        le=365,
        description="A month of ClickHouse that is over for so long and still there fails the check: no TTL"
        " would remove it.",
    )
    archive_slice_bytes: int = Field(
        256 << 20,
        ge=1 << 20,
        le=1 << 30,
        description="Of one Parquet file of an archive, about; as much room is needed in the state directory"
        " to read one back.",
    )

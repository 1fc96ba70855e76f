"""Backups and what they promise."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from bilten_orchestration.settings.section import Section


class BackupSettings(Section):
    """Backups: how they are compressed and cut, and where the keys lie."""

    key_file: Path | None = Field(
        None,
        description="The keys that backups are encrypted under; unset: backup-keys.json in the state"
        " directory. Without it no backup can be read: keep a copy elsewhere.",
    )
    codec: Literal["zstd", "gzip"] = Field(
        "zstd", description="gzip only where others must read the objects: it is several times slower."
    )
    level: int = Field(
        1, ge=1, le=19, description="Of compression; above 3 it is the slowest stage. gzip ends at 9."
    )
    threads: int = Field(2, ge=1, le=32, description="That compress at once (zstd).")
    slice_bytes: int = Field(
        256 << 20,
        ge=1 << 20,
        le=1008 << 20,
        multiple_of=512,
        description="Of the server's stream in one object, which never exceeds 1 GiB. Slices are restored"
        " side by side; smaller ones make more requests.",
    )
    lock_wait_seconds: int = Field(
        600, ge=0, le=86_400, description="How long a backup waits for another one of the same store."
    )
    wal_spool: Path | None = Field(
        None,
        description="Where WAL lies until it is in the repository; unset: wal-spool in the state directory."
        " Better on another disk than PostgreSQL's own.",
    )
    wal_spool_bytes: int = Field(
        2 << 30,
        ge=64 << 20,
        description="At most in the spool. When it is full no more WAL is taken, and PostgreSQL keeps it, up"
        " to its max_slot_wal_keep_size.",
    )
    wal_ship_seconds: int = Field(
        30,
        ge=1,
        le=60,
        description="How often a segment that is not full is shipped as it is: with heartbeat_seconds, what"
        " is lost at most with the server.",
    )
    heartbeat_seconds: int = Field(
        15,
        ge=1,
        le=30,
        description="How often a commit is made so that WAL tells until when it reaches, also when nobody"
        " else writes.",
    )
    copies_at_once: int = Field(
        2,
        ge=1,
        le=32,
        description="Objects copied to the second bucket side by side; each takes up to 150 MiB of memory.",
    )
    copy_reread_days: int = Field(
        30,
        ge=0,
        le=3650,
        description="Every object of the second bucket is read again, and its digest compared, once in so"
        " many days, a part of them in each run; 0: only by `bilten backup copy --deep`.",
    )
    copy_lag_seconds: int = Field(
        7200,
        ge=60,
        le=604_800,
        description="The check copy_complete is red when the oldest object that is not copied is older.",
    )
    orphan_grace_hours: int = Field(
        48,
        ge=24,
        le=8760,
        description="Objects without a manifest, and uploads that were never completed, are removed after"
        " this. A backup must not take longer.",
    )
    kms_key_id: str | None = Field(
        None,
        min_length=1,
        description="Id or ARN of an AWS KMS key; new keys then lie in the key file wrapped by it. Unset:"
        " they lie there plain.",
    )
    kms_region: str = Field("us-east-1", min_length=1, description="Region of that KMS key.")
    kms_endpoint_url: str | None = Field(
        None, pattern=r"^https?://.+$", description="Address of KMS; unset: that of AWS in the region."
    )
    table_wait_seconds: int = Field(
        60,
        ge=1,
        le=3_600,
        description="How long pg_dump waits for tables that DDL holds; then the logical backup gives up, to"
        " be tried again, and says who holds them.",
    )
    redis_spool: Path | None = Field(
        None,
        description="Directory in which a copy of Redis lies while it is checked and stored, as a file"
        " without a name; unset: spool in the state directory.",
    )
    redis_spool_bytes: int = Field(
        64 << 30,
        ge=1 << 20,
        description="The largest copy of Redis that is taken. Besides this, a twentieth of the file system,"
        " at most 1 GiB, always stays free.",
    )
    clickhouse_bytes_per_second: int = Field(
        0,
        ge=0,
        le=100 << 30,
        description="Upper bound of what ClickHouse reads for one backup, so that queries keep their share of"
        " disk and network (its max_backup_bandwidth); 0: none.",
    )
    stalled_seconds: int = Field(
        900,
        ge=10,
        le=86_400,
        description="A BACKUP or RESTORE in ClickHouse that moves no byte for this long is ended.",
    )

    @model_validator(mode="after")
    def _level_of_codec(self) -> Self:
        if self.codec == "gzip" and self.level > 9:
            raise ValueError("BILTEN_BACKUPS__LEVEL must be 9 or less with gzip")
        return self

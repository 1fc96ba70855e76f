"""Every setting of the platform, as one typed tree.

Three layers, the later one wins: the default written here, `stack.env` in the state directory
(what the embedded stack wrote about the servers it started: addresses and generated secrets, in
the same BILTEN_* names, readable by the owner alone), the environment. So nothing outside `local/`
knows whether a store is embedded, and an outside deployment is reached by variables alone.

Nested by two underscores: BILTEN_POSTGRES__HOST is `settings.postgres.host`. An empty variable is
an unset one. Frozen; all problems are reported at once; an unknown BILTEN_ variable is refused with
the nearest known name. docs/settings.md is made from this file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

PREFIX = "BILTEN_"
CHECKOUT = Path(__file__).resolve().parents[1]

# What gives a store its address: with it in the environment, nothing of stack.env counts for that store.
ADDRESSES = {
    f"{PREFIX}POSTGRES__": "HOST",
    f"{PREFIX}CLICKHOUSE__": "HOST",
    f"{PREFIX}REDIS__": "HOST",
    f"{PREFIX}OBJECT_STORE__": "ENDPOINT_URL",
    f"{PREFIX}OPENSEARCH__": "URL",
}


def _long_enough(value: SecretStr) -> SecretStr:
    if 0 < len(value.get_secret_value()) < 10:
        raise ValueError("it is shorter than 10 characters")
    return value


def _a_date(value: str) -> str:
    date.fromisoformat(value)
    return value


Port = Annotated[int, Field(ge=1, le=65535)]
AccessKey = Annotated[SecretStr, AfterValidator(_long_enough)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class PostgresSettings(Section):
    """The operational database, and Dagster's own storage in a second database beside it."""

    host: str | None = Field(
        None, description="Host name or socket directory; unset: `up` starts an embedded server."
    )
    port: Port = Field(5432, description="TCP port.")
    database: str = Field("bilten", min_length=1, description="The operational database.")
    user: str = Field(
        "bilten_owner", min_length=1, description="Owns the schema: migrations, backups, demo data."
    )
    password: SecretStr = Field(SecretStr(""), description="Of the owner.")
    etl_user: str = Field(
        "bilten_etl", min_length=1, description="Reads synced tables; writes sync and build state only."
    )
    etl_password: SecretStr = Field(SecretStr(""), description="Of the etl user.")
    app_password: SecretStr = Field(
        SecretStr(""), description="Of bilten_app, the application; only the embedded set-up uses it."
    )
    readonly_password: SecretStr = Field(
        SecretStr(""),
        description="Of bilten_readonly, for people who look; only the embedded set-up uses it.",
    )
    dagster_database: str = Field(
        "bilten_dagster", min_length=1, description="Dagster's run, event and schedule storage."
    )
    dagster_user: str = Field(
        "bilten_dagster", min_length=1, description="Owns Dagster's database and sees no other."
    )
    dagster_password: SecretStr = Field(SecretStr(""), description="Of the Dagster user.")
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="libpq's sslmode; the embedded build has no SSL, so `prefer` falls back there."
    )
    connect_timeout_seconds: int = Field(
        10, ge=1, le=300, description="A server that does not answer is given up after this."
    )
    pg_bin: Path | None = Field(
        None,
        description="Directory of pg_dump and the like, of the server's major; unset: the embedded ones.",
    )


class ClickHouseSettings(Section):
    """The analytics database, over HTTP(S)."""

    host: str | None = Field(None, description="Host name; unset: `up` starts the embedded endpoint.")
    port: Port = Field(8123, description="HTTP port (8443 is usual with TLS).")
    secure: bool = Field(False, description="HTTPS instead of HTTP.")
    user: str = Field("bilten_etl", min_length=1, description="Migrates, loads and builds.")
    password: SecretStr = Field(SecretStr(""), description="Of that user.")
    analyst_user: str = Field(
        "bilten_analyst", min_length=1, description="Reads staging, marts and analytics, nothing else."
    )
    analyst_password: SecretStr = Field(SecretStr(""), description="Of the analyst.")
    connect_timeout_seconds: int = Field(
        10, ge=1, le=300, description="A server that does not answer is given up after this."
    )
    query_timeout_seconds: int = Field(
        900, ge=10, le=86_400, description="Longest single statement; longer ones are cancelled."
    )
    cluster: str | None = Field(
        None, description="Name of a cluster; unset: one node. Reserved, one node is supported now."
    )
    memory_bytes: int = Field(
        1 << 30,
        ge=256 << 20,
        description="Upper bound of the embedded engine's memory. Joins, sorts and aggregations go to disk "
        "at an eighth of it, so more makes large builds faster. Outside servers set their own.",
    )


class RedisSettings(Section):
    """Cache, sessions and live counters of the application."""

    host: str | None = Field(None, description="Host name; unset: `up` starts an embedded server.")
    port: Port = Field(6379, description="TCP port.")
    database: int = Field(0, ge=0, le=15, description="Logical database number.")
    password: SecretStr = Field(SecretStr(""), description="Of the default user (requirepass).")
    tls: bool = Field(False, description="rediss instead of redis.")
    redis_bin: Path | None = Field(
        None,
        description="Directory of a redis-server of the server's version or later, which checks and restores"
        " backups; unset: the embedded one's.",
    )


class OpenSearchSettings(Section):
    """Event search. Only what the public may see is in it, and all of it can be built anew."""

    enabled: bool = Field(False, description="Whether there is search at all; false: nothing is started.")
    url: str | None = Field(
        None,
        pattern=r"^https?://[^/@]+/?$",
        description="Base address; unset: `up` starts an embedded node (jars are fetched once, some 75 MB).",
    )
    user: str = Field("", description="For basic authentication; the embedded node has none.")
    password: SecretStr = Field(SecretStr(""), description="Of USER.")
    maven_url: str | None = Field(
        None,
        pattern=r"^https?://.+$",
        description="A mirror of Maven Central for the jars of the embedded node; unset: Maven Central.",
    )
    heap_bytes: int = Field(
        512 << 20,
        ge=256 << 20,
        le=31 << 30,
        description="Java heap of the embedded node; it takes some 200 MiB beside.",
    )


class ObjectStoreSettings(Section):
    """An S3 API: backups, archives, compute logs, the application's files."""

    endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://.+$",
        description="Base address; unset: `up` starts an embedded server. AWS itself: https://s3.<region>.amazonaws.com",
    )
    region: str = Field("us-east-1", min_length=1, description="Signing region.")
    access_key_id: AccessKey = Field(SecretStr(""), description="10 or more characters.")
    secret_access_key: AccessKey = Field(SecretStr(""), description="10 or more characters.")
    bucket_backups: str = Field(
        "bilten-backups", min_length=3, max_length=63, description="The backup repository."
    )
    bucket_backups_copy: str = Field(
        "bilten-backups-copy",
        min_length=3,
        max_length=63,
        description="Its copy, standing for a second region.",
    )
    bucket_dagster: str = Field(
        "bilten-dagster", min_length=3, max_length=63, description="Compute logs of runs."
    )
    bucket_assets: str = Field(
        "bilten-assets",
        min_length=3,
        max_length=63,
        description="Images, avatars, tickets of the application.",
    )
    copy_endpoint_url: str | None = Field(
        None,
        pattern=r"^https?://.+$",
        description="Base address of the store that has BUCKET_BACKUPS_COPY, in another region or of another"
        " provider; unset: ENDPOINT_URL, with its region and keys.",
    )
    copy_region: str = Field("us-east-1", min_length=1, description="Signing region at COPY_ENDPOINT_URL.")
    copy_access_key_id: AccessKey = Field(
        SecretStr(""), description="Key at COPY_ENDPOINT_URL; unset: ACCESS_KEY_ID. 10 or more characters."
    )
    copy_secret_access_key: AccessKey = Field(
        SecretStr(""), description="Its secret; unset: SECRET_ACCESS_KEY. 10 or more characters."
    )
    patience_seconds: int = Field(
        120,
        ge=0,
        le=3600,
        description="How long work under way (a backup, a copy, a restore) waits for a store that went away."
        " One that does not answer at the beginning is given up after seconds.",
    )

    @model_validator(mode="after")
    def _copy_keys_belong_together(self) -> Self:
        key, secret = (
            each.get_secret_value() for each in (self.copy_access_key_id, self.copy_secret_access_key)
        )
        if bool(key) != bool(secret):
            raise ValueError("COPY_ACCESS_KEY_ID and COPY_SECRET_ACCESS_KEY are set together or not at all")
        if key and self.copy_endpoint_url is None:
            raise ValueError("COPY_ACCESS_KEY_ID counts at COPY_ENDPOINT_URL, which is not set")
        return self

    @property
    def buckets_here(self) -> tuple[str, ...]:
        """Those that lie at `endpoint_url`."""
        return tuple(
            bucket
            for bucket in self.buckets
            if self.copy_endpoint_url is None or bucket != self.bucket_backups_copy
        )

    @property
    def of_copy(self) -> ObjectStoreSettings:
        """The store that holds the second bucket, as a store of its own."""
        if self.copy_endpoint_url is None:
            return self
        own = bool(self.copy_access_key_id.get_secret_value())
        return self.model_copy(
            update={
                "endpoint_url": self.copy_endpoint_url,
                "region": self.copy_region,
                **({"access_key_id": self.copy_access_key_id} if own else {}),
                **({"secret_access_key": self.copy_secret_access_key} if own else {}),
            }
        )

    @model_validator(mode="after")
    def _distinct_buckets(self) -> Self:
        if len(set(self.buckets)) < len(self.buckets):
            raise ValueError("the four BUCKET_ variables must name four different buckets")
        return self

    @property
    def buckets(self) -> tuple[str, str, str, str]:
        """All four, in a fixed order."""
        return (self.bucket_backups, self.bucket_backups_copy, self.bucket_dagster, self.bucket_assets)


class DagsterSettings(Section):
    """Webserver and daemon."""

    host: str = Field("127.0.0.1", description="Address the webserver binds to.")
    port: Port = Field(
        3000, description="Port of the UI; when taken, `up` names the holder and takes the next free one."
    )
    code_server_port: Port = Field(
        4000, description="Port of the server that loads the definitions, on this machine only."
    )
    url: str | None = Field(
        None, pattern=r"^https?://.+$", description="Where people reach the UI; unset: host and port."
    )
    max_concurrent_runs: int = Field(4, ge=1, le=100, description="Runs at once, over all pools.")


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


class MetricsSettings(Section):
    """The daily metrics."""

    first_day: Annotated[str, AfterValidator(_a_date)] = Field(
        "2024-01-01",
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="Start of the daily partitions in Dagster, as YYYY-MM-DD.",
    )
    dbt_threads: int = Field(2, ge=1, le=16, description="Models that dbt builds at once.")
    lock_wait_seconds: int = Field(
        600, ge=0, le=86_400, description="How long a build waits for a running batch or build."
    )
    retry_refused_days: bool = Field(True, description="A later build tries refused days again.")


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


class DrillSettings(Section):
    """Restore drills: what they must keep to, and what they project to."""

    rpo_seconds: int = Field(
        300,
        ge=1,
        le=86_400,
        description="The check of PostgreSQL's drill is red when more would have been lost by the newest"
        " sample before the order. What Redis and ClickHouse may lose is as old as their backups may be.",
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
    first_day: Annotated[str, AfterValidator(_a_date)] = Field(
        "2026-11-01",
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="Start of the drills' daily partitions in Dagster, as YYYY-MM-DD.",
    )
    postgres_production_bytes: int = Field(
        100 << 30, ge=1, description="Files of the PostgreSQL that the projected RTO is of."
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
        256, ge=16, le=1 << 20, description="Memory of the restored PostgreSQL, beside live traffic."
    )
    proof_jobs: int = Field(2, ge=1, le=32, description="Of pg_amcheck, and of digests after the restore.")
    fall_percent: int = Field(
        20,
        ge=1,
        le=100,
        description="Rows of a table, or keys of a pattern, that are so much fewer than in the drill before"
        " are told as a warning.",
    )

    def production_bytes(self, store: Literal["postgres", "clickhouse", "redis"]) -> int:
        """Of a store, as the projection takes it."""
        return {
            "postgres": self.postgres_production_bytes,
            "clickhouse": self.clickhouse_production_bytes,
            "redis": self.redis_production_bytes,
        }[store]


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


class RecoverySettings(Section):
    """Recovery of rows and of whole stores."""

    lock_wait_seconds: int = Field(
        10,
        ge=1,
        le=3_600,
        description="How long copying rows back waits for a row that somebody else is writing; then nothing"
        " is changed, and the command can be repeated.",
    )


class Settings(BaseSettings):
    """The whole tree. `settings_loading.load_settings()` reads it, and tells every problem at once."""

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

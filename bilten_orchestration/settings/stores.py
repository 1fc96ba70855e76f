"""Where the stores are, and who the platform is to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from bilten_orchestration.settings.section import AccessKey, Port, Section


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
        "at an eighth of it, and an analyst's query has at most a thread per free eighth, so more makes "
        "large builds faster. Outside servers set their own.",
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

    enabled: bool = Field(
        True, description="Whether there is search at all; false: nothing of it is started, and nothing runs."
    )
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
    not_fetched_from: str | None = Field(
        None,
        description="Written by `up` into stack.env, not to be set: the repository that gave no jars."
        " Search is off until another `up` gets them.",
    )
    heap_bytes: int = Field(
        384 << 20,
        ge=256 << 20,
        le=31 << 30,
        description="Java heap of the embedded node; it takes some 200 MiB beside.",
    )

    @model_validator(mode="before")
    @classmethod
    def _off_without_its_programs(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {**given, "enabled": False} if given.get("not_fetched_from") else given


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

"""The watchdog: whom it tells, when it speaks, and where it listens."""

from __future__ import annotations

from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, SecretStr, model_validator

from bilten_orchestration.settings.section import Port, Section

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _a_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError("it is no IANA time zone") from None
    return value


def _receivers(value: SecretStr) -> SecretStr:
    for number, item in enumerate(value.get_secret_value().split(), 1):
        if "://" not in item:
            raise ValueError(f"entry {number} is no [tag,tag=]URL")
    return value


class AlertSettings(Section):
    """Messages about incidents: to whom, and when."""

    receivers: Annotated[SecretStr, AfterValidator(_receivers)] = Field(
        SecretStr(""),
        description="Where messages go, separated by blanks: [tag,tag=]URL, in the URLs of apprise"
        " (mailto://, slack://, msteams://, pagerduty://, json:// ...). Tags are owners"
        " (`team:data-platform`) and a least severity (`warning`, `critical`); a URL without an owner gets"
        " what no other one takes."
        " Unset: incidents are recorded and nobody is told.",
    )
    owner: str = Field(
        "team:data-platform",
        min_length=1,
        description="Owner of what has none: stores, disks, the watchdog itself.",
    )
    quiet_hours: str = Field(
        "",
        pattern=r"^(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?$",
        description="As 22:00-07:00: then only critical messages go out, the others at its end. Unset: none.",
    )
    quiet_timezone: Annotated[str, AfterValidator(_a_zone)] = Field(
        "UTC", description="IANA time zone of QUIET_HOURS."
    )
    open_after_seconds: int = Field(
        60,
        ge=0,
        le=3600,
        description="What is measured (a store, a disk, a lag) is an incident once it has lasted so long:"
        " restarts are none. What is recorded (a failed run or check) is one at once.",
    )
    recover_after_seconds: int = Field(
        60, ge=0, le=3600, description="An incident has recovered once it was not seen for so long."
    )
    burst: int = Field(
        5,
        ge=1,
        le=100,
        description="Messages to one receiver within SUMMARY_SECONDS; more of them are one summary.",
    )
    summary_seconds: int = Field(
        600,
        ge=10,
        le=86_400,
        description="Between two summaries to one receiver; a tenth of it where something is critical.",
    )
    give_up_hours: int = Field(
        24, ge=1, le=720, description="A message that cannot be delivered is tried again for so long."
    )
    queued_seconds: int = Field(
        1800, ge=60, le=604_800, description="A run that waits to start for longer is told as never started."
    )
    run_seconds: int = Field(
        14_400, ge=60, le=604_800, description="A run that lasts longer is told as stuck."
    )
    daemon_silence_seconds: int = Field(
        120, ge=30, le=86_400, description="Dagster's daemon counts as dead without a heartbeat for so long."
    )
    disk_warning_percent: int = Field(
        85, ge=1, le=99, description="A disk that is fuller than this is told as a warning."
    )
    disk_critical_percent: int = Field(95, ge=2, le=100, description="And from this on as critical.")

    @model_validator(mode="after")
    def _disk_limits_rise(self) -> Self:
        if self.disk_critical_percent <= self.disk_warning_percent:
            raise ValueError("DISK_CRITICAL_PERCENT must be above DISK_WARNING_PERCENT")
        return self


class ServeSettings(Section):
    """The watchdog's own process, `bilten serve`."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address that it binds to. On any other than this machine's own it wants TOKEN.",
    )
    port: Port = Field(4400, description="Port; when taken, `up` names the holder and takes the next one.")
    token: SecretStr = Field(
        SecretStr(""),
        description="Bearer token for details (what is wrong, where stores are); without it numbers alone.",
    )
    url: str | None = Field(
        None, pattern=r"^https?://.+$", description="Where people reach it; unset: host and port."
    )
    probe_interval_seconds: int = Field(
        15, ge=1, le=300, description="Between two questions whether a store answers."
    )
    probe_seconds: int = Field(
        3, ge=1, le=60, description="A store that has not answered by then counts as away."
    )
    dead_man_url: SecretStr = Field(
        SecretStr(""),
        description="Asked (GET) while the watchdog does its work: a service elsewhere that tells when these"
        " calls end, since the watchdog cannot tell its own death.",
    )
    dead_man_seconds: int = Field(60, ge=10, le=3600, description="Between two such calls.")
    metrics_seconds: int = Field(
        30,
        ge=5,
        le=300,
        description="Between two looks into servers and Dagster for /metrics. What was not read for three of"
        " these and 30 s is not told any more.",
    )
    metrics_sizes_seconds: int = Field(
        300, ge=30, le=3600, description="Between two looks at sizes and bloat of tables and indexes."
    )
    metrics_listing_seconds: int = Field(
        3600,
        ge=60,
        le=86_400,
        description="Between two walks through all objects of the buckets, which are counted and added up a"
        " few thousand at each look.",
    )
    metrics_top: int = Field(
        20,
        ge=1,
        le=200,
        description="So many tables and indexes, the largest, have series of their own.",
    )

    @model_validator(mode="after")
    def _bound_wider_with_token(self) -> Self:
        if self.host not in LOOPBACK and len(self.token.get_secret_value()) < 16:
            raise ValueError("HOST is not this machine's own: TOKEN must have 16 characters or more")
        return self

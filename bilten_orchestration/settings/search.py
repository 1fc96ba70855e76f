"""The events index of OpenSearch."""

from __future__ import annotations

from pydantic import Field

from bilten_orchestration.settings.section import Section


class SearchSettings(Section):
    """The events index: how it is built, followed and kept."""

    replicas: int | None = Field(
        None, ge=0, le=5, description="Of the serving index; unset: one where a second data node can hold it."
    )
    parallel: int = Field(
        2,
        ge=1,
        le=32,
        description="Readers of PostgreSQL and bulk requests at once in a load.",
    )
    bulk_bytes: int = Field(
        4 << 20,
        ge=16 << 10,
        le=64 << 20,
        description="Of one bulk request. Memory is this times PARALLEL, some times over; a request that"
        " the server has no room for is halved.",
    )
    range_documents: int = Field(
        5_000,
        ge=100,
        le=1_000_000,
        description="Events in one range of keys: what a killed build repeats at most per reader, and what is"
        " compared at once.",
    )
    lag_seconds: float = Field(
        1.0,
        ge=0.05,
        le=60,
        description="A new index is swapped in once it is no more than this behind PostgreSQL.",
    )
    catch_up_seconds: int = Field(
        900,
        ge=1,
        le=86_400,
        description="A new index that does not come within LAG_SECONDS in this time is left, to be gone on"
        " with later: it is written to faster than it can follow.",
    )
    patience_seconds: int = Field(
        300,
        ge=1,
        le=86_400,
        description="How long a server that refuses every write, or does not answer, is tried again.",
    )
    lag_alert_seconds: int = Field(
        900,
        ge=60,
        le=604_800,
        description="`bilten search status` is red when the index that serves is further behind; the delta"
        " runs every 300 s.",
    )
    lease_seconds: int = Field(
        60,
        ge=3,
        le=3_600,
        description="A builder that has not been heard of for this long is taken for dead. One whose session"
        " in PostgreSQL has ended is at once.",
    )
    lock_wait_seconds: int = Field(
        600,
        ge=0,
        le=86_400,
        description="How long a batch of changes waits for another one of its index.",
    )
    dead_letters_max: int = Field(
        10, ge=0, le=1_000, description="Documents that the server may refuse before a swap is."
    )
    size_ratio: float = Field(
        0.5,
        gt=0,
        le=10,
        description="A new index may be smaller or larger than the one before by this share of it.",
    )
    keep_days: int = Field(
        14, ge=1, le=365, description="An index that served is kept for so long after it was replaced."
    )
    keep_unserved_days: int = Field(
        2,
        ge=1,
        le=365,
        description="An index that was refused or left, and never served, is kept for so long.",
    )
    drift_sample: int = Field(
        500, ge=1, le=100_000, description="Documents that a sampled drift check compares."
    )

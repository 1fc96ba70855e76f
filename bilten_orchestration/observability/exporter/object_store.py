"""The object store: whether each bucket is there, how long it takes to say so, and how much is in it.

S3 has no call for the size of a bucket. So all objects are walked through once an hour, a few pages at each
look, which costs the same however many there are; the numbers are those of the last walk that came to its
end, with its time beside them. What is written or removed during a walk may be in it or not.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.observability.finding import Reading
from bilten_orchestration.observability.series import Collected, gauge
from bilten_orchestration.settings import ObjectStoreSettings, Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

_S = "bilten_object_store_"
_PAGES_PER_LOOK: Final = 3

REACHABLE = gauge(f"{_S}bucket_reachable", "Whether the bucket is there, and lets us in", "bucket")
REQUEST_SECONDS = gauge(f"{_S}request_duration_seconds", "How long the last HeadBucket took", "bucket")
OBJECTS = gauge(f"{_S}objects", "Objects in the bucket, by the last walk through it", "bucket")
BYTES = gauge(f"{_S}size_bytes", "Size of them", "bucket")
LISTED_AT = gauge(f"{_S}listed_timestamp_seconds", "When that walk ended", "bucket")


@dataclass(slots=True)
class _Walk:
    """What a walk has met so far; `token` is where it goes on."""

    objects: int = 0
    size_bytes: int = 0
    token: str | None = None


@dataclass(frozen=True, slots=True)
class _Walked:
    objects: int
    size_bytes: int
    ended_at: float  # seconds since 1970
    ended: float  # monotonic


@dataclass(slots=True)
class ObjectStoreInternals:
    """Of one endpoint: the second bucket may lie at another one. Read by one thread alone."""

    settings: Settings
    store: ObjectStoreSettings
    buckets: tuple[str, ...]
    name: str = "metrics/object-store"
    needs: tuple[str, ...] = ("store/object-store",)
    page_objects: int = 1000
    _client: S3Client | None = field(default=None, repr=False)
    _walks: dict[str, _Walk] = field(default_factory=dict)
    _walked: dict[str, _Walked] = field(default_factory=dict)

    @property
    def interval_seconds(self) -> float:
        return self.settings.serve.metrics_seconds

    def read(self) -> Reading:
        from botocore.exceptions import BotoCoreError, ClientError

        found = Collected()
        try:
            reachable = [bucket for bucket in self.buckets if self._heads(found, bucket)]
            self._walk(reachable)
        except (BotoCoreError, ClientError) as error:
            self._forget()
            raise StoreUnavailable(
                f"the object store at {self.store.endpoint_url} went away during the look at its buckets",
                expected="an answer",
                found=str(error)[:300],
                next="bilten status; bilten up starts the embedded one",
            ) from None
        for bucket, walked in self._walked.items():
            found.add(OBJECTS, walked.objects, bucket)
            found.add(BYTES, walked.size_bytes, bucket)
            found.add(LISTED_AT, walked.ended_at, bucket)
        return Reading(samples=found.samples)

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None

    def _heads(self, found: Collected, bucket: str) -> bool:
        from botocore.exceptions import ClientError

        began = time.monotonic()
        try:
            self._connected().head_bucket(Bucket=bucket)
            there = True
        except ClientError:  # an answer: it is not there, or not for us
            there = False
            self._walks.pop(bucket, None)
            self._walked.pop(bucket, None)
        found.add(REACHABLE, there, bucket)
        found.add(REQUEST_SECONDS, time.monotonic() - began, bucket)
        return there

    def _walk(self, buckets: list[str]) -> None:
        """A few pages on: first where a walk is under way, then in the bucket that waited longest."""
        for _ in range(_PAGES_PER_LOOK):
            bucket = self._next(buckets)
            if bucket is None:
                return
            walk = self._walks.setdefault(bucket, _Walk())
            page = self._page(bucket, walk.token)
            objects = page.get("Contents", [])
            walk.objects += len(objects)
            walk.size_bytes += sum(each["Size"] for each in objects)
            walk.token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or walk.token is None:
                del self._walks[bucket]
                self._walked[bucket] = _Walked(walk.objects, walk.size_bytes, time.time(), time.monotonic())

    def _page(self, bucket: str, token: str | None) -> ListObjectsV2OutputTypeDef:
        client, size = self._connected(), self.page_objects
        if token is None:
            return client.list_objects_v2(Bucket=bucket, MaxKeys=size)
        return client.list_objects_v2(Bucket=bucket, MaxKeys=size, ContinuationToken=token)

    def _next(self, buckets: list[str]) -> str | None:
        for bucket in self._walks:
            if bucket in buckets:
                return bucket
        before = time.monotonic() - self.settings.serve.metrics_listing_seconds
        due = [each for each in buckets if each not in self._walked or self._walked[each].ended <= before]
        return min(
            due, key=lambda each: self._walked[each].ended if each in self._walked else 0.0, default=None
        )

    def _connected(self) -> S3Client:
        from bilten_orchestration.stores import object_store

        if self._client is None:
            self._client = object_store.connect(self.store, patience_seconds=0)
        return self._client

    def _forget(self) -> None:
        """A walk that was cut off begins again: its place may be worth nothing at another server."""
        self._walks.clear()
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):  # it is broken already, which is told
                client.close()


def sources(settings: Settings) -> list[ObjectStoreInternals]:
    """One for each endpoint."""
    store = settings.object_store
    found = [ObjectStoreInternals(settings, store, store.buckets_here)]
    if store.copy_endpoint_url is not None:
        found.append(
            ObjectStoreInternals(
                settings,
                store.of_copy,
                (store.bucket_backups_copy,),
                name="metrics/object-store-copy",
                needs=(),
            )
        )
    return found

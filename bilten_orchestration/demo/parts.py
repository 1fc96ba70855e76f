"""What follows the operational rows, each in a store of its own: clickstream, cache, objects.

A writer reaches its store when it is made, so that all stores are known to answer before the first row is
written. `write` goes on after the batches that were recorded and yields how far it has come; a batch written
again changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

from bilten_orchestration.demo import cache, objects
from bilten_orchestration.demo.catalogue import Catalogue
from bilten_orchestration.demo.people import Buyers
from bilten_orchestration.demo.plan import Plan
from bilten_orchestration.demo.record import Part
from bilten_orchestration.errors import Mismatch, StoreUnavailable
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, object_store, redis


class Writer(Protocol):
    """Writes one part."""

    def write(self, plan: Plan, offer: Catalogue, people: Buyers, sofar: Part) -> Iterator[Part]: ...

    def close(self) -> None: ...


class Clickstream:
    """Batches of 400,000 rows through the one writer of analytics.events, which drops a repeated one."""

    def __init__(self, settings: Settings) -> None:
        self._client = clickhouse.connect(settings.clickhouse)
        self.close = self._client.close

    def write(self, plan: Plan, offer: Catalogue, people: Buyers, sofar: Part) -> Iterator[Part]:
        """Raises Mismatch when the writer refuses a row: then it and this module disagree."""
        from bilten_orchestration.demo import clicks  # Arrow takes a third of a second to import
        from bilten_orchestration.ingestion.clickstream import write_table

        started = time.monotonic() - sofar.seconds
        zones = clicks.zones(offer)
        for number, rows in clicks.batches(plan, offer, people, after=sofar.batches):
            report = write_table(self._client, rows, zones=zones, history=True)
            if report.rows_rejected:
                raise Mismatch(
                    "the clickstream writer refused rows of the demo data",
                    expected="every row accepted",
                    found=f"{report.rows_rejected} refused: {report.rejected_by_reason}",
                    next="compare bilten_orchestration/demo/clicks.py with ingestion/clickstream_rules.py",
                )
            written = sofar.rows + report.rows_written
            done = number + 1 == clicks.batch_count(plan)
            sofar = Part(number + 1, written, time.monotonic() - started, done)
            yield sofar


class Cache:
    """Keys in Redis."""

    def __init__(self, settings: Settings) -> None:
        self._client = redis.connect(settings.redis)
        self.close = self._client.close

    def write(self, plan: Plan, offer: Catalogue, people: Buyers, sofar: Part) -> Iterator[Part]:
        started = time.monotonic()
        rows = cache.fill(self._client, plan, offer, people)
        yield Part(1, rows, time.monotonic() - started, done=True)


class Objects:
    """Logos and posters in the bucket of assets."""

    def __init__(self, settings: Settings) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        self._bucket = settings.object_store.bucket_assets
        self._client = object_store.connect(settings.object_store)
        self.close = self._client.close
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except (BotoCoreError, ClientError) as error:
            raise StoreUnavailable(
                f"the bucket {self._bucket} cannot be reached",
                expected="a bucket that may be written to",
                found=str(error),
                next="bilten status; bilten up makes the buckets of the embedded store",
            ) from None

    def write(self, plan: Plan, offer: Catalogue, people: Buyers, sofar: Part) -> Iterator[Part]:
        started = time.monotonic()
        rows = objects.upload(self._client, self._bucket, plan, offer)
        yield Part(1, rows, time.monotonic() - started, done=True)


WRITERS: Final[Mapping[str, Callable[[Settings], Writer]]] = {
    "clickstream": Clickstream,
    "cache": Cache,
    "objects": Objects,
}
PARTS: Final = tuple(WRITERS)

"""Loads the demo data: operational rows, then clickstream, cache and objects.

What a kill leaves behind
1. While the months of partitioned tables are made: some months, which the next run completes.
2. While the operational rows are loaded: nothing. Rows, late changes, validation and the record in
   system.demo_loads are one transaction, and so are the triggers switched off and on again.
3. After that: the record, with the parts still missing. The same command goes on there. The clickstream is
   sent in batches, each recorded after it was written; one sent again is the same to the byte, and the
   server drops it by the tokens that ingestion.clickstream makes of the content. Keys and objects are
   written again over themselves.

A database that holds events and no such record is not ours to fill: refused before anything is touched.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Final

from bilten_orchestration.demo import cache, objects, operational, record
from bilten_orchestration.demo.catalogue import Catalogue, catalogue
from bilten_orchestration.demo.people import Buyers, buyers
from bilten_orchestration.demo.plan import Plan
from bilten_orchestration.demo.record import Part
from bilten_orchestration.errors import Mismatch, StoreUnavailable, UsageError
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, object_store, postgres, redis
from bilten_orchestration.stores.locks import advisory_lock

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from mypy_boto3_s3 import S3Client

PARTS: Final = ("clickstream", "cache", "objects")
"""What follows the operational rows, each in a store of its own."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a load; `skipped` when an earlier run had done it."""

    name: str
    rows: int
    seconds: float
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class LoadReport:
    """`rows` per table; `digest` is sha256 over every operational row sent, equal for equal plans."""

    seed: int
    scale: float
    today: date
    digest: str
    rows: dict[str, int]
    late_changes: dict[str, int]
    rules: dict[str, int]
    phases: tuple[Phase, ...]
    seconds: float = field(compare=False, default=0.0)


def load(
    settings: Settings,
    *,
    seed: int = 7,
    scale: float = 1.0,
    today: date | None = None,
    parts: Collection[str] = PARTS,
    progress: Progress = silent,
) -> LoadReport:
    """Fill an empty, migrated database, or finish a load that was killed.

    `today` is the UTC day that the data ends before; default: the current one, or that of the load to finish.
    `parts` are those wanted besides the operational rows; the others can follow later.
    Raises Refused (events that are not ours, another plan, production, no schema), LockHeld, Mismatch (a rule
    is broken; nothing is kept), StoreUnavailable (before anything is touched, for every store wanted).
    """
    if unknown := set(parts) - set(PARTS):
        raise UsageError(
            "unknown parts of a load", expected=", ".join(PARTS), found=", ".join(sorted(unknown))
        )
    started = time.monotonic()
    with (
        closing(
            postgres.connect(settings.postgres, application_name="bilten demo load", autocommit=True)
        ) as connection,
        advisory_lock(connection, "demo"),
    ):
        admission = record.admit(settings, connection, seed, scale, today)
        missing = [name for name in PARTS if name in parts and not admission.parts.get(name, Part()).done]
        with _Stores(settings, missing) as stores:
            plan, done = admission.plan, admission.operational
            phases: list[Phase] = []
            offer = people = None
            if done is None or missing:
                offer = catalogue(plan)
                people = buyers(plan, offer)
                progress(
                    f"planned: {len(offer.events.ids):,} events, {len(people.ids):,} buyers, up to {plan.today}"
                )
            skipped = done is not None
            if done is None:
                assert offer is not None and people is not None
                done = operational.fill(
                    connection, plan, offer, people, settings.object_store.bucket_assets, progress
                )
            phases.append(Phase("operational", sum(done.rows.values()), done.seconds, skipped))
            for name in (name for name in PARTS if name in parts):
                part = admission.parts.get(name, Part())
                if part.done:
                    phases.append(Phase(name, part.rows, part.seconds, skipped=True))
                    continue
                assert offer is not None and people is not None
                for part in stores.fill(name, plan, offer, people, part):
                    record.mark(connection, name, part)
                    progress(f"{name}: {part.rows:,} written, {part.seconds:.1f} s")
                phases.append(Phase(name, part.rows, part.seconds))
    return LoadReport(
        seed=plan.seed,
        scale=plan.scale,
        today=plan.today,
        digest=done.digest,
        rows=done.rows,
        late_changes=done.late_changes,
        rules=done.rules,
        phases=tuple(phases),
        seconds=time.monotonic() - started,
    )


class _Stores:
    """The stores of the parts still missing, all reached before the first row is written."""

    def __init__(self, settings: Settings, missing: Collection[str]) -> None:
        self._settings = settings
        self._clickhouse: Client | None = None
        if "clickstream" in missing:
            self._clickhouse = clickhouse.connect(settings.clickhouse)
        self._redis = redis.connect(settings.redis) if "cache" in missing else None
        self._objects = object_store.connect(settings.object_store) if "objects" in missing else None
        if self._objects is not None:
            _require_bucket(self._objects, settings)

    def __enter__(self) -> _Stores:
        return self

    def __exit__(self, *_: object) -> None:
        for client in (self._clickhouse, self._redis, self._objects):
            if client is not None:
                client.close()

    def fill(self, name: str, plan: Plan, offer: Catalogue, people: Buyers, part: Part) -> Iterator[Part]:
        """Write what is missing of a part; yields how far it has come after each batch."""
        started = time.monotonic() - part.seconds
        if name == "clickstream":
            yield from self._fill_clickstream(plan, offer, people, part, started)
        elif name == "cache":
            assert self._redis is not None
            rows = cache.fill(self._redis, plan, offer, people)
            yield Part(1, rows, time.monotonic() - started, done=True)
        else:
            assert self._objects is not None
            rows = objects.upload(self._objects, self._settings.object_store.bucket_assets, plan, offer)
            yield Part(1, rows, time.monotonic() - started, done=True)

    def _fill_clickstream(
        self, plan: Plan, offer: Catalogue, people: Buyers, part: Part, started: float
    ) -> Iterator[Part]:
        # Arrow alone takes a third of a second to import
        from bilten_orchestration.demo import clicks
        from bilten_orchestration.ingestion.clickstream import write_table

        assert self._clickhouse is not None
        zones = clicks.zones(offer)
        last = clicks.batch_count(plan) - 1
        for number, rows in clicks.batches(plan, offer, people, after=part.batches):
            report = write_table(self._clickhouse, rows, zones=zones, history=True)
            if report.rows_rejected:
                raise Mismatch(
                    "the clickstream writer refused rows of the demo data",
                    expected="every row accepted",
                    found=f"{report.rows_rejected} refused: {report.rejected_by_reason}",
                    next="compare bilten_orchestration/demo/clicks.py with ingestion/clickstream_rules.py",
                )
            part = Part(
                number + 1, part.rows + report.rows_written, time.monotonic() - started, done=number == last
            )
            yield part


def _require_bucket(client: S3Client, settings: Settings) -> None:
    """Raises StoreUnavailable unless the bucket of the files can be reached."""
    from botocore.exceptions import BotoCoreError, ClientError

    bucket = settings.object_store.bucket_assets
    try:
        client.head_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(
            f"the bucket {bucket} cannot be reached",
            expected="a bucket that may be written to",
            found=str(error),
            next="bilten status; bilten up makes the buckets of the embedded store",
        ) from None

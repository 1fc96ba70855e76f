"""The other ways back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bilten_orchestration.backups.copies.copy import copy
from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.postgres.logical import take as dump
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.opened import BUCKETS, Opened
from bilten_orchestration.drills import listing
from bilten_orchestration.drills.plan import ways_of
from bilten_orchestration.drills.run import run
from bilten_orchestration.errors import UsageError
from bilten_orchestration.stores.object_store import connect
from tests.integration.backups.wal.conftest import Source
from tests.integration.drills.postgres.conftest import drilled, proof, sell


@pytest.fixture(scope="module", autouse=True)
def past(shop: Source) -> None:
    """Two full backups, an incremental one, WAL behind them, a dump; all of it in the second bucket too."""
    sell(shop.settings, 5)
    shop.await_reach(shop.now())
    take(shop.settings, "incremental")
    sell(shop.settings, 5)
    dump(shop.settings)
    shop.await_reach(shop.now())
    shop.await_reach(shop.now(), number=1)
    copy(shop.settings)


@pytest.mark.faults
def test_the_end_of_wal(shop: Source) -> None:
    course = drilled(shop.settings, "latest")
    assert course.ok, course.proofs
    assert len(course.backups) == 2
    assert "combine" in course.phases
    # WAL is shipped each second here
    assert course.figures["lost_seconds"] < 30
    assert course.reached_at is not None


@pytest.mark.faults
def test_a_moment(shop: Source) -> None:
    course = drilled(shop.settings, "moment")
    assert course.ok, course.proofs
    assert course.reached_at is None or course.reached_at < datetime.now(UTC)


@pytest.mark.faults
def test_the_oldest_full_backup(shop: Source) -> None:
    course = drilled(shop.settings, "oldest_full")
    assert course.ok, course.proofs
    assert len(course.backups) == 1
    assert course.backups[0].endswith("full") or "full" in course.backups[0]
    assert course.counts["payments.payments"] == 200


@pytest.mark.faults
def test_the_second_bucket_tells_of_its_own_drill(shop: Source) -> None:
    """Its marks name the drill at once, and no copy was made since: the attestation is there before them."""
    (report,) = run(shop.settings, "postgres", way="second_bucket")
    assert report.ok, report.problems
    for bucket in BUCKETS:
        found = listing.listed(shop.settings, "postgres", whole=True, bucket=bucket)
        assert found.problems == ()
        assert found.drills[-1].report.id == report.id
    with Opened.of(shop.settings, new=False, bucket="copy") as opened:
        backups = catalogue.read(opened.repository, opened.ring, "postgres").backups
    assert {each.manifest.id for each in backups if each.state == "drilled"} >= set(report.backups)


def test_one_table(shop: Source) -> None:
    course = drilled(shop.settings, "table")
    assert course.ok, course.proofs
    ((table, rows),) = course.counts.items()
    assert proof(course, f"rows of {table}").ok
    assert rows > 0
    assert proof(course, "bt_index_check").ok
    assert course.rto_seconds is not None


def test_a_way_that_is_none(shop: Source) -> None:
    with pytest.raises(UsageError, match="no way 'sideways'"):
        drilled(shop.settings, "sideways")
    assert {way.name for way in ways_of("postgres")} == {
        "exact", "moment", "oldest_full", "second_bucket", "table", "latest"
    }  # fmt: skip


def test_the_second_bucket_with_the_first_one_gone(shop: Source) -> None:
    shop.stream.stop()  # it would replace what is read and put back here
    store = shop.settings.object_store
    client = connect(store)
    kept = {}
    with Opened.of(shop.settings) as opened:
        for listed in list(opened.repository.list("")):
            kept[listed.name] = b"".join(opened.repository.read(listed.name))
    for name in kept:
        client.delete_object(Bucket=store.bucket_backups, Key=name)
    try:
        course = drilled(shop.settings, "second_bucket")
    finally:
        for name, body in kept.items():
            client.put_object(Bucket=store.bucket_backups, Key=name, Body=body)
        client.close()
        shop.stream.start()
    assert course.ok, course.proofs
    assert course.bucket == "copy"

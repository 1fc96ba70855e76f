"""Buckets: there or not, and what a walk in small steps adds up to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local import ports
from bilten_orchestration.observability.exporter import object_store as exporter
from bilten_orchestration.observability.exporter.object_store import ObjectStoreInternals
from bilten_orchestration.settings import ObjectStoreSettings, Settings
from bilten_orchestration.stores import object_store
from tests.conftest import Servers
from tests.integration.observability.exporter.conftest import series

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def buckets(servers: Servers) -> ObjectStoreSettings:
    return servers.buckets()


@pytest.fixture
def client(buckets: ObjectStoreSettings) -> Iterator[S3Client]:
    with closing(object_store.connect(buckets)) as found:
        yield found


def test_a_walk_in_small_steps_counts_every_object_once(
    buckets: ObjectStoreSettings, client: S3Client
) -> None:
    for number in range(11):
        client.put_object(Bucket=buckets.bucket_backups, Key=f"a/{number:02}", Body=b"x" * number)
    settings = Settings(environment="test", object_store=buckets)
    source = ObjectStoreInternals(settings, buckets, buckets.buckets, page_objects=2)
    first = series(source)
    for bucket in buckets.buckets:
        assert first["object_store_bucket_reachable", bucket] == 1
        assert 0 < first["object_store_request_duration_seconds", bucket] < 60
    objects, size = (
        ("object_store_objects", buckets.bucket_backups),
        ("object_store_size_bytes", buckets.bucket_backups),
    )
    assert objects not in first  # six of eleven are no number of objects
    looks = 1
    while objects not in (found := series(source)):
        looks += 1
        assert looks < 5
    assert (found[objects], found[size]) == (11, 55)
    for _ in range(2):
        found = series(source)
    assert found["object_store_objects", buckets.bucket_assets] == 0
    # until the next walk the numbers are those of the last one
    client.put_object(Bucket=buckets.bucket_backups, Key="b", Body=b"12345")
    assert series(source)[objects] == 11
    before = found["object_store_listed_timestamp_seconds", buckets.bucket_backups]
    source._walked[buckets.bucket_backups] = replace(
        source._walked[buckets.bucket_backups], ended=float("-inf")
    )
    assert series(source)[objects] == 11  # a walk under way changes nothing
    series(source)
    found = series(source)
    assert (found[objects], found[size]) == (12, 60)
    assert found["object_store_listed_timestamp_seconds", buckets.bucket_backups] > before


def test_a_bucket_that_is_gone_and_a_store_that_is(buckets: ObjectStoreSettings, client: S3Client) -> None:
    settings = Settings(environment="test", object_store=buckets)
    source = ObjectStoreInternals(settings, buckets, buckets.buckets)
    for _ in range(2):
        series(source)
    client.delete_bucket(Bucket=buckets.bucket_assets)
    found = series(source)
    assert found["object_store_bucket_reachable", buckets.bucket_assets] == 0
    assert found["object_store_bucket_reachable", buckets.bucket_backups] == 1
    assert ("object_store_objects", buckets.bucket_assets) not in found
    assert ("object_store_objects", buckets.bucket_backups) in found
    away = buckets.model_copy(update={"endpoint_url": f"http://127.0.0.1:{ports.any_free()}"})
    with pytest.raises(StoreUnavailable, match="went away"):
        ObjectStoreInternals(settings, away, away.buckets).read()


def test_a_second_bucket_elsewhere_is_asked_there(buckets: ObjectStoreSettings) -> None:
    elsewhere = buckets.model_copy(update={"copy_endpoint_url": "http://127.0.0.1:1"})
    here, there = exporter.sources(Settings(environment="test", object_store=elsewhere))
    assert there.buckets == (buckets.bucket_backups_copy,)
    assert set(here.buckets) == {*buckets.buckets} - {buckets.bucket_backups_copy}
    assert there.store.endpoint_url == "http://127.0.0.1:1"
    assert set(series(here)) >= {("object_store_bucket_reachable", bucket) for bucket in here.buckets}
    with pytest.raises(StoreUnavailable):
        there.read()

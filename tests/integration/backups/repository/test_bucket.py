"""Objects in a real store: whole or not at all, never overwritten, read over broken connections."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator

import pytest

from bilten_orchestration.backups.repository.bucket import PART_BYTES, Repository
from bilten_orchestration.errors import AccessRefused, Mismatch, StoreFull, StoreUnavailable
from bilten_orchestration.local import ports
from bilten_orchestration.settings import ObjectStoreSettings
from bilten_orchestration.stores.object_store import connect
from tests.integration.backups import troubled_store


def _pieces(body: bytes) -> Iterator[bytes]:
    for at in range(0, len(body), 700_001):
        yield body[at : at + 700_001]


@pytest.mark.parametrize("size", [1, PART_BYTES, 3 * PART_BYTES + 5])
def test_a_stream_is_kept_whole(repository: Repository, size: int) -> None:
    body = random.Random(size).randbytes(size)
    stored = repository.write("objects/one", _pieces(body))
    assert (stored.bytes, stored.sha256) == (size, hashlib.sha256(body).hexdigest())
    assert b"".join(repository.read("objects/one")) == body
    (listed,) = repository.list("objects/")
    assert (listed.name, listed.bytes) == ("objects/one", size)


@pytest.mark.parametrize("after", [0, 100, 2 * PART_BYTES + 1])
def test_a_stream_that_breaks_leaves_no_object(repository: Repository, after: int) -> None:
    def breaks() -> Iterator[bytes]:
        yield from _pieces(bytes(after))
        raise RuntimeError("pg_basebackup ended with exit code 1")

    with pytest.raises(RuntimeError, match="exit code 1"):
        repository.write("objects/one", breaks())
    assert repository.find("objects/one") is None
    assert list(repository.list("")) == []


def test_nothing_is_overwritten(repository: Repository) -> None:
    repository.write("objects/one", [b"first"])
    with pytest.raises(Mismatch, match="never overwritten"):
        repository.write("objects/one", [b"second"])
    repository.write_small("objects/small", b"first")
    assert repository.write_small("objects/small", b"first").bytes == 5
    with pytest.raises(Mismatch, match="never overwritten"):
        repository.write_small("objects/small", b"second")
    assert b"".join(repository.read("objects/one")) == b"first" == repository.read_small("objects/small")


def test_what_is_not_there(repository: Repository) -> None:
    assert repository.find("objects/none") is None
    with pytest.raises(Mismatch, match="objects/none is not there"):
        repository.read_small("objects/none")
    with pytest.raises(Mismatch, match="objects/none is not there"):
        next(repository.read("objects/none"))
    assert list(repository.list("objects/none")) == []


def test_listing_has_no_end_at_a_thousand(repository: Repository) -> None:
    names = [f"many/{number:04}" for number in range(1_001)]
    for name in names:
        repository.write_small(name, b"x")
    assert [listed.name for listed in repository.list("many/")] == names


def test_wrong_keys_and_a_dead_store_are_told_apart(buckets: ObjectStoreSettings) -> None:
    wrong = buckets.model_copy(update={"secret_access_key": type(buckets.secret_access_key)("wrong-" * 4)})
    client = connect(wrong)
    with pytest.raises(AccessRefused, match="BILTEN_OBJECT_STORE__ACCESS_KEY_ID"):
        list(Repository(client, buckets.bucket_backups).list(""))
    client.close()
    client = connect(buckets.model_copy(update={"endpoint_url": f"http://127.0.0.1:{ports.any_free()}"}))
    with pytest.raises(StoreUnavailable, match="does not serve"):
        Repository(client, buckets.bucket_backups).find("objects/one")
    client.close()


@pytest.mark.parametrize("cuts", [1, 4])
def test_a_broken_connection_is_taken_up_where_it_broke(
    repository: Repository, buckets: ObjectStoreSettings, cuts: int
) -> None:
    body = random.Random(cuts).randbytes(12_000_000)
    repository.write("objects/one", [body])
    with troubled_store.before(buckets) as troubled:
        client = connect(troubled.settings)
        troubled.cuts(2_500_000, times=cuts)
        assert b"".join(Repository(client, buckets.bucket_backups).read("objects/one")) == body
        assert troubled.cuts_left == 0, "it has not cut as often as it should"
        client.close()


def test_a_step_whose_answer_is_lost_is_done_once(
    buckets: ObjectStoreSettings, repository: Repository
) -> None:
    """The store has completed the upload; asked again it knows of no upload, and the object is there."""
    size = 2 * PART_BYTES + 5
    body = random.Random(size).randbytes(size)
    with troubled_store.before(buckets) as troubled:
        client = connect(troubled.settings)
        troubled.loses(lambda request: request.completes)
        stored = Repository(client, buckets.bucket_backups).write("objects/one", _pieces(body))
        assert troubled.losses_left == 0, "no answer was lost"
        client.close()
    assert (stored.bytes, stored.sha256) == (size, hashlib.sha256(body).hexdigest())
    assert b"".join(repository.read("objects/one")) == body
    assert list(repository.unfinished()) == []


@pytest.mark.parametrize(("status", "code"), [(507, "XMinioStorageFull"), (403, "QuotaExceeded")])
@pytest.mark.parametrize("size", [10, PART_BYTES + 5])
def test_a_full_store_is_told_at_once(
    buckets: ObjectStoreSettings, repository: Repository, size: int, status: int, code: str
) -> None:
    with troubled_store.before(buckets) as troubled:
        client = connect(troubled.settings)
        through = Repository(client, buckets.bucket_backups)
        assert through.find("objects/one") is None
        troubled.full(status=status, code=code)
        before = troubled.requests
        with pytest.raises(StoreFull, match="no room for"):
            through.write("objects/one", _pieces(bytes(size)))
        assert troubled.requests - before <= 4, "it was asked again and again"
        troubled.well()
        assert through.write("objects/one", _pieces(bytes(size))).bytes == size
        client.close()
    assert list(repository.unfinished()) == []


def test_work_waits_for_a_store_that_went_away_and_a_look_does_not(
    buckets: ObjectStoreSettings, repository: Repository
) -> None:
    repository.write("objects/one", [b"first"])
    told: list[str] = []
    with troubled_store.before(buckets) as troubled:
        troubled.away()
        began = time.monotonic()
        client = connect(troubled.settings, patience_seconds=60)
        with pytest.raises(StoreUnavailable):
            list(Repository(client, buckets.bucket_backups).list(""))
        assert time.monotonic() - began < 10
        client.close()

        troubled.back()
        client = connect(troubled.settings, patience_seconds=60, progress=told.append)
        through = Repository(client, buckets.bucket_backups)
        assert [listed.name for listed in through.list("")] == ["objects/one"]
        troubled.away()
        back = threading.Timer(3, troubled.back)
        back.start()
        assert through.read_small("objects/one") == b"first"
        assert any("waiting for it" in text for text in told)
        troubled.fails(5)
        through.write("objects/two", _pieces(bytes(PART_BYTES + 5)))
        back.join()
        client.close()
    assert {listed.name for listed in repository.list("")} == {"objects/one", "objects/two"}

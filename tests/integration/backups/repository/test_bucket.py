"""Objects in a real store: whole or not at all, never overwritten, read over broken connections."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading
from collections.abc import Iterator

import pytest

from bilten_orchestration.backups.repository.bucket import PART_BYTES, Repository
from bilten_orchestration.errors import AccessRefused, Mismatch, StoreUnavailable
from bilten_orchestration.local import ports
from bilten_orchestration.settings import ObjectStoreSettings
from bilten_orchestration.stores.object_store import connect


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


class _Cutting:
    """A proxy that breaks each of the first `cuts` connections after `after` bytes of answer."""

    def __init__(self, target: tuple[str, int], *, after: int, cuts: int) -> None:
        self._target, self._after, self.left = target, after, cuts
        self._listener = socket.create_server((ports.LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            cut = self.left > 0
            self.left -= cut
            threading.Thread(target=self._copy, args=(client, server, None), daemon=True).start()
            limit = self._after if cut else None
            threading.Thread(target=self._copy, args=(server, client, limit), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, limit: int | None) -> None:
        try:
            while chunk := source.recv(65_536 if limit is None else min(65_536, limit)):
                target.sendall(chunk)
                if limit is not None:
                    limit -= len(chunk)
                    if limit <= 0:
                        break
        except OSError:
            pass
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("cuts", [1, 4])
def test_a_broken_connection_is_taken_up_where_it_broke(
    repository: Repository, buckets: ObjectStoreSettings, cuts: int
) -> None:
    body = random.Random(cuts).randbytes(12_000_000)
    repository.write("objects/one", [body])
    assert buckets.endpoint_url is not None
    port = int(buckets.endpoint_url.rsplit(":", 1)[1])
    proxy = _Cutting((ports.LOOPBACK, port), after=2_500_000, cuts=cuts)
    client = connect(buckets.model_copy(update={"endpoint_url": f"http://{ports.LOOPBACK}:{proxy.port}"}))
    try:
        assert b"".join(Repository(client, buckets.bucket_backups).read("objects/one")) == body
        assert proxy.left == 0, "the proxy has not cut as often as it should"
    finally:
        client.close()
        proxy.close()

"""A repository with backups that nobody had to take: random bytes under signed manifests."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bilten_orchestration.backups.repository import catalogue, keys
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.encryption import Cipher
from bilten_orchestration.backups.repository.manifest import BackupObject, Manifest, Mark, WalRange, new_id
from bilten_orchestration.backups.repository.opened import Bucket, Opened, key_file
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.object_store import connect


@dataclass
class Depot:
    settings: Settings
    clients: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys.ensure(key_file(self.settings))

    @contextmanager
    def opened(self, bucket: Bucket = "first") -> Iterator[Opened]:
        """As Opened.of, without a new client each time: to make one takes longer than to use it."""
        ring = keys.read(key_file(self.settings))
        with self._client(bucket) as (client, there):
            yield Opened(Repository(client, there), ring, Cipher(ring), self.settings.backups)

    def add(
        self,
        *,
        age: timedelta = timedelta(hours=1),
        objects: int = 2,
        size: int = 1000,
        listed: bool = True,
        **changed: Any,
    ) -> Manifest:
        """One backup; `listed=False` leaves its manifest out, as a kill does."""
        started_at = datetime.now(UTC) - age
        kind, store = changed.get("kind", "full"), changed.get("store", "postgres")
        backup_id = new_id(store, kind, started_at)
        stored = []
        with self.opened() as opened:
            for number in range(objects):
                body = random.Random(f"{backup_id}{number}").randbytes(size)
                name = f"objects/{store}/{backup_id}/{number:06}"
                opened.repository.write(name, [body])
                stored.append(BackupObject(name, size, hashlib.sha256(body).hexdigest(), size))
            manifest = Manifest(
                **{
                    "id": backup_id,
                    "store": store,
                    "kind": kind,
                    "source": "7563",
                    "started_at": started_at,
                    "finished_at": started_at + timedelta(minutes=1),
                    "raw_bytes": size * objects,
                    "codec": "zstd",
                    "objects": tuple(stored),
                    "key_id": opened.ring.current,
                    "versions": {"postgres": "18.1"},
                    "wal": WalRange(1, "0/2000028", "0/2000120"),
                    **changed,
                }
            )
            if listed:
                catalogue.add(opened.repository, opened.ring, manifest)
        return manifest

    def mark(self, manifest: Manifest, name: str, bucket: Bucket = "first") -> None:
        found = Mark(manifest.id, name, datetime.now(UTC), "a test")  # type: ignore[arg-type]
        with self.opened(bucket) as opened:
            catalogue.mark(opened.repository, opened.ring, manifest, found)

    def put(self, name: str, body: bytes = b"x", bucket: Bucket = "first") -> None:
        """Over what is there, as no part of the product does."""
        with self._client(bucket) as (client, there):
            client.put_object(Bucket=there, Key=name, Body=body)

    def remove(self, name: str, bucket: Bucket = "first") -> None:
        with self.opened(bucket) as opened:
            opened.repository.remove(name)

    def names(self, bucket: Bucket = "first", prefix: str = "") -> list[str]:
        with self.opened(bucket) as opened:
            return [each.name for each in opened.repository.list(prefix)]

    def read(self, name: str, bucket: Bucket = "first") -> bytes:
        with self.opened(bucket) as opened:
            return opened.repository.read_small(name)

    def listed(self, bucket: Bucket = "first") -> list[str]:
        with self.opened(bucket) as opened:
            found = catalogue.read(opened.repository, opened.ring)
        assert found.problems == ()
        return [backup.manifest.id for backup in found.backups]

    def assert_whole(self, bucket: Bucket = "first") -> None:
        """Everything that is listed is there, object by object, and so are the parents."""
        with self.opened(bucket) as opened:
            found = catalogue.read(opened.repository, opened.ring)
            ids = {backup.manifest.id for backup in found.backups}
            for backup in found.backups:
                assert backup.manifest.parent is None or backup.manifest.parent in ids
                for each in backup.manifest.objects:
                    body = opened.repository.read_small(each.name)
                    assert hashlib.sha256(body).hexdigest() == each.sha256

    def destroy(self, bucket: Bucket = "first") -> None:
        """The bucket with all that is in it."""
        names = self.names(bucket)
        with self._client(bucket) as (client, there):
            for name in names:
                client.delete_object(Bucket=there, Key=name)
            client.delete_bucket(Bucket=there)

    @contextmanager
    def _client(self, bucket: Bucket) -> Iterator[tuple[Any, str]]:
        store = self.settings.object_store
        of_bucket = store if bucket == "first" else store.of_copy
        address = str(of_bucket.endpoint_url)
        if address not in self.clients:
            self.clients[address] = connect(of_bucket)
        name = store.bucket_backups if bucket == "first" else store.bucket_backups_copy
        yield self.clients[address], name

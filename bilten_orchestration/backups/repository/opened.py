"""The repository of a deployment, opened: a bucket, keys, and how objects are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bilten_orchestration.backups.repository import keys, memory, objects
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.busy import Busy
from bilten_orchestration.backups.repository.chunks import overlapping
from bilten_orchestration.backups.repository.encryption import Cipher
from bilten_orchestration.backups.repository.kms import Kms
from bilten_orchestration.backups.repository.manifest import BackupObject, Manifest
from bilten_orchestration.backups.repository.tar_slices import Continues
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import BackupSettings, Settings
from bilten_orchestration.stores.object_store import connect

# which of the two
Bucket = Literal["first", "copy"]
BUCKETS: tuple[Bucket, ...] = ("first", "copy")


@dataclass(frozen=True, slots=True)
class Opened:
    """`repository` is the bucket that backups are written to, or the one that they are copied to."""

    repository: Repository
    ring: keys.KeyRing
    cipher: Cipher
    settings: BackupSettings

    @classmethod
    @contextmanager
    def of(
        cls,
        settings: Settings,
        *,
        new: bool = True,
        bucket: Bucket = "first",
        patience_seconds: float | None = None,
        progress: Progress = silent,
    ) -> Iterator[Opened]:
        """With `new` a missing key file is made; a restore must not make one. `patience_seconds` and
        `progress` as of object_store.connect."""
        memory.bound()
        place = key_file(settings)
        wrapping = Kms(settings.backups)
        ring = keys.ensure(place, wrapping) if new else keys.read(place, wrapping)
        first = settings.object_store
        name, store = (
            (first.bucket_backups, first) if bucket == "first" else (first.bucket_backups_copy, first.of_copy)
        )
        client = connect(
            store, checked=bucket == "copy", patience_seconds=patience_seconds, progress=progress
        )
        try:
            yield cls(
                Repository(client, name),
                ring,
                Cipher(ring),
                settings.backups,
            )
        finally:
            client.close()

    def put(
        self, backup_id: str, name: str, chunks: Iterable[bytes], *, continues: Continues | None = None
    ) -> BackupObject:
        return objects.put(
            self.repository, self.cipher, self.settings, backup_id, name, chunks, continues=continues
        )

    def put_slices(
        self, backup_id: str, slices: Iterable[tuple[str, Continues | None, Iterable[bytes]]]
    ) -> list[BackupObject]:
        """Objects of one stream, each with its name, the file that goes on in it, and its bytes.

        While the last parts of one are uploaded the next one is read: else a fifth of a backup's time is
        waiting for ends.
        """

        def put(head: tuple[str, Continues | None], chunks: Iterable[bytes]) -> BackupObject:
            name, continues = head
            return self.put(backup_id, name, chunks, continues=continues)

        return overlapping((((name, continues), chunks) for name, continues, chunks in slices), put)

    def get(self, of: Manifest, wanted: BackupObject, busy: Busy | None = None) -> Iterator[bytes]:
        """Raises Mismatch where it is not the object that was written, or its key is lost."""
        if of.sealing == "clickhouse":
            self.ring.key(of.key_id)
            return objects.checked(self.repository, wanted)
        return objects.get(self.repository, self.cipher, of.id, wanted, of.codec, busy)


def key_file(settings: Settings) -> Path:
    """Where the keys lie."""
    return settings.backups.key_file or settings.home / "backup-keys.json"

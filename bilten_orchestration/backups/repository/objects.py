"""Objects of a backup: compressed, encrypted, stored, and the same way back.

The stages run side by side, each a few pieces ahead of the next, so that a stream is as fast as its slowest
stage and memory stays the same whatever its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing

from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.busy import Busy
from bilten_orchestration.backups.repository.chunks import ahead
from bilten_orchestration.backups.repository.compression import BROKEN, Codec, compress, decompress
from bilten_orchestration.backups.repository.encryption import Cipher
from bilten_orchestration.backups.repository.manifest import BackupObject
from bilten_orchestration.backups.repository.tar_slices import Continues
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.settings import BackupSettings

Chunks = Iterator[bytes]


def name_of(store: str, backup_id: str, what: int | str) -> str:
    """Where an object lies: numbered, or by name."""
    return (
        f"objects/{store}/{backup_id}/{what:06}"
        if isinstance(what, int)
        else (f"objects/{store}/{backup_id}/{what}")
    )


def put(
    repository: Repository,
    cipher: Cipher,
    settings: BackupSettings,
    backup_id: str,
    name: str,
    chunks: Iterable[bytes],
    *,
    continues: Continues | None = None,
) -> BackupObject:
    """Store one object; nothing is left when `chunks` raises. Errors as Repository.write."""
    counted = _Counted(chunks)
    packed = compress(counted, settings.codec, settings.level, settings.threads)
    with ahead(packed) as compressed, ahead(cipher.encrypt(compressed, _context(backup_id, name))) as sealed:
        stored = repository.write(name, sealed)
    return BackupObject(name, stored.bytes, stored.sha256, counted.bytes, continues)


def get(
    repository: Repository,
    cipher: Cipher,
    backup_id: str,
    wanted: BackupObject,
    codec: Codec,
    busy: Busy | None = None,
) -> Iterator[bytes]:
    """What was put. Pieces are authentic as they come; that nothing is missing is known at the end.

    `busy` learns how long the store took (download), and for how long whoever takes the pieces (decrypt)
    waited for it.

    Raises Mismatch for anything that is not the object that the manifest names.
    """
    digest = hashlib.sha256()
    raw = 0
    with closing(repository.read(wanted.name)) as read:

        def seen() -> Iterator[bytes]:
            for chunk in read if busy is None else busy.making("download", read):
                digest.update(chunk)
                yield chunk

        try:
            with ahead(seen()) as stored:
                taken = stored if busy is None else busy.awaiting("decrypt", stored)
                for piece in decompress(cipher.decrypt(taken, _context(backup_id, wanted.name)), codec):
                    raw += len(piece)
                    yield piece
        except BROKEN as error:
            raise _other(wanted.name, "what was compressed", str(error)) from None
    if digest.hexdigest() != wanted.sha256:
        raise _other(wanted.name, f"SHA-256 {wanted.sha256}", digest.hexdigest())
    if raw != wanted.raw_bytes:
        raise _other(wanted.name, f"{wanted.raw_bytes} bytes before compression", f"{raw} bytes")


def checked(repository: Repository, wanted: BackupObject) -> Iterator[bytes]:
    """An object as it is stored; that it is the one that was written is known at the end.

    Raises Mismatch for anything that is not the object that the manifest names.
    """
    digest = hashlib.sha256()
    with closing(repository.read(wanted.name)) as read:
        for chunk in read:
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != wanted.sha256:
        raise _other(wanted.name, f"SHA-256 {wanted.sha256}", digest.hexdigest())


def _context(backup_id: str, name: str) -> dict[str, str]:
    return {"backup": backup_id, "object": name}


def _other(name: str, expected: str, found: str) -> Mismatch:
    return Mismatch(
        f"{name} is not the object that the manifest names",
        expected=expected,
        found=found,
        next="the second bucket may have it whole; bilten backup list shows other backups",
    )


class _Counted:
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.bytes += len(chunk)
            yield chunk

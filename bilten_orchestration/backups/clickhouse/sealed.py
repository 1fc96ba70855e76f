"""Files as ClickHouse's encrypted disk stores them: a header of 64 bytes, then AES in counter mode.

The header (src/Disks/DiskEncrypted there): "ENC", a version and an algorithm of two bytes each, a fingerprint
of the key (16 bytes), the counter's start (16 bytes), zeros. Nothing is authenticated: whether a file is the
one that was written, only its SHA-256 in our manifest can tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bilten_orchestration.backups.clickhouse.disks import disk_key
from bilten_orchestration.backups.repository.keys import KeyRing
from bilten_orchestration.errors import Mismatch

HEADER_BYTES = 64
_MAGIC = b"ENC"
_VERSIONS = (1, 2)
_AES_256_CTR = 2
# how ClickHouse's own list of a backup's files begins
_BEGINS = (b"<config", b"<?xml")


@dataclass(frozen=True, slots=True)
class Header:
    """`fingerprint` is the same in every file under one key."""

    fingerprint: bytes
    counter: bytes


def header(name: str, start: bytes) -> Header:
    """Of a file's first bytes. Raises Mismatch for what is no file of an encrypted disk."""
    version, algorithm = (int.from_bytes(start[at : at + 2], "little") for at in (3, 5))
    if (
        len(start) < HEADER_BYTES
        or start[:3] != _MAGIC
        or version not in _VERSIONS
        or algorithm != _AES_256_CTR
    ):
        raise Mismatch(
            f"{name} is not encrypted",
            expected="a file of a disk with AES_256_CTR",
            found=f"{len(start)} bytes that begin otherwise",
            next="see the disk's configuration: bilten backup preflight clickhouse",
        )
    return Header(start[7:23], start[23:39])


def decrypted(name: str, chunks: Iterable[bytes], key: bytes) -> Iterator[bytes]:
    """The content, of chunks that were checked against the manifest. `key` is of the key file."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    start = b""
    decryptor = None
    for chunk in chunks:
        if decryptor is None:
            start += chunk
            if len(start) < HEADER_BYTES:
                continue
            counter = header(name, start[:HEADER_BYTES]).counter
            decryptor = Cipher(algorithms.AES256(disk_key(key)), modes.CTR(counter)).decryptor()
            chunk = start[HEADER_BYTES:]
        yield decryptor.update(chunk)
    if decryptor is None:
        header(name, start)  # raises


def key_of_list(name: str, start: bytes, ring: KeyRing) -> str:
    """The id of the key that a backup's list of files is encrypted under, told from its first bytes.

    Raises Mismatch when it is none of ours: such a backup could be read by nobody.
    """
    for key_id in (ring.current, *sorted(ring.keys)):
        if b"".join(decrypted(name, [start], ring.keys[key_id])).startswith(_BEGINS):
            return key_id
    raise Mismatch(
        "ClickHouse encrypts under a key that is not in the key file",
        expected=f"one of {', '.join(sorted(ring.keys))}",
        found="another one",
        next="give the server the disks of this key file (bilten up; bilten backup clickhouse-disks), "
        "and repeat the backup",
    )

"""Encryption of what goes into the repository: AES-256-GCM through the AWS Encryption SDK.

Each object is a message of its own with a data key of its own, wrapped under a key of the key file, and
can be decrypted alone. What the object is (backup, name) is authenticated with it: an object put in the
place of another one does not decrypt. Frames are of 1 MiB: with the SDK's 4 KiB it is thirty times slower.

The messages are those of the SDK's raw AES keyring, key namespace `bilten`, key name = key id, so that any
of AWS's implementations reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bilten_orchestration.backups.repository.chunks import as_file
from bilten_orchestration.backups.repository.keys import KeyRing
from bilten_orchestration.errors import Mismatch

if TYPE_CHECKING:
    from aws_encryption_sdk import EncryptionSDKClient

NAMESPACE = "bilten"
FRAME_BYTES = 1 << 20
# a wrapped data key, and the context beside it, are small; a header that claims more is no header of ours
_MOST_DATA_KEYS = 4
# behind the key's name: lengths of tag and IV (4 bytes each), and the IV
_KEY_INFORMATION_BYTES = 20


class Cipher:
    """Encrypts under the current key, decrypts under all. Holds no state between messages."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        self._client = _client()

    def encrypt(self, chunks: Iterable[bytes], context: Mapping[str, str]) -> Iterator[bytes]:
        """The message, in pieces; memory is a few frames. `context` is readable in it, and authenticated."""
        from aws_encryption_sdk.identifiers import AlgorithmSuite

        with self._client.stream(
            mode="e",
            source=as_file(chunks),
            key_provider=_provider(self.ring, [self.ring.current]),
            # without a signature: who reads has the key that writes, and a frame is to be used when it came
            algorithm=AlgorithmSuite.AES_256_GCM_HKDF_SHA512_COMMIT_KEY,
            encryption_context=dict(context),
            frame_length=FRAME_BYTES,
        ) as message:
            while piece := message.read(FRAME_BYTES):
                yield piece

    def decrypt(self, chunks: Iterable[bytes], context: Mapping[str, str]) -> Iterator[bytes]:
        """What was encrypted with this `context`. Pieces are authentic; that all came is known at the end.

        Raises Mismatch: a lost or wrong key, changed or missing bytes, or an object that belongs elsewhere.
        """
        from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError
        from cryptography.exceptions import InvalidTag

        where = ", ".join(f"{name} {value}" for name, value in context.items())
        provider, source = _provider(self.ring, self.ring.keys), as_file(chunks)
        try:
            message = self._client.stream(mode="d", source=source, key_provider=provider)
            found = message.header.encryption_context
            if any(found.get(name) != value for name, value in context.items()):
                raise _damaged(where, f"it says of itself {_said(found)}")
            while piece := message.read(FRAME_BYTES):
                yield piece
            message.close()  # raises unless the last frame was read
            if source.read(1):
                raise _damaged(where, "bytes behind its end")
        except (AWSEncryptionSDKClientError, InvalidTag, ValueError, TypeError, KeyError) as error:
            for key_id in provider.lost:
                self.ring.key(key_id)  # raises, naming it
            # the SDK parses what it is given: damaged lengths and names end in all of these
            raise _damaged(where, type(error).__name__) from error

    def encrypt_bytes(self, body: bytes, context: Mapping[str, str]) -> bytes:
        return b"".join(self.encrypt([body], context))

    def decrypt_bytes(self, message: bytes, context: Mapping[str, str]) -> bytes:
        return b"".join(self.decrypt([message], context))


def _said(context: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in context.items() if not name.startswith("aws-"))


def _damaged(where: str, found: str) -> Mismatch:
    return Mismatch(
        f"an object does not decrypt: {where}",
        expected="the bytes that were written, under a key of the key file",
        found=found,
        next="bilten backup list shows other backups; the second bucket may have the object whole",
    )


def _client() -> EncryptionSDKClient:
    from aws_encryption_sdk import CommitmentPolicy, EncryptionSDKClient

    return EncryptionSDKClient(
        commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT,
        max_encrypted_data_keys=_MOST_DATA_KEYS,
    )


def _provider(ring: KeyRing, key_ids: Iterable[str]) -> Any:
    """A provider of these keys; `lost` are the names of others that a message was wrapped under."""
    from aws_encryption_sdk.identifiers import EncryptionKeyType, WrappingAlgorithm
    from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
    from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider

    class FromRing(RawMasterKeyProvider):  # type: ignore[misc]
        provider_id = NAMESPACE

        def __init__(self, **config: Any) -> None:
            super().__init__(**config)
            self.lost: list[str] = []

        def decrypt_data_key(self, encrypted: Any, algorithm: Any, context: Any) -> Any:
            name = encrypted.key_provider.key_info[:-_KEY_INFORMATION_BYTES].decode(errors="replace")
            if name not in ring.keys:
                self.lost.append(name)
            return super().decrypt_data_key(encrypted, algorithm, context)

        def _get_raw_key(self, key_id: bytes | str) -> WrappingKey:
            name = key_id.decode() if isinstance(key_id, bytes) else key_id
            return WrappingKey(
                wrapping_algorithm=WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING,
                wrapping_key=ring.key(name),
                wrapping_key_type=EncryptionKeyType.SYMMETRIC,
            )

    provider = FromRing()
    for key_id in key_ids:
        provider.add_master_key(key_id)
    return provider

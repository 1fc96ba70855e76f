"""What is encrypted comes back whole, or not at all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.encryption import FRAME_BYTES, Cipher
from bilten_orchestration.errors import Mismatch

CONTEXT = {"backup": "20261121T020000Z-postgres-full-abcdef", "object": "objects/1"}


@pytest.fixture
def ring(tmp_path: Path) -> keys.KeyRing:
    return keys.ensure(tmp_path / "keys.json")


@pytest.fixture
def cipher(ring: keys.KeyRing) -> Cipher:
    return Cipher(ring)


def _cut(body: bytes, seed: int) -> Iterator[bytes]:
    """In pieces of random length, as they come from a socket."""
    pieces, at = random.Random(seed), 0
    while at < len(body):
        size = pieces.choice((1, 100, 65_536, 3 * FRAME_BYTES))
        yield body[at : at + size]
        at += size


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 5 * FRAME_BYTES + 7])
def test_round_trip(cipher: Cipher, size: int) -> None:
    body = random.Random(size).randbytes(size)
    message = b"".join(cipher.encrypt(_cut(body, 1), CONTEXT))
    assert b"".join(cipher.decrypt(_cut(message, 2), CONTEXT)) == body
    assert len(message) - size < 600 + 40 * (size // FRAME_BYTES + 1)
    assert size < 16 or body[:16] not in message


def test_every_message_is_another_one(cipher: Cipher) -> None:
    assert cipher.encrypt_bytes(b"same", CONTEXT) != cipher.encrypt_bytes(b"same", CONTEXT)


def test_no_byte_can_be_changed(cipher: Cipher) -> None:
    """Header, wrapped key, context, frames and tags: every single one."""
    message = cipher.encrypt_bytes(b"two hundred orders", CONTEXT)
    for place in range(len(message)):
        for changed in (message[place] ^ 1, message[place] ^ 0x80):
            with pytest.raises(Mismatch):
                cipher.decrypt_bytes(message[:place] + bytes([changed]) + message[place + 1 :], CONTEXT)


def test_nothing_can_be_cut_off_or_added(cipher: Cipher) -> None:
    message = cipher.encrypt_bytes(random.Random(1).randbytes(3 * FRAME_BYTES), CONTEXT)
    for end in (0, 1, 200, FRAME_BYTES, 2 * FRAME_BYTES + 700, len(message) - 1):
        with pytest.raises(Mismatch):
            cipher.decrypt_bytes(message[:end], CONTEXT)
    with pytest.raises(Mismatch):
        cipher.decrypt_bytes(message + b"x", CONTEXT)


def test_an_object_in_the_place_of_another_is_refused(cipher: Cipher) -> None:
    message = cipher.encrypt_bytes(b"part 1", CONTEXT)
    with pytest.raises(Mismatch, match="objects/2") as told:
        cipher.decrypt_bytes(message, CONTEXT | {"object": "objects/2"})
    assert "object objects/1" in told.value.problems[0].found


def test_a_wrong_key_and_a_lost_one(cipher: Cipher, ring: keys.KeyRing, tmp_path: Path) -> None:
    message = cipher.encrypt_bytes(b"rows", CONTEXT)
    other = keys.ensure(tmp_path / "other.json")
    with pytest.raises(Mismatch, match=f"the key {ring.current} is not in the key file"):
        Cipher(other).decrypt_bytes(message, CONTEXT)
    posing = keys.KeyRing(ring.current, {ring.current: other.key(other.current)})
    with pytest.raises(Mismatch, match="does not decrypt"):
        Cipher(posing).decrypt_bytes(message, CONTEXT)


def test_after_a_rotation_old_messages_are_read_and_new_ones_need_the_new_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    before = keys.ensure(path)
    old = Cipher(before).encrypt_bytes(b"old", CONTEXT)
    after = keys.rotate(path)
    new = Cipher(after).encrypt_bytes(b"new", CONTEXT)
    assert Cipher(after).decrypt_bytes(old, CONTEXT) == b"old"
    assert Cipher(after).decrypt_bytes(new, CONTEXT) == b"new"
    with pytest.raises(Mismatch, match=f"the key {after.current} is not in the key file"):
        Cipher(before).decrypt_bytes(new, CONTEXT)


def test_an_error_of_the_source_stays_what_it_is(cipher: Cipher) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        list(cipher.encrypt(breaks(), CONTEXT))

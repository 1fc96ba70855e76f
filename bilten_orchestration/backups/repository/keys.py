"""The keys that backups are encrypted under: one file, the newest key writes, every key reads.

The file is the one thing that a restore needs and the repository does not hold: without it all backups are
noise. It is made on first use, readable by its owner alone, and wants a copy elsewhere (README).

A key's id ends in the first eight digits of its SHA-256, so that a wrong key under a right name is found
when the file is read, not at three in the morning when a restore fails.

A kill while the file is made or a key is added leaves the old file (or none) and a file with the ending
.new, which the next call replaces: a key comes into use only by the rename, after it is on disk. Two that
add a key at once do it one after the other (a lock beside the file).

An entry is the key itself (hexadecimal) or, with a KMS key set, the key as that wrapped it (kms.py).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Protocol

from bilten_orchestration.errors import Mismatch, Problem, Refused
from bilten_orchestration.file_lock import exclusive
from bilten_orchestration.progress import silent

KEY_BYTES = 32
_ID = re.compile(r"\d{8}-[0-9a-f]{8}")


class Wrapping(Protocol):
    """What wraps and unwraps entries of the file (kms.Kms). Raises errors of its own."""

    @property
    def wraps(self) -> bool: ...

    def wrap(self, key_id: str, key: bytes) -> dict[str, str]: ...

    def unwrap(self, key_id: str, entry: Mapping[str, str]) -> bytes: ...


@dataclass(frozen=True, slots=True)
class KeyRing:
    """`current` encrypts; `keys` (by id, 32 bytes each) decrypt. Neither repr nor str shows a key.

    `wrapped` are the ids of those that do not lie plain in the file.
    """

    current: str
    keys: Mapping[str, bytes] = field(repr=False)
    wrapped: frozenset[str] = frozenset()

    def key(self, key_id: str) -> bytes:
        """Raises Mismatch for a key that is lost."""
        try:
            return self.keys[key_id]
        except KeyError:
            raise Mismatch(
                f"the key {key_id} is not in the key file",
                expected=f"one of {', '.join(sorted(self.keys))}",
                found=key_id,
                next="put the copy of the key file that has it in its place (BILTEN_BACKUPS__KEY_FILE)",
            ) from None


def read(path: Path, wrapping: Wrapping | None = None) -> KeyRing:
    """The key file. Raises Refused: missing, readable by others, not what `ensure` writes, or altered; and
    what `wrapping` raises, which unwraps once for each wrapped key."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Refused(
            f"there is no key file {path}",
            expected="the file that the backups were made with",
            found="nothing",
            next="copy it there from where you keep it; on a new deployment `bilten up` makes one",
        ) from None
    except OSError as error:
        raise Refused(
            f"the key file {path} cannot be read", expected="to be its owner", found=error.strerror or ""
        ) from None
    ring, wrong = _parse(text, wrapping)
    problems = [
        Problem(f"the key file {path}: {each}", next="put the copy that you keep elsewhere in its place")
        for each in wrong
    ]
    if mode & 0o077:
        problems.append(
            Problem(
                f"the key file {path} is open to others",
                expected="mode 600",
                found=f"mode {stat.S_IMODE(mode):o}",
                next=f"chmod 600 {path}; who could read it may have read the keys: rotate them",
            )
        )
    if ring is None or problems:
        raise Refused(problems)
    return ring


def made_on(key_id: str) -> date:
    """The day (UTC) on which a key was made: its id begins with it."""
    return datetime.strptime(key_id[:8], "%Y%m%d").replace(tzinfo=UTC).date()


def ensure(path: Path, wrapping: Wrapping | None = None) -> KeyRing:
    """The key file, made with one key where there is none. Of two that make it at once both get the same."""
    if not path.exists():
        key_id, entry = _new_key(wrapping)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = _write_new(path, {"current": key_id, "keys": {key_id: entry}})
        try:
            os.link(new, path)  # unlike a rename it never replaces what another one made meanwhile
        except FileExistsError:
            pass
        finally:
            new.unlink()
        _sync_directory(path.parent)
    return read(path, wrapping)


def rotate(path: Path, wrapping: Wrapping | None = None) -> KeyRing:
    """Add a key that encrypts from now on. The old ones stay as they lie there, for what they encrypted."""
    with exclusive(path.with_name(f"{path.name}.lock"), "backup keys --rotate", silent, wait_seconds=60):
        read(path, wrapping)
        document = json.loads(path.read_text(encoding="utf-8"))
        key_id, entry = _new_key(wrapping)
        rotated = {"current": key_id, "keys": {**document["keys"], key_id: entry}}
        os.replace(_write_new(path, rotated), path)
        _sync_directory(path.parent)
        return read(path, wrapping)


def _new_key(wrapping: Wrapping | None) -> tuple[str, str | dict[str, str]]:
    """Its id and its entry."""
    key = secrets.token_bytes(KEY_BYTES)
    key_id = f"{datetime.now(UTC):%Y%m%d}-{_fingerprint(key)}"
    if wrapping is not None and wrapping.wraps:
        return key_id, wrapping.wrap(key_id, key)
    return key_id, key.hex()


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:8]


def _write_new(path: Path, body: Mapping[str, Any]) -> Path:
    """The file beside its place, on disk. Its name is this thread's own among all processes."""
    new = path.with_name(f"{path.name}.{threading.get_native_id()}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(body, file, indent=1)
        file.flush()
        os.fsync(descriptor)
    return new


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parse(text: str, wrapping: Wrapping | None) -> tuple[KeyRing | None, list[str]]:
    """The keys, or everything that is wrong. What is said never holds a part of a key."""
    try:
        document = json.loads(text)
        current, named = document["current"], document["keys"]
        wrapped = {key_id: entry for key_id, entry in named.items() if isinstance(entry, dict)}
        keys = {key_id: b"" if key_id in wrapped else bytes.fromhex(entry) for key_id, entry in named.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, ["it is not what `bilten` writes: an object with `current` and `keys`"]
    if wrapped and wrapping is None:
        return None, ["its keys are wrapped by KMS"]
    if wrapping is not None:
        keys |= {key_id: wrapping.unwrap(key_id, entry) for key_id, entry in wrapped.items()}
    wrong = []
    for key_id, key in keys.items():
        if not _ID.fullmatch(key_id):
            wrong.append(f"{key_id!r} is no key id (YYYYMMDD-xxxxxxxx)")
        elif len(key) != KEY_BYTES:
            wrong.append(f"the key {key_id} has {len(key)} bytes instead of {KEY_BYTES}")
        elif not key_id.endswith(_fingerprint(key)):
            wrong.append(f"the key under {key_id} is another one: its fingerprint is {_fingerprint(key)}")
    if current not in keys:
        wrong.append(f"the current key {current!r} is not in it")
    return (None, wrong) if wrong else (KeyRing(current, keys, frozenset(wrapped)), [])

"""Objects from one bucket to another: streamed, hashed on the way, side by side."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from typing import TypeVar

from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.errors import Mismatch

T = TypeVar("T")
_AT_A_TIME = 256


def copy_object(
    source: Repository,
    name: str,
    target: Repository,
    as_name: str,
    size: int,
    sha256: str | None,
    given_up: threading.Event,
) -> None:
    """Raises Mismatch when the source holds other bytes than expected, or the target has that name: nothing
    is stored then. `given_up` ends it in the middle."""
    with closing(source.read(name)) as chunks:
        target.write(as_name, _proven(chunks, f"{source.bucket}/{name}", size, sha256, given_up))


def sha256_of(repository: Repository, name: str) -> str:
    """Reads all of it. Raises Mismatch when there is none."""
    digest = hashlib.sha256()
    with closing(repository.read(name)) as chunks:
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()


def side_by_side(
    items: Iterable[T], work: Callable[[T], None], at_once: int, given_up: threading.Event
) -> None:
    """Raises what one of them raised; the others are told to give up then, and waited for."""
    with ThreadPoolExecutor(at_once, thread_name_prefix="copy") as pool:
        try:
            left = iter(items)
            while futures := [
                pool.submit(work, item) for item, _ in zip(left, range(_AT_A_TIME), strict=False)
            ]:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
        except BaseException:
            given_up.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _GivenUp(Exception):
    """Another object failed in a way that ends the run."""


def _proven(
    chunks: Iterable[bytes], name: str, size: int, sha256: str | None, given_up: threading.Event
) -> Iterator[bytes]:
    """The same chunks; raises before the last one when they are not what was expected, so that who stores
    them has no object."""
    digest, read, held = hashlib.sha256(), 0, b""
    for chunk in chunks:
        if given_up.is_set():
            raise _GivenUp
        if held:
            yield held
        digest.update(chunk)
        read += len(chunk)
        held = chunk
    if read != size:
        raise _not_the_object(name, f"{size} bytes", f"{read} bytes")
    if sha256 is not None and digest.hexdigest() != sha256:
        raise _not_the_object(name, f"SHA-256 {sha256}", digest.hexdigest())
    if held:
        yield held


def _not_the_object(name: str, expected: str, found: str) -> Mismatch:
    return Mismatch(
        f"{name} is damaged, and was not copied",
        expected=expected,
        found=found,
        next="if the second bucket has it, it is whole there; otherwise: bilten backup create",
    )

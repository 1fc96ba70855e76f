"""A small file system of its own, for what happens on a disk that is full indeed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")


@contextmanager
def mounted(place: Path, size_bytes: int) -> Iterator[Path]:
    """`place` is made, and is that disk until the end of the block."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=755", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def grown(place: Path, size_bytes: int) -> None:
    """The same disk, with that much room."""
    subprocess.run(["mount", "-o", f"remount,size={size_bytes}", place], check=True)

"""Memory of a process that moves large pieces between threads, bounded whatever the size of a backup.

glibc gives threads arenas of their own, up to eight for each processor. A piece that one thread allocated and
another one freed stays with the first one's arena, and each object of a backup has new threads: so memory
grows with their number, though no more of it is in use at once. With two arenas it does not. Measured on 16
objects of 48 MiB: 316 and 337 MiB before, 196 and 218 after, at the same CPU time; smaller parts of uploads
(280 and 331) and a threshold above which pieces are mapped (a third more CPU time) were tried and left.
"""

from __future__ import annotations

import contextlib
import ctypes

_M_ARENA_MAX = -8  # malloc.h
_ARENAS = 2


def bound() -> None:
    """Few arenas for this process from now on; does nothing where the C library is another one."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)

"""A program that ends with us, however we end: it is started through launch.py, which sees to it.

What the program is told reaches launch.py on its standard input: arguments are for everyone to see, and a
file would outlive a kill.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from bilten_orchestration.local import launch
from bilten_orchestration.local.privileges import ServerUser


def start(
    argv: Sequence[str | Path],
    *,
    directory: Path,
    environment: Mapping[str, str],
    user: ServerUser | None = None,
    stays: bool = False,
    stdout: IO[bytes] | int = subprocess.DEVNULL,
    stderr: IO[bytes] | int = subprocess.STDOUT,
) -> subprocess.Popen[bytes]:
    """Start `argv` in `directory`, as `user`, in a session of its own: Ctrl-C is for us.

    It is killed at the end of the thread that calls this (Linux; elsewhere whoever starts the next one ends
    it), unless it `stays`. The first of `argv` is a whole path.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", launch.__file__, "/dev/stdin"],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        cwd=directory,
        start_new_session=True,
    )
    description = {
        "argv": [str(word) for word in argv],
        "directory": str(directory),
        "user": None if user is None else asdict(user),
        "environment": dict(environment),
        "parent": None if stays else os.getpid(),
    }
    assert process.stdin is not None  # noqa: S101
    try:
        with process.stdin as to:
            to.write(json.dumps(description).encode())
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process

"""What a machine has that has nothing: Python, make, a shell and the usual small programs."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

PROGRAMS = ("make", "sh", "env", "cat", "cp", "expand", "id", "ls", "mkdir", "mv", "rm", "sed", "tail")


def interpreter() -> Path:
    """The Python that the environment of the tests was made with."""
    return Path(sys.executable).resolve()


def path(directory: Path) -> str:
    """A PATH on which these are all there is. `directory` is made."""
    directory.mkdir()
    (directory / "python3").symlink_to(interpreter())
    for program in PROGRAMS:
        found = shutil.which(program, path=f"{os.environ['PATH']}{os.pathsep}{os.defpath}")
        assert found is not None, f"a machine that makes anything has {program}"
        (directory / program).symlink_to(found)
    return str(directory)

"""pg_restore at work on a dump in an open file: what is in it, and bring that into a database.

Each of its processes opens the file anew through /proc, so that a file without a name will do.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bilten_orchestration.backups.postgres import programs
from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.progress import Progress

_TOLD_ERRORS = 50
_TOLD_EVERY_SECONDS = 2
_NAME = "pg_restore: "
_ERROR, _WARNING = f"{_NAME}error: ", f"{_NAME}warning: "


def listing(program: Path, file: int) -> str:
    """Its contents, with what each needs. Raises Mismatch for what is no dump."""
    done = subprocess.run(
        [program, "--list", "--verbose", _path(file)],
        env={"PATH": str(program.parent), "LC_ALL": "C"},
        pass_fds=[file],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    if done.returncode:
        raise Mismatch(
            "pg_restore cannot read the dump",
            expected="its list of contents",
            found=done.stderr.strip()[-600:],
            next="restore another backup",
        )
    return done.stdout


def run(
    program: Path,
    file: int,
    parameters: Mapping[str, object],
    lines: Iterable[str],
    options: Sequence[str],
    *,
    left: str,
    progress: Progress,
) -> tuple[str, ...]:
    """Bring `lines` of the listing into the database of libpq's `parameters`; warnings that came.

    Raises Mismatch with all errors (the first 50). `left` tells what is left then.
    """
    heard = _Heard(progress)
    with ExitStack() as stack:
        conninfo, environment = stack.enter_context(programs.arguments_of(parameters))
        wanted = stack.enter_context(tempfile.TemporaryFile("w", errors="surrogateescape"))
        wanted.writelines(f"{line}\n" for line in lines)
        wanted.flush()
        process = stack.enter_context(
            subprocess.Popen(
                [
                    program,
                    f"--dbname={conninfo}",
                    f"--use-list={programs.path_of(wanted)}",
                    "--no-password",
                    "--verbose",
                    *options,
                    _path(file),
                ],
                env=environment,
                pass_fds=[file],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        )
        assert process.stderr is not None  # noqa: S101
        try:
            for line in process.stderr:
                heard.line(line.rstrip())
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
    if code or heard.errors:
        raise Mismatch(
            [
                Problem("pg_restore failed", expected="exit code 0", found=found, next=left)
                for found in heard.errors or [f"exit code {code}: {heard.last}"]
            ]
        )
    return tuple(heard.warnings)


class _Heard:
    """What pg_restore says: errors with the lines that explain them, warnings, what it is at."""

    def __init__(self, progress: Progress) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.last = ""
        self._progress = progress
        self._at = time.monotonic()
        self._in_error = False

    def line(self, text: str) -> None:
        self.last = text
        if text.startswith(_ERROR):
            self._in_error = True
            if len(self.errors) < _TOLD_ERRORS:
                self.errors.append(text.removeprefix(_ERROR))
            return
        if text.startswith(_WARNING):
            self._in_error = False
            if len(self.warnings) < _TOLD_ERRORS:
                self.warnings.append(text.removeprefix(_WARNING))
        elif text.startswith(_NAME) and not text.startswith(f"{_NAME}detail:"):
            self._in_error = False
            if time.monotonic() - self._at > _TOLD_EVERY_SECONDS:
                self._at = time.monotonic()
                self._progress(text.removeprefix(_NAME))
        elif self._in_error and self.errors and len(self.errors[-1]) < 400:
            self.errors[-1] += f" | {text}"


def _path(file: int) -> str:
    return f"/proc/self/fd/{file}"

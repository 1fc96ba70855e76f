"""A transaction in the WAL: where it was committed, and which tables it wrote.

By pg_waldump, over the segments that a restore has fetched.

Asked are records of the transaction and of its subtransactions, and multixacts that they are members of: a
row that was locked by somebody else and deleted by the transaction names a multixact as its deleter.

What it wrote before the WAL that was fetched is not found there. That it wrote nothing earlier is known by
the first list of running transactions in it (RUNNING_XACTS): one that is not in there began behind it. The
list is written behind the position at which replay begins (a checkpoint's redo), so the transaction may have
records on both sides of it. Of a timeline that begins within this WAL nothing can have begun before.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from bilten_orchestration.backups.wal import positions
from bilten_orchestration.errors import Mismatch, Problem, Refused

PROGRAM = "pg_waldump"
_RECORD = re.compile(
    r"rmgr: (?P<rmgr>\w+)\s.*?tx:\s+(?P<tx>\d+), lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+), prev \S+"
    r" desc: (?P<desc>.*)"
)
_COMMIT = re.compile(
    r"COMMIT(?:_PREPARED)? (?:(?P<xid>\d+): )?(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC"
)
_SUBXACTS = re.compile(r"subxacts: ((?:\d+ ?)+)")
_MULTI = re.compile(r"CREATE_ID (\d+) .*?nmembers \d+: (.*)")
_RELATION = re.compile(r"blkref #\d+: rel (\d+)/(\d+)/(\d+)")
_RUNNING = re.compile(r"xacts: ([\d ]+)")
_LOCKED = re.compile(r"xid (\d+) db (\d+) rel (\d+)")
_WRITES = ("INSERT", "MULTI_INSERT", "UPDATE", "HOT_UPDATE", "DELETE")
_SINGLY = 16
_XIDS = 1 << 32


@dataclass(frozen=True, slots=True)
class File:
    """What a row lies in: tablespace, database and file, by their numbers."""

    tablespace: int
    database: int
    file: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """`xids` are the transaction and its subtransactions (32 bits, as rows hold them), `multixacts` those
    they are members of; `files` what they wrote, `locked` relations (by database) that nobody else could
    read meanwhile: TRUNCATE and DDL. The commit record begins at `commit_lsn`, and says `committed_at`
    (UTC)."""

    transaction: int
    commit_lsn: str
    committed_at: datetime
    timeline: int
    xids: tuple[int, ...]
    multixacts: tuple[int, ...]
    files: frozenset[File]
    locked: frozenset[tuple[int, int]]


def read(bin_directory: Path, wal: Path, transaction: int, segment_bytes: int) -> Evidence:
    """`wal` is a directory of segments.

    Raises Refused when the program is not there, or the commit is not in these segments; Mismatch when the
    transaction began before them.
    """
    program = bin_directory / PROGRAM
    if not program.is_file():
        raise Refused(
            "a transaction is found in the WAL by a program that is not there",
            expected=str(program),
            found="nothing",
            next="install PostgreSQL's server programs, or correct BILTEN_POSTGRES__PG_BIN",
        )
    xid = transaction % _XIDS
    segments = sorted(path.name for path in wal.iterdir() if positions.is_segment(path.name))
    said = ""
    for number, (timeline, names) in enumerate(groupby(segments, positions.timeline_of)):
        dump = _Dump(program, wal, timeline, list(names), segment_bytes)
        commit = dump.commit(xid)
        if commit is not None:
            return _of(dump, transaction, *commit, cut=number == 0)
        said = dump.said
    raise Refused(
        f"the commit of transaction {transaction} is not in the WAL that is stored",
        expected="a commit record in the repository",
        found=f"none in {len(segments)} segments" + (f": {said}" if said else ""),
        next="bilten wal status: the newest WAL is shipped within a minute; an older transaction: --backup",
    )


def _of(
    dump: _Dump, transaction: int, lsn: str, at: datetime, subxacts: Sequence[int], *, cut: bool
) -> Evidence:
    """`cut`: the timeline began before this WAL."""
    xids = (transaction % _XIDS, *subxacts)
    ours = set(xids)
    files: set[File] = set()
    for record in dump.written_by(xids, lsn):
        if record["rmgr"] in ("Heap", "Heap2") and record["desc"].split("+")[0].split()[0] in _WRITES:
            files |= {File(*map(int, each)) for each in _RELATION.findall(record["desc"])}
    multis: set[int] = set()
    locked: set[tuple[int, int]] = set()
    listed = not cut
    for record in dump.records("MultiXact", "Standby", until=lsn):
        desc = record["desc"]
        if (made := _MULTI.match(desc)) is not None:
            if ours & {int(word) for word in re.findall(r"(\d+) \(", made[2])}:
                multis.add(int(made[1]))
        elif desc.startswith("LOCK"):
            locked |= {(int(db), int(rel)) for by, db, rel in _LOCKED.findall(desc) if int(by) in ours}
        elif desc.startswith("RUNNING_XACTS") and not listed:
            listed = True
            running = _RUNNING.search(desc)
            if running is not None and ours & set(map(int, running[1].split())):
                raise _began_before(transaction, f"it ran already at {record['lsn']}")
    if not listed:
        raise _began_before(transaction, f"no list of running transactions before its commit at {lsn}")
    return Evidence(
        transaction, lsn, at, dump.timeline, xids, tuple(sorted(multis)), frozenset(files), frozenset(locked)
    )


def _began_before(transaction: int, found: str) -> Mismatch:
    return Mismatch(
        f"transaction {transaction} may have begun before the WAL that was fetched",
        expected="all that it wrote behind the beginning of the backup that is restored",
        found=found,
        next="name an older backup: --backup ID (bilten backup list)",
    )


class _Dump:
    """pg_waldump over the segments of one timeline."""

    def __init__(self, program: Path, wal: Path, timeline: int, names: list[str], segment_bytes: int) -> None:
        self._program, self._wal, self._names, self.timeline = program, wal, names, timeline
        self._begin = positions.start_of(names[0], segment_bytes)
        self.said = ""

    def commit(self, xid: int) -> tuple[str, datetime, tuple[int, ...]] | None:
        for record in self.records("Transaction"):
            found = _COMMIT.match(record["desc"])
            if found is not None and int(found["xid"] or record["tx"]) == xid:
                subs = _SUBXACTS.search(record["desc"])
                at = datetime.fromisoformat(found["at"]).replace(tzinfo=UTC)
                return record["lsn"], at, tuple(map(int, subs[1].split())) if subs else ()
        return None

    def written_by(self, xids: Sequence[int], until: str) -> Iterator[re.Match[str]]:
        if len(xids) <= _SINGLY:
            for xid in xids:
                yield from self._run([f"--xid={xid}"], until)
            return
        wanted = set(xids)
        for record in self.records("Heap", "Heap2", until=until):
            if int(record["tx"]) in wanted:
                yield record

    def records(self, *rmgrs: str, until: str | None = None) -> Iterator[re.Match[str]]:
        # one after the other: several in one call are known since PostgreSQL 15 only
        for rmgr in rmgrs:
            yield from self._run([f"--rmgr={rmgr}"], until)

    def _run(self, arguments: list[str], until: str | None) -> Iterator[re.Match[str]]:
        told = [*arguments, f"--path={self._wal}", f"--timeline={self.timeline}"]
        told.append(f"--start={positions.text(self._begin)}")
        if until is not None:
            told.append(f"--end={until}")
        with self._lines(told, to_the_end=until is not None) as lines:
            for line in lines:
                found = _RECORD.match(line)
                if found is None:
                    raise Mismatch(
                        Problem(
                            f"{self._program} says what is not known here",
                            expected="a record of WAL in a line",
                            found=line[:200],
                            next="use the programs of the server's own version (BILTEN_POSTGRES__PG_BIN)",
                        )
                    )
                yield found

    @contextmanager
    def _lines(self, told: list[str], *, to_the_end: bool) -> Iterator[Iterator[str]]:
        """Without an end it ends with 1 at the end of the stored WAL; with one that was read `to_the_end` it
        must not: what it did not read may hold writes. Raises Mismatch then."""
        with subprocess.Popen(
            [self._program, *told],
            env={"LC_ALL": "C", "TZ": "UTC"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None  # noqa: S101
            assert process.stderr is not None  # noqa: S101
            try:
                yield (line.rstrip("\n") for line in process.stdout)
                # read to its end: else it is killed below
                code = process.wait() if to_the_end else 0
            finally:
                process.kill()
                self.said = process.stderr.read().strip()[-300:]
        if code:
            raise Mismatch(
                f"{PROGRAM} does not read the WAL up to the commit of the transaction",
                expected="exit code 0",
                found=f"exit code {code}: {self.said}",
                next="bilten wal audit --deep; the other bucket may have it whole: --bucket",
            )

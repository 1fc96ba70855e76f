"""Tables of production that did not change since a drill that passed: they need not be read again.

The digest is that of the drill before, from its signed attestation. It is taken only where nothing can have
changed what a snapshot shows of the table, by evidence that costs production next to nothing:

    1  the same server on the same timeline, and a point behind that drill's
    2  the same file (relfilenode) for the table and its TOAST: else it was truncated or rewritten, or is
       another table of that name
    3  WAL names no block of these files from `since` of that drill up to the point of this one. Every change
       of a row is a record that names its block, written before its commit; who was at work at that drill's
       point has written nothing below `since` (point.py). So whoever is seen now, and was not then, is in
       this span
    4  the text of a row follows from the same: its columns and their defaults for rows of before (layout),
       the server's version, the labels of enums, our own query (types). Tables with a column whose text
       follows from more (composite types, virtual columns, types of extensions, names of objects), and those
       that are no heaps, are always read

Of 3, WAL summaries tell up to the server's last checkpoint, by queries on production; the rest is read from
the repository by pg_waldump (tail.py), after the point's WAL has come there, while the snapshot is still
open: what changed there is read in it after all. A summary that is missing, a server that cannot be asked,
WAL that cannot be read to its end: then everything is read. A crash of the server changes nothing in this:
what was committed is in WAL, and all that a passed drill saw had been stored by then. A server that was set
back behind the drill (a copy of its disk) writes other WAL to the same positions, at which the stream of WAL
stops: no drill passes.

What WAL does not tell is damage of production's own files. So every table is read again after
`drills.digest_reread_days`. Hints that a first reading leaves in pages are WAL as well: a table that was
written is found unchanged from the second drill on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg

from bilten_orchestration.backups.wal import positions
from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.drills.postgres.digests import Digest
from bilten_orchestration.drills.postgres.point import Point
from bilten_orchestration.drills.postgres.readers import NAME, words
from bilten_orchestration.drills.report import Seen, SeenTable
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection

#: Of a table: the numbers of its database and of its file. WAL's tablespace is left out: it can only add.
File = tuple[int, int]
_SUMMARIES_SINCE = 17
_SECONDS = 60
# as much as lies between two checkpoints at most, by max_wal_size as PostgreSQL comes
TAIL_BYTES = 1 << 30
# built in, and of a text that follows from the value alone; the first oid of what is not is in transam.h
_PLAIN = """(({0}.oid < 16384 and {0}.typtype in ('b', 'r', 'm') and {0}.typname !~ '^_?reg'
            and {0}.typname not in ('aclitem', '_aclitem')) or {0}.typtype = 'e')"""
_FACTS = f"""
    select n.nspname || '.' || c.relname, d.oid::bigint, pg_relation_filenode(c.oid)::bigint,
           pg_relation_filenode(c.reltoastrelid)::bigint,
           (select md5(coalesce(string_agg(concat_ws(' ', a.attnum, a.atttypid, a.atttypmod, a.attisdropped,
                                                     a.attmissingval::text), ',' order by a.attnum), ''))
            from pg_attribute a where a.attrelid = c.oid and a.attnum > 0),
           c.relam = 2 and not exists (
               select from pg_attribute a left join pg_type y on y.oid = a.atttypid
               left join pg_type b on b.oid = case when y.typtype = 'd' then y.typbasetype
                                                   when y.typcategory = 'A' then y.typelem end
               where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                 and (a.attgenerated = 'v'
                      or not coalesce({_PLAIN.format("y")}
                                      or ((y.typtype = 'd' or y.typcategory = 'A') and {_PLAIN.format("b")}),
                                      false)))
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    join pg_database d on d.datname = current_database()
    where c.relkind in ('r', 'm') and c.relpersistence = 'p'
"""
_TYPES = """
    select version(), (select md5(coalesce(string_agg(concat_ws(' ', oid, enumtypid, enumlabel), ','
                                                      order by oid), '')) from pg_enum)
"""
_SUMMARIES = """
    select start_lsn::text, end_lsn::text from pg_available_wal_summaries()
    where tli = %s and end_lsn > %s::pg_lsn and start_lsn < %s::pg_lsn order by start_lsn, end_lsn desc
"""
_CONTENTS = (
    "select distinct reldatabase::bigint, relfilenode::bigint from pg_wal_summary_contents(%s, %s, %s)"
)


@dataclass(frozen=True, slots=True)
class Fact:
    """What a table is by the readers' snapshot. `plain`: evidence 4 can be had of it."""

    files: tuple[File, ...]
    layout: str
    plain: bool


@dataclass(frozen=True, slots=True)
class Facts:
    types: str
    tables: Mapping[str, Fact]


@dataclass(frozen=True, slots=True)
class Unchanged:
    """`tables` have not changed up to `until` (an LSN), by their labels. `why` says why there are none."""

    tables: Mapping[str, SeenTable] = field(default_factory=dict)
    until: str = "0/0"
    why: str = ""

    @property
    def digests(self) -> Mapping[str, Digest]:
        return {label: Digest(table.rows, table.hash) for label, table in self.tables.items()}

    def without(self, labels: Sequence[str]) -> Unchanged:
        kept = {label: table for label, table in self.tables.items() if label not in labels}
        return Unchanged(kept, self.until, self.why)


def facts(reader: Connection) -> Facts:
    """By the snapshot of a reader (point.py), which locks the tables against DDL."""
    row = reader.execute(_TYPES).fetchone()
    assert row is not None  # noqa: S101
    types = hashlib.sha256(repr((*row, sorted(digests.PINNED.items()), digests.QUERY)).encode()).hexdigest()
    found = {}
    for label, database, file, toast, layout, plain in reader.execute(_FACTS).fetchall():
        files = tuple((int(database), int(each)) for each in (file, toast) if each is not None)
        found[str(label)] = Fact(files, layout, plain)
    return Facts(types, found)


def unchanged(settings: Settings, point: Point, now: Facts, previous: Seen | None) -> Unchanged:
    """What did not change up to the newest summary. Raises nothing: what cannot be told is read."""
    if why := _refused(settings, point, now, previous):
        return Unchanged(why=why)
    assert previous is not None  # noqa: S101
    kept = {
        label: table
        for label, table in previous.tables.items()
        if (fact := now.tables.get(label)) is not None
        and fact.plain
        and (fact.files, fact.layout) == (table.files, table.layout)
        and _fresh(table.read_at, point.at, settings.drills.digest_reread_days)
    }
    if not kept:
        return Unchanged(why="every table is new, was rewritten or altered, or is due to be read again")
    try:
        with postgres.connect(settings.postgres, application_name=NAME, autocommit=True) as connection:
            if connection.info.server_version // 10_000 < _SUMMARIES_SINCE:
                return Unchanged(why=f"WAL summaries are of PostgreSQL {_SUMMARIES_SINCE}")
            until, changed = _summarized(connection, point, previous.since)
    except psycopg.Error as error:
        return Unchanged(why=f"WAL summaries cannot be read: {words(error)}")
    if positions.lsn(point.lsn) - positions.lsn(until) > TAIL_BYTES:
        return Unchanged(why=f"WAL is summarized up to {until} only, and the point is {point.lsn}")
    return Unchanged(still(kept, changed), until, "every table was written to")


def still(kept: Mapping[str, SeenTable], changed: frozenset[File]) -> dict[str, SeenTable]:
    """Those of which no file is named. A file of number 0 stands for all of its database."""
    all_of = {database for database, file in changed if file == 0}
    return {
        label: table
        for label, table in kept.items()
        if not any(file in changed or file[0] in all_of for file in table.files)
    }


def seen(point: Point, now: Facts, made: Mapping[str, Digest], kept: Unchanged) -> Seen:
    """For the next drill: what was read is of now, what was not is as old as it was."""
    tables = {
        label: SeenTable(
            digest.rows,
            digest.hash,
            now.tables[label].files,
            now.tables[label].layout,
            kept.tables[label].read_at if label in kept.tables else point.at,
        )
        for label, digest in made.items()
        if label in now.tables
    }
    return Seen(point.system_identifier, point.timeline, point.since, now.types, tables)


def _refused(settings: Settings, point: Point, now: Facts, previous: Seen | None) -> str:
    if settings.drills.digest_reread_days == 0:
        return "every table is read by every drill (digest_reread_days)"
    if previous is None:
        return "no drill of this way has passed before"
    if (previous.system_identifier, previous.timeline) != (point.system_identifier, point.timeline):
        return "the drill before was of another server or timeline"
    if previous.types != now.types:
        return "the server's version, or an enum, is another one than in the drill before"
    if positions.lsn(previous.since) > positions.lsn(point.since):
        return "the server is behind the drill before"
    return ""


def _fresh(read_at: datetime, now: datetime, days: int) -> bool:
    return timedelta(0) <= now - read_at < timedelta(days=days)


def _summarized(connection: Connection, point: Point, since: str) -> tuple[str, frozenset[File]]:
    """Up to where summaries reach from `since` without a gap, and the files that they name."""
    connection.execute(f"set statement_timeout = '{_SECONDS}s'".encode())
    reach, changed = since, set()
    for begin, end in connection.execute(_SUMMARIES, (point.timeline, since, point.lsn)).fetchall():
        if positions.lsn(begin) > positions.lsn(reach):
            break
        if positions.lsn(end) > positions.lsn(reach):
            changed |= set(connection.execute(_CONTENTS, (point.timeline, begin, end)).fetchall())
            reach = end
    return reach, frozenset((int(database), int(file)) for database, file in changed)

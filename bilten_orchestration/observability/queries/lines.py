"""What to index, vacuum and drop: every line with its statement, its gain, and what speaks against it.

Nothing here is ever applied: catalogues and statistics do not know the report that runs once a year. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from bilten_orchestration.observability.queries import indexes, tables
from bilten_orchestration.observability.queries.indexes import Usage
from bilten_orchestration.observability.queries.scans import Scanned
from bilten_orchestration.settings import QuerySettings

Kind = Literal["index", "drop", "rebuild", "vacuum", "analyze"]
ON_PARTITIONS = "it is an index over partitions: DROP takes a lock on all of them, for a moment"


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to do. `gain` says what it should bring, `gain_bytes` how much of the disk where that is it;
    `caution` what to look at before. `statements` are for a session without a transaction."""

    kind: Kind
    object: str
    reason: str
    statements: tuple[str, ...]
    gain: str
    gain_bytes: int = 0
    caution: str = ""


def once(found: Sequence[Advice]) -> Iterator[Advice]:
    """An index that is both covered and unused is dropped once: by the first reason, which is the surer."""
    seen = set()
    for each in found:
        if (each.kind, each.object) not in seen:
            seen.add((each.kind, each.object))
            yield each


def of_indexes(usage: Usage, queries: QuerySettings, over_partitions: set[int]) -> Iterator[Advice]:
    for index in indexes.invalid(usage):
        yield Advice(
            "rebuild",
            index.name,
            f"it is invalid: an attempt to build it failed; {index.table} writes it, and no query reads it",
            () if index.oid in over_partitions else (f"reindex index concurrently {index.name}",),
            "the index serves queries again",
            caution="an index over partitions is made valid by attaching an index of every partition"
            if index.oid in over_partitions
            else f"or drop it, where nothing wants it: drop index concurrently {index.name}",
        )
    for each in indexes.covered(usage.indexes):
        parted = each.index.oid in over_partitions
        yield Advice(
            "drop",
            each.index.name,
            f"{each.by.name} does the same ({each.why})",
            (indexes.drop_statement(each.index, is_partitioned=parted),),
            f"{_megabytes(each.index.size_bytes)}, and one index less to write on {each.index.table}",
            each.index.size_bytes,
            ON_PARTITIONS
            if parted
            else "the narrower one is smaller in memory: look at its scans before"
            if each.why == "redundant"
            else "",
        )
    for index in indexes.unused(usage, after_days=queries.unused_days, from_bytes=queries.advice_bytes):
        cautions = [f"it was watched for {usage.watched_days:.0f} days; rarer reports are not in that"]
        if usage.standbys:
            cautions.append("look at its scans on the standbys too: " + ", ".join(usage.standbys))
        if index.oid in over_partitions:
            cautions.append(ON_PARTITIONS)
        yield Advice(
            "drop",
            index.name,
            f"no scan since {usage.since:%F}",
            (indexes.drop_statement(index, is_partitioned=index.oid in over_partitions),),
            f"{_megabytes(index.size_bytes)}, and one index less to write on {index.table}",
            index.size_bytes,
            "; ".join(cautions),
        )


def of_keys(found: Sequence[indexes.BareKey], queries: QuerySettings) -> Iterator[Advice]:
    for key in found:
        if key.size_bytes >= queries.advice_bytes:
            yield Advice(
                "index",
                f"{key.table} ({', '.join(key.columns)})",
                f"the foreign key {key.constraint} has no index",
                key.statements,
                f"a DELETE or a changed key in {key.parent} reads some rows of {key.table} and not all"
                f" {key.rows:,} ({_megabytes(key.size_bytes)})",
                caution="not where rows of the parent never go and nothing joins on it",
            )


def of_scans(found: Sequence[Scanned]) -> Iterator[Advice]:
    for each in found:
        yield Advice(
            "index",
            f"{each.table} ({', '.join(each.columns)})",
            f"a slow statement reads all of it for about {each.rows_wanted:,} of {each.rows:,} rows:"
            f" {each.query_text[:200]}",
            (f"create index concurrently on {each.table} ({', '.join(each.columns)})",),
            f"most of {each.total_milliseconds / 1000:,.1f} s that its {each.calls:,} calls took in a week",
            caution="try it on a copy: the plan is generic and its rows are estimates"
            + ("; on a partitioned table each partition gets its own" if each.is_partition else ""),
        )


def of_tables(found: Sequence[tables.Table], queries: QuerySettings) -> Iterator[Advice]:
    for table in tables.old(found):
        yield Advice(
            "vacuum",
            table.name,
            f"its oldest row is {max(table.frozen_age, table.multixact_age):,} transactions old, and"
            f" PostgreSQL vacuums from {table.freeze_limit:,} on by itself: that is late, or fails",
            (f"vacuum (freeze, verbose) {table.name}",),
            "no shutdown against wraparound",
            caution="look for what holds it up: prepared transactions, slots, sessions idle in transaction",
        )
    for table in tables.to_vacuum(found, share=queries.dead_percent / 100, rows=queries.dead_rows):
        yield Advice(
            "vacuum",
            table.name,
            f"{table.dead_rows:,} dead rows, {table.dead_share:.0%} of it, above what autovacuum lets stand"
            f" ({table.vacuum_threshold:,}); last vacuum {_when(table.vacuumed_at)}",
            (f"vacuum (verbose, analyze) {table.name}",),
            f"room for {table.dead_rows:,} rows, and scans that do not read them",
            caution=""
            if table.is_autovacuumed
            else f"autovacuum is off: alter table {table.name} reset (autovacuum_enabled)",
        )
    for table in tables.bloated(found, share=queries.bloat_percent / 100, from_bytes=queries.advice_bytes):
        yield Advice(
            "rebuild",
            table.name,
            f"{table.bloat_share:.0%} of it holds no rows, by estimate",
            (f"vacuum (full, analyze) {table.name}",),
            f"about {_megabytes(table.bloat_bytes or 0)}",
            table.bloat_bytes or 0,
            "it locks the table for all that time and writes it anew; measure before with pgstattuple, and"
            " leave it where the table grows into that room again",
        )
    for table in tables.to_analyze(found, rows=queries.dead_rows):
        yield Advice(
            "analyze",
            table.name,
            f"{table.changed_since_analyze:,} rows changed since it was analysed: {_when(table.analyzed_at)}",
            (f"analyze {table.name}",),
            "plans by what is in it",
        )


def _when(at: datetime | None) -> str:
    return "never" if at is None else f"{at:%F %H:%M} UTC"


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"

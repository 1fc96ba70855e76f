"""A month's rows as a number that background merges do not change.

analytics.events is a ReplacingMergeTree: a repeated delivery is there twice until a merge. So rows are read
with FINAL, day by day, for the day leads the sort key and memory stays bounded. The hash is SipHash of the
stored columns as text: independent of compression, parts and order, and the same in every version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bilten_orchestration.partitions.clickhouse.months import partition_id

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from bilten_orchestration.partitions.bounds import Period

METHOD = "FINAL; count:sum(toUInt128(sipHash64(toString of each column, in order)))"


@dataclass(frozen=True, slots=True)
class Measured:
    """`days`: rows by day (2026-01-31 -> rows), those without rows left out."""

    rows: int
    digest: str
    days: tuple[tuple[str, int], ...]


def compute(
    client: Client, relation: str, columns: Sequence[tuple[str, str]], period: Period, *, final: bool = True
) -> Measured:
    """Of the month's rows in `relation`, a table with the columns of the archived one."""
    hashed = ", ".join(f"toString({name})" for name, _ in columns)
    days, total, rows = [], 0, 0
    for (day,) in client.query(
        f"select distinct toString(created_date) from {relation}"
        f" where toYYYYMM(created_date) = {partition_id(period)} order by 1"
    ).result_rows:
        ((count, hashes),) = client.query(
            f"select count(), toString(sum(toUInt128(sipHash64({hashed}))))"
            f" from {relation}{' final' if final else ''} where created_date = {{day:Date}}",
            parameters={"day": day},
        ).result_rows
        days.append((str(day), int(count)))
        rows += int(count)
        total += int(hashes)
    return Measured(rows, f"{rows}:{total}", tuple(days))

"""What every bench shares: timed contestants, medians, ratios.

Contestants of a bench take turns (a, b, c, a, b, c, ...), so that a machine that slows down slows all of
them, and a ratio is of medians of one run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bilten_orchestration.ingestion.tables import TABLES
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

OURS = "bilten"
MERGES_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of the table. `seconds` are medians; `aim` is the ratio promised for each rival.

    `bound_seconds`: for a promise that is no ratio, the most that `bilten` may take. `unit` names what is
    measured where that is no time.
    """

    bench: str
    scale: float
    size: str  # how much was worked on, in words
    seconds: Mapping[str, float]
    runs: int
    aim: Mapping[str, float] = field(default_factory=dict)
    bound_seconds: float | None = None
    note: str = ""
    unit: str = "s"

    def ratio(self, rival: str) -> float:
        return self.seconds[rival] / self.seconds[OURS]

    @property
    def met(self) -> bool:
        within = self.bound_seconds is None or self.seconds[OURS] <= self.bound_seconds
        return within and all(self.ratio(rival) >= aim for rival, aim in self.aim.items())


@dataclass(frozen=True, slots=True)
class Context:
    """What a bench is given. `settings`: servers of its own, migrated and filled at `scale`, unsynced."""

    settings: Settings
    scale: float
    runs: int
    progress: Progress


Contestant = Callable[[], float | None]


def take_turns(
    contestants: Mapping[str, Contestant],
    runs: int,
    progress: Progress,
    *,
    before: Callable[[str], None] = lambda _: None,
    after: Callable[[str], None] = lambda _: None,
) -> dict[str, float]:
    """Median seconds per contestant. `before` prepares a turn and `after` judges it, both untimed.

    A contestant may return the seconds that count (of the server, say); else its wall time does.
    """
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(1, runs + 1):
        for name, contestant in contestants.items():
            before(name)
            started = time.perf_counter()
            told = contestant()
            seconds = time.perf_counter() - started if told is None else told
            after(name)
            samples[name].append(seconds)
            progress(f"  turn {turn}/{runs}, {name}: {seconds:.2f} s")
    return {name: statistics.median(found) for name, found in samples.items()}


def merge(client: Client) -> None:
    """All versions of the raw copies merged, as some time after a batch: no turn pays for the one before.

    A full reload leaves a second version of every row, which each later reading merges.
    """
    for table in TABLES:
        client.command(f"optimize table {table.raw} final")
    deadline = time.monotonic() + MERGES_SECONDS
    while client.query("select count() from system.merges").result_rows[0][0]:
        assert time.monotonic() < deadline, f"merges go on for more than {MERGES_SECONDS} s"
        time.sleep(0.1)


def size(context: Context) -> str:
    """Of all databases of PostgreSQL, in words."""
    from bilten_orchestration.stores import postgres

    with postgres.connect(context.settings.postgres) as connection:
        row = connection.execute("select sum(pg_database_size(oid)) from pg_database").fetchone()
    assert row is not None
    return f"{int(row[0]) / 2**30:.2f} GiB"


def count(rows: Sequence[tuple[int, ...]] | int) -> str:
    """A number of rows in words."""
    number = rows if isinstance(rows, int) else int(rows[0][0])
    return f"{number:,} rows"

"""Whether the stores agree: marts built from a restored PostgreSQL, in a restored ClickHouse, and live ones.

A day of a mart is told by one digest, the one by which builds tell a day that has not changed: the number of
its rows and the sum of cityHash64 over all columns, states by their bytes.

Compared are days that must be equal, and no others:

    of one build    live and restored show the same build: what was built since the backup, or while it was
                    taken, is left out
    settled         final, and so old that the daily final builds have taken them up for the last time: late
                    clicks make no day dirty, and are taken up with these
    not stale       no batch has touched a fact of theirs that the live server has not built yet

PostgreSQL is restored to the moment of the newest batch that the live ClickHouse shows, so that nothing that
happened later counts. The restored pair is the drill's own: sync and build write into it, by the functions
that write into the live one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bilten_orchestration.drills.report import Proof
from bilten_orchestration.errors import BiltenError, TerminalError
from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import ClickHouseSettings, PostgresSettings, Settings
from bilten_orchestration.stores import clickhouse

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

Cell = tuple[str, date]
# final builds take up five closed days; two more for one that failed
_SETTLED = day_rules.DAY * 7
_NEWEST = 30
_TOLD = 3


class NothingToCompare(TerminalError):
    """There is no final day, or no way to one: then the drill proves the restored marts by themselves."""


@dataclass(frozen=True, slots=True)
class Published:
    """A day of a mart: `build` decided it, `content` is its digest."""

    build: tuple[str, datetime]
    is_final: bool
    content: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Agreement:
    """`compared` days of marts; `differ` are those that are not the same."""

    compared: int
    differ: tuple[Cell, ...]


def published(client: Client, days: Collection[date] | None = None) -> dict[Cell, Published]:
    """Every day of every mart that is published (or those of `days`). Reads the marts whole."""
    if not client.query("exists table analytics.mart_days").result_rows[0][0]:
        return {}
    rows = client.query(
        "select mart, day, run_id, built_at, is_final from analytics.mart_days final where batch > 0"
    ).result_rows
    states = {
        (str(mart), day): (str(run), built_at, bool(final))
        for mart, day, run, built_at, final in rows
        if days is None or day in days
    }
    contents: dict[Cell, tuple[int, int]] = {}
    for mart in sorted({mart for mart, _ in states}):
        for day, count, digest in client.query(
            f"select metric_date, count(), sum(cityHash64(*)) from marts.`{mart}` group by metric_date"
        ).result_rows:
            contents[mart, day] = (int(count), int(digest))
    return {
        cell: Published((run, built_at), final, contents.get(cell, (0, 0)))
        for cell, (run, built_at, final) in states.items()
    }


def comparable(
    restored: Mapping[Cell, Published],
    live: Mapping[Cell, Published],
    stale: Collection[date],
    now: datetime,
) -> dict[date, list[Cell]]:
    """The cells that must be equal by day, those of the newest days; see the module's docstring."""
    until = day_rules.newest_over(now) - _SETTLED
    found: dict[date, list[Cell]] = {}
    for cell, day in sorted(restored.items(), key=lambda each: each[0][1]):
        other = live.get(cell)
        same = other is not None and other.build == day.build and other.is_final
        if same and cell[1] <= until and cell[1] not in stale:
            found.setdefault(cell[1], []).append(cell)
    return dict(list(found.items())[-_NEWEST:])


@contextmanager
def restored_postgres(
    settings: Settings, directory: Path, progress: Progress
) -> Iterator[tuple[PostgresSettings, datetime]]:
    """PostgreSQL as of the newest batch that the live ClickHouse shows, on a private socket; gone afterwards.

    Raises NothingToCompare where there is no batch, and what a restore of PostgreSQL raises.
    """
    from bilten_orchestration.backups.postgres import private
    from bilten_orchestration.backups.postgres.restore import restore
    from bilten_orchestration.backups.postgres.targets import Target
    from bilten_orchestration.drills.postgres import shipped
    from bilten_orchestration.ingestion import state

    with closing(clickhouse.connect(settings.clickhouse)) as client:
        known = client.query("exists table analytics.sync_batches").result_rows[0][0]
        as_of = state.newest_applied(client).as_of if known else None
    if as_of is None:
        raise NothingToCompare(
            "the live ClickHouse shows no batch of PostgreSQL",
            expected="one",
            found="none",
            next="bilten sync",
        )
    moment = as_of.replace(tzinfo=UTC)
    progress(f"PostgreSQL as of {moment:%F %T} UTC, the newest batch of the live ClickHouse")
    shipped.wait_for_moment(settings, moment, progress)
    report = restore(
        settings,
        Target("moment", moment.isoformat()),
        directory,
        start=True,
        options=private.bounded(settings.drills.shared_buffers_megabytes),
        progress=progress,
    )
    try:
        assert report.dsn is not None  # noqa: S101
        socket = dict(part.split("=", 1) for part in report.dsn.split())["host"]
        yield settings.postgres.model_copy(update={"host": socket, "port": private.PORT}), moment
    finally:
        private.stop(directory)


def agree(
    settings: Settings,
    *,
    postgres: PostgresSettings,
    clickhouse: ClickHouseSettings,
    home: Path,
    reached_at: datetime,
    progress: Progress,
    now: datetime | None = None,
) -> Agreement:
    """Sync a restored PostgreSQL into a restored ClickHouse, build the days that must be equal anew, compare.

    Both are written into, `settings` are the live ones and are read. `home` is a state directory of its own.
    Raises NothingToCompare, and what a sync and a build raise; a day that the gates refuse differs.
    """
    from bilten_orchestration.ingestion.sync import sync
    from bilten_orchestration.metrics.build import build_days

    moment = now or datetime.now(UTC)
    live = _published(settings.clickhouse)
    restored = _published(clickhouse)
    known = {cell: day for cell, day in live.items() if day.build[1].replace(tzinfo=UTC) <= moment}
    days = comparable(restored, known, _stale(settings), moment)
    if not days:
        raise NothingToCompare(
            "there is no final day of a mart that the restored and the live ClickHouse show of one build",
            expected=f"one until {day_rules.newest_over(moment) - _SETTLED}",
            found=f"{len(restored)} days of marts in the restored one, {len(live)} in the live one",
            next="bilten metrics build; the next backup of ClickHouse has it",
        )
    cells = [cell for each in days.values() for cell in each]
    ours = settings.model_copy(update={"home": home, "postgres": postgres, "clickhouse": clickhouse})
    _with_manifest_of(settings, home)
    report = sync(ours, accept_epoch=True, progress=progress)
    progress(f"batch {report.batch} of the restored PostgreSQL, as of {reached_at:%F %T} UTC")
    built = build_days(ours, list(days), refresh_whole=False, progress=progress)
    refused = {(day.mart, day.date) for day in built.days if day.verdict == "refused"}
    anew = _published(clickhouse, days)
    differ = [
        cell
        for cell in cells
        if cell in refused
        or cell not in anew
        or not anew[cell].content == restored[cell].content == live[cell].content
    ]
    return Agreement(len(cells), tuple(sorted(differ)))


def told(differ: Sequence[Cell], compared: int) -> str:
    if not differ:
        return f"{compared:,} compared, all equal"
    return f"{len(differ):,} of {compared:,} differ: {named(differ)}"


def named(cells: Sequence[Cell]) -> str:
    shown = ", ".join(f"{mart} of {day}" for mart, day in cells[:_TOLD])
    return f"{shown}{' ...' if len(cells) > _TOLD else ''}"


def without_evidence(name: str, error: BiltenError, began: float) -> Proof:
    """What could not be compared is told, and is no proof."""
    (problem, *_) = error.problems
    return Proof(
        name,
        False,
        problem.expected or "something to compare",
        problem.what,
        time.monotonic() - began,
        warns=True,
    )


def _published(server: ClickHouseSettings, days: Collection[date] | None = None) -> dict[Cell, Published]:
    with closing(clickhouse.connect(server)) as client:
        return published(client, days)


def _stale(settings: Settings) -> set[date]:
    """Days that the live marts show as they were before."""
    from bilten_orchestration.metrics import dirty, late, manifest, verdicts
    from bilten_orchestration.stores import postgres

    marts = manifest.daily_marts(settings)
    with (
        postgres.connect(settings.postgres, "etl", autocommit=True) as connection,
        closing(clickhouse.connect(settings.clickhouse)) as client,
    ):
        return set(late.stale_days(dirty.dirty_days(connection), verdicts.shown(client, marts)))


def _with_manifest_of(settings: Settings, home: Path) -> None:
    """The parsed project is the same: to parse it again takes longer than the build."""
    from bilten_orchestration.metrics import manifest

    place = manifest.prepare(settings).parent
    ours = manifest.directory(settings.model_copy(update={"home": home}))
    ours.mkdir(parents=True)
    shutil.copytree(place, ours / place.name)

"""The past on disk: there after a restart, and damaged files stop nobody."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bilten_orchestration.observability.board import Entry
from bilten_orchestration.observability.chronicle import Chronicle
from bilten_orchestration.observability.finding import Promise, Reading
from bilten_orchestration.observability.history import Cell, Level, last_days

# far from midnight: seconds are added to it
NOW = datetime.now(UTC).replace(hour=12)
TODAY = last_days(NOW)[-1]
SECOND = timedelta(seconds=1)


def entry(at: datetime, *, fresh: bool = True, kept: bool | None = True, **given: object) -> dict[str, Entry]:
    promise = Promise("search_lag", kept, 1.0, 900, "seconds")
    reading = Reading(promises=(promise,), **given)  # type: ignore[arg-type]
    return {"lags": Entry("lags", (), reading=reading, read_at=at, fresh=fresh)}


def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    first = Chronicle(tmp_path)
    cells = (Cell("metrics", TODAY, "bad", "0 of 5 marts final"),)
    levels = (Level("postgres/bilten", TODAY, 7),)
    first.turn(entry(NOW, cells=cells, levels=levels), NOW)
    held = first.history
    first.close()
    again = Chronicle(tmp_path)
    assert again.history.levels == held.levels == {("postgres/bilten", TODAY): levels[0]}
    assert again.history.cells["metrics", TODAY] == cells[0]
    assert again.history.cells["search_lag", TODAY].state == "good"
    again.close()


def test_the_newest_cell_holds_but_where_evidence_goes_the_first(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path)
    for number, state in enumerate(("good", "bad")):
        cells = (
            Cell("metrics", TODAY, state, state),  # type: ignore[arg-type]
            Cell("backups/redis", TODAY, state, state, first_holds=True),  # type: ignore[arg-type]
        )
        chronicle.turn(entry(NOW + number * SECOND, cells=cells), NOW + number * SECOND)
    assert chronicle.history.cells["metrics", TODAY].state == "bad"
    assert chronicle.history.cells["backups/redis", TODAY].state == "good"
    chronicle.close()


def test_a_promise_is_sampled_once_a_minute_and_what_is_not_known_is_not_kept(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path)
    for seconds in (0, 10, 59, 60):
        chronicle.turn(entry(NOW, fresh=False), NOW + seconds * SECOND)
    (row,) = chronicle._connection.execute("select kept, missed, unknown, not_yet from sample").fetchall()
    assert row == (0, 0, 2, 0)
    assert chronicle.history.cells["search_lag", TODAY].state == "unknown"
    chronicle.turn(entry(NOW + SECOND, kept=False), NOW + 121 * SECOND)
    assert chronicle.history.cells["search_lag", TODAY].state == "bad"
    chronicle.close()


def test_what_is_old_goes(tmp_path: Path) -> None:
    chronicle = Chronicle(tmp_path)
    levels = tuple(Level("x", TODAY - timedelta(days=back), back) for back in (0, 29, 30, 61))
    chronicle.turn(entry(NOW, levels=levels), NOW)
    assert {level.bytes for level in chronicle.history.levels.values()} == {0, 29}
    rows = chronicle._connection.execute("select bytes from level order by bytes").fetchall()
    assert rows == [(0,), (29,), (30,)]
    chronicle.close()


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite").write_bytes(b"no database at all" * 100)
    chronicle = Chronicle(tmp_path)
    chronicle.turn(entry(NOW), NOW)
    assert chronicle.history.cells
    assert (tmp_path / "history.sqlite.damaged").exists()
    chronicle.close()


def test_where_there_can_be_no_file_it_goes_on_in_memory(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite").mkdir()
    chronicle = Chronicle(tmp_path)
    chronicle.turn(entry(NOW), NOW)
    assert chronicle.history.cells
    chronicle.close()


def test_it_knows_the_installation_from_its_neighbour(tmp_path: Path) -> None:
    since = (NOW - timedelta(days=3)).isoformat()
    (tmp_path / "installed.json").write_text(json.dumps({"at": since, "since": NOW.isoformat()}))
    chronicle = Chronicle(tmp_path)
    states = [chronicle.history.cell("search_lag", day).state for day in last_days(NOW)]
    assert states == ["not_yet"] * 26 + ["unknown"] * 4
    chronicle.close()

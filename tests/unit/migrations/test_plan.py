from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bilten_orchestration.errors import UsageError
from bilten_orchestration.migrations.files import Migration, Script
from bilten_orchestration.migrations.history import Record, RecordStatus
from bilten_orchestration.migrations.plan import objections, plan_down, plan_up, standing
from bilten_orchestration.migrations.statements import Statement, Store

AT = datetime(2026, 1, 1, tzinfo=UTC)


def migration(
    version: int, *, store: Store = "postgres", transactional: bool = True, up: str = "", down: str = ""
) -> Migration:
    """`up` and `down` are checksums."""

    def script(direction: str, checksum: str) -> Script:
        path = Path(f"V{version:04d}__m{version}.{direction}.sql")
        return Script(path, (Statement("select 1", 1),), transactional, "", checksum or f"{version:064d}")

    return Migration(store, version, f"m{version}", script("up", up), script("down", down))


def record(version: int, status: RecordStatus = "completed", *, store: Store = "postgres") -> Record:
    checksum = f"{version:064d}"
    return Record(store, version, f"m{version}", "", checksum, checksum, AT, AT, None, status, None)


def history(*records: Record) -> dict[tuple[Store, int], Record]:
    return {(each.store, each.version): each for each in records}


def files(*migrations: Migration) -> dict[Store, list[Migration]]:
    return {store: [m for m in migrations if m.store == store] for store in ("postgres", "clickhouse")}


@pytest.mark.parametrize(
    ("status", "with_transaction", "without"),
    [
        (None, "absent", "absent"),
        ("running", "absent", "partial"),
        ("completed", "applied", "applied"),
        ("failed", "absent", "partial"),
        ("reverting", "applied", "partial"),
        ("revert_failed", "applied", "partial"),
        ("reverted", "absent", "absent"),
    ],
)
def test_standing(status: RecordStatus | None, with_transaction: str, without: str) -> None:
    of = None if status is None else record(1, status)
    assert standing(migration(1, transactional=True), of) == with_transaction
    assert standing(migration(1, transactional=False), of) == without


def test_up_runs_what_is_absent_or_partial_in_order_up_to_the_target() -> None:
    tree = files(*(migration(v, store="clickhouse", transactional=False) for v in (1, 2, 3, 4)))
    known = history(record(1, store="clickhouse"), record(2, "failed", store="clickhouse"))
    assert [step.migration.version for step in plan_up(tree, known, "clickhouse", None)] == [2, 3, 4]
    assert [step.migration.version for step in plan_up(tree, known, "clickhouse", 3)] == [2, 3]


def test_down_runs_what_is_not_absent_newest_first_and_leaves_the_target() -> None:
    tree = files(*(migration(v) for v in (1, 2, 3, 4)))
    known = history(record(1), record(2), record(3), record(4, "failed"))
    assert [step.migration.version for step in plan_down(tree, known, "postgres", 1)] == [3, 2]
    assert [step.migration.version for step in plan_down(tree, known, "postgres", 0)] == [3, 2, 1]


@pytest.mark.parametrize("target", [-1, 3])
def test_a_target_that_is_no_version_is_refused(target: int) -> None:
    tree = files(migration(1), migration(2))
    with pytest.raises(UsageError):
        plan_up(tree, {}, "postgres", target)
    with pytest.raises(UsageError):
        plan_down(tree, {}, "postgres", target)


def test_nothing_speaks_against_a_history_that_matches() -> None:
    assert list(objections(files(migration(1), migration(2)), history(record(1)), "postgres")) == []


def test_edited_missing_and_out_of_order_are_all_told() -> None:
    tree = files(migration(1, up="f" * 64, down="e" * 64), migration(3), migration(4))
    known = history(record(1), record(2), record(4))
    told = [
        (problem.what, problem.expected, problem.found) for problem in objections(tree, known, "postgres")
    ]
    assert told == [
        (
            "postgres V0001 m1 was edited after it was run",
            "V0001__m1, checksum 000000000000",
            "V0001__m1.up.sql, checksum ffffffffffff",
        ),
        (
            "the way back of postgres V0001 m1 was edited after the way there was run",
            "V0001__m1.down.sql, checksum 000000000000",
            "V0001__m1.down.sql, checksum eeeeeeeeeeee",
        ),
        (
            "postgres V0002 m2 was run and has no file any more",
            "sql/postgres/V0002__m2.up.sql",
            "no file of this version",
        ),
        (
            "postgres V0003 m3 is out of order",
            "a version above V0004, the newest that was run",
            "V0003, never run here",
        ),
    ]


def test_a_failed_one_may_be_corrected_in_its_file() -> None:
    tree = files(migration(1), migration(2, up="f" * 64, down="f" * 64))
    assert list(objections(tree, history(record(1), record(2, "failed")), "postgres")) == []


@pytest.mark.parametrize("status", ["reverting", "revert_failed"])
def test_a_down_that_failed_may_be_corrected_in_its_file_and_its_up_may_not(status: RecordStatus) -> None:
    known = history(record(1, status))
    assert list(objections(files(migration(1, down="f" * 64)), known, "postgres")) == []
    assert len(list(objections(files(migration(1, up="f" * 64)), known, "postgres"))) == 1


def test_a_reverted_one_may_be_edited_or_removed() -> None:
    known = history(record(1), record(2, "reverted"), record(3, "reverted"))
    assert list(objections(files(migration(1), migration(2, up="f" * 64)), known, "postgres")) == []


def test_the_other_store_is_another_history() -> None:
    tree = files(migration(1), migration(1, store="clickhouse", transactional=False))
    assert list(objections(tree, history(record(2)), "clickhouse")) == []

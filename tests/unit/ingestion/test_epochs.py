"""When a batch may go on: the same server, and the batch that both sides remember."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bilten_orchestration.ingestion.state import AppliedBatch, Epoch, SyncState, disagreements

HERE = Epoch(system_identifier="7", timeline=1, database=5, restore_id=None)


@pytest.mark.parametrize(
    ("state", "applied", "raw_is_empty"),
    [
        (SyncState(), AppliedBatch(), True),  # nothing was ever loaded
        (SyncState(applying_batch=1), AppliedBatch(), False),  # killed in the first load
        (SyncState(batch=4, epoch=HERE), AppliedBatch(4, HERE), False),
        (SyncState(batch=4, applying_batch=5, epoch=HERE), AppliedBatch(4, HERE), False),
        (SyncState(batch=4, applying_batch=5, epoch=HERE), AppliedBatch(5, HERE), False),
        # 7 was killed when it was whole in ClickHouse alone, 9 before it was whole anywhere
        (SyncState(batch=4, applying_batch=9, epoch=HERE), AppliedBatch(7, HERE), False),
    ],
)
def test_goes_on(state: SyncState, applied: AppliedBatch, raw_is_empty: bool) -> None:
    assert disagreements(state, applied, HERE, raw_is_empty=raw_is_empty) == []


@pytest.mark.parametrize(
    ("state", "applied"),
    [
        (SyncState(), AppliedBatch(4, HERE)),  # an empty PostgreSQL
        (SyncState(), AppliedBatch()),  # rows that nobody accounts for
        (SyncState(batch=4, epoch=HERE), AppliedBatch()),  # ClickHouse lost
        (SyncState(batch=3, epoch=HERE), AppliedBatch(4, HERE)),  # gone back
        (SyncState(batch=4, applying_batch=9, epoch=HERE), AppliedBatch(10, HERE)),
        (SyncState(batch=4, applying_batch=9, epoch=HERE), AppliedBatch(3, HERE)),
        (SyncState(batch=4, epoch=replace(HERE, timeline=2)), AppliedBatch(4, HERE)),
        (SyncState(batch=4, epoch=HERE), AppliedBatch(4, replace(HERE, system_identifier="8"))),
        (SyncState(batch=4, epoch=HERE), AppliedBatch(4, replace(HERE, restore_id="r"))),
    ],
)
def test_stops(state: SyncState, applied: AppliedBatch) -> None:
    assert disagreements(state, applied, HERE, raw_is_empty=False)

"""A parent with thousands of partitions."""

from __future__ import annotations

import time
from dataclasses import replace

import psutil
import pytest

from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.postgres.preview import connected, planned
from tests.integration.partitions.conftest import Shelf

pytestmark = pytest.mark.faults


def test_two_thousand_partitions_are_planned_within_seconds(shelf: Shelf) -> None:
    shelf.owner.execute("create table users.visits (created_at timestamptz) partition by range (created_at)")
    for block in range(20):  # one transaction of all would hold thousands of locks
        shelf.owner.execute(
            f"""
            do $$ begin for n in {block * 100 + 1} .. {block * 100 + 100} loop
                execute format('create table users.visits_%1$s partition of users.visits
                                for values from (%2$L) to (%3$L)', n,
                               timestamptz '2020-01-01 00:00+00' + n * interval '1 day',
                               timestamptz '2020-01-01 00:00+00' + (n + 1) * interval '1 day');
            end loop; end $$
            """
        )
    shelf.owner.execute("insert into users.visits values ('2025-06-23 12:00+00')")
    table = PartitionedTable("users.visits", retention=10, premake=1, interval="day")
    shelf = replace(shelf, table=table)
    with connected(shelf.settings) as connection:
        server = psutil.Process(connection.info.backend_pid)

        def spent() -> float:
            """By this process and by the server's for it: what a machine that does other things adds is none
            of it (`python -m bench --only partition-plan` has the time on a quiet one)."""
            times = server.cpu_times()
            return time.process_time() + times.user + times.system

        before = spent()
        found = planned(shelf.settings, connection, [table], None, None, lambda _: None)
        assert spent() - before < 2
    assert sum(action.action == "keep" for action in found.actions) == 2000

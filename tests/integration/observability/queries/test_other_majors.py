"""Statements and catalogues of PostgreSQL 15 and 16, where this machine has one.

Entries of pg_stat_statements do not tell there when they were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bilten_orchestration.migrations import runner
from bilten_orchestration.observability.queries.advice import advise
from bilten_orchestration.observability.queries.collect import collect
from bilten_orchestration.partitions.postgres.premake import ensure_months
from bilten_orchestration.settings import QuerySettings, Settings
from bilten_orchestration.stores import postgres
from tests import other_postgres
from tests.conftest import Servers


@pytest.fixture(params=other_postgres.each())
def server(servers: Servers, request: pytest.FixtureRequest) -> Iterator[other_postgres.OtherPostgres]:
    with other_postgres.started(servers, request.param) as made:
        yield made


@pytest.mark.faults
def test_an_older_major_is_counted(server: other_postgres.OtherPostgres, tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        environment="test",
        postgres=server.settings(),
        queries=QuerySettings(top_statements=1000, plans_per_look=1000),
    )
    runner.up(settings, store="postgres")
    today = datetime.now(UTC).date()
    with postgres.connect(settings.postgres, autocommit=True) as owner:
        ensure_months(owner, "system.slow_queries", today, today)
        counted = "select beat from system.heartbeats where source = $1"

        def run(times: int) -> None:
            for number in range(times):
                owner.execute(f"select beat from system.heartbeats where source = 'old{number}'")

        def looks() -> list[tuple[int, bool, str]]:
            return owner.execute(
                "select calls, plan is not null, plan_refused from system.slow_queries"
                " where query_text = %s order by created_at",
                (counted,),
            ).fetchall()

        run(9)
        collect(settings)
        run(4)
        collect(settings)
        assert owner.execute(
            "select count(*) from system.statement_baseline where stats_since is not null"
        ).fetchone() == (0,)
        with postgres.connect(
            server.superuser.model_copy(update={"database": settings.postgres.database}), autocommit=True
        ) as superuser:
            superuser.execute(
                "select pg_stat_statements_reset(0, oid, 0) from pg_database"
                " where datname = current_database()"
            )
        run(2)
        collect(settings)
        found = looks()
        assert [row[0] for row in found] == [4, 2]
        if server.major < 16:
            assert found[0][1:] == (False, "EXPLAIN (GENERIC_PLAN) came with PostgreSQL 16")
        else:
            assert found[0][1]
        report = advise(settings)
        assert report.problems == ()
        assert report.usage.indexes

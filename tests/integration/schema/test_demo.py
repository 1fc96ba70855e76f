"""The demo takes triggers, indexes and foreign keys off while it loads; all of them are back after it."""

from __future__ import annotations

from bilten_orchestration.demo.load import load
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from tests.integration.schema.catalogue import describe


def test_a_demo_load_leaves_the_schema_as_it_was(settings: Settings) -> None:
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        before = describe(connection)
        load(settings, scale=0.02)
        after = describe(connection)
        assert connection.execute("select count(*) > 0 from payments.payments").fetchone() == (True,)
    for kind, lines in before.items():
        assert set(lines) <= set(after[kind]), kind
        # besides its own table it adds months only
        added = [line for line in set(after[kind]) - set(lines) if "demo_loads" not in line]
        assert [line for line in added if "_p20" not in line] == [], kind

from __future__ import annotations

from bilten_orchestration.partitions.declared import BY_NAME, DECLARED


def test_what_is_declared() -> None:
    assert {name: (t.premake, t.retention) for name, t in BY_NAME.items()} == {
        "users.user_behavior": (4, 13),
        "events.event_analytics": (4, 25),
        "audit.audit_log": (4, 84),
        "system.slow_queries": (4, 3),
    }


def test_names_leave_room_for_the_month() -> None:
    for table in DECLARED:
        assert len(f"{table.table}_p202601") <= 63
        assert (table.schema, table.table) == tuple(table.name.split("."))

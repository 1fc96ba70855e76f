"""In which order rows are copied back, and what a restore that stops before its target is told."""

from __future__ import annotations

import pytest

from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.errors import Refused
from bilten_orchestration.recovery.tables import ForeignKey, Table, parents_first


def _table(name: str) -> Table:
    return Table(*name.split("."), ("id", "name", "updated_at", "sync_xid"), ("id",))  # type: ignore[call-arg]


def _key(child: str, parent: str) -> ForeignKey:
    return ForeignKey(f"{child}_{parent}", child, ("parent_id",), parent, ("id",), cascades=False)


def test_parents_come_first() -> None:
    tables = [_table(name) for name in ("p.items", "p.payments", "t.tickets", "u.users")]
    keys = [
        _key("p.items", "p.payments"),
        _key("p.items", "t.tickets"),
        _key("t.tickets", "p.payments"),
        _key("t.tickets", "t.tickets"),  # at itself: one statement
        _key("p.payments", "e.events"),  # not touched: no part of the order
    ]
    names = [table.name for table in parents_first(tables, keys)]
    assert sorted(names) == sorted(table.name for table in tables)
    assert names.index("p.payments") < names.index("t.tickets") < names.index("p.items")


def test_a_circle_is_refused_and_named() -> None:
    tables = [_table("a.one"), _table("a.two")]
    with pytest.raises(Refused, match="circle") as told:
        parents_first(tables, [_key("a.one", "a.two"), _key("a.two", "a.one")])
    assert (
        "a.one -> a.two" in told.value.problems[0].found or "a.two -> a.one" in told.value.problems[0].found
    )


def test_content_is_what_triggers_do_not_write() -> None:
    assert _table("a.one").content == ("id", "name")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (Target("xid", "753"), {"recovery_target_xid": "753"}),
        (
            Target("xid", "753", inclusive=False),
            {"recovery_target_xid": "753", "recovery_target_inclusive": "off"},
        ),
        (Target("latest", inclusive=False), {}),
    ],
)
def test_a_target_that_is_not_included(target: Target, told: dict[str, str]) -> None:
    assert target.settings() == told

"""A bad statement, and its recovery, down to the marts."""

from __future__ import annotations

from pathlib import Path

import pytest

from bilten_orchestration.metrics.build import build_dirty
from bilten_orchestration.recovery.rows import recover
from tests.integration.metrics.world import later
from tests.integration.recovery.conftest import FIRST, Platform, publish


@pytest.mark.faults
def test_marts_are_what_they_were(platform: Platform, parsed_project: Path) -> None:
    publish(platform, parsed_project)
    content, marts = platform.content(), platform.marts()
    assert any(marts.values())
    gone = platform.world.orders[later(FIRST, 2)].payment
    bad, _ = platform.execute(
        "update payments.payments set amount = amount * 2, fee_amount = fee_amount * 2",
        "update payments.payment_items set amount = amount * 2",
        f"delete from payments.payment_items where payment_id = '{gone}'",
        f"delete from tickets.tickets where payment_id = '{gone}'",
        f"delete from payments.payments where id = '{gone}'",
    )
    platform.world.sync()
    build_dirty(platform.settings)
    assert platform.marts() != marts
    platform.shipped()
    report = recover(platform.settings, "tickets.tickets", transaction=bad, execute=True, by="test")
    assert report.problems == ()
    assert report.settled is not None
    assert report.settled.equal
    assert len(report.settled.built or ()) >= 4
    assert platform.content() == content
    assert platform.marts() == marts

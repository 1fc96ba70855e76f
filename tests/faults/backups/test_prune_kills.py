"""Retention killed at every step, in both buckets: nothing good is lost, nothing half is listed."""

from __future__ import annotations

import pytest

from tests.integration.backups.depot import Depot
from tests.integration.backups.retention.test_prune import killed_and_run_again


@pytest.mark.faults
@pytest.mark.parametrize("at", [*range(1, 13), *range(13, 88, 5)])
def test_at_every_step(depot: Depot, at: int) -> None:
    killed_and_run_again(depot, at)

"""Many requests of every kind at once, without an error and without growing."""

from __future__ import annotations

from bilten_orchestration.local.clickhouse.process import EndpointProcess
from tests.integration.local.clickhouse.load import mixed_load


def test_a_thousand_mixed_requests_from_nine_threads(endpoint: EndpointProcess) -> None:
    """The 10,000 are in tests/faults/local; memory, threads and descriptors stay what they were."""
    assert mixed_load(endpoint, 1000, 450).problems == []

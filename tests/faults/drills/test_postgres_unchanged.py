"""Tables that did not change, and a server that crashed in between."""

from __future__ import annotations

import pytest

from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.partitions.postgres.premake import premake
from tests.integration.backups.wal.conftest import Source
from tests.integration.drills.postgres.conftest import drilled
from tests.integration.drills.postgres.test_unchanged import COLD, OTHER, again, checkpoint, was_read


@pytest.mark.faults
def test_a_crash_of_the_server(source: Source) -> None:
    """What was committed before it is read, whatever became of counters and of pages not yet written."""
    source.stream.start()
    premake(source.settings)
    for label in (COLD, OTHER):
        source.execute(f"create table {label} as select n from generate_series(1, 1000) n")
        source.execute(f"vacuum (freeze) {label}")
    take(source.settings, "full")
    checkpoint(source)
    first = drilled(source.settings, "exact")
    checkpoint(source)
    source.execute(f"update {OTHER} set n = -n where n = 7")
    source.server.kill()
    source.server.start()
    course = again(source, first)
    assert was_read(course, first, OTHER)
    assert not was_read(course, first, COLD)

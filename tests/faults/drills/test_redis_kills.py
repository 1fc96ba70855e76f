"""kill -9 of a drill of Redis at each step: the source is as it was, and the next one leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from bilten_orchestration.backups.redis.dump import take
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills import attestation
from bilten_orchestration.drills.run import run
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import redis
from tests.faults.drills.killed import Enough, kill, next_one_cleans_up, rows
from tests.integration.drills.conftest import here  # noqa: F401 (a fixture)
from tests.processes import at_work_in, inet_sockets

pytestmark = pytest.mark.faults
Environment = Callable[[Settings], dict[str, str]]


def source(settings: Settings) -> dict[str, Any]:
    """Every key with what it holds, and what the server was told to be."""
    found: dict[str, Any] = {}
    for database in (0, 3):
        of_database = settings.redis.model_copy(update={"database": database})
        with closing(redis.connect(of_database)) as client:
            for key in client.scan_iter(count=1000):
                found[f"{database} {key!r}"] = client.dump(key)
    with closing(redis.connect(settings.redis)) as client:
        told = client.config_get("*")
    return found | {name: told[name] for name in ("save", "appendonly", "port", "dir", "maxmemory")}


@pytest.mark.parametrize(
    "at",
    [
        "phase find",
        "call backups.redis.restore:_download",
        "said redis-check-rdb reads",
        "call backups.redis.scratch:Scratch:loaded",
        "call backups.redis.scratch:Scratch:append",
        "call backups.redis.scratch:Scratch:stop",
        "call backups.redis.restore:place:rename",
        "phase first_query",
        "call drills.redis:against_source",
        "call drills.attestation:append",
    ],
)
def test_a_kill_leaves_nothing_behind_the_next_one(
    here: Settings,  # noqa: F811
    at: str,
) -> None:
    take(here)
    before = source(here)
    killed = kill(here, "redis", "server", at)
    assert inet_sockets(killed.place) == []
    assert source(here) == before
    next_one_cleans_up(killed)
    assert source(here) == before


def test_killed_between_the_attestation_and_its_marks(
    here: Settings,  # noqa: F811
) -> None:
    """It passed, and that is attested: the next one writes the row and the mark from it."""
    backup = take(here).manifest
    killed = kill(here, "redis", "server", "call drills.held:Held:_mark")
    assert at_work_in(killed.place) == []
    ((drill, ended),) = rows(here)
    assert ended is None

    def progress(text: str) -> None:
        if text.startswith("drill of redis"):
            raise Enough

    with pytest.raises(Enough):
        run(here, "redis", progress=progress)
    assert rows(here) == [(drill, True)]
    with Opened.of(here, new=False) as opened:
        (listed,) = catalogue.read(opened.repository, opened.ring, "redis").backups
        (attested,) = attestation.read(opened.repository, opened.ring, "redis").drills
    assert (attested.report.id, attested.report.ok) == (drill, True)
    assert (listed.manifest.id, listed.state) == (backup.id, "drilled")

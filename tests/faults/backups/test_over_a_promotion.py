"""A moment before a promotion, one behind it, and what the old timeline held last."""

from __future__ import annotations

import shutil

import psycopg
import pytest

from bilten_orchestration.backups.postgres import private
from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.postgres.restore import restore
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.wal.audit import audit
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.local import postgres as embedded
from tests.integration.backups.wal.conftest import Source
from tests.waiting import until

pytestmark = pytest.mark.faults


def test_both_sides_can_be_restored_from_the_backup_before_it(streaming: Source) -> None:
    source = streaming
    source.execute("create table rows (id int primary key)")
    source.execute("insert into rows values (1)")
    full = take(source.settings).manifest.id
    source.execute("insert into rows values (2)")
    before = source.now()
    source.write(20)
    source.await_reach(source.now())
    _promote(source)
    source.execute("insert into rows values (3)")
    after = source.now()
    source.execute("insert into rows values (4)")
    source.write(20)
    source.await_reach(source.now())
    assert audit(source.settings).problems == ()
    assert audit(source.settings).timeline == 2

    assert _restored(source, Target("moment", before.isoformat()), full) == [1, 2]
    assert _restored(source, Target("moment", after.isoformat()), full) == [1, 2, 3]
    assert _restored(source, Target("latest"), full) == [1, 2, 3, 4]
    assert _restored(source, Target("latest", timeline=1), full) == [1, 2]
    with pytest.raises(Mismatch, match="the history of timeline 3"):
        restore(source.settings, Target("latest", timeline=3), source.base / "unknown")
    assert not (source.base / "unknown").exists()


def _promote(source: Source) -> None:
    source.server.stop()
    (source.server.cluster.data / "standby.signal").touch()
    source.server.start()
    with embedded.superuser(source.server.cluster) as connection:
        connection.execute("select pg_promote()")
    promoted = "select timeline_id = 2 from pg_control_checkpoint()"
    until(lambda: source.execute(promoted) == [(True,)], "the promotion")


def _restored(source: Source, target: Target, full: str) -> list[int]:
    directory = source.base / "restored"
    report = restore(source.settings, target, directory, start=True)
    try:
        assert report.backup_id == full
        assert report.dsn is not None
        with psycopg.connect(report.dsn) as connection:
            return [number for (number,) in connection.execute("select id from rows order by id").fetchall()]
    finally:
        private.stop(directory)
        shutil.rmtree(directory)

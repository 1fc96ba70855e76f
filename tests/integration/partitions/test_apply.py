"""Old months leave: archived, proven, dropped; and only those that may."""

from __future__ import annotations

from datetime import UTC, datetime

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.partitions import archives, journal
from bilten_orchestration.partitions.archives import Archive
from tests.integration.partitions.conftest import Shelf, months_ago

NOW = datetime.now(UTC)


def listed(shelf: Shelf) -> tuple[Archive, ...]:
    with Opened.of(shelf.settings, new=False) as opened:
        found = archives.read(opened.repository, opened.ring, "postgres")
    assert found.problems == ()
    return found.archives


def test_an_old_month_is_archived_proven_and_dropped(shelf: Shelf) -> None:
    old, kept = shelf.fill(months_ago(3), 500), shelf.fill(months_ago(1))
    shelf.fill(months_ago(0))
    content = shelf.content(old)
    planned = shelf.plan()
    assert planned.problems == ()
    assert [(a.action, a.partition) for a in planned.changes if a.action != "create"] == [
        ("detach", old),
        ("archive", old),
        ("drop", old),
    ]
    assert shelf.exists(old)

    report = shelf.apply()

    assert report.problems == ()
    assert [each.action.action for each in report.done if each.action.partition == old] == [
        "detach",
        "archive",
        "drop",
    ]
    assert not shelf.exists(old)
    assert kept in shelf.names()
    (archive,) = listed(shelf)
    assert (archive.partition, archive.rows) == (old, 500)
    assert content == (500, archive.digest.partition(":")[2])
    row = shelf.owner.execute(
        """
        select state, archive_object, archive_digest, rows, run_id from system.partition_metadata
        where partition_name = %s
        """,
        (old,),
    ).fetchone()
    assert row == ("dropped", archive.document, archive.digest, 500, None)
    with Opened.of(shelf.settings, new=False) as opened:
        (entry,) = journal.read(opened)
    assert (entry.body["what"], entry.body["archive"]) == ("drop", archive.document)
    assert entry.ended is not None
    assert entry.ended["outcome"] == "done"
    again = shelf.apply()
    assert (again.done, again.problems) == ((), ())

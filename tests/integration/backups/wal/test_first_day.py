"""When missing backups are no damage, and when they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bilten_orchestration.backups.wal.first_day import waits_for
from bilten_orchestration.stores import object_store
from tests.integration.backups.depot import Depot

DAY = timedelta(days=1)


def test_only_before_the_first_backup_and_only_in_the_beginning(depot: Depot) -> None:
    now = datetime.now(UTC)
    assert "first one at 02:00 UTC" in str(waits_for(depot.settings, "first", now))
    assert "second bucket" in str(waits_for(depot.settings, "copy", now))
    assert waits_for(depot.settings, "first", now + 2 * DAY) is None
    assert waits_for(depot.settings, "copy", now + 2 * DAY) is None
    depot.add(kind="logical")
    assert waits_for(depot.settings, "first", now) is not None, "no WAL begins with a dump"
    depot.add()
    assert waits_for(depot.settings, "first", now) is None
    assert waits_for(depot.settings, "copy", now) is not None


def test_what_cannot_be_believed_is_audited(depot: Depot) -> None:
    taken = depot.add()
    store = depot.settings.object_store
    client = object_store.connect(store)
    client.put_object(
        Bucket=store.bucket_backups, Key=f"catalogue/postgres/{taken.id}/manifest.json", Body=b"{}"
    )
    client.close()
    assert waits_for(depot.settings, "first", datetime.now(UTC)) is None

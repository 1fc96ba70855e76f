"""What the status page links to in Dagster is there."""

from __future__ import annotations

from typing import Any

from bilten_orchestration.backups.plan import PLANNED
from bilten_orchestration.drills import promises as drill_promises
from bilten_orchestration.drills.listing import stores
from bilten_orchestration.observability.status import strips
from bilten_orchestration.observability.status.topics import topic
from bilten_orchestration.partitions.declared import DECLARED
from tests.unit.test_definitions import loaded  # noqa: F401 a fixture

PROMISES = (
    *("rpo/bilten-backups", "wal_heartbeat_age", "slot_kept_bytes/shipped"),
    *("marts_fresh", "sync_lag", "search_lag"),
    *(f"backup_age/{each.store}/{each.kind}" for each in PLANNED),
    *(f"drill/{store}/{name}" for store in stores() for name in drill_promises.names_of(store)),
    *(f"partitions_ahead/{table.name}" for table in DECLARED),
)


def test_every_link_leads_to_an_asset_or_a_folder_of_them(loaded: dict[str, Any]) -> None:  # noqa: F811
    keys = set(loaded["assets"])
    folders = {key.rpartition("/")[0] for key in keys}
    paths = {name: topic(name).path for name in PROMISES}
    paths |= {subject: path for subject, (_, path) in strips.ROWS.items()}
    assert not [name for name in PROMISES if topic(name).group == "Other"]
    missing = {
        name: path
        for name, path in paths.items()
        if path.removeprefix("/assets/") not in keys | folders or not path.startswith("/assets/")
    }
    assert missing == {}

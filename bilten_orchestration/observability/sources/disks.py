"""Room on the disks that the platform writes to from this machine, and on ClickHouse's as it says itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bilten_orchestration.errors import Problem
from bilten_orchestration.observability.finding import Finding, Promise, Reading
from bilten_orchestration.settings import AlertSettings, Settings
from bilten_orchestration.stores.driver_errors import translated


@dataclass(frozen=True, slots=True)
class Room:
    """Of one disk: what may be used, in bytes."""

    name: str
    total_bytes: int
    free_bytes: int

    @property
    def used_percent(self) -> float:
        return 100 * (1 - self.free_bytes / self.total_bytes) if self.total_bytes else 100.0


def judged(rooms: list[Room], limits: AlertSettings) -> Reading:
    findings = []
    for room in rooms:
        if room.used_percent < limits.disk_warning_percent:
            continue
        critical = room.used_percent >= limits.disk_critical_percent
        findings.append(
            Finding(
                f"disk/{room.name}",
                "disk-full",
                "critical" if critical else "warning",
                Problem(
                    f"the disk of {room.name} is filling up",
                    expected=f"less than {limits.disk_warning_percent} % used",
                    found=f"{room.used_percent:.0f} % used, {room.free_bytes / (1 << 30):.1f} GiB free",
                    next="see what grows there; bilten backup prune, bilten partitions plan",
                ),
            )
        )
    promises = tuple(
        Promise(
            f"disk_used_percent/{room.name}",
            room.used_percent < limits.disk_warning_percent,
            round(room.used_percent, 2),
            limits.disk_warning_percent,
            "percent",
        )
        for room in rooms
    )
    return Reading(tuple(findings), promises)


@dataclass(frozen=True, slots=True)
class LocalDisks:
    settings: Settings
    name: str = "disks"
    interval_seconds: float = 30
    needs: tuple[str, ...] = ()

    def read(self) -> Reading:
        spool = self.settings.backups.wal_spool or self.settings.home / "wal-spool"
        places = {
            "the state directory": self.settings.home,
            "the WAL spool": spool,
            "temporary files": Path(tempfile.gettempdir()),
        }
        rooms: dict[int, Room] = {}
        for name, path in places.items():
            if path.exists():
                usage = shutil.disk_usage(
                    path
                )  # as it is for who is not root: what root alone may use is not free
                rooms.setdefault(os.stat(path).st_dev, Room(name, usage.used + usage.free, usage.free))
        return judged(list(rooms.values()), self.settings.alerts)

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None


@dataclass(frozen=True, slots=True)
class ClickHouseDisks:
    settings: Settings
    name: str = "clickhouse/disks"
    interval_seconds: float = 60
    needs: tuple[str, ...] = ("store/clickhouse",)

    def read(self) -> Reading:
        from bilten_orchestration.stores import clickhouse

        quick = self.settings.clickhouse.model_copy(
            update={"connect_timeout_seconds": 5, "query_timeout_seconds": 20}
        )
        with translated("the look at its disks"), closing(clickhouse.connect(quick)) as client:
            rows = client.query(
                "select name, total_space, unreserved_space from system.disks where type = 'Local'"
            ).result_rows
        rooms = [
            Room(f"ClickHouse's {name}", int(total), int(free)) for name, total, free in rows if int(total)
        ]
        return judged(rooms, self.settings.alerts)

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None

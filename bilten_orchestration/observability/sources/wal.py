"""WAL: what its stream says of itself (a file, no store is asked), and what PostgreSQL says of slots and
heartbeats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bilten_orchestration.backups.wal import slots, status
from bilten_orchestration.errors import Problem
from bilten_orchestration.observability.finding import Finding, Promise, Reading
from bilten_orchestration.observability.installed import Due, Installed, whenever
from bilten_orchestration.observability.sources import bounded
from bilten_orchestration.settings import Settings

_SECONDS = 15.0
#: Of max_slot_wal_keep_size: beyond it PostgreSQL gives the slot up.
_KEPT_WARNING, _KEPT_CRITICAL = 0.5, 0.8
_BEATS_MISSED = 8


@dataclass(frozen=True, slots=True)
class WalStream:
    """RPO of each bucket, now; and every trouble that the stream tells, as one finding."""

    settings: Settings
    installed: Callable[[], Installed]
    name: str = "wal/stream"
    interval_seconds: float = 10
    needs: tuple[str, ...] = ()

    def read(self) -> Reading:
        now = datetime.now(UTC)
        told, problems = status.read(status.place(self.settings), now)
        findings = []
        if problems:
            first, more = problems[0], len(problems) - 1
            behind = all(problem.what.startswith("the second bucket") for problem in problems)
            findings.append(
                Finding(
                    "wal/stream",
                    "wal-not-taken",
                    "warning" if behind else "critical",
                    first
                    if not more
                    else Problem(
                        first.what,
                        first.expected,
                        f"{first.found} (and {more} more: bilten wal status)",
                        first.next,
                    ),
                    since=None if told is None else told.at,
                )
            )
        limit = self.settings.drills.rpo_seconds
        promises = []
        for bucket in () if told is None else told.buckets:
            until = bucket.reachable_until
            # what the stream says grows old with it
            rpo = None if until is None else max(bucket.rpo_seconds or 0.0, (now - until).total_seconds())
            kept = rpo is not None and rpo <= limit
            due: Due = "due" if rpo is not None else self.installed().due(whenever(limit), now)
            promises.append(
                Promise(
                    f"rpo/{bucket.bucket}",
                    kept if due == "due" else None,
                    rpo,
                    limit,
                    "seconds",
                    not_due=due == "not_yet",
                )
            )
            if not kept and due == "due":
                findings.append(self._missed(bucket.bucket, rpo, limit, until))
        if told is None:
            promises.append(Promise("rpo", None, None, limit, "seconds", "the stream of WAL says nothing"))
        return Reading(tuple(findings), tuple(promises), "" if told is None else told.state)

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None

    def _missed(self, bucket: str, rpo: float | None, limit: float, until: datetime | None) -> Finding:
        copy = bucket == self.settings.object_store.bucket_backups_copy
        return Finding(
            f"rpo/{bucket}",
            "rpo-missed",
            "warning" if copy else "critical",
            Problem(
                f"losing PostgreSQL now would cost more than is promised, from {bucket}",
                expected=f"at most {limit:,.0f} s",
                found="nothing can be reached" if rpo is None else f"{rpo:,.0f} s",
                next="bilten wal status; bilten logs wal",
            ),
            since=until,
            step=0 if rpo is None else int(rpo > 10 * limit),
        )


@dataclass(frozen=True, slots=True)
class WalSource:
    """Slots and heartbeats, as PostgreSQL has them."""

    settings: Settings
    name: str = "wal/source"
    interval_seconds: float = 30
    needs: tuple[str, ...] = ("store/postgres",)

    def read(self) -> Reading:
        with bounded.connected(self.settings, "the look at its slots", seconds=_SECONDS) as connection:
            found = slots.read(connection)
            row = connection.execute(
                "select pg_size_bytes(setting || unit) from pg_settings"
                " where name = 'max_slot_wal_keep_size' and setting <> '-1'"
            ).fetchone()
            others = connection.execute(
                "select slot_name, wal_status from pg_replication_slots"
                " where wal_status in ('lost', 'unreserved') and slot_name <> all(%s)",
                ([slots.STREAM, slots.SHIPPED],),
            ).fetchall()
            beat = connection.execute(
                "select extract(epoch from clock_timestamp() - max(beat_at))::float8 from system.heartbeats"
            ).fetchone()
        keep = None if row is None else int(row[0])
        findings = [each for slot in found.values() if (each := _slot(slot, keep)) is not None]
        findings += [_lost(name, said) for name, said in others]
        lagging = {finding.key for finding in findings}
        promises = []
        if keep is not None:
            promises += [
                Promise(
                    f"slot_kept_bytes/{slot.name}",
                    f"slot/{slot.name}" not in lagging,
                    slot.kept_bytes,
                    keep * _KEPT_WARNING,
                    "bytes",
                )
                for slot in found.values()
            ]
        findings += self._heart(None if beat is None else beat[0], promises)
        return Reading(tuple(findings), tuple(promises), f"{len(found)} slots")

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None

    def _heart(self, age: float | None, promises: list[Promise]) -> list[Finding]:
        if age is None:  # none ever: the stream of WAL says so itself
            return []
        limit = float(self.settings.backups.heartbeat_seconds * _BEATS_MISSED)
        promises.append(Promise("wal_heartbeat_age", age <= limit, age, limit, "seconds"))
        if age <= limit:
            return []
        return [
            Finding(
                "wal/heartbeat",
                "wal-heartbeat",
                "critical",
                Problem(
                    "no heartbeat is committed in PostgreSQL: until when WAL reaches is not known",
                    expected=f"one every {self.settings.backups.heartbeat_seconds} s",
                    found=f"the last one {age:,.0f} s ago",
                    next="bilten wal status; bilten up starts the stream of WAL",
                ),
                since=datetime.now(UTC) - timedelta(seconds=age),
            )
        ]


def _slot(slot: slots.Slot, keep: int | None) -> Finding | None:
    if slot.wal_status in ("lost", "unreserved"):
        return _lost(slot.name, slot.wal_status)
    if keep is None or slot.kept_bytes is None or slot.kept_bytes < keep * _KEPT_WARNING:
        return None
    return Finding(
        f"slot/{slot.name}",
        "wal-slot",
        "critical" if slot.kept_bytes >= keep * _KEPT_CRITICAL else "warning",
        Problem(
            f"the slot {slot.name} keeps much WAL: at its limit PostgreSQL gives it up, and WAL has a gap",
            expected=f"less than {keep * _KEPT_WARNING / (1 << 20):,.0f} MiB",
            found=f"{slot.kept_bytes / (1 << 20):,.0f} MiB of {keep / (1 << 20):,.0f} MiB",
            next="bilten wal status says why WAL is not shipped",
        ),
    )


def _lost(name: str, said: str) -> Finding:
    return Finding(
        f"slot/{name}",
        "wal-slot",
        "critical",
        Problem(
            f"the replication slot {name} is {said}: WAL that it was for is gone, or about to go",
            expected="reserved or extended",
            found=said,
            next="bilten wal audit shows the gap; bilten backup create postgres ends it",
        ),
    )

"""What a restored data directory is told of its recovery, and what became of it.

The WAL lies in it, below bilten_wal/, with a small program that hands it out: so the directory can be
moved, given to another user and started by hand. That program answers 1 ("there is none") only for what the
catalogue says does not exist; a file that should be there and is not ends recovery with 126. With 1 for a
segment in the middle PostgreSQL would stop there, and promote, in silence. So it does at a record that is
bad: what replay must have come to lies beside the WAL, for whoever starts the server (`reached`).
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from bilten_orchestration.backups.postgres.private import Running
from bilten_orchestration.backups.postgres.targets import Chosen, Target
from bilten_orchestration.backups.wal import heartbeat, positions
from bilten_orchestration.errors import Mismatch

WAL = "bilten_wal"
_CUT_OFF_BYTES = 1 << 20
_EXPECTED, _GET, _STORED = "expected", "get", "stored.json"
# RestoreArchivedFile (xlogarchive.c): above 125 is no answer but a failure, which ends recovery
_SCRIPT = f"""\
# restore_command: sh {WAL}/{_GET} %f %p
here={WAL}
[ -r "$here/{_EXPECTED}" ] || exit 126
if [ -f "$here/$1" ]; then cp "$here/$1" "$2" && exit 0; exit 126; fi
grep -q -x -F "$1" "$here/{_EXPECTED}" && exit 126
exit 1
"""
# hot standby refuses to start with less than the primary had (manual, "Hot Standby Parameter Reference")
_AT_LEAST = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}

# Debian keeps them outside the data directory; without them nothing starts on it
_ELSEWHERE = {"postgresql.conf": "", "pg_hba.conf": "local all all peer\n", "pg_ident.conf": ""}
_TARGET = re.compile(r"\s*recovery_target(_time|_lsn|_xid|_name|_timeline|_inclusive|_action)?\b")


@dataclass(frozen=True, slots=True)
class Reached:
    """`at` is the last commit that was replayed, `lsn` the last record."""

    at: datetime | None
    lsn: str
    timeline: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What a restored directory is of: a backup, with WAL up to a position, or to a moment. `beat_at` is the
    heartbeat in `file` that replay must have come to, `begin_lsn` the position that it must have passed, None
    where another target decides."""

    backup_id: str
    moment: str | None
    beat_at: datetime | None
    file: str | None
    end_lsn: str
    begin_lsn: str | None

    @classmethod
    def of(cls, target: Target, chosen: Chosen) -> Stored:
        latest = target.kind == "latest"
        return cls(
            chosen.start.backup.manifest.id,
            target.value if target.kind == "moment" else None,
            chosen.start.run.last_beat_at if latest else None,
            chosen.pieces[-1].file if latest and chosen.pieces else None,
            positions.text(chosen.start.end),
            _passed(chosen) if latest else None,
        )

    @classmethod
    def read(cls, directory: Path) -> Stored:
        """Raises Mismatch for a directory that does not say it."""
        place = directory / WAL / _STORED
        try:
            found = json.loads(place.read_text())
            beat_at = found.pop("beat_at")
            return cls(**found, beat_at=None if beat_at is None else datetime.fromisoformat(beat_at))
        except (OSError, ValueError, KeyError, TypeError):
            raise Mismatch(
                f"{directory} does not say what it was restored from",
                expected=str(place),
                found="nothing that can be read",
                next=f"mv {directory} {directory}.other, and restore again",
            ) from None

    def write(self, directory: Path) -> None:
        beat_at = None if self.beat_at is None else self.beat_at.isoformat()
        (directory / WAL / _STORED).write_text(json.dumps({**asdict(self), "beat_at": beat_at}))


def configure(directory: Path, target: Target, chosen: Chosen, bin_directory: Path) -> None:
    """recovery.signal, the settings, and the program that hands out WAL. `directory` holds WAL/ already."""
    wal = directory / WAL
    files = sorted(path.name for path in wal.iterdir())
    (wal / _EXPECTED).write_text("".join(f"{name}\n" for name in files))
    (wal / _GET).write_text(_SCRIPT)
    Stored.of(target, chosen).write(directory)
    told = {
        "restore_command": f"sh {WAL}/{_GET} %f %p",
        "recovery_target_timeline": str(chosen.timeline),
        "recovery_target_action": "promote",
        # nobody else's server is followed, and nobody's archive is written to
        "primary_conninfo": "",
        "primary_slot_name": "",
        "archive_mode": "off",
        **target.settings(),
        **_minimum(directory, bin_directory),
    }
    configuration = directory / "postgresql.conf"
    for name, text in _ELSEWHERE.items():
        if not (directory / name).exists():
            (directory / name).write_text(
                f"# made by `bilten restore`: the server's own lies elsewhere\n{text}"
            )
    automatic = directory / "postgresql.auto.conf"
    for path in (configuration, automatic):
        # a server that was once restored itself may still hold the target of that time, and two are refused,
        # though one of them be empty (error_multiple_recovery_targets in xlogrecovery.c)
        kept = [line for line in path.read_text().splitlines() if not _TARGET.match(line)]
        path.write_text("".join(f"{line}\n" for line in kept))
    with automatic.open("a") as file:
        file.write("# written by `bilten restore`\n")
        file.writelines(f"{name} = {_quoted(value)}\n" for name, value in told.items())
    for name in ("standby.signal", "postmaster.pid"):
        (directory / name).unlink(missing_ok=True)
    (directory / "recovery.signal").touch(0o600)


def _passed(chosen: Chosen) -> str | None:
    """Where the last segment begins, or the one before where only a little of the last is stored: one record
    that is cut off may begin in the one and end in the other. Not every piece tells of a heartbeat."""
    last = [piece for piece in chosen.pieces if piece.whole or piece.end_offset > _CUT_OFF_BYTES]
    return positions.text(last[-1].begin) if last else None


def _left_at(directory: Path) -> int | None:
    """Where the server ended replay and took over, by the history of the timeline that it made then: also
    after it was started again."""
    histories = sorted((directory / "pg_wal").glob("*.history"))
    if not histories:
        return None
    newest = histories[-1]
    switches = positions.read_history(positions.timeline_of(newest.name), newest.read_text())
    return switches[-1].at if switches else None


def reached(running: Running) -> Reached:
    """Where recovery came to. Raises Mismatch when `latest` did not replay all that is stored: neither the
    newest heartbeat that pieces of WAL tell of, nor the beginning of the last of them."""
    stored = Stored.read(running.directory)
    with running.connect() as connection:
        row = connection.execute(
            "select pg_last_xact_replay_timestamp(), pg_last_wal_replay_lsn()::text,"
            " (select timeline_id from pg_control_checkpoint()), to_regclass('system.heartbeats') is not null"
        ).fetchone()
        assert row is not None  # noqa: S101
        at, replayed, timeline, beats = row
        left_at = _left_at(running.directory)
        if stored.begin_lsn is not None and (left_at is None or left_at < positions.lsn(stored.begin_lsn)):
            raise Mismatch(
                "recovery ended before the last record that is stored",
                expected=f"a position behind {stored.begin_lsn}, in {stored.file}",
                found="none" if left_at is None else positions.text(left_at),
                next="bilten wal audit --deep",
            )
        if (newest := stored.beat_at) is not None and beats:
            found = connection.execute(
                "select beat_at from system.heartbeats where source = %s", (heartbeat.SOURCE,)
            ).fetchone()
            if found is None or found[0].timestamp() < newest.timestamp() - 0.001:
                raise Mismatch(
                    "recovery ended before the last record that is stored",
                    expected=f"the heartbeat of {newest:%F %T} UTC, in {stored.file}",
                    found="none" if found is None else f"that of {found[0]:%F %T} UTC, at {replayed}",
                    next="bilten wal audit --deep",
                )
    return Reached(at, replayed or stored.end_lsn, timeline)


def _minimum(directory: Path, bin_directory: Path) -> dict[str, str]:
    said = subprocess.run(
        [bin_directory / "pg_controldata", directory],
        env={"LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    return {ours: found[theirs].strip() for theirs, ours in _AT_LEAST.items() if theirs in found}


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"

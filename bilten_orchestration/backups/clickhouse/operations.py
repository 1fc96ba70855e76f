"""BACKUP and RESTORE in the server: started, followed to their end, and ended when nobody waits for them.

Both run in the server by themselves (ASYNC). When this process is killed the server goes on; its record in
system.backups carries our id, which is the query's too, and the next call finds it there and ends it. The
record is gone when the server was: such an operation failed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bilten_orchestration.backups.clickhouse.disks import DISK
from bilten_orchestration.backups.repository.bucket import FULL
from bilten_orchestration.errors import (
    BiltenError,
    LockHeld,
    Mismatch,
    StoreFull,
    StoreUnavailable,
    TransientError,
)
from bilten_orchestration.progress import Progress

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

POLL_SECONDS = 0.2
_TOLD_EVERY_SECONDS = 2.0
# after this long without a byte the object store is asked whether it is there
_QUIET_SECONDS = 15.0
_END_SECONDS = 180.0
_UNDER_WAY = ("CREATING_BACKUP", "RESTORING")
_DONE = ("BACKUP_CREATED", "RESTORED")
_OURS = re.compile(r"(restore-)?\d{8}T\d{6}Z-clickhouse-")
_CODE = re.compile(r"Code: (\d+)\.")
#: NETWORK_ERROR, SOCKET_TIMEOUT, TIMEOUT_EXCEEDED, S3_ERROR, QUERY_WAS_CANCELLED, MEMORY_LIMIT_EXCEEDED
_PASSING = {"210", "209", "159", "499", "394", "241"}
_LASTING = re.compile(
    r"bucket does not exist|NoSuchBucket|Access ?Denied|Forbidden|InvalidAccessKey|Signature"
)
_FULL = re.compile("|".join(("HTTP response code: 507", *sorted(FULL - {"507"}))))

_STATE = """
    select status, error, num_files, num_entries, total_size, uncompressed_size, compressed_size, bytes_read,
           (select sum(ProfileEvents['WriteBufferFromS3Bytes'] + ProfileEvents['ReadBufferFromS3Bytes'])
            from system.processes
            where query_id in (select query_id from system.backups where id = {id:String}))
    from system.backups where id = {id:String}
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """What the server counted: of all files, and of those that this operation wrote (`entries`, `bytes`; its
    own list counts in the bytes and not in the entries)."""

    files: int
    entries: int
    total_bytes: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Running:
    id: str
    name: str
    status: str

    @property
    def ours(self) -> bool:
        """Whether the platform started it: under the lock it is a dead process's then."""
        on_ours = any(f"Disk('{disk}'," in self.name for disk in DISK.values())
        return on_ours and _OURS.match(self.id) is not None


def under_way(client: Client) -> list[Running]:
    rows = client.query(
        "select id, name, toString(status) from system.backups where status in {states:Array(String)}"
        " order by start_time",
        {"states": list(_UNDER_WAY)},
    ).result_rows
    return [Running(*row) for row in rows]


def end_leftovers(client: Client, progress: Progress) -> None:
    """To be called under the lock: what runs on our disks belongs to a process that is dead, and is ended.

    Raises LockHeld for a BACKUP or RESTORE of somebody else: what it makes or reads must not move.
    """
    found = under_way(client)
    for each in found:
        if each.ours:
            progress(f"ending {each.id}, which a process that was killed left in the server")
            cancel(client, each.id)
    if others := [each for each in found if not each.ours]:
        raise LockHeld(
            "ClickHouse is at another backup or restore",
            expected="none beside ours",
            found="; ".join(f"{each.status} {each.id}" for each in others),
            next="wait for its end: select id, status from system.backups",
        )


def cancel(client: Client, operation: str) -> None:
    """End it, and wait until it has ended. Raises TransientError when it does not."""
    until = time.monotonic() + _END_SECONDS
    client.command("kill query where query_id = {id:String} async", {"id": operation})
    while any(each.id == operation for each in under_way(client)):
        if time.monotonic() > until:
            raise TransientError(
                f"ClickHouse does not end {operation}",
                expected=f"its end within {_END_SECONDS:.0f} s of being killed",
                found="it is under way",
                next="restart the server when it lasts",
            )
        time.sleep(POLL_SECONDS)


def run(
    client: Client,
    statement: str,
    operation: str,
    *,
    settings: Mapping[str, object],
    ask_store: Callable[[], object],
    stalled_seconds: float,
    progress: Progress,
) -> Ended:
    """Run a BACKUP or RESTORE (without its ASYNC) that names `operation` as its id, to its end.

    `ask_store` raises StoreUnavailable when the object store is away: it is called before, and when nothing
    moves. Whatever leaves this function before the end (an error, Ctrl-C, a cancelled run) ends the
    operation. Raises StoreUnavailable (server or store went away), StoreFull, TransientError, Mismatch (it
    failed for good).
    """
    ask_store()  # one that is away is found out before anything runs, and one that answered is waited for
    began = time.monotonic()
    try:
        client.command(f"{statement} async", settings={**settings, "query_id": operation})
        return _follow(client, operation, began, ask_store, stalled_seconds, progress)
    except _Failed as failed:
        raise failed.error from None
    except BaseException:
        _end(client, operation, progress)
        raise


class _Failed(Exception):
    """The server ended it itself, or has lost it."""

    def __init__(self, error: BiltenError) -> None:
        super().__init__(str(error))
        self.error = error


def _follow(
    client: Client,
    operation: str,
    began: float,
    ask_store: Callable[[], object],
    stalled_seconds: float,
    progress: Progress,
) -> Ended:
    moved_at = told_at = asked_at = began
    before: object = None
    while True:
        rows = client.query(_STATE, {"id": operation}).result_rows
        if not rows:
            raise _Failed(_forgotten(operation))
        status, error, files, entries, total, stored, _, _, moved = rows[0]
        now = time.monotonic()
        if status in _DONE:
            return Ended(files, entries, total, stored, now - began)
        if status not in _UNDER_WAY:
            raise _Failed(_failure(operation, str(status), str(error)))
        if (state := rows[0][2:]) != before:
            before, moved_at = state, now
        elif now - moved_at > stalled_seconds:
            raise TransientError(
                f"nothing moves in {operation}",
                expected=f"a byte within {stalled_seconds:.0f} s (BILTEN_BACKUPS__STALLED_SECONDS)",
                found=f"{status}, {entries} files written",
                next="it was ended; see the server's log, then repeat it",
            )
        elif now - max(moved_at, asked_at) > _QUIET_SECONDS:
            asked_at = now
            ask_store()
        if now - told_at > _TOLD_EVERY_SECONDS:
            told_at = now
            size = max(int(moved or 0), int(stored)) >> 20
            progress(f"{operation}: {entries:,} files, {size:,} MiB, {now - began:.0f} s")
        time.sleep(POLL_SECONDS)


def _end(client: Client, operation: str, progress: Progress) -> None:
    try:
        progress(f"ending {operation} in the server")
        client.command("kill query where query_id = {id:String} async", {"id": operation})
    except Exception as error:  # noqa: BLE001 - what led here is the news; the next call ends what is left
        progress(f"ClickHouse could not be told to end it ({type(error).__name__}): the next backup does")


def _forgotten(operation: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"ClickHouse does not know of {operation} any more",
        expected="a row in system.backups",
        found="none: the server was started again in the middle",
        next="the same again",
    )


def _failure(operation: str, status: str, error: str) -> BiltenError:
    said = error.partition(", Stack trace")[0].strip()
    if _FULL.search(said):
        return StoreFull(
            f"{operation} failed in ClickHouse: the object store has no room",
            expected="room for another object",
            found=f"{status}: {said[:600]}",
            next="make a little room there, or raise the quota: bilten backup prune, which removes what is"
            " expired, writes a few KiB first",
        )
    code = _CODE.search(said)
    passing = code is not None and code[1] in _PASSING and not _LASTING.search(said)
    return (TransientError if passing else Mismatch)(
        f"{operation} failed in ClickHouse",
        expected=" or ".join(_DONE),
        found=f"{status}: {said[:600]}",
        next="the same again" if passing else "bilten backup preflight clickhouse; then see the server's log",
    )


def quoted(name: str) -> str:
    """An identifier of ClickHouse's SQL."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"

"""What Redis must have for its backups, and for what lies between two of them (the append-only file)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bilten_orchestration.backups.preflight import Requirement
from bilten_orchestration.backups.redis import programs, server, spool
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import redis

if TYPE_CHECKING:
    from redis import Redis

_ANSWER_SECONDS = 30
_REWRITE_PERCENT, _REWRITE_BYTES = 100, 64 << 20
_LOSS = "at most one second lost when the server dies"
_SETTINGS = (
    "appendfsync",
    "auto-aof-rewrite-percentage",
    "auto-aof-rewrite-min-size",
    "rdbchecksum",
)


def requirements(settings: Settings) -> tuple[Requirement, ...]:
    """In the order in which they are to be mended. What the server does not tell is not met."""
    program, room = programs.find(settings), spool.room(settings)
    client = redis.client(settings.redis, timeout_seconds=_ANSWER_SECONDS)
    try:
        with redis.translated(settings.redis, "the preflight"):
            found = server.facts(client)
            said = server.configured(client, *_SETTINGS)
            copies = _copies(client)
    finally:
        client.close()
    return (
        *(
            Requirement(each.what, met=False, expected=each.expected, found=each.found, next=each.next)
            for each in found.forbidden
        ),
        Requirement(
            "redis-check-rdb",
            program.reads >= programs.parsed(found.version),
            f"{found.version} or later",
            program.version,
            "set BILTEN_REDIS__REDIS_BIN to the directory of such a one",
            "snapshots that are checked, and restored",
        ),
        Requirement(
            "room in the spool",
            room.bytes >= found.used_memory,
            f"{found.used_memory >> 20:,} MiB in {room.place}, and what is spared for others",
            f"{room.bytes >> 20:,} MiB",
            room.refusal(found.used_memory, "").problems[0].next,
            "a snapshot that is checked before it is stored",
        ),
        Requirement(
            "the snapshot may be asked for",
            copies == "",
            "PSYNC, and a user with the right to it",
            copies or "PSYNC is there",
            "acl setuser <user> +psync +replconf; a provider that takes PSYNC away has snapshots of its own",
            "every backup",
        ),
        Requirement(
            "the last snapshot succeeded",
            found.saves,
            "rdb_last_bgsave_status:ok",
            f"rdb_last_bgsave_status:{found.info.get('rdb_last_bgsave_status', 'unknown')}",
            "free the server's disk and memory (its log says which); then bgsave",
            "every backup, where the server writes a file first",
        ),
        Requirement(
            "appendonly",
            found.info.get("aof_enabled") == 1,
            "yes",
            {0: "no", 1: "yes"}.get(found.info.get("aof_enabled", -1), "unknown: INFO does not tell"),
            "config set appendonly yes; config rewrite",
            _LOSS,
        ),
        Requirement(
            "the append-only file is written",
            (found.info.get("aof_last_write_status"), found.info.get("aof_last_bgrewrite_status"))
            == ("ok", "ok"),
            "last write ok, last rewrite ok",
            f"last write {found.info.get('aof_last_write_status', 'unknown')},"
            f" last rewrite {found.info.get('aof_last_bgrewrite_status', 'unknown')}",
            "free the server's disk and memory (its log says which); then bgrewriteaof",
            _LOSS,
        ),
        *_configured(said),
    )


def _configured(said: dict[str, str] | str) -> tuple[Requirement, ...]:
    def one(name: str, expected: str, met: bool, next_: str, needed_for: str) -> Requirement:
        found = f"unknown: {said}" if isinstance(said, str) else said.get(name, "unknown: no such setting")
        return Requirement(name, met, expected, found, next_, needed_for)

    values = {} if isinstance(said, str) else said
    percent, size = values.get(_SETTINGS[1], ""), values.get(_SETTINGS[2], "")
    start = "a start that reads twice the data at most"
    return (
        one(
            "appendfsync",
            "everysec or always",
            values.get("appendfsync") in ("everysec", "always"),
            "config set appendfsync everysec; config rewrite",
            _LOSS,
        ),
        one(
            _SETTINGS[1],
            f"{_REWRITE_PERCENT} or less, and not 0",
            percent.isdigit() and 0 < int(percent) <= _REWRITE_PERCENT,
            f"config set {_SETTINGS[1]} {_REWRITE_PERCENT}; config rewrite",
            start,
        ),
        one(
            _SETTINGS[2],
            f"{_REWRITE_BYTES} (64mb) or less",
            size.isdigit() and int(size) <= _REWRITE_BYTES,
            f"config set {_SETTINGS[2]} 64mb; config rewrite",
            start,
        ),
        one(
            "rdbchecksum",
            "yes",
            values.get("rdbchecksum") == "yes",
            "rdbchecksum yes in redis.conf, and restart the server",
            "snapshots in which a flipped bit is seen",
        ),
    )


def _copies(client: Redis) -> str:
    """Why PSYNC cannot be had; empty where it can.

    Asked for behind a command whose answer is still to be sent it is refused, after every check of rights and
    before anything is done (syncCommand, src/replication.c): a question that costs the server nothing.
    """
    from redis.exceptions import ResponseError

    connection = client.connection_pool.get_connection()
    try:
        together = connection.pack_commands([("ECHO", "first"), ("PSYNC", "?", "-1")])  # type: ignore[no-untyped-call]
        connection.send_packed_command(together)  # type: ignore[no-untyped-call]
        connection.read_response()
        try:
            said = connection.read_response()
        except ResponseError as error:
            return "" if "pending output" in str(error) else str(error)[:200]
        return f"an answer that is not known: {str(said)[:60]}"
    finally:
        connection.disconnect()  # type: ignore[no-untyped-call]

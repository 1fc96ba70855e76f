"""system.incidents: a copy of the ledger, for queries and for a watchdog on another machine.

The ledger is the truth of the machine that tells people; rows are written when PostgreSQL is there, one
transaction per incident, each of which may be repeated. A watchdog that starts with an empty ledger takes the
open incidents from here before it judges, so that nobody is told again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import TypeAdapter

from bilten_orchestration.observability.incidents import Incident
from bilten_orchestration.observability.ledger import KEPT, Ledger
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated

AT_ONCE: Final = 200
_INCIDENT: TypeAdapter[Incident] = TypeAdapter(Incident)

_UPDATE = """
    update system.incidents
    set severity = %(severity)s, title = %(title)s, detail = %(detail)s, owner = %(owner)s,
        worsened_at = %(worsened_at)s, resolved_at = %(resolved_at)s, notified_at = %(notified_at)s
    where id = %(id)s
"""
# another watchdog's: this one has taken over
_END_OTHERS = """
    update system.incidents set resolved_at = now()
    where incident_key = %(incident_key)s and resolved_at is null and id <> %(id)s
"""
_INSERT = """
    insert into system.incidents (id, incident_key, kind, severity, title, detail, owner, opened_at,
        worsened_at, resolved_at, notified_at)
    values (%(id)s, %(incident_key)s, %(kind)s, %(severity)s, %(title)s, %(detail)s, %(owner)s,
        %(opened_at)s, %(worsened_at)s, %(resolved_at)s, %(notified_at)s)
"""
_PRUNE = "delete from system.incidents where resolved_at < %s"


def write(ledger: Ledger, connection: postgres.Connection) -> int:
    """Write what PostgreSQL does not know yet, at most `AT_ONCE`; returns how many that were."""
    waiting = [(incident, ledger.told_at(incident.id)) for incident in ledger.unrecorded(AT_ONCE)]
    for incident, told_at in waiting:
        row = _row(incident, told_at)
        with translated("the record of incidents"), connection.transaction():
            if incident.resolved_at is None:
                connection.execute(_END_OTHERS, row)
            if connection.execute(_UPDATE, row).rowcount == 0:
                connection.execute(_INSERT, row)
    ledger.recorded(waiting)
    return len(waiting)


def prune(connection: postgres.Connection) -> None:
    with translated("the record of incidents"):
        connection.execute(_PRUNE, (datetime.now(UTC) - 4 * KEPT,))


def open_incidents(connection: postgres.Connection) -> list[Incident]:
    """Those that nobody has resolved, for a new ledger."""
    with translated("the record of incidents"):
        rows = connection.execute(
            "select detail::text from system.incidents where resolved_at is null order by opened_at"
        ).fetchall()
    return [_INCIDENT.validate_json(document) for (document,) in rows]


def listed(settings: Settings, back: timedelta) -> list[Incident]:
    """Open ones and those that were resolved within `back`, oldest first.

    Raises StoreUnavailable and AccessRefused.
    """
    with (
        translated("the list of incidents"),
        postgres.connect(settings.postgres, application_name="bilten alerts", autocommit=True) as connection,
    ):
        rows = connection.execute(
            "select detail::text, resolved_at from system.incidents"
            " where resolved_at is null or resolved_at >= %s order by opened_at, incident_key",
            (datetime.now(UTC) - back,),
        ).fetchall()
    # the column knows of another watchdog that took over, the document does not
    return [replace(_INCIDENT.validate_json(document), resolved_at=at) for document, at in rows]


def connected(settings: Settings, use: Callable[[postgres.Connection], object], seconds: float) -> None:
    """`use` a connection that may write, gone after `seconds`. Raises as `translated` does."""
    from bilten_orchestration.observability.sources import bounded

    with bounded.connected(settings, "the record of incidents", seconds=seconds) as connection:
        connection.execute("set default_transaction_read_only = off")
        use(connection)


def _row(incident: Incident, told_at: datetime | None) -> dict[str, object]:
    return {
        "id": incident.id,
        "incident_key": incident.key,
        "kind": incident.kind,
        "severity": incident.severity,
        "title": incident.problem.what,
        "detail": _INCIDENT.dump_json(incident).decode(),
        "owner": incident.owner,
        "opened_at": incident.opened_at,
        "worsened_at": incident.worsened_at,
        "resolved_at": incident.resolved_at,
        "notified_at": told_at,
    }

"""Indexes that queries of the application, the sync and deletes of parents need."""

from __future__ import annotations

import pytest

from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import connect

# One index of the table begins with exactly these columns (or expressions).
NEEDED = [
    ("users.users", "role, status"),
    ("events.events", "organizer_id"),
    ("events.events", "status, start_date"),
    ("events.events", "category"),
    ("tickets.ticket_types", "event_id"),
    ("tickets.tickets", "event_id, status"),
    ("tickets.tickets", "user_id"),
    ("payments.payments", "event_id"),
    ("payments.payments", "user_id"),
]


@pytest.fixture
def indexes(settings: Settings) -> dict[str, list[str]]:
    """Per table, what each valid index is on."""
    found: dict[str, list[str]] = {}
    with connect(settings.postgres) as connection:
        for table, definition in connection.execute(
            "select indrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index where indisvalid"
        ):
            found.setdefault(table, []).append(definition.split(" USING ")[1])
    return found


@pytest.mark.parametrize(("table", "columns"), NEEDED)
def test_what_the_application_asks_for(indexes: dict[str, list[str]], table: str, columns: str) -> None:
    assert any(index.startswith(f"btree ({columns}") for index in indexes[table]), indexes[table]


def test_json_places_and_words_are_searched_by_gin(indexes: dict[str, list[str]]) -> None:
    gin = [index for index in indexes["events.events"] if index.startswith("gin")]
    assert any("(location)" in index for index in gin), gin
    assert any("to_tsvector('english'" in index and "description" in index for index in gin), gin


def test_a_parent_can_be_deleted_without_reading_its_children_whole(settings: Settings) -> None:
    """Every foreign key to a table of things begins an index; rows of currencies are never deleted."""
    with connect(settings.postgres) as connection:
        bare = connection.execute(
            """
            select conrelid::regclass::text, pg_get_constraintdef(oid)
            from pg_constraint as fk
            where contype = 'f' and confrelid <> 'financial.currencies'::regclass
              and not exists (
                  select from pg_index
                  where indrelid = fk.conrelid and indisvalid
                    and (indkey::int2[])[0:cardinality(fk.conkey) - 1] @> fk.conkey
              )
            """
        ).fetchall()
    assert bare == []

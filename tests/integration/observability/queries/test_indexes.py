"""Indexes of a real database: each finding, and what must not be one."""

from __future__ import annotations

import pytest

from bilten_orchestration.observability.queries import indexes
from bilten_orchestration.stores.postgres import Connection


@pytest.fixture
def shop(owner: Connection) -> Connection:
    owner.execute(
        """
        create schema shop;
        create table shop.buyers (id int primary key, email text unique, name text, city text);
        create table shop.orders (id int primary key, buyer_id int references shop.buyers,
                                  paid_by int references shop.buyers, made_at timestamptz, note text);
        create index orders_buyer on shop.orders (buyer_id);
        create index orders_buyer_again on shop.orders (buyer_id);
        create index orders_buyer_made on shop.orders (buyer_id, made_at);
        create index orders_note on shop.orders (note);
        create index orders_note_pattern on shop.orders (note text_pattern_ops);
        create index orders_made_down on shop.orders (made_at desc);
        create index orders_made_some on shop.orders (made_at) where note is null;
        create index buyers_email on shop.buyers (email);
        create index buyers_city_hash on shop.buyers using hash (city);
        create index buyers_city on shop.buyers (city) include (name);
        insert into shop.buyers select n, 'b' || n, 'x', 'y' || n from generate_series(1, 2000) n;
        insert into shop.orders select n, n, n, now(), 'o' || n from generate_series(1, 2000) n;
        analyze shop.buyers, shop.orders;
        """
    )
    return owner


def _names(found: list[indexes.Index]) -> set[str]:
    return {index.name for index in found if index.name.startswith("shop.")}


def _covered(connection: Connection) -> dict[str, tuple[str, str]]:
    return {
        each.index.name: (each.why, each.by.name)
        for each in indexes.covered(indexes.read(connection).indexes)
        if each.index.name.startswith("shop.")
    }


def test_duplicate_and_redundant(shop: Connection) -> None:
    assert _covered(shop) == {
        "shop.orders_buyer": ("redundant", "shop.orders_buyer_made"),
        "shop.orders_buyer_again": ("duplicate", "shop.orders_buyer"),
        "shop.buyers_email": ("duplicate", "shop.buyers_email_key"),
    }


def test_two_that_are_alike_do_not_both_go(shop: Connection) -> None:
    """Whoever follows both lines keeps an index that serves."""
    found = indexes.covered(indexes.read(shop).indexes)
    going = {each.index.name for each in found}
    for each in found:
        last = each.by
        while last.name in going:
            last = next(other.by for other in found if other.index.name == last.name)
        assert last.columns[: len(each.index.columns)] == each.index.columns


def test_unused_are_those_that_nothing_scanned_and_nothing_needs(shop: Connection) -> None:
    shop.execute("set enable_seqscan = off; set enable_bitmapscan = off")
    shop.execute("select note from shop.orders order by made_at desc limit 1")
    shop.execute("select pg_stat_force_next_flush()")
    shop.execute("select 1")
    usage = indexes.read(shop)
    found = _names(indexes.unused(usage, after_days=0))
    assert "shop.orders_note" in found
    assert "shop.orders_made_down" not in found  # scanned
    assert not {"shop.buyers_pkey", "shop.buyers_email_key", "shop.orders_pkey"} & found  # they enforce
    [used] = [index for index in usage.indexes if index.name == "shop.orders_made_down"]
    assert used.scans == 1
    assert used.last_scan_at is not None
    assert usage.standbys == ()


def test_nothing_is_unused_before_the_time_is_over(shop: Connection) -> None:
    usage = indexes.read(shop)
    assert usage.watched_days < 1
    assert indexes.unused(usage, after_days=14) == []


def test_foreign_keys_without_an_index(shop: Connection) -> None:
    def bare() -> set[str]:
        return {each.constraint for each in indexes.bare_keys(shop) if each.table == "shop.orders"}

    assert bare() == {"orders_paid_by_fkey"}
    [key] = [each for each in indexes.bare_keys(shop) if each.constraint == "orders_paid_by_fkey"]
    assert (key.columns, key.parent, key.rows) == (("paid_by",), "shop.buyers", 2000)
    assert key.size_bytes > 100_000
    shop.execute("create index orders_paid_some on shop.orders (paid_by) where made_at is null")
    assert bare() == {"orders_paid_by_fkey"}  # not all rows
    shop.execute("create index orders_paid_known on shop.orders (paid_by) where paid_by is not null")
    assert bare() == set()
    shop.execute("drop index shop.orders_paid_known")
    shop.execute(key.statements[0])
    assert bare() == set()


def test_a_key_of_two_columns_is_served_in_either_order(shop: Connection) -> None:
    shop.execute(
        "create table shop.seats (hall int, seat int, primary key (hall, seat));"
        "create table shop.bookings (seat int, hall int, at date,"
        " foreign key (hall, seat) references shop.seats)"
    )

    def bare() -> bool:
        return any(each.table == "shop.bookings" for each in indexes.bare_keys(shop))

    assert bare()
    shop.execute("create index bookings_one on shop.bookings (seat, at, hall)")
    assert bare()
    shop.execute("create index bookings_both on shop.bookings (seat, hall, at)")
    assert not bare()


def test_an_invalid_index_is_told_and_covers_nothing(shop: Connection) -> None:
    shop.execute("insert into shop.orders (id, buyer_id, note) values (9001, 1, 'twice'), (9002, 1, 'twice')")
    with pytest.raises(Exception, match="could not create unique index"):
        shop.execute("create unique index concurrently orders_note_once on shop.orders (note)")
    usage = indexes.read(shop)
    assert _names(indexes.invalid(usage)) == {"shop.orders_note_once"}
    assert "shop.orders_note" not in _covered(shop)


def test_an_index_over_partitions_is_one(shop: Connection) -> None:
    shop.execute(
        "create table shop.logs (id int, at date) partition by range (at);"
        "create table shop.logs_1 partition of shop.logs for values from ('2026-01-01') to ('2026-02-01');"
        "create table shop.logs_2 partition of shop.logs for values from ('2026-02-01') to ('2026-03-01');"
        "create index logs_at on shop.logs (at);"
        "insert into shop.logs select n, date '2026-01-01' + n % 50 from generate_series(1, 2000) n;"
    )
    usage = indexes.read(shop)
    [index] = [each for each in usage.indexes if "logs" in each.name]
    assert index.name == "shop.logs_at"
    assert index.size_bytes > 16_000
    assert index.oid in indexes.partitioned(shop)
    shop.execute(indexes.drop_statement(index, is_partitioned=True))
    assert not [each for each in indexes.read(shop).indexes if "logs" in each.name]


def test_drop_statements_work_as_they_are_given(shop: Connection) -> None:
    for each in indexes.covered(indexes.read(shop).indexes):
        if each.index.name.startswith("shop.") and each.why == "duplicate":
            shop.execute(indexes.drop_statement(each.index, is_partitioned=False))
    assert _covered(shop) == {"shop.orders_buyer": ("redundant", "shop.orders_buyer_made")}


def test_the_platforms_own_schema_has_no_needless_index_but_the_one_it_was_asked_for(
    owner: Connection,
) -> None:
    """Both (event_id) and (event_id, status) of tickets are in the contract of the schema."""
    usage = indexes.read(owner)
    assert indexes.invalid(usage) == []
    assert [(each.index.name, each.why, each.by.name) for each in indexes.covered(usage.indexes)] == [
        ("tickets.tickets_event", "redundant", "tickets.tickets_event_status")
    ]

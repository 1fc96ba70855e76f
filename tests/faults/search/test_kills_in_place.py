"""kill -9 of what changes the index that serves without building another one: the count of sales that search
sorts by, and a field that is added in place. The same call again makes it whole."""

from __future__ import annotations

from contextlib import closing
from datetime import date, timedelta

import pytest

from bilten_orchestration.metrics.reconciliation import MART
from bilten_orchestration.search import definition, mapping, popularity
from bilten_orchestration.search.definition import Step
from bilten_orchestration.search.delta import delta
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, opensearch
from tests.faults.search.test_kills import whole
from tests.integration.search.shopfront import Shopfront, rebuild
from tests.kills import killed_at_store

pytestmark = pytest.mark.faults
TODAY = date(2026, 11, 20)
LACKED = "venue_name"


def _sold(front: Shopfront) -> dict[str, int]:
    return dict(
        front.connection.execute(
            "select event_id::text, tickets_sold from system.event_popularity where tickets_sold > 0"
        ).fetchall()
    )


def _searched(search: Settings) -> dict[str, int]:
    with closing(opensearch.connect(search.opensearch)) as client:
        body = {"size": 1000, "query": {"range": {"popularity": {"gt": 0}}}}
        hits = client.search(index=definition.ALIAS, body=body)["hits"]["hits"]
    return {hit["_id"]: hit["_source"]["popularity"] for hit in hits}


def _publish(search: Settings, tickets: str) -> None:
    """A published day for each of the last thirty: of every fourth event so many tickets (over n)."""
    first = TODAY - timedelta(days=popularity.DAYS)
    with closing(clickhouse.connect(search.clickhouse)) as client:
        client.command("create database if not exists marts")
        client.command(
            f"create or replace table marts.{MART} (metric_date Date32, event_id UUID, tickets_sold Int64)"
            " engine = MergeTree order by metric_date"
        )
        client.command(
            f"insert into marts.{MART} select toDate32('{first}') + n % {popularity.DAYS},"
            f" toUUID(concat(substring(h, 1, 8), '-', substring(h, 9, 4), '-', substring(h, 13, 4), '-',"
            f" substring(h, 17, 4), '-', substring(h, 21))), {tickets}"
            " from (select number as n, lower(hex(MD5(concat('event', toString(number))))) as h"
            " from numbers(1, 280)) where n % 4 = 0"
        )
        client.command(
            "insert into analytics.mart_days (mart, day, is_final, as_of, batch, rows, verdict, run_id)"
            f" select '{MART}', toDate32('{first}') + number, true, now(), 1, 1, 'swapped', 'a run'"
            f" from numbers({popularity.DAYS})"
        )


def test_killed_at_every_turn_of_a_count_of_sales(
    search: Settings, front: Shopfront, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill leaves the numbers of the day before, all of them, and the next count brings all of today's."""
    monkeypatch.setattr(popularity, "AT_ONCE", 10)
    search = search.model_copy(
        update={"metrics": search.metrics.model_copy(update={"first_day": "2026-01-01"})}
    )
    _publish(search, "n")
    assert popularity.count(search, today=TODAY).changed == 70
    rebuild(search)
    yesterday = _sold(front)
    assert len(yesterday) == 70
    seen = _searched(search)
    assert seen.items() <= yesterday.items()
    assert len(seen) > 50

    # some sell more, some nothing any more, one in seven the same
    _publish(search, "if(n % 28 = 0, n, if(n % 8 = 0, 0, n + 1))")
    turn = 0
    while killed_at_store(lambda: popularity.count(search, today=TODAY), turn := turn + 1):
        assert _sold(front) == yesterday, f"turn {turn}"
        delta(search)
        assert _searched(search) == seen, f"turn {turn}"
    assert turn > 6
    today = _sold(front)
    assert 0 < len(today) < 70
    assert today != yesterday
    assert popularity.count(search, today=TODAY).changed == 0
    # between the count and its delta nothing is lost either: the marks are in PostgreSQL
    turn = 0
    while killed_at_store(lambda: delta(search), turn := turn + 1):
        assert set(_searched(search).items()) <= seen.items() | today.items(), f"turn {turn}"
    assert turn > 5
    assert _searched(search).items() == {key: today[key] for key in today if key in front.expected()}.items()
    whole(search, front)


def test_killed_at_every_turn_of_an_addition_in_place(
    search: Settings, front: Shopfront, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        older = {name: field for name, field in definition.FIELDS.items() if name != LACKED}
        before.setattr(definition, "FIELDS", older)
        before.setattr("bilten_orchestration.search.rebuild.unknown_fields", lambda client, index: (LACKED,))
        index = rebuild(search).index
    assert mapping.examine(search).step is Step.ADD
    steps, turn = [], 0
    while killed_at_store(lambda: mapping.add(search), turn := turn + 1):
        # it serves all the while, what it lacks is known, and what changes comes in
        front.run("update events.events set title = title || '.' where id = md5('event' || %s)::uuid", turn)
        delta(search)
        assert front.found().keys() == front.expected().keys(), f"turn {turn}"
        found = mapping.examine(search)
        assert found.index == index
        steps.append(found.step)
    # until the hash is there it is done again, by then it is whole
    ended = steps.index(Step.NOTHING) if Step.NOTHING in steps else len(steps)
    assert ended > 10
    assert set(steps[:ended]) == {Step.ADD}
    assert set(steps[ended:]) <= {Step.NOTHING}
    mapping.add(search)
    recorded = front.connection.execute(
        "select i.mapping_hash, s.mapping_hash from system.search_indices i"
        " join system.search_state s using (index_name)"
    ).fetchall()
    assert recorded == [(definition.mapping_hash(), definition.mapping_hash())]
    whole(search, front)

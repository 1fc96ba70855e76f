"""`bilten search query`: what the application would find, as the application would ask."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from bilten_orchestration.cli import output

if TYPE_CHECKING:
    from bilten_orchestration.errors import Problem
    from bilten_orchestration.search.request import Near, Price, SearchRequest, SearchResponse, Sort

Many = list[str]


def query(
    text: Annotated[str, typer.Argument(help='Words; in double quotes a phrase; "" is all.')] = "",
    category: Annotated[Many | None, typer.Option(help="Any of these; may be repeated.")] = None,
    tag: Annotated[Many | None, typer.Option(help="All of these.")] = None,
    city: Annotated[Many | None, typer.Option(help="Any of these.")] = None,
    country: Annotated[Many | None, typer.Option(help="Any of these.")] = None,
    organizer: Annotated[Many | None, typer.Option(help="Ids, any of these.")] = None,
    venue: Annotated[Many | None, typer.Option(help="Ids, any of these.")] = None,
    availability: Annotated[Many | None, typer.Option(help="available, few, sold_out or none.")] = None,
    starts_from: Annotated[
        datetime | None, typer.Option("--from", help="UTC, such as 2026-05-01 or 2026-05-01T18:00:00.")
    ] = None,
    starts_before: Annotated[datetime | None, typer.Option("--to", help="UTC, exclusive.")] = None,
    near: Annotated[
        str | None, typer.Option(help="LATITUDE,LONGITUDE,KILOMETRES, such as 38.72,-9.14,25.")
    ] = None,
    price: Annotated[
        str | None, typer.Option(help="CURRENCY:MINIMUM:MAXIMUM, such as EUR:10:50, EUR::50 or EUR.")
    ] = None,
    sort: Annotated[str, typer.Option(help="start, relevance, popularity or distance.")] = "start",
    exact: Annotated[bool, typer.Option("--exact", help="No words that are nearly right.")] = False,
    size: Annotated[int, typer.Option(help="Hits of a page, 1 to 100.")] = 10,
    after: Annotated[str | None, typer.Option(help="next_cursor of the page before.")] = None,
    as_json: output.Json = False,
) -> None:
    """Search events as the application does: published, public ones."""
    with output.errors("search query", as_json=as_json):
        from datetime import UTC

        from bilten_orchestration.search import query as engine
        from bilten_orchestration.search.request import SearchRequest
        from bilten_orchestration.settings.loading import load_settings
        from bilten_orchestration.stores import opensearch

        wrong: list[Problem] = []
        request = SearchRequest(
            text=text,
            categories=tuple(category or ()),
            tags=tuple(tag or ()),
            cities=tuple(city or ()),
            countries=tuple(country or ()),
            organizers=tuple(organizer or ()),
            venues=tuple(venue or ()),
            availability=tuple(availability or ()),
            starts_from=starts_from.replace(tzinfo=UTC) if starts_from else None,
            starts_before=starts_before.replace(tzinfo=UTC) if starts_before else None,
            near=_near(near, wrong),
            price=_price(price, wrong),
            sort=_sort(sort, wrong),
            fuzzy=not exact,
            highlight=bool(text),
            page_size=size,
            after=after,
        )
        _refuse(request, wrong)
        settings = load_settings().opensearch
        client = opensearch.client(settings)
        try:
            found = engine.search(settings, client, request, seconds=engine.WALK_SECONDS)
        finally:
            client.close()
        output.finish("search query", found, as_json=as_json, human=lambda: _show(request, found))


def _near(given: str | None, wrong: list[Problem]) -> Near | None:
    from bilten_orchestration.errors import Problem
    from bilten_orchestration.search.request import Near

    try:
        latitude, longitude, radius = map(float, given.split(",")) if given else (0.0, 0.0, 0.0)
    except ValueError:
        wrong.append(
            Problem(
                "the place is not understood",
                "LATITUDE,LONGITUDE,KILOMETRES: 38.72,-9.14,25",
                repr(given)[:80],
            )
        )
        return None
    return Near(latitude, longitude, radius) if given else None


def _price(given: str | None, wrong: list[Problem]) -> Price | None:
    from decimal import Decimal, InvalidOperation

    from bilten_orchestration.errors import Problem
    from bilten_orchestration.search.request import Price

    if given is None:
        return None
    try:
        currency, minimum, maximum = given.split(":") if ":" in given else (given, "", "")
        return Price(currency, Decimal(minimum) if minimum else None, Decimal(maximum) if maximum else None)
    except (ValueError, InvalidOperation):
        wrong.append(
            Problem(
                "the price is not understood",
                "CURRENCY:MINIMUM:MAXIMUM: EUR:10:50, EUR::50 or EUR",
                repr(given)[:80],
            )
        )
        return None


def _sort(given: str, wrong: list[Problem]) -> Sort:
    from bilten_orchestration.errors import Problem
    from bilten_orchestration.search.request import Sort

    if given not in set(Sort):
        wrong.append(Problem("there is no such order", ", ".join(Sort), repr(given)[:80]))
        return Sort.START
    return Sort(given)


def _refuse(request: SearchRequest, wrong: list[Problem]) -> None:
    """What could not be read, together with what is out of bounds."""
    from bilten_orchestration.errors import UsageError
    from bilten_orchestration.search.request import checked

    try:
        checked(request)
    except UsageError as error:
        wrong += error.problems
    if wrong:
        raise UsageError(wrong)


def _show(request: SearchRequest, found: SearchResponse) -> None:
    total = f"{found.total:,}" if found.total_is_exact else f"more than {found.total:,}"
    print(f"{total} events in {found.server_milliseconds} ms")
    for hit in found.hits:
        where = ", ".join(part for part in (hit.venue_name, hit.city, hit.country) if part)
        prices = "; ".join(f"{each.minimum:g} to {each.maximum:g} {each.currency}" for each in hit.prices)
        print(f"\n  {_plain(hit.title)}")
        print(f"  {hit.start_date[:16].replace('T', ' ')} UTC  {_plain(where)}")
        print(f"  {prices or 'no prices'}, {hit.availability}  {hit.id}")
    if found.next_cursor is not None:
        print(f"\nnext page: the same with --after {found.next_cursor}")


def _plain(text: str) -> str:
    """What organizers typed may hold what a terminal obeys."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)

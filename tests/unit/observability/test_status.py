"""The status page: what it says, that it says it to everybody, and that it lets nothing in."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from typing import Any, get_args

import pytest

from bilten_orchestration.observability import openapi, units
from bilten_orchestration.observability.documents import (
    Component,
    Counts,
    Health,
    IncidentState,
    PromiseState,
    Standing,
)
from bilten_orchestration.observability.finding import KINDS, SEVERITIES
from bilten_orchestration.observability.history import Cell, History, Level, State, last_days
from bilten_orchestration.observability.status import page, plots, runbook, style, topics

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAYS = last_days(NOW)
UI = "http://dagster.example.org:3000"
EVIL = "<img src=x onerror=alert(1)>\"'&</title></style>"
VOID = {"meta", "img", "br", "hr", "input", "link"}


def promise(name: str, status: Any = "kept", **given: Any) -> PromiseState:
    values = {"value": 22.0, "limit": 300.0, "unit": "seconds", **given}
    return PromiseState(name=name, status=status, **values)


def incident(number: int = 0, **given: Any) -> IncidentState:
    values: dict[str, Any] = {
        "key": f"run/{number}",
        "kind": "run-failed",
        "severity": "warning",
        "what": f"the run {number} failed",
        "expected": "success",
        "found": "no rows",
        "next": "bilten metrics build",
        "owner": "team:finance",
        "since": NOW - timedelta(hours=number),
        "link": f"{UI}/runs/{number}",
        **given,
    }
    return IncidentState(**values)


def document(**given: Any) -> Health:
    incidents: tuple[IncidentState, ...] | None = given.get("incidents", ())
    promises = given.get("promises", (promise("rpo/bilten-backups"),))
    counts = {
        **{level: sum(each.severity == level for each in incidents or ()) for level in SEVERITIES},
        "undelivered": 0,
        "not_yet": sum(each.status == "not_yet" for each in promises),
        **given.pop("counts", {}),
    }
    values = {
        "status": "pass",
        "at": NOW,
        "environment": "test",
        "components": (Component(name="store/postgres", status="ok"),),
        "promises": promises,
        "counts": Counts(**counts),
        "incidents": incidents,
        **given,
    }
    return Health(**values)


def shown(found: Health, history: History | None = None, **given: Any) -> str:
    return page.render(found, history or History(), UI, **{"search": True, **given}).decode()


def full() -> tuple[Health, History]:
    """Of everything something: every state, every kind of line."""
    states: tuple[Standing, ...] = get_args(Standing)
    names = (
        *("rpo/bilten-backups", "wal_heartbeat_age", "slot_kept_bytes/shipped", "backup_age/redis/full"),
        *("drill/redis/drilled_recently", "marts_fresh", "sync_lag", "search_lag", "something_new/of it"),
        *("partitions_ahead/audit.audit_log", "disk_used_percent/x", "dagster_daemon_heartbeat_age"),
    )
    promises = tuple(
        promise(name, status, value=None if status == "not_yet" else 5.0, least=status == "missed")
        for name, status in zip(names, itertools.cycle(states), strict=False)
    )
    components = tuple(
        Component(name=name, status=status, detail="in words", read_at=NOW)
        for name, status in (
            ("store/postgres", "ok"),
            ("store/redis", "down"),
            ("lags", "trouble"),
            ("marts", "unknown"),
        )
    )
    incidents = tuple(incident(number, severity=SEVERITIES[number % 3]) for number in range(40))
    cells = {
        (subject, day): Cell(subject, day, state, "4 of 4 backups")
        for subject in ("drills/postgres", "metrics", "search_lag", "sync_lag")
        for day, state in zip(DAYS, itertools.cycle(get_args(State)), strict=False)
    }
    levels = {
        ("postgres/bilten", day): Level("postgres/bilten", day, 100 + number)
        for number, day in enumerate(DAYS)
    }
    found = document(
        status="fail",
        promises=promises,
        components=components,
        incidents=incidents,
        counts={"undelivered": 2},
    )
    return found, History(cells, levels)


class Read(HTMLParser):
    """Reads strictly: every element closed in its order, and remembered with its text and its ancestors."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str], list[str]]] = []
        self._open: list[tuple[str, int]] = []
        self.feed(text)
        self.close()
        assert self._open == [], "not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag}: an attribute twice"
        self.elements.append((tag, dict(attrs), [], [each for each, _ in self._open]))
        if tag not in VOID:
            self._open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), [], [each for each, _ in self._open]))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        last, _ = self._open.pop()
        assert last == tag, f"</{tag}> closes <{last}>"

    def handle_data(self, data: str) -> None:
        hidden = any(self.elements[at][1].get("aria-hidden") == "true" for _, at in self._open)
        for _, at in self._open:
            if not hidden:
                self.elements[at][2].append(data)

    def all(self, *tags: str) -> list[tuple[str, dict[str, str | None], str, list[str]]]:
        return [
            (tag, attributes, " ".join("".join(text).split()), above)
            for tag, attributes, text, above in self.elements
            if not tags or tag in tags
        ]


def pages() -> Iterable[tuple[str, str]]:
    found, history = full()
    yield "full", shown(found, history)
    yield "new", shown(document(promises=(promise("rpo", "not_yet", value=None),)))
    yield "beginning", shown(document(promises=(), components=()))
    yield "without a token", shown(document(status="fail", incidents=None, counts={"critical": 2}))
    yield "API", openapi.page().decode()
    operations = runbook.page("operations.md")
    assert operations is not None
    yield "runbook", operations.decode()


PAGES = dict(pages())


@pytest.fixture(params=list(PAGES))
def text(request: pytest.FixtureRequest) -> str:
    return PAGES[request.param]


def test_it_is_whole_and_loads_nothing(text: str) -> None:
    read = Read(text)
    assert text.startswith("<!doctype html>")
    assert not {tag for tag, *_ in read.all()} & {
        "script",
        "iframe",
        "object",
        "embed",
        "form",
        "link",
        "img",
    }
    for tag, attributes, _, _ in read.all():
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        assert "src" not in attributes and "srcset" not in attributes
        for name in ("href",):
            where = attributes.get(name)
            assert where is None or re.match(r"/|#|https?://|[a-z-]+\.md|adr/", where), where
    (sheet,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in style.POLICY
    assert "url(" not in sheet and "@import" not in sheet


def test_it_can_be_used_without_eyes_and_without_a_mouse(text: str) -> None:
    read = Read(text)
    ((_, html, _, _),) = read.all("html")
    assert html["lang"] == "en"
    ((_, _, title, _),) = [each for each in read.all("title") if "svg" not in each[3]]
    assert title
    assert len(read.all("main")) == 1 and len(read.all("h1")) == 1
    assert all(attributes.get("aria-label") for _, attributes, _, _ in read.all("nav"))
    levels = [int(tag[1]) for tag, *_ in read.all("h1", "h2", "h3", "h4")]
    assert all(later <= before + 1 for before, later in itertools.pairwise(levels)), levels
    ids = [attributes["id"] for _, attributes, _, _ in read.all() if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes, _, _ in read.all("section", "svg"):
        assert attributes["aria-labelledby"] in ids
    for _, attributes, said, _ in read.all("a"):
        assert said, attributes
        if (attributes["href"] or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids
    for tag, attributes, said, _ in read.all("th", "h1", "h2", "h3", "caption", "summary"):
        assert said, (tag, attributes)
    for _, attributes, _, above in read.all("th"):
        assert attributes.get("scope") in ("col", "row") or "article" in above
    assert not [attributes for _, attributes, *_ in read.all() if int(attributes.get("tabindex") or 0) > 0]


def test_every_state_is_said_in_words(text: str) -> None:
    for _, attributes, said, above in Read(text).all("b", "td"):
        if set((attributes.get("class") or "").split()) & set(style.STATES):
            assert re.search(r"[a-z]{2}", said), (attributes, above)


def luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_what_wcag_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("shade", [0, 1], ids=["light", "dark"])
def test_every_text_has_the_contrast_of_aa(shade: int) -> None:
    colours = {name: both[shade] for name, both in style.PALETTE.items()}
    for name in style.TEXTS:
        for ground in ("page", "panel"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for state in style.STATES:  # the signs in the cells, and the cells themselves
        assert contrast(colours["on"], colours[state]) >= 4.5, state
        assert contrast(colours[state], colours["page"]) >= 3, state
    named = set(re.findall(r"var\(--([a-z]+)\)", style.SHEET))
    assert named <= set(colours), "a colour that the palette does not have"
    assert not re.search(r"#[0-9a-f]{3,8}\b", style.SHEET.partition("*{box-sizing")[2])


def test_nothing_gets_in_from_any_text() -> None:
    cells = {
        (EVIL, DAYS[-1]): Cell(EVIL, DAYS[-1], "bad", EVIL),
        ("metrics", DAYS[-1]): Cell("metrics", DAYS[-1], "bad", EVIL),
    }
    found = document(
        status="fail",
        environment=EVIL,
        promises=(
            promise(EVIL, unit=EVIL),
            promise(f"rpo/{EVIL}"),
            promise(f"drill/{EVIL}/{EVIL}"),
            promise(f"partitions_ahead/a.{EVIL}"),
        ),
        components=(Component(name=f"store/{EVIL}", status="ok", detail=EVIL),),
        incidents=(
            incident(
                what=EVIL, expected=EVIL, found=EVIL, next=EVIL, owner=EVIL, kind=EVIL, link=f"{UI}/{EVIL}"
            ),
        ),
    )
    text = shown(found, History(cells, {}))
    assert "<img" not in text and "onerror=alert(1)>" not in text
    Read(text)
    assert text.count("</title>") == text.count("<title")
    assert text.count("</style>") == 1


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "https://elsewhere.example.org/", f"{UI}.evil.example.org/", "//x", ""]
)
def test_an_incident_links_into_dagster_or_nowhere(link: str) -> None:
    text = shown(document(status="warn", incidents=(incident(link=link),)))
    assert "in Dagster" not in text
    assert not link or link not in text


def test_a_new_installation_is_neither_green_nor_red() -> None:
    early = promise("backup_age/redis/full", "not_yet", value=None, limit=28_800)
    text = shown(document(promises=(early, promise("sync_lag"))))
    ((_, heading, said, _),) = Read(text).all("h1")
    assert heading["class"] == "early"
    assert said == "Nothing is wrong, and not everything is proven yet"
    assert "1 of 2 promises kept; 1 not due yet" in text
    words = [said for tag, _, said, _ in Read(text).all("td") if "not yet" in said]
    assert "not yet" in words
    ((_, heading, said, _),) = Read(shown(document())).all("h1")
    assert (heading["class"], said) == ("good", "Everything is well")


def test_of_a_day_without_a_word_nothing_good_is_said() -> None:
    read = Read(shown(document()))
    cells = [said for _, attributes, said, _ in read.all("td") if "title" in attributes]
    assert len(cells) == 30 * 9  # search has its rows before there is anything to show
    assert set(cells) == {"unknown: nothing is recorded"}
    without = Read(shown(document(), search=False))
    assert len([0 for _, attributes, *_ in without.all("td") if "title" in attributes]) == 30 * 7


def test_days_before_the_installation_are_not_yet() -> None:
    known = History(installed_at=NOW - timedelta(days=2))
    read = Read(shown(document(), known, search=False))
    cells = [said for _, attributes, said, _ in read.all("td") if "title" in attributes]
    early, unknown = "not yet: before the installation", "unknown: nothing is recorded"
    assert cells[:30] == [early] * 27 + [unknown] * 3


def test_an_incident_says_what_on_call_needs() -> None:
    text = shown(document(status="warn", incidents=(incident(3),)))
    (item,) = [
        said for tag, attributes, said, _ in Read(text).all("li") if attributes.get("class") == "warning"
    ]
    for part in ("warning the run 3 failed", "since", "Nov 22, 07:00", "success", "no rows", "team:finance"):
        assert part in item
    assert '<a href="/runbook/operations.md#run-failed">' in text
    assert f'<a href="{UI}/runs/3">in Dagster</a>' in text
    assert "<code>bilten metrics build</code>" in text


def test_of_forty_incidents_the_worst_are_seen_first_and_all_are_there() -> None:
    found, history = full()
    read = Read(shown(found, history))
    items = [
        (said, above)
        for _, attributes, said, above in read.all("li")
        if attributes.get("class") in SEVERITIES
    ]
    assert len(items) == 40
    assert [above.count("details") for _, above in items] == [0] * page.SHOWN + [1] * (40 - page.SHOWN)
    assert [said.split()[0] for said, _ in items][:14] == ["critical"] * 13 + ["warning"]


def test_a_promise_that_is_not_kept_leads_to_what_helps() -> None:
    text = shown(document(status="warn", promises=(promise("sync_lag", "missed"), promise("rpo/x"))))
    assert text.count("/runbook/operations.md#") == 1
    assert '<a href="/runbook/operations.md#sync-lag">help<span class="hidden"> about' in text


def test_numbers_are_in_the_unit_that_reads_best() -> None:
    assert [
        units.number(value, unit)
        for value, unit in (
            (22.4, "seconds"),
            (300, "seconds"),
            (93_600, "seconds"),
            (612_000, "seconds"),
            (26, "hours"),
            (8, "days"),
            (5 << 30, "bytes"),
            (512, "bytes"),
            (85.4, "percent"),
            (6, "ways"),
        )
    ] == ["22.4 s", "5 min", "26.0 h", "7.1 days", "26.0 h", "8.0 days", "5.0 GiB", "512 B", "85 %", "6 ways"]
    assert units.number(6, "ways", named=False) == "6"


def test_growth_is_the_sum_of_what_is_known() -> None:
    levels = {
        (subject, day): Level(subject, day, size)
        for subject, day, size in (
            ("postgres/a", DAYS[3], 10),
            ("postgres/b", DAYS[4], 5),
            ("postgres/a", DAYS[6], 20),
            ("clickhouse/a", DAYS[0], 99),
        )
    }
    found = plots.totals(History({}, levels), "postgres", DAYS)
    assert min(found) == DAYS[3] and max(found) == DAYS[-1]
    assert [found[day] for day in DAYS[3:8]] == [10, 15, 15, 25, 25]
    text = plots.figures(History({}, levels), DAYS)
    assert "PostgreSQL: 25 B, +15 B since" in text
    assert "Backup repository</h3><p><b class=unknown>" in text
    path = re.search(r'class="edge" d="M([^"]*)"', text)
    assert path is not None and len(path[1].split(" L")) == 27


def test_one_day_is_no_line_and_nothing_divides_by_it() -> None:
    levels = {("postgres/a", DAYS[-1]): Level("postgres/a", DAYS[-1], 0)}
    text = plots.figures(History({}, levels), DAYS)
    assert "<svg" not in text and "from the second day on" in text


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_runbook_has_the_section_that_an_incident_links_to(kind: str) -> None:
    found = runbook.page("operations.md")
    assert found is not None and f'<h3 id="{kind}">' in found.decode()


def test_links_between_documents_lead_to_documents() -> None:
    for name in runbook.files():
        found = runbook.page(name)
        assert found is not None
        for where in re.findall(r'href="([^":#]+\.md)', found.decode()):
            joined = (name.rpartition("/")[0] + "/" + where).lstrip("/")
            assert joined in runbook.files() or where.startswith("../"), (name, where)


@pytest.mark.parametrize("name", ["", "../pyproject.toml", "nothing.md", "/etc/passwd", "settings.md/../x"])
def test_nothing_else_is_read(name: str) -> None:
    assert runbook.page(name) is None


def test_a_promise_without_words_goes_under_its_own_name() -> None:
    assert topics.topic("something_new/of it") == topics.Topic("Other", "something_new/of it")


def test_days_are_headed_by_their_dates() -> None:
    read = Read(shown(*full()))
    heads = [said for _, attributes, said, _ in read.all("th") if re.fullmatch(r"[A-Z][a-z]{2} \d\d", said)]
    assert heads == [f"{day:%b %d}" for day in DAYS]
    assert date(2026, 11, 22) == DAYS[-1]

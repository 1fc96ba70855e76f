"""The page at /: whether all is well in one line, then what is wrong, what is promised, and the past."""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Final

from bilten_orchestration.observability.documents import Component, Health, IncidentState, PromiseState
from bilten_orchestration.observability.history import History, last_days
from bilten_orchestration.observability.sources.stores import PREFIX
from bilten_orchestration.observability.status import markup, plots, strips
from bilten_orchestration.observability.status.markup import linked, marked, moment
from bilten_orchestration.observability.status.topics import GROUPS, Topic, topic
from bilten_orchestration.observability.units import number

#: Incidents that are seen at once; the others are one step away.
SHOWN: Final = 6
LEAST_REFRESH, MOST_REFRESH = 10, 3600
SIGN_IN: Final = "/sign-in"
RUNBOOK: Final = "/runbook/operations.md"
_SAID: Final = {
    "pass": ("good", "✓", "Everything is well"),
    "warn": ("look", "!", "Something needs a look"),
    "fail": ("bad", "✗", "Something is broken"),
}
_EARLY: Final = ("early", "·", "Nothing is wrong, and not everything is proven yet")
_ORDER: Final = ("missed", "unknown", "not_yet", "kept")


def render(
    found: Health, history: History, dagster: str, *, search: bool, refresh_seconds: int | None = None
) -> bytes:
    """`dagster` is the address of its UI; `search` whether there is search at all. Details and incidents are
    there when the document has them."""
    name, sign, words = _EARLY if found.status == "pass" and found.counts.not_yet else _SAID[found.status]
    days = last_days(found.at)
    body = (
        '<a class="skip" href="#promises">Skip to the promises</a>'
        f'<header><h1 class="{name}"><span aria-hidden="true">{sign}</span> {words}</h1>{_summary(found)}'
        f"{_nav(dagster, refresh_seconds, signed_in=found.incidents is not None)}</header><main>"
        + _incidents(found, dagster)
        + _stores(found.components)
        + '<section aria-labelledby="promises"><h2 id="promises" tabindex="-1">Promises</h2>'
        f'<div class="groups">{_promises(found, dagster)}</div></section>'
        '<div class="past"><section aria-labelledby="past"><h2 id="past">The last 30 days</h2>'
        f"{strips.table(history, days, dagster, search=search)}</section>"
        '<section aria-labelledby="growth"><h2 id="growth">What is stored</h2>'
        f'<div class="plots">{plots.figures(history, days)}</div></section></div>'
        + _sources(found.components)
        + "</main>"
    )
    return markup.document(f"{words} - Bilten {found.environment}", body, refresh_seconds=refresh_seconds)


def _summary(found: Health) -> str:
    counts = found.counts
    kept = sum(each.status == "kept" for each in found.promises)
    said = [
        f"open: {counts.critical} critical, {_counted(counts.warning, 'warning')},"
        f" {_counted(counts.info, 'note')}",
        f"{kept} of {len(found.promises)} promises kept",
    ]
    if counts.not_yet:
        said.append(f"{counts.not_yet} not due yet")
    lost = ""
    if counts.undelivered:
        said_so = f"{counts.undelivered} messages were not delivered:"
        lost = f' <b class="bad">{said_so}</b> <code>bilten alerts test</code>'
    return (
        f"<p>Bilten {escape(found.environment)} at {_exactly(found.at)}: {escape('; '.join(said))}.{lost}</p>"
    )


def _nav(dagster: str, refresh_seconds: int | None, *, signed_in: bool) -> str:
    links = [
        linked("Dagster", dagster),
        linked("On call: the first ten minutes", RUNBOOK),
        linked("API", "/docs"),
        linked("metrics", "/metrics"),
        linked("stop reloading", "/") if refresh_seconds else linked("reload every 30 s", "/?refresh=30"),
    ]
    if not signed_in:
        links.append(linked("sign in for details (the token is the password)", SIGN_IN))
    items = "".join(f"<li>{each}</li>" for each in links)
    return f'<nav aria-label="Elsewhere"><ul>{items}</ul></nav>'


def _incidents(found: Health, dagster: str) -> str:
    counts = found.counts
    there = counts.critical + counts.warning + counts.info
    if not there:
        return ""
    head = f'<section aria-labelledby="incidents"><h2 id="incidents">Open incidents: {there}</h2>'
    if found.incidents is None:
        where = f"{linked('sign in', SIGN_IN)}, or <code>bilten alerts list</code>"
        return f"{head}<p>What they are: {where}.</p></section>"
    severities = ("critical", "warning", "info")
    worst = sorted(found.incidents, key=lambda each: (severities.index(each.severity), each.since, each.key))
    shown = "".join(_incident(each, dagster) for each in worst[:SHOWN])
    more = ""
    if left := worst[SHOWN:]:
        rest = "".join(_incident(each, dagster) for each in left)
        more = f'<details><summary>{len(left)} more</summary><ul class="incidents">{rest}</ul></details>'
    return f'{head}<ul class="incidents">{shown}</ul>{more}</section>'


def _incident(each: IncidentState, dagster: str) -> str:
    rows = [
        ("since", moment(each.since)),
        ("expected", escape(each.expected)),
        ("found", escape(each.found)),
        ("next", f"<code>{escape(each.next)}</code>" if each.next else ""),
    ]
    facts = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows if value)
    links = [linked(f"What to do: {each.kind}", f"{RUNBOOK}#{each.kind}")]
    # only what leads into Dagster: whoever writes a finding must not make a link of ours lead elsewhere
    if each.link.startswith(f"{dagster}/"):
        links.append(linked("in Dagster", each.link))
    return (
        f'<li class="{each.severity}"><h3>{marked(each.severity)} {escape(each.what)}</h3><dl>{facts}</dl>'
        f'<p>{" · ".join(links)} · <span class="soft">{escape(each.owner)}</span></p></li>'
    )


def _stores(components: tuple[Component, ...]) -> str:
    items = "".join(
        f"<li>{escape(each.name.removeprefix(PREFIX))} {marked(each.status)}</li>"
        for each in components
        if each.name.startswith(PREFIX)
    )
    if not items:
        return ""
    return (
        '<section aria-labelledby="stores"><h2 id="stores">Stores</h2>'
        f'<ul class="stores">{items}</ul></section>'
    )


def _promises(found: Health, dagster: str) -> str:
    if not found.promises:
        return "<p>None has been read yet: the watchdog has just begun.</p>"
    groups: dict[str, list[tuple[PromiseState, Topic]]] = {}
    for each in found.promises:
        about = topic(each.name)
        groups.setdefault(about.group, []).append((each, about))
    return "".join(_group(group, groups[group], dagster) for group in GROUPS if group in groups)


def _group(group: str, promises: list[tuple[PromiseState, Topic]], dagster: str) -> str:
    worst_first = sorted(promises, key=lambda each: (_ORDER.index(each[0].status), each[1].title))
    rows = "".join(_promise(each, about, dagster) for each, about in worst_first)
    return (
        f'<table><caption>{group}</caption><thead><tr><th scope="col">promise</th><th scope="col">state</th>'
        '<th scope="col" class="n">now</th><th scope="col" class="n">promised</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _promise(each: PromiseState, about: Topic, dagster: str) -> str:
    value = (
        "<span class=soft>none</span>"
        if each.value is None
        else escape(number(each.value, each.unit, named=False))
    )
    sign, words = ("≥", "at least") if each.least else ("≤", "at most")
    bound = f'<span aria-hidden="true">{sign}</span><span class="hidden">{words}</span>'
    helps = ""
    if each.status in ("missed", "unknown") and about.kind is not None:
        hidden = f'<span class="hidden"> about {escape(about.title)}</span>'
        helps = f' <a href="{RUNBOOK}#{about.kind}">help{hidden}</a>'
    return (
        f'<tr><th scope="row">{linked(about.title, dagster + about.path if about.path else "")}</th>'
        f'<td>{marked(each.status)}{helps}</td><td class="n">{value}</td>'
        f'<td class="n">{bound} {escape(number(each.limit, each.unit))}</td></tr>'
    )


def _sources(components: tuple[Component, ...]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(each.name)}</th><td>{marked(each.status)}</td>'
        f"<td>{'never' if each.read_at is None else moment(each.read_at)}</td>"
        f"<td>{escape(each.detail or '')}</td></tr>"
        for each in components
    )
    return (
        '<section aria-labelledby="sources"><h2 id="sources">Sources</h2><details><summary>'
        f"{len(components)} sources, and when they were read</summary>"
        '<div class="wide"><table><thead><tr><th scope="col">source</th><th scope="col">state</th>'
        '<th scope="col">read (UTC)</th><th scope="col">detail</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details></section>"
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _exactly(at: datetime) -> str:
    return f'<time datetime="{at:%Y-%m-%dT%H:%M:%SZ}">{at:%Y-%m-%d %H:%M:%S} UTC</time>'

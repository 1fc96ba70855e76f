"""The status page at /: what is wrong first, then every promise with its number. HTML alone, no script, no
request to anywhere; what it means is said in words, not in colour alone."""

from __future__ import annotations

from html import escape
from typing import Final

from bilten_orchestration.observability.documents import Component, Health, PromiseState

REFRESH_SECONDS: Final = 30
_SAID: Final = {"pass": "Everything is well", "warn": "Something needs a look", "fail": "Something is broken"}
_MARKS: Final = {
    "ok": "good",
    "kept": "good",
    "pass": "good",
    "trouble": "look",
    "warn": "look",
    "unknown": "look",
    "missed": "bad",
    "down": "bad",
    "fail": "bad",
}
_STYLE: Final = """
:root{color-scheme:light dark;--good:#14713d;--look:#8a5a00;--bad:#b3261e;--line:#8884}
@media (prefers-color-scheme:dark){:root{--good:#5fd08f;--look:#e5b454;--bad:#ff8a80}}
body{font:1rem/1.45 system-ui,sans-serif;max-width:72rem;margin:0 auto;padding:1rem}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem .3rem 0;
border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}td.n{text-align:right;
white-space:nowrap;font-variant-numeric:tabular-nums}
.good{color:var(--good)}.look{color:var(--look)}.bad{color:var(--bad)}.good,.look,.bad{font-weight:600}
.good,.look,.bad{white-space:nowrap}h1 span{white-space:normal}a:focus-visible{outline:3px solid}
@media (max-width:44rem){tr{display:block;padding:.4rem 0;border-bottom:1px solid var(--line)}
td,th,td.n{display:inline;border:0;padding:0 .5rem 0 0;text-align:left;white-space:normal}
th[scope=row]{display:block}tr:first-child{position:absolute;clip-path:inset(50%)}}
"""


def render(document: Health, dagster: str) -> bytes:
    """`dagster` is the address of its UI. Details and incidents are there when the document has them."""
    whole = document.status
    counts = document.counts
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_SAID[whole]} - Bilten</title>'
        f'<meta name="viewport" content="width=device-width"><meta http-equiv="refresh"'
        f' content="{REFRESH_SECONDS}"><style>{_STYLE}</style></head><body><main>'
        f'<h1><span class="{_MARKS[whole]}">{_SAID[whole]}</span></h1>'
        f"<p>Bilten, {escape(document.environment)}, at <time>{document.at:%Y-%m-%d %H:%M:%S} UTC</time>."
        f" Open incidents: {counts.critical} critical, {counts.warning} warnings, {counts.info} notes."
    ]
    if counts.undelivered:
        parts.append(f' <span class="bad">{counts.undelivered} messages were not delivered.</span>')
    parts.append(
        f'</p><nav><a href="{escape(dagster)}">Dagster</a> · <a href="/docs">API</a> ·'
        ' <a href="/metrics">metrics</a></nav>'
    )
    if document.incidents:
        parts.append("<h2>Incidents</h2><table><tr><th>since (UTC)<th>what<th>next</tr>")
        parts += [
            f"<tr><td>{each.since:%m-%d %H:%M}<td>{_marked(each.severity, _severity(each.severity))}"
            f" {escape(each.what)}<td>{escape(each.next)}</tr>"
            for each in document.incidents
        ]
        parts.append("</table>")
    elif counts.critical or counts.warning or counts.info:
        parts.append("<p>What they are: <code>bilten alerts list</code></p>")
    parts.append("<h2>Promises</h2><table>")
    parts.append("<tr><th>promise<th>state<th>now<th>promised</tr>")
    parts += [_promise(each) for each in document.promises]
    parts.append("</table><h2>Stores and sources</h2><table>")
    parts.append("<tr><th>source<th>state<th>read (UTC)<th>detail</tr>")
    parts += [_component(each) for each in document.components]
    parts.append("</table></main></body></html>")
    return "".join(parts).encode()


def _promise(each: PromiseState) -> str:
    value = "unknown" if each.value is None else _number(each.value, each.unit)
    bound = "at least" if each.least else "at most"
    return (
        f'<tr><th scope="row">{escape(each.name)}<td>{_marked(each.status, _MARKS[each.status])}'
        f'<td class="n">{value}<td class="n">{bound} {_number(each.limit, each.unit)}</tr>'
    )


def _component(each: Component) -> str:
    read = "" if each.read_at is None else f"{each.read_at:%H:%M:%S}"
    return (
        f'<tr><th scope="row">{escape(each.name)}<td>{_marked(each.status, _MARKS[each.status])}'
        f"<td>{read}<td>{escape(each.detail or '')}</tr>"
    )


def _number(value: float, unit: str) -> str:
    if unit == "seconds" and value >= 7200:
        return f"{value / 3600:,.1f} hours"
    if unit == "bytes":
        return f"{value / (1 << 20):,.0f} MiB"
    return f"{value:,.4g} {escape(unit)}"


def _severity(severity: str) -> str:
    return "bad" if severity == "critical" else "look"


def _marked(said: str, mark: str) -> str:
    return f'<span class="{mark}">{escape(said)}</span>'

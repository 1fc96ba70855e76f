"""The palette and the style sheet. A test computes contrasts from the palette: 4.5 to 1 for every text, in
light and in dark."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Final

#: By name, light and dark. `page` is what lies behind everything; `ink` on `page` is text; the states are
#: text on `page`, and ground under `on` in the cells of the strips.
PALETTE: Final[Mapping[str, tuple[str, str]]] = {
    "page": ("#ffffff", "#14171b"),
    "panel": ("#f4f6f8", "#1c2127"),
    "ink": ("#1b1f24", "#e7eaee"),
    "soft": ("#57606a", "#a6b0bb"),
    "link": ("#0b57a4", "#8ab8f5"),
    "line": ("#d3d9df", "#333b44"),
    "good": ("#12693a", "#5ccb8b"),
    "look": ("#7d4e00", "#e3b053"),
    "bad": ("#b3241c", "#ff8f85"),
    "early": ("#3f5f8a", "#9db9de"),
    "unknown": ("#5b5566", "#b9b0c6"),
    "on": ("#ffffff", "#14171b"),
}
STATES: Final = ("good", "look", "bad", "early", "unknown")
#: Texts that may stand on a ground.
TEXTS: Final = ("ink", "soft", "link", *STATES)


def _palette(shade: int) -> str:
    return "".join(f"--{name}:{both[shade]};" for name, both in PALETTE.items())


SHEET: Final = (
    f":root{{color-scheme:light dark;{_palette(0)}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_palette(1)}}}}}"
    + "".join(f".{state}{{color:var(--{state})}}td.{state}{{background:var(--{state})}}" for state in STATES)
    + """
*{box-sizing:border-box}
body{font:.84rem/1.35 system-ui,sans-serif;margin:0;background:var(--page);color:var(--ink)}
header,main,footer{max-width:96rem;margin:0 auto;padding:0 1rem}
h1{font-size:1.5rem;line-height:1.2;margin:.6rem 0 .1rem}
h2{font-size:1.05rem;margin:.7rem 0 .2rem}
h3,caption{font-size:.875rem;font-weight:600;text-align:left;margin:0;padding:.1rem 0}
p{margin:.2rem 0}
a{color:var(--link)}
a:focus-visible,summary:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--link);
outline-offset:2px}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;margin:.1rem 0;padding:0}
nav a{display:inline-block;min-height:24px}
summary{width:fit-content;min-height:24px;color:var(--link);cursor:pointer}
.skip{position:absolute;left:-100vw}.skip:focus{position:static}
.soft{color:var(--soft)}
b.good,b.look,b.bad,b.early,b.unknown{white-space:nowrap;font-weight:600}
.hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
table{border-collapse:collapse;width:100%}
th{font-weight:400;text-align:left}
thead th{color:var(--soft);font-size:.8rem}
td,th{padding:.08rem .5rem .08rem 0;vertical-align:top}
tbody tr{border-top:1px solid var(--line)}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.groups td{white-space:nowrap}
.groups{columns:24rem;column-gap:2rem}
.groups table{break-inside:avoid;margin-bottom:.5rem}
.stores{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;list-style:none;margin:0;padding:0}
.incidents{list-style:none;margin:0;padding:0;display:grid;gap:.5rem;
grid-template-columns:repeat(auto-fill,minmax(min(100%,27rem),1fr))}
.incidents>li{background:var(--panel);border-left:.3rem solid var(--look);padding:.4rem .6rem;
overflow-wrap:anywhere;min-width:0}
.incidents>li.critical{border-color:var(--bad)}.incidents>li.info{border-color:var(--early)}
dl{display:grid;grid-template-columns:auto 1fr;gap:0 .6rem;margin:.2rem 0}
dt{color:var(--soft)}dd{margin:0;min-width:0}
code{font:.92em ui-monospace,monospace;overflow-wrap:anywhere}
.wide{overflow-x:auto}
.strips{table-layout:fixed;border-collapse:separate;border-spacing:2px}
.strips tbody tr{border:0}
.strips thead th:first-child{width:14.5rem}
.strips th[scope=row]{padding:0 .4rem 0 0;vertical-align:middle;line-height:1.2}
.strips thead th{padding:0;white-space:nowrap;overflow:visible}
.strips td{padding:0;height:1.25rem;text-align:center;vertical-align:middle;color:var(--on);
font-size:.72rem;line-height:1.25rem;border-radius:2px}
.strips td.early{background:none;color:var(--early);box-shadow:inset 0 0 0 1px var(--early)}
.strips td.unknown{background:none;color:var(--unknown);box-shadow:inset 0 0 0 1px var(--unknown)}
.past{display:grid;gap:0 2.5rem}
@media (min-width:72rem){.past{grid-template-columns:minmax(0,1fr) 21rem}.past .plots{gap:.2rem}}
.plots{display:grid;gap:1rem 2rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,18rem),1fr))}
figure{margin:0}svg{display:block;width:100%;height:auto}
svg .area{fill:var(--link);fill-opacity:.18}svg .edge{fill:none;stroke:var(--link);stroke-width:2}
svg .axis{stroke:var(--line)}svg text{fill:var(--soft);font-size:11px}
article{max-width:52rem}article table{width:auto}article td,article th{border-top:1px solid var(--line)}
pre{overflow-x:auto;background:var(--panel);padding:.5rem}
@media (max-width:44rem){header,main{padding:0 .6rem}.groups th[scope=row]{overflow-wrap:anywhere}
td,th{padding-right:.35rem}.strips{border-spacing:1px}.strips thead th:first-child{width:5.6rem}
.strips th[scope=row]{font-size:.75rem;overflow-wrap:anywhere}.strips td{font-size:.55rem;border-radius:1px}}
@media (forced-colors:active){.strips td{border:1px solid}}
@media (prefers-reduced-motion:no-preference){html{scroll-behavior:smooth}}
"""
)
#: Nothing is loaded, nothing runs, nobody frames it, and no style but this one holds.
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(SHEET.encode()).digest()).decode()
    + "'"
)

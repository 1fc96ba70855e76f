"""Every series of /metrics in words: docs/metrics-of-the-platform.md.

`python -m bilten_orchestration.observability.exporter.reference` prints the page.
"""

from __future__ import annotations

from bilten_orchestration.observability.exporter import listing

HEADING = """\
# Series of /metrics

Made from `bilten_orchestration/observability/exporter/` by `make docs`; do not edit.

The watchdog (`bilten serve`) reads servers on its own clock and a scrape writes what is in memory: a store
that hangs holds up no scrape, and however many scrape, servers are asked once. When a reading fails, or none
succeeded for three intervals and 30 s, its series vanish until the next one succeeds, so that no old number
passes for a new one; `bilten_source_known` and `bilten_source_read_timestamp_seconds` stay and tell which one
and since when. Counters are the servers' own and begin again at 0 with them, as `rate()` expects. Tables and
indexes with series of their own are the largest `BILTEN_SERVE__METRICS_TOP`; partitions count with their
table. Beside these, `process_*` tell what the watchdog itself takes.

Rules and a dashboard are in `deploy/`; what an alert means is in [operations](operations.md#from-prometheus).
"""


def render() -> str:
    """The whole page, Markdown."""
    parts = [HEADING]
    for title, setting, modules in listing.MODULES:
        every = f" Sampled every `{setting}`." if setting else " As of the scrape."
        parts.append(f"\n## {title}\n\n{every.strip()}\n\n| series | type | labels | meaning |\n")
        parts.append("| --- | --- | --- | --- |\n")
        parts += [
            f"| `{family.name}` | {family.kind} | {', '.join(family.labels)} | {family.help} |\n"
            for module in modules
            for family in listing.declared(module)
        ]
    return "".join(parts)


if __name__ == "__main__":
    print(render(), end="")

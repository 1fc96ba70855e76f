"""The rules of the trade: what holds in the operational data between any two transactions.

Money adds up, seats are counted, things that belong together are of one event and one currency. Each rule is
one query that returns the keys of the rows that break it. What constraints, foreign keys and enums refuse
needs no rule. Restore drills ask for these of what came back, a load of demo data for more besides
(demo/validate.py). Rules that hold only after a while, or of made-up data alone, do not belong here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.stores.postgres import Connection

SAMPLE = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """`offenders` selects one text column: the key of each row that breaks the rule."""

    name: str
    offenders: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many rows break a rule, and some of their keys."""

    rule: str
    offenders: int
    sample: tuple[str, ...]
    seconds: float


RULES = (
    Rule(
        "items add up to their payment, fee items to its fee, tax items to its tax",
        """
        select p.id::text from payments.payments p left join (
            select payment_id, sum(amount) as amount,
                   coalesce(sum(amount) filter (where item_type = 'fee'), 0) as fee,
                   coalesce(sum(amount) filter (where item_type = 'tax'), 0) as tax
            from payments.payment_items group by payment_id) i on i.payment_id = p.id
        where (i.amount, i.fee, i.tax) is distinct from (p.amount, p.fee_amount, p.tax_amount)
        """,
    ),
    Rule(
        "refunds that stand stay within their payment, its fee and its tax",
        """
        select p.id::text from payments.payments p join (
            select payment_id, sum(amount) as amount, sum(fee_amount) as fee, sum(tax_amount) as tax
            from payments.refunds
                where status not in ('failed', 'reversed') group by payment_id) r on r.payment_id = p.id
        where r.amount > p.amount or r.fee > p.fee_amount or r.tax > p.tax_amount
        """,
    ),
    Rule(
        "a ticket, its type and its payment are of one event and one currency",
        """
        select t.id::text from tickets.tickets t join tickets.ticket_types y on y.id = t.ticket_type_id
        left join payments.payments p on p.id = t.payment_id
        where t.event_id <> y.event_id or t.event_id <> p.event_id or y.currency <> p.currency
        """,
    ),
    Rule(
        "a ticket that was paid for has one ticket item of that payment, any other none",
        """
        select t.id::text from tickets.tickets t left join payments.payment_items i
            on i.ticket_id = t.id and i.item_type = 'ticket'
        group by t.id, t.payment_id
        having count(i.id) <> (t.payment_id is not null)::int or min(i.payment_id::text) <> t.payment_id::text
        """,
    ),
    Rule(
        "sold counts the tickets that hold a seat",
        """
        select y.id::text from tickets.ticket_types y left join (
            select ticket_type_id, count(*) as held from tickets.tickets
                where status in ('active', 'checked_in')
            group by ticket_type_id) t on t.ticket_type_id = y.id
        where y.sold <> coalesce(t.held, 0)
        """,
    ),
)


def examine(
    connection: Connection, rules: Sequence[Rule] = RULES, progress: Progress = silent
) -> tuple[Verdict, ...]:
    """Every rule over everything that the connection sees; nothing is changed."""
    verdicts = []
    for rule in rules:
        started = time.monotonic()
        row = connection.execute(
            f"select count(*), (array_agg(key order by key))[:{SAMPLE}]"
            f" from ({rule.offenders}) as o (key)".encode()
        ).fetchone()
        assert row is not None  # noqa: S101 (for the type checker)
        verdict = Verdict(rule.name, row[0], tuple(row[1] or ()), time.monotonic() - started)
        verdicts.append(verdict)
        if verdict.seconds > 2:
            progress(f"  {rule.name}: {verdict.seconds:.1f} s")
    return tuple(verdicts)

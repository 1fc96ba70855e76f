"""What is in a dump, as `pg_restore --list --verbose` tells it, and what belongs to one table of it.

pg_restore's own --table takes neither indexes nor constraints nor what the table is made of. Here a table
comes with

    1. its rows, its partitions with theirs, defaults, sequences, constraints, indexes, statistics, triggers,
       policies, comments and grants
    2. what those need, and what that needs: schema, types, functions, extensions
    3. the definition, without rows, of another table that its own definition needs (inheritance, row types)

and without what needs other tables than these: foreign keys to them above all. Those are told.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

_ENTRY = re.compile(r"(\d+); \d+ \d+ (.*)")
_DEPENDS = ";\tdepends on:"
# descriptions of more than one word (pg_dump.c); all others are one
_TWO_WORDS = frozenset(
    {
        "TABLE DATA",
        "TABLE ATTACH",
        "INDEX ATTACH",
        "FK CONSTRAINT",
        "CHECK CONSTRAINT",
        "SEQUENCE SET",
        "ROW SECURITY",
        "FOREIGN TABLE",
        "MATERIALIZED VIEW",
        "STATISTICS DATA",
        "PUBLICATION TABLE",
        "SECURITY LABEL",
        "EVENT TRIGGER",
        "DEFAULT ACL",
        "SHELL TYPE",
        "SEQUENCE OWNED",
    }
)
_OF_A_TABLE = frozenset(
    {
        "TABLE DATA",
        "DEFAULT",
        "CONSTRAINT",
        "CHECK CONSTRAINT",
        "FK CONSTRAINT",
        "INDEX",
        "INDEX ATTACH",
        "TABLE ATTACH",
        "TRIGGER",
        "POLICY",
        "ROW SECURITY",
        "RULE",
        "STATISTICS",
        "STATISTICS DATA",
        "SEQUENCE",
        "SEQUENCE SET",
        "SEQUENCE OWNED",
        "PUBLICATION TABLE",
    }
)
# their names begin with their table's: what has only an index or a sequence of it is another table's
_NAMED_AFTER_TABLE = frozenset(
    {
        "DEFAULT",
        "CONSTRAINT",
        "CHECK CONSTRAINT",
        "FK CONSTRAINT",
        "TRIGGER",
        "POLICY",
        "RULE",
    }
)
_OF_ANYTHING = frozenset({"COMMENT", "ACL", "SECURITY LABEL"})
# what is never brought along for the sake of a table's belongings
_STRANGERS = frozenset(
    {
        "TABLE",
        "VIEW",
        "MATERIALIZED VIEW",
        "FOREIGN TABLE",
        "CONSTRAINT",
        "INDEX",
        "INDEX ATTACH",
        "PUBLICATION",
    }
)


@dataclass(frozen=True, slots=True)
class Entry:
    """`label` is kind, schema (or -) and name, as in `TABLE DATA payments refunds`; `needs` are numbers."""

    number: int
    kind: str
    label: str
    line: str
    needs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """`entries` in the order of the dump; `tables` (labels) come with their rows, `empty` without;
    `left_out` are labels of what belongs to them and needs what is not there."""

    entries: tuple[Entry, ...]
    tables: tuple[str, ...]
    empty: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def parse(listing: str) -> list[Entry]:
    """The entries of `pg_restore --list --verbose`."""
    entries: list[Entry] = []
    for line in listing.splitlines():
        if line.startswith(_DEPENDS) and entries:
            last = entries[-1]
            needs = tuple(dict.fromkeys(map(int, line[len(_DEPENDS) :].split())))
            entries[-1] = Entry(last.number, last.kind, last.label, last.line, needs)
        elif found := _ENTRY.fullmatch(line):
            label = found[2].rpartition(" ")[0]  # the owner is the last word
            words = label.split(" ", 2)
            two = " ".join(words[:2])
            entries.append(Entry(int(found[1]), two if two in _TWO_WORDS else words[0], label, line, ()))
    return entries


def without(entries: Iterable[Entry], labels: Collection[str]) -> list[Entry]:
    """All but those that are there already, and what is said of them."""
    entries = list(entries)
    there = {each.number for each in entries if each.label in labels}
    return [
        each
        for each in entries
        if each.number not in there and not (each.kind in _OF_ANYTHING and there.intersection(each.needs))
    ]


def of_table(
    entries: list[Entry], schema: str, table: str, there: Collection[str] = frozenset()
) -> Selection | None:
    """What belongs to a table; None when the dump has none of that name. `there` are labels of what the
    target has already: that is not brought again, and may be pointed at."""
    root = next((each for each in entries if each.label == f"TABLE {schema} {table}"), None)
    return None if root is None else _Choice(entries, root, there).selection()


@dataclass
class _Choice:
    entries: list[Entry]
    root: Entry
    there: Collection[str]
    by_number: dict[int, Entry] = field(init=False)
    tables: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.by_number = {each.number: each for each in self.entries}
        by_label = {each.label: each.number for each in self.entries}
        # the partition has the name of its ATTACH; what else that needs is the parent
        self._parents = {
            child: [number for number in each.needs if number != child]
            for each in self.entries
            if each.kind == "TABLE ATTACH"
            and (child := by_label.get(each.label.replace("TABLE ATTACH", "TABLE", 1))) is not None
        }
        self.tables = {self.root.number}
        while more := {
            child
            for child, parents in self._parents.items()
            if child not in self.tables and self.tables.intersection(parents)
        }:
            self.tables |= more

    def selection(self) -> Selection:
        wanted = set(self.tables)
        for number in self.tables:
            wanted |= self._all_needs(number)
        owned, left_out = set(self.tables), dict[int, None]()
        changed = True
        while changed:
            changed = False
            for each in self.entries:
                number = each.number
                if number in owned or number in left_out:
                    continue
                needs = self._needs(number)
                about = each.kind in _OF_ANYTHING and wanted.intersection(needs)
                if not about and not (owned.intersection(needs) and self._is_of_a_table(each)):
                    continue
                changed = True
                brought = self._all_needs(number) - wanted
                if any(self.by_number[other].kind in _STRANGERS for other in brought):
                    left_out[number] = None
                else:
                    owned.add(number)
                    wanted |= {number} | brought
        chosen = [each for each in self.entries if each.number in wanted and each.label not in self.there]
        return Selection(
            tuple(self._attached_last(without(chosen, self.there))),
            tuple(each.label for each in self.entries if each.number in self.tables),
            tuple(each.label for each in chosen if each.kind == "TABLE" and each.number not in self.tables),
            tuple(self.by_number[number].label for number in left_out),
        )

    def _attached_last(self, entries: list[Entry]) -> list[Entry]:
        """A partition whose parent is there already is attached when its indexes stand, which attaches them
        too; before, it would be given such indexes, under the very names."""
        late = [
            each
            for each in entries
            if each.kind == "TABLE ATTACH"
            and any(self.by_number[number].label in self.there for number in each.needs)
        ]
        children = {number for each in late for number in each.needs if number in self._parents}
        rest = [
            each
            for each in entries
            if each not in late and not (each.kind == "INDEX ATTACH" and children.intersection(each.needs))
        ]
        return rest + late

    def _is_of_a_table(self, entry: Entry) -> bool:
        if entry.kind not in _NAMED_AFTER_TABLE:
            return entry.kind in _OF_A_TABLE
        name = entry.label.removeprefix(f"{entry.kind} ")
        ours = (self.by_number[number].label.removeprefix("TABLE ") for number in self.tables)
        return any(name.startswith(f"{table} ") for table in ours)

    def _needs(self, number: int) -> list[int]:
        entry = self.by_number[number]
        found = [other for other in entry.needs if other in self.by_number]
        if number in self._parents:
            # a partition is a table of its own until it is attached
            return [other for other in found if other not in self._parents[number]]
        if entry.kind in ("CONSTRAINT", "INDEX"):
            # and so are its indexes
            return [
                other
                for other in found
                if other in self.tables or self.by_number[other].kind not in ("CONSTRAINT", "INDEX")
            ]
        return found

    def _all_needs(self, number: int) -> set[int]:
        found: set[int] = set()
        open_ = [number]
        while open_:
            for other in self._needs(open_.pop()):
                if other not in found and self.by_number[other].label not in self.there:
                    found.add(other)
                    open_.append(other)
        return found

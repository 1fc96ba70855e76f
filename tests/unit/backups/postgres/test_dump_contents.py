"""What belongs to one table of a dump, by pg_restore's own list of one (PostgreSQL 18)."""

from __future__ import annotations

import pytest

from bilten_orchestration.backups.postgres import dump_contents

# `par` is partitioned and has an identity; `ser` a serial, a key to itself, to `par`, and to a table that was
# not dumped; `child` inherits from `ser`, `self` has a column of its row type
LIST = """;
; Selected TOC Entries:
;
19; 2615 17656 SCHEMA - p bilten_owner
280; 1259 17687 TABLE p ser bilten_owner
;	depends on: 19
282; 1259 17720 TABLE p child bilten_owner
;	depends on: 19 280
276; 1259 17658 TABLE p par bilten_owner
;	depends on: 19
277; 1259 17665 TABLE p par1 bilten_owner
;	depends on: 19 276
278; 1259 17674 TABLE p par2 bilten_owner
;	depends on: 19 276
275; 1259 17657 SEQUENCE p par_id_seq bilten_owner
;	depends on: 19 276
283; 1259 17725 TABLE p self bilten_owner
;	depends on: 280 19
279; 1259 17686 SEQUENCE p ser_id_seq bilten_owner
;	depends on: 19 280
2835; 0 0 SEQUENCE OWNED BY p ser_id_seq bilten_owner
;	depends on: 279
281; 1259 17715 VIEW p v bilten_owner
;	depends on: 280 280 280 280 280 19
2645; 0 0 TABLE ATTACH p par1 bilten_owner
;	depends on: 277 276
2646; 0 0 TABLE ATTACH p par2 bilten_owner
;	depends on: 278 276
2648; 2604 17723 DEFAULT p child id bilten_owner
;	depends on: 282 279
2647; 2604 17690 DEFAULT p ser id bilten_owner
;	depends on: 279 280 280
2826; 0 17720 TABLE DATA p child bilten_owner
;	depends on: 282
2822; 0 17665 TABLE DATA p par1 bilten_owner
;	depends on: 277
2823; 0 17674 TABLE DATA p par2 bilten_owner
;	depends on: 278
2827; 0 17725 TABLE DATA p self bilten_owner
;	depends on: 283
2825; 0 17687 TABLE DATA p ser bilten_owner
;	depends on: 280
2836; 0 0 SEQUENCE SET p par_id_seq bilten_owner
;	depends on: 275
2837; 0 0 SEQUENCE SET p ser_id_seq bilten_owner
;	depends on: 279
2651; 2606 17664 CONSTRAINT p par par_pkey bilten_owner
;	depends on: 276 276
2654; 2606 17669 CONSTRAINT p par1 par1_pkey bilten_owner
;	depends on: 277 277 277 2651
2657; 2606 17678 CONSTRAINT p par2 par2_pkey bilten_owner
;	depends on: 278 278 278 2651
2659; 2606 17693 CONSTRAINT p ser ser_pkey bilten_owner
;	depends on: 280
2649; 1259 17683 INDEX p par_note_idx bilten_owner
;	depends on: 276
2652; 1259 17684 INDEX p par1_note_idx bilten_owner
;	depends on: 277 2649 277
2655; 1259 17685 INDEX p par2_note_idx bilten_owner
;	depends on: 278 278 2649
2660; 0 0 INDEX ATTACH p par1_note_idx bilten_owner
;	depends on: 2652 2649 277 276
2661; 0 0 INDEX ATTACH p par1_pkey bilten_owner
;	depends on: 277 2651 2654 2651 277 276
2662; 0 0 INDEX ATTACH p par2_note_idx bilten_owner
;	depends on: 2655 2649 278 276
2663; 0 0 INDEX ATTACH p par2_pkey bilten_owner
;	depends on: 278 2657 2651 2651 278 276
2664; 3381 17719 STATISTICS p st bilten_owner
;	depends on: 280 19 280
2665; 2606 17699 FK CONSTRAINT p ser ser_e_fkey bilten_owner
;	depends on: 280
2666; 2606 17704 FK CONSTRAINT p ser ser_par_at_fkey bilten_owner
;	depends on: 2661 2663 280 280 276 276 2651
2667; 2606 17694 FK CONSTRAINT p ser ser_parent_fkey bilten_owner
;	depends on: 280 2659 280
2820; 3256 17730 POLICY p ser pol bilten_owner
;	depends on: 280
2819; 0 17687 ROW SECURITY p ser bilten_owner
;	depends on: 280
"""
ENTRIES = dump_contents.parse(LIST)


def of(table: str, *there: str) -> dump_contents.Selection:
    found = dump_contents.of_table(ENTRIES, "p", table, set(there))
    assert found is not None
    return found


def labels(found: dump_contents.Selection) -> set[str]:
    return {each.label for each in found.entries}


def test_kinds_of_one_word_and_of_two() -> None:
    kinds = {each.kind for each in ENTRIES}
    assert {"TABLE", "TABLE DATA", "TABLE ATTACH", "FK CONSTRAINT", "ROW SECURITY", "VIEW"} <= kinds
    assert not kinds & {"FK", "ROW"}


def test_a_table_with_what_it_is_made_of_and_no_more() -> None:
    found = of("ser")
    assert labels(found) == {
        "SCHEMA - p",
        "TABLE p ser",
        "SEQUENCE p ser_id_seq",
        "SEQUENCE OWNED BY p ser_id_seq",
        "SEQUENCE SET p ser_id_seq",
        "DEFAULT p ser id",
        "TABLE DATA p ser",
        "CONSTRAINT p ser ser_pkey",
        "STATISTICS p st",
        "FK CONSTRAINT p ser ser_e_fkey",
        "FK CONSTRAINT p ser ser_parent_fkey",
        "POLICY p ser pol",
        "ROW SECURITY p ser",
    }
    assert found.left_out == ("FK CONSTRAINT p ser ser_par_at_fkey",)
    assert found.empty == ()


def test_a_partitioned_table_comes_with_its_partitions() -> None:
    found = of("par")
    assert found.tables == ("TABLE p par", "TABLE p par1", "TABLE p par2")
    assert {
        "TABLE DATA p par1",
        "TABLE DATA p par2",
        "INDEX ATTACH p par2_pkey",
        "SEQUENCE SET p par_id_seq",
    } <= (labels(found))
    assert found.left_out == ()


def test_a_partition_alone_is_a_table_with_its_own_indexes() -> None:
    found = of("par1")
    assert labels(found) == {
        "SCHEMA - p",
        "TABLE p par1",
        "TABLE DATA p par1",
        "CONSTRAINT p par1 par1_pkey",
        "INDEX p par1_note_idx",
    }
    assert "TABLE ATTACH p par1" in found.left_out


def test_a_partition_is_attached_where_its_parent_is() -> None:
    there = ("SCHEMA - p", "TABLE p par", "INDEX p par_note_idx", "CONSTRAINT p par par_pkey")
    found = of("par1", *there)
    assert found.left_out == ()
    assert found.entries[-1].label == "TABLE ATTACH p par1"  # which attaches the indexes, if they stand
    assert not [label for label in labels(found) if label.startswith("INDEX ATTACH")]
    assert not labels(found).intersection(there)


@pytest.mark.parametrize("table", ["child", "self"])
def test_a_table_that_its_definition_needs_comes_without_rows(table: str) -> None:
    found = of(table)
    assert found.empty == ("TABLE p ser",)
    assert "TABLE DATA p ser" not in labels(found)
    assert f"TABLE DATA p {table}" in labels(found)


def test_the_order_of_the_dump_is_kept() -> None:
    numbers = [each.number for each in ENTRIES]
    chosen = [numbers.index(each.number) for each in of("par").entries]
    assert chosen == sorted(chosen)


def test_no_such_table() -> None:
    assert dump_contents.of_table(ENTRIES, "p", "v") is None


def test_what_is_there_goes_with_what_is_said_of_it() -> None:
    listing = "3; 3079 1 EXTENSION - amcheck \n7; 0 0 COMMENT - EXTENSION amcheck \n;\tdepends on: 3\n"
    assert dump_contents.without(dump_contents.parse(listing), {"EXTENSION - amcheck"}) == []

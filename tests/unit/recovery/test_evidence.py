"""What pg_waldump says, as it is read; a stand-in for the program that prints recorded lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.recovery import evidence
from bilten_orchestration.recovery.evidence import File

HEAD = "len (rec/tot):     54/    54, tx:        {tx}, lsn: 0/0{lsn}, prev 0/01742220, desc: {desc}"
COMMIT = "COMMIT 2026-11-22 00:56:56.846085 UTC; subxacts: 754"
RECORDS = {
    "Transaction": [(752, "1738E30", "COMMIT 2026-11-22 00:56:50.1 UTC"), (753, "1744D80", COMMIT)],
    "Standby": [
        (0, "1738D80", "RUNNING_XACTS nextXid 753 latestCompletedXid 751 oldestRunningXid 752; 1 xacts: 752"),
        (755, "1744DB8", "LOCK xid 755 db 5 rel 16392 "),
    ],
    "MultiXact": [
        (753, "1742210", "CREATE_ID 7 offset 1 nmembers 2: 751 (keysh) 754 (upd)"),
        (751, "1742218", "CREATE_ID 8 offset 3 nmembers 2: 751 (keysh) 749 (keysh)"),
    ],
    "753": [
        (753, "1742220", "HOT_UPDATE old_xmax: 753, new_off: 101, blkref #0: rel 1663/5/16384 blk 0"),
        (753, "1744D48", "LOCK xmax: 754, off: 50, blkref #0: rel 1663/5/16999 blk 0"),
    ],
    "754": [(754, "1744B00", "INSERT+INIT off: 21, flags: 0x08, blkref #0: rel 1663/5/16392 blk 0")],
}
END = """case "$*" in *--end=*) exit 0;; esac
echo "invalid record length" >&2
exit 1
"""
RMGR = {"753": "Heap", "754": "Heap"}


def _program(directory: Path, records: dict[str, list[tuple[int, str, str]]]) -> Path:
    """Answers to --rmgr and --xid as the real one does; without --end it ends with 1: the end of WAL."""
    cases = ""
    for name, lines in records.items():
        body = "\n".join(
            f"rmgr: {RMGR.get(name, name):<11} " + HEAD.format(tx=tx, lsn=lsn, desc=desc)
            for tx, lsn, desc in lines
        )
        cases += f"--rmgr={name}|--xid={name}) cat <<'END'\n{body}\nEND\n;;\n"
    program = directory / "pg_waldump"
    program.write_text(f'#!/bin/sh\ncase "$1" in\n{cases}esac\n{END}')
    program.chmod(0o755)
    return directory


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    directory = tmp_path / "wal"
    directory.mkdir()
    (directory / "000000010000000000000001").touch()
    (directory / "00000002.history").touch()
    return directory


def test_a_transaction_with_a_subtransaction(tmp_path: Path, wal: Path) -> None:
    found = evidence.read(_program(tmp_path, RECORDS), wal, (3 << 32) + 753, 16 << 20)
    assert (found.commit_lsn, found.timeline) == ("0/01744D80", 1)
    assert f"{found.committed_at:%F %T.%f}" == "2026-11-22 00:56:56.846085"
    assert found.xids == (753, 754)
    assert found.multixacts == (7,)
    # a row that was only locked is no write
    assert found.files == {File(1663, 5, 16384), File(1663, 5, 16392)}
    assert found.locked == frozenset()


def test_a_lock_of_its_own(tmp_path: Path, wal: Path) -> None:
    locked = {**RECORDS, "Standby": [RECORDS["Standby"][0], (754, "1744B10", "LOCK xid 754 db 5 rel 16392 ")]}
    assert evidence.read(_program(tmp_path, locked), wal, 753, 16 << 20).locked == {(5, 16392)}


def test_one_that_is_not_there(tmp_path: Path, wal: Path) -> None:
    with pytest.raises(Refused, match="is not in the WAL that is stored"):
        evidence.read(_program(tmp_path, RECORDS), wal, 760, 16 << 20)
    with pytest.raises(Refused, match="program that is not there"):
        evidence.read(tmp_path / "nowhere", wal, 753, 16 << 20)


def test_one_that_began_before(tmp_path: Path, wal: Path) -> None:
    running = "RUNNING_XACTS nextXid 754 latestCompletedXid 751 oldestRunningXid 752; 2 xacts: 752 753"
    for lsn in ("1738D80", "1743000"):  # before its first record, and behind it: redo lies before both
        early = {**RECORDS, "Standby": [(0, lsn, running)]}
        with pytest.raises(Mismatch, match="may have begun before"):
            evidence.read(_program(tmp_path, early), wal, 753, 16 << 20)
    # the first list is not there: that it began later is not known
    unlisted = {**RECORDS, "Standby": RECORDS["Standby"][1:]}
    with pytest.raises(Mismatch, match="may have begun before"):
        evidence.read(_program(tmp_path, unlisted), wal, 753, 16 << 20)


def test_one_that_was_running_later(tmp_path: Path, wal: Path) -> None:
    running = "RUNNING_XACTS nextXid 755 latestCompletedXid 752 oldestRunningXid 753; 1 xacts: 753"
    listed = {**RECORDS, "Standby": [*RECORDS["Standby"], (0, "1743000", running)]}
    assert evidence.read(_program(tmp_path, listed), wal, 753, 16 << 20).transaction == 753


def test_one_of_a_timeline_that_began_in_this_wal(tmp_path: Path, wal: Path) -> None:
    """There is no list yet, and none is needed: nothing ran before the timeline did."""
    (wal / "000000020000000000000001").touch()
    program = _program(tmp_path, {**RECORDS, "Standby": RECORDS["Standby"][1:]}) / "pg_waldump"
    first, rest = program.read_text().split("\n", 1)
    program.write_text(f'{first}\ncase "$*" in *--timeline=1*) exit 1;; esac\n{rest}')
    assert evidence.read(tmp_path, wal, 753, 16 << 20).timeline == 2


def test_wal_that_is_not_read_up_to_the_commit(tmp_path: Path, wal: Path) -> None:
    program = _program(tmp_path, RECORDS) / "pg_waldump"
    program.write_text(program.read_text().replace("*--end=*) exit 0", "*nowhere*) exit 0"))
    with pytest.raises(Mismatch, match="does not read the WAL up to the commit") as told:
        evidence.read(tmp_path, wal, 753, 16 << 20)
    assert "invalid record length" in told.value.problems[0].found


def test_lines_that_are_not_known(tmp_path: Path, wal: Path) -> None:
    program = _program(tmp_path, RECORDS) / "pg_waldump"
    program.write_text("#!/bin/sh\necho 'another form of record'\n")
    with pytest.raises(Mismatch, match="says what is not known"):
        evidence.read(tmp_path, wal, 753, 16 << 20)

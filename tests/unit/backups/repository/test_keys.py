"""The key file: made once, read strictly, rotated without loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from bilten_orchestration.backups.repository import keys
from bilten_orchestration.errors import Mismatch, Refused


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "backup-keys.json"


def test_made_once_for_its_owner_alone(path: Path) -> None:
    made = keys.ensure(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert keys.ensure(path) == made
    assert len(made.key(made.current)) == keys.KEY_BYTES


def test_who_makes_it_at_the_same_time_gets_the_same(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from bilten_orchestration.backups.repository import keys;"
        "print('ready', flush=True); sys.stdin.readline(); print(keys.ensure(Path(sys.argv[1])).current)"
    )
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("\n")
        maker.stdin.flush()
    assert len({maker.communicate()[0] for maker in makers}) == 1
    assert list(path.parent.iterdir()) == [path]


def test_threads_that_make_it_at_the_same_time_get_the_same(tmp_path: Path) -> None:
    def made(place: Path, together: Barrier) -> str:
        together.wait()
        return keys.ensure(place).current

    with ThreadPoolExecutor(4) as pool:
        for number in range(50):
            place, together = tmp_path / str(number) / "backup-keys.json", Barrier(4)
            assert len({*pool.map(made, [place] * 4, [together] * 4)}) == 1
            assert list(place.parent.iterdir()) == [place]


def test_what_a_kill_left_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    path.with_name(f"{path.name}.{os.getpid()}.new").write_text("half a k")
    keys.ensure(path)
    assert list(path.parent.iterdir()) == [path]


def test_rotation_keeps_what_the_old_key_reads(path: Path) -> None:
    first = keys.ensure(path)
    second = keys.rotate(path)
    assert second.current != first.current
    assert second.key(first.current) == first.key(first.current)
    assert keys.read(path) == second
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lost_key_is_named(path: Path) -> None:
    with pytest.raises(Mismatch, match="20200101-00000000") as told:
        keys.ensure(path).key("20200101-00000000")
    assert "BILTEN_BACKUPS__KEY_FILE" in told.value.problems[0].next


def test_no_key_is_ever_shown(path: Path) -> None:
    ring = keys.ensure(path)
    digits = ring.key(ring.current).hex()
    assert digits in path.read_text()
    assert digits not in repr(ring)
    assert repr(ring.key(ring.current)) not in repr(ring)


def _other_digit(document: dict[str, Any]) -> None:
    (key_id,) = document["keys"]
    digits = document["keys"][key_id]
    document["keys"][key_id] = ("1" if digits[0] == "0" else "0") + digits[1:]


def _short(document: dict[str, Any]) -> None:
    (key_id,) = document["keys"]
    document["keys"][key_id] = document["keys"][key_id][:-2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_other_digit, "is another one"),
        (_short, "31 bytes instead of 32"),
        (lambda document: document.update(current="20200101-00000000"), "is not in it"),
        (lambda document: document["keys"].update(mine="00"), "is no key id"),
        (lambda document: document.pop("keys"), "it is not what `bilten` writes"),
        (lambda document: document.update(keys=[1]), "it is not what `bilten` writes"),
    ],
    ids=["another key", "short", "no current", "no id", "no keys", "no object"],
)
def test_an_altered_file_is_refused(
    path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    ring = keys.ensure(path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(Refused, match=said) as told:
        keys.read(path)
    assert ring.key(ring.current).hex()[8:] not in str(told.value)


def test_everything_that_is_wrong_is_told_at_once(path: Path) -> None:
    keys.ensure(path)
    path.write_text(path.read_text()[:-5])
    path.chmod(0o644)
    with pytest.raises(Refused) as told:
        keys.read(path)
    assert [problem.found for problem in told.value.problems] == ["", "mode 644"]


def test_a_missing_file_is_no_reason_to_make_another(path: Path) -> None:
    with pytest.raises(Refused, match="there is no key file"):
        keys.read(path)
    assert not path.exists()

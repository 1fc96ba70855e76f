"""Whatever the cuts and the order, what is unpacked is what was packed."""

from __future__ import annotations

import io
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bilten_orchestration.backups.repository.tar_slices import BLOCK, Continues, Slicer, unpack
from bilten_orchestration.errors import Mismatch

SIZES = st.sampled_from([0, 1, 511, 512, 513, 1_024, 5_000, 40_000])


def _tar(files: dict[str, bytes], directories: tuple[str, ...] = ()) -> bytes:
    """As PostgreSQL writes it: ustar, and nothing behind the two empty blocks."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in directories:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        end = archive.offset
    return body.getvalue()[: end + 2 * BLOCK]


def _pieces(body: bytes, sizes: random.Random) -> list[bytes]:
    found, at = [], 0
    while at < len(body):
        size = sizes.choice((1, 300, BLOCK, 3 * BLOCK + 1, 30_000))
        found.append(body[at : at + size])
        at += size
    return found


def _drain(slicer: Slicer, found: list[Continues | None]) -> None:
    for each in slicer:
        found.append(each.continues)
        list(each.chunks)


def _tree(directory: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(SIZES, max_size=12), blocks=st.integers(1, 60), seed=st.integers(0, 10_000))
def test_any_cut_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], blocks: int, seed: int
) -> None:
    chance = random.Random(seed)
    files = {f"base/{n % 3}/{n}": chance.randbytes(size) for n, size in enumerate(sizes)}
    body = _tar(files, ("base", "pg_wal", "pg_wal/archive_status"))
    slicer = Slicer(_pieces(body, chance), blocks * BLOCK, frozenset({"base/1/1"}))
    slices = [(each.continues, b"".join(each.chunks)) for each in slicer]
    assert b"".join(part for _, part in slices) == body
    assert slicer.raw_bytes == len(body)
    assert all(len(part) == blocks * BLOCK for _, part in slices[:-1])
    assert slicer.kept == ({"base/1/1": files["base/1/1"]} if files.get("base/1/1") else {})

    target = tmp_path_factory.mktemp("unpacked")
    chance.shuffle(slices)
    with ThreadPoolExecutor(3) as pool:
        unpacking = [
            pool.submit(unpack, _pieces(part, random.Random(seed)), continues, target)
            for continues, part in slices
        ]
        assert sum(each.result() for each in unpacking) == sum(sizes)
    directories = {"base", "pg_wal", "pg_wal/archive_status"} | {name[:6] for name in files}
    assert _tree(target) == files | dict.fromkeys(directories)


def test_a_file_larger_than_eight_gib_is_followed() -> None:
    """Its size does not fit into octal digits; only its header and a part are sent here."""
    entry = tarfile.TarInfo("base/1/2")
    entry.size = 9 << 30
    header = entry.tobuf(tarfile.GNU_FORMAT)
    found: list[Continues | None] = []
    with pytest.raises(Mismatch, match="its end is missing"):
        _drain(Slicer([header, bytes(10 * BLOCK)], 4 * BLOCK), found)
    assert [continues and (continues.offset, continues.size) for continues in found] == [
        None,
        (3 * BLOCK, 9 << 30),
        (7 * BLOCK, 9 << 30),
    ]


@pytest.mark.parametrize("cut", [1, BLOCK, 2 * BLOCK, 2 * BLOCK + 100])
def test_a_stream_that_stops_early_is_refused(cut: int) -> None:
    body = _tar({"PG_VERSION": b"18\n", "base/1/1": bytes(900)})
    with pytest.raises(Mismatch, match="its end is missing"):
        _drain(Slicer([body[:-cut]], 1 << 20), [])


def _odd(name: str, type_: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = type_, target
    return entry.tobuf(tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(
    "entry",
    [
        _odd("../outside"),
        _odd("/etc/passwd"),
        _odd("base/../../outside"),
        _odd("pg_tblspc/16400", tarfile.SYMTYPE, "/mnt/fast"),
        _odd("hard", tarfile.LNKTYPE, "PG_VERSION"),
        b"x" * BLOCK,
    ],
    ids=["above", "absolute", "above within", "tablespace", "hard link", "no header"],
)
def test_what_could_write_elsewhere_is_refused(entry: bytes, tmp_path: Path) -> None:
    inside = tmp_path / "data"
    inside.mkdir()
    with pytest.raises(Mismatch, match="is not what PostgreSQL writes"):
        unpack([entry, bytes(2 * BLOCK)], None, inside)
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def test_a_link_in_the_target_is_not_followed(tmp_path: Path) -> None:
    inside = tmp_path / "data"
    inside.mkdir()
    (inside / "PG_VERSION").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        unpack([_tar({"PG_VERSION": b"18\n"})], None, inside)
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_unpacked_is_its_owners_alone(tmp_path: Path) -> None:
    unpack([_tar({"base/1/1": b"rows"}, ("base",))], None, tmp_path / "data")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").rglob("*")}
    assert modes == {"base": 0o700, "1": 0o700} | {"1": modes["1"]}
    assert (tmp_path / "data/base/1/1").stat().st_mode & 0o777 == 0o600

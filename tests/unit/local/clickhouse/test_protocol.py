"""What a request says, and the bytes of an answer, without a server."""

from __future__ import annotations

import base64
import gzip
import itertools
import zlib

import lz4.frame
import pytest
import zstandard

from bilten_orchestration.local.clickhouse import protocol
from bilten_orchestration.local.clickhouse.engine import EngineError, Totals, identifier, quoted


def parse(query: str, get: bool = False, **headers: str) -> protocol.Call:
    return protocol.parse_call(
        query.encode(), {name.replace("_", "-"): value for name, value in headers.items()}, get=get
    )


def test_parameters_settings_and_reserved_names_are_told_apart() -> None:
    call = parse(
        "query=SELECT%201&database=d&query_id=q&session_id=s&session_timeout=5&session_check=1&default_format=CSV"
        "&param_a=1&param_b=%C3%A9&max_threads=2&wait_end_of_query=1&quota_key=k&close_session=1&stacktrace=1&compress=1&decompress=1"
    )
    assert (call.query, call.database, call.query_id, call.session_id) == ("SELECT 1", "d", "q", "s")
    assert (call.session_timeout, call.session_check, call.default_format, call.wait_end) == (
        5,
        True,
        "CSV",
        True,
    )
    assert call.parameters == {"a": "1", "b": "é"}
    assert call.settings == {"max_threads": "2"}
    assert (call.quota_key, call.close_session, call.stacktrace) == ("k", True, True)
    assert (call.compress, call.decompress) == (True, True)


def test_one_compression_of_an_answer_is_enough_and_a_form_comes_as_it_is() -> None:
    assert parse("", accept_encoding="gzip").accept_encoding == "gzip"
    assert parse("enable_http_compression=0", accept_encoding="gzip").accept_encoding == ""
    assert parse("compress=1&enable_http_compression=1", accept_encoding="gzip").accept_encoding == ""
    assert not parse("decompress=1", content_type="multipart/form-data; boundary=x").decompress


def test_get_and_readonly_mean_reading_only() -> None:
    assert parse("", get=True).read_only
    assert parse("readonly=2").read_only
    assert not parse("readonly=0").read_only
    assert parse("readonly=1").settings == {}


def test_a_query_id_is_made_when_none_is_given() -> None:
    assert parse("").query_id != parse("").query_id


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("user=u&password=p", {}, ("u", "p")),
        ("", {"x-clickhouse-user": "u", "x-clickhouse-key": "p"}, ("u", "p")),
        ("", {"authorization": "Basic " + base64.b64encode(b"u:p:q").decode()}, ("u", "p:q")),
        ("", {}, ("default", "")),
    ],
)
def test_credentials(query: str, headers: dict[str, str], expected: tuple[str, str]) -> None:
    call = protocol.parse_call(query.encode(), headers, get=False)
    assert (call.user, call.password) == expected
    assert "p" not in repr(call).split("password")[-1][:1]


def test_two_ways_of_authentication_are_refused() -> None:
    with pytest.raises(EngineError) as raised:
        protocol.parse_call(b"user=u", {"x-clickhouse-user": "u"}, get=False)
    assert raised.value.code == protocol.AUTHENTICATION_FAILED


def test_passwords_do_not_show_in_repr() -> None:
    assert "hidden-secret" not in repr(parse("user=u&password=hidden-secret"))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (62, 400),
        (60, 404),
        (516, 403),
        (194, 401),
        (497, 403),
        (202, 500),
        (373, 500),
        (48, 501),
        (159, 408),
        (209, 503),
        (511, 404),
        (512, 403),
        (15, 400),
        (164, 500),
        (374, 500),
        (1002, 500),
    ],
)
def test_status_of_codes(code: int, status: int) -> None:
    assert protocol.status_of(code) == status


def test_exception_block_is_the_servers() -> None:
    block = protocol.exception_block(EngineError(395, "Code: 395. DB::Exception: no"), "abcdefghijklmnop")
    message = b"Code: 395. DB::Exception: no\n"
    assert block == (
        b"\r\n__exception__\r\nabcdefghijklmnop\r\n"
        + message
        + b"%d abcdefghijklmnop\r\n__exception__\r\n" % len(message)
    )


def test_engine_errors_are_read() -> None:
    error = EngineError.of(RuntimeError("Streaming failed: Code: 27. DB::Exception: Cannot parse"))
    assert (error.code, error.message) == (27, "Code: 27. DB::Exception: Cannot parse")
    assert EngineError.of(RuntimeError("something else")).code == 1002


@pytest.mark.parametrize("accepted", ["zstd", "lz4", "gzip", "deflate"])
def test_compressors_invert(accepted: str) -> None:
    data = [b"a" * 100_000, b"b" * 3, b"c" * 500]
    chosen = protocol.response_compressor(f"br, {accepted};q=0.5")
    assert chosen is not None
    name, compressor = chosen
    assert name == accepted
    packed = b"".join(compressor.compress(part) for part in data) + compressor.flush()
    decompressor = protocol.request_decompressor(accepted)
    assert decompressor is not None
    cuts = [packed[n : n + 100] for n in range(0, len(packed), 100)]
    assert b"".join(itertools.chain.from_iterable(map(decompressor.decompress, cuts))) == b"".join(data)
    decompressor.finish()


PACK = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("encoding", PACK)
def test_a_body_of_several_frames_is_whole_wherever_it_is_cut(encoding: str, size: int) -> None:
    parts = [b"first" * 50, b"second", b"third" * 9]
    packed = b"".join(PACK[encoding](part) for part in parts)
    decompressor = protocol.request_decompressor(encoding)
    assert decompressor is not None
    cuts = [packed[n : n + size] for n in range(0, len(packed), size)]
    assert b"".join(itertools.chain.from_iterable(map(decompressor.decompress, cuts))) == b"".join(parts)
    decompressor.finish()


@pytest.mark.parametrize("encoding", PACK)
def test_a_body_that_breaks_off_is_an_error(encoding: str) -> None:
    decompressor = protocol.request_decompressor(encoding)
    assert decompressor is not None
    list(decompressor.decompress(PACK[encoding](b"first") + PACK[encoding](b"second" * 50)[:-3]))
    with pytest.raises(EngineError, match="ends in the middle"):
        decompressor.finish()


@pytest.mark.parametrize("encoding", PACK)
def test_a_small_body_that_stands_for_a_large_one_comes_in_pieces(encoding: str) -> None:
    """256 MiB of zeros are 8 KiB of zstd."""
    size = 256 << 20
    packed = PACK[encoding](bytes(size))
    decompressor = protocol.request_decompressor(encoding)
    assert decompressor is not None
    pieces = [len(piece) for piece in decompressor.decompress(packed)]
    assert sum(pieces) == size
    assert max(pieces) <= 40 << 20
    decompressor.finish()


def test_quoting() -> None:
    assert quoted("a'b\\c") == "'a\\'b\\\\c'"
    assert identifier("a`b") == "`a\\`b`"


def test_summary_has_strings_as_a_servers() -> None:
    assert Totals(read_rows=3).summary()["read_rows"] == "3"

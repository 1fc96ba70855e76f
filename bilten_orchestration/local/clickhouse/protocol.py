"""ClickHouse's HTTP protocol: parameters, headers, compression, status codes, exceptions.

Source of the rules: the manual's HTTP interface page and the server's own exception-to-status table.
"""

import base64
import binascii
import json
import secrets
import string
import uuid
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import parse_qsl

import lz4.frame
import zstandard
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from bilten_orchestration.local.clickhouse import native
from bilten_orchestration.local.clickhouse.engine import EngineError, Totals

SYNTAX_ERROR = 62
UNKNOWN_EXCEPTION = 1002
BAD_ARGUMENTS = 36
UNKNOWN_FORMAT = 73
NOT_IMPLEMENTED = 48
UNKNOWN_COMPRESSION = 89
CANNOT_READ_ALL_DATA = native.CANNOT_READ_ALL_DATA
ACCESS_DENIED = 497
READONLY = 164
TOO_MANY_SIMULTANEOUS_QUERIES = 202
QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING = 216
INVALID_SESSION_TIMEOUT = 374
INTO_OUTFILE_NOT_ALLOWED = 358
SESSION_NOT_FOUND = 372
SESSION_IS_LOCKED = 373
REQUIRED_PASSWORD = 194
AUTHENTICATION_FAILED = 516
QUERY_IS_TOO_LARGE = 229
UNKNOWN_ROLE = 511
UNKNOWN_QUERY_PARAMETER = 456

# The server's own table, src/Server/HTTP/exceptionCodeToHTTPStatus.cpp; what is not listed is 500.
_BAD_REQUEST = (
    6, 8, 15, 25, 26, 27, BAD_ARGUMENTS, 37, 38, 41, 44, 53, SYNTAX_ERROR, 72, 117, 123, 167, 168, 223, 321,
    376, 427, 441, 675, 676,
)  # fmt: skip
_NOT_FOUND = (46, 47, 50, 56, 60, 63, UNKNOWN_FORMAT, 78, 81, 115, 152, 336, UNKNOWN_ROLE)
_STATUS = {
    REQUIRED_PASSWORD: 401,
    **dict.fromkeys((192, 193, AUTHENTICATION_FAILED, 512, ACCESS_DENIED), 403),
    **dict.fromkeys(_BAD_REQUEST, 400),
    **dict.fromkeys(_NOT_FOUND, 404),
    159: 408,
    381: 411,
    QUERY_IS_TOO_LARGE: 413,
    779: 415,
    NOT_IMPLEMENTED: 501,
    **dict.fromkeys((76, 209, 439), 503),
}

#: URL parameters that are not settings.
# http_max_field_value_size of a server
_FIELD_BYTES = 128 << 10
_SLICE_BYTES = 1 << 10
_PIECE_BYTES = 1 << 18

_RESERVED = {
    "query", "user", "password", "database", "default_format", "query_id", "session_id", "session_timeout",
    "session_check", "quota_key", "compress", "decompress", "wait_end_of_query", "buffer_size", "stacktrace",
    "role", "client_protocol_version", "close_session", "http_wait_end_of_query",
}  # fmt: skip

_CONTENT_TYPES = {
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "csvwithnamesandtypes": "text/csv; charset=UTF-8; header=present",
    "arrow": "application/vnd.apache.arrow.file",
    "arrowstream": "application/vnd.apache.arrow.stream",
    "parquet": "application/octet-stream",
    "native": "application/octet-stream",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "jsoncompacteachrow": "application/x-ndjson; charset=UTF-8",
    "xml": "application/xml; charset=UTF-8",
    "html": "text/html; charset=UTF-8",
}


def status_of(code: int) -> int:
    return _STATUS.get(code, 500)


def content_type(output_format: str) -> str:
    name = output_format.lower()
    if name in _CONTENT_TYPES:
        return _CONTENT_TYPES[name]
    if name.startswith("rowbinary"):
        return "application/octet-stream"
    if name.startswith("json"):
        return "application/json; charset=UTF-8"
    if name.startswith(("tabseparated", "tsv")):
        return "text/tab-separated-values; charset=UTF-8"
    return "text/plain; charset=UTF-8"


def _flag(values: Mapping[str, str], name: str, default: bool = False) -> bool:
    value = values.get(name)
    return default if value is None else value.lower() in ("1", "true")


@dataclass(frozen=True)
class Call:
    """One request, taken apart. Settings are what the client set, parameters what its statement names."""

    query: str
    user: str
    password: str = field(repr=False)
    database: str
    default_format: str
    query_id: str
    session_id: str
    session_timeout: int | None
    session_check: bool
    close_session: bool
    settings: dict[str, str]
    read_only: bool
    quota_key: str
    stacktrace: bool
    parameters: dict[str, str]
    wait_end: bool
    buffer_bytes: int
    accept_encoding: str
    content_encoding: str
    compress: bool
    decompress: bool
    progress_headers: bool


def credentials(values: Mapping[str, str], headers: Mapping[str, str]) -> tuple[str, str]:
    """User and password from X-ClickHouse headers, Basic, or the URL; a mixture is refused."""
    authorization = headers.get("authorization", "")
    in_headers = "x-clickhouse-user" in headers or "x-clickhouse-key" in headers
    in_url = "user" in values or "password" in values
    in_basic = authorization.lower().startswith("basic ")
    if sum((in_headers, in_url, in_basic)) > 1:
        raise EngineError(
            AUTHENTICATION_FAILED,
            "Invalid authentication: use one of X-ClickHouse-User headers, Authorization header,"
            " URL parameters."
            " (AUTHENTICATION_FAILED)",
        )
    if in_headers:
        return headers.get("x-clickhouse-user", "default"), headers.get("x-clickhouse-key", "")
    if in_basic:
        try:
            user, _, password = base64.b64decode(authorization[6:], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise EngineError(
                AUTHENTICATION_FAILED, "Invalid authentication: not Basic base64. (AUTHENTICATION_FAILED)"
            ) from None
        return user, password
    return values.get("user", "default"), values.get("password", "")


def parse_call(query_string: bytes, headers: Mapping[str, str], *, get: bool) -> Call:
    """Take the URL and the headers apart; raises EngineError on values that cannot be used."""
    pairs = parse_qsl(
        query_string.decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="surrogateescape"
    )
    values = dict(pairs)
    user, password = credentials(values, headers)
    timeout = values.get("session_timeout")
    if timeout is not None and not timeout.isdecimal():
        raise EngineError(
            INVALID_SESSION_TIMEOUT, f"Invalid session timeout: '{timeout}' (INVALID_SESSION_TIMEOUT)"
        )
    if values.get("role"):
        raise EngineError(
            UNKNOWN_ROLE,
            f"There is no role {values['role']!r}: this endpoint has users, and no roles to choose from"
            " (UNKNOWN_ROLE)",
        )
    settings = {
        name: value
        for name, value in pairs
        if name not in _RESERVED and not name.startswith("param_") and name
    }
    # As the server: a GET must not change anything. Kept as a rule of the endpoint and not as a setting,
    # for a session could never leave readonly again.
    read_only = settings.pop("readonly", "0") not in ("0", "false") or get
    buffer = values.get("buffer_size", "")
    compress = _flag(values, "compress")
    return Call(
        query="".join(value for name, value in pairs if name == "query"),
        user=user,
        password=password,
        database=values.get("database") or headers.get("x-clickhouse-database", ""),
        default_format=values.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated",
        query_id=values.get("query_id") or headers.get("x-clickhouse-query-id") or str(uuid.uuid4()),
        session_id=values.get("session_id", ""),
        session_timeout=int(timeout) if timeout is not None else None,
        session_check=_flag(values, "session_check"),
        close_session=_flag(values, "close_session"),
        settings=settings,
        read_only=read_only,
        quota_key=values.get("quota_key") or headers.get("x-clickhouse-quota", ""),
        stacktrace=_flag(values, "stacktrace"),
        parameters={name.removeprefix("param_"): value for name, value in pairs if name.startswith("param_")},
        wait_end=_flag(values, "wait_end_of_query") or _flag(values, "http_wait_end_of_query"),
        buffer_bytes=max(int(buffer) if buffer.isdecimal() else 0, 1 << 20),
        # One compression is enough: Accept-Encoding is a permission, compress=1 is not.
        accept_encoding=headers.get("accept-encoding", "")
        if _flag(values, "enable_http_compression", True) and not compress
        else "",
        content_encoding=headers.get("content-encoding", "").lower(),
        compress=compress,
        # A server reads a form as it comes, whatever the URL says.
        decompress=_flag(values, "decompress") and not is_form(headers),
        progress_headers=_flag(values, "send_progress_in_http_headers"),
    )


def check_supported(call: Call, headers: Mapping[str, str]) -> None:
    """Refuse by name what a server can and this endpoint cannot, and values that would break a header."""
    if call.quota_key:
        raise EngineError(
            NOT_IMPLEMENTED,
            "quota_key is not supported by this endpoint: it has no quotas; leave it out (NOT_IMPLEMENTED)",
        )
    if call.stacktrace:
        raise EngineError(
            NOT_IMPLEMENTED,
            "stacktrace=1 is not supported by this endpoint, whose engine tells messages only; leave it out"
            " (NOT_IMPLEMENTED)",
        )
    if not call.default_format.isidentifier():
        raise EngineError(UNKNOWN_FORMAT, f"Unknown format {call.default_format!r} (UNKNOWN_FORMAT)")
    if not call.query_id.isprintable():
        raise EngineError(BAD_ARGUMENTS, f"Invalid query id {call.query_id!r} (BAD_ARGUMENTS)")


def is_form(headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").lower().startswith("multipart/form-data")


async def with_form(call: Call, headers: Headers, chunks: AsyncGenerator[bytes, None]) -> Call:
    """The call with what a form in the body adds: clickhouse-connect sends long parameters that way.

    A field is bounded as on a server (http_max_field_value_size). External tables, which are the parts
    with a file name, are refused.
    """
    try:
        form = await MultiPartParser(headers, chunks, max_files=0, max_part_size=_FIELD_BYTES).parse()
    except MultiPartException as error:
        if "files" in error.message:
            raise EngineError(
                NOT_IMPLEMENTED,
                "External tables (parts of a form with a file name) are not supported by this endpoint;"
                " insert into a temporary table of a session (session_id=...) and read that"
                " (NOT_IMPLEMENTED)",
            ) from None
        raise EngineError(
            BAD_ARGUMENTS,
            f"The form in the body cannot be used: {error.message} A field holds up to {_FIELD_BYTES} bytes."
            " (BAD_ARGUMENTS)",
        ) from None
    fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    return replace(
        call,
        query=call.query + "".join(value for name, value in fields if name == "query"),
        parameters=call.parameters
        | {name.removeprefix("param_"): value for name, value in fields if name.startswith("param_")},
        settings=call.settings
        | {
            name: value
            for name, value in fields
            if name not in _RESERVED and not name.startswith("param_") and name != "readonly"
        },
    )


class Compressor(Protocol):
    def compress(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...


class _Lz4:
    """lz4.frame's compressor with zlib's shape."""

    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor(auto_flush=True)
        self._begun = False

    def compress(self, data: bytes) -> bytes:
        head = b"" if self._begun else bytes(self._frame.begin())
        self._begun = True
        return head + bytes(self._frame.compress(data))

    def flush(self) -> bytes:
        head = b"" if self._begun else bytes(self._frame.begin())
        return head + bytes(self._frame.flush())


def response_compressor(accept_encoding: str) -> tuple[str, Compressor] | None:
    """The server's order of preference among what the client accepts (no brotli here)."""
    accepted = {part.split(";")[0].strip().lower() for part in accept_encoding.split(",")}
    if "zstd" in accepted:
        return "zstd", zstandard.ZstdCompressor(level=1).compressobj()
    if "lz4" in accepted:
        return "lz4", _Lz4()
    if "gzip" in accepted:
        return "gzip", zlib.compressobj(3, wbits=31)
    if "deflate" in accepted:
        return "deflate", zlib.compressobj(3)
    return None


class Member(Protocol):
    """What the codecs of zlib, lz4 and zstandard have in common: a decoder of one gzip member or frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes) -> bytes: ...


class Decoder(Protocol):
    """`decompress` gives what can be decoded so far; `finish` raises EngineError when the body broke off.

    `held_bytes` wait for the rest of their frame, which is then decoded at once.
    """

    @property
    def held_bytes(self) -> int: ...
    def decompress(self, data: bytes) -> Iterator[bytes]: ...
    def finish(self) -> None: ...


class Decompressor:
    """A body of one or more members: clickhouse-connect makes a frame of each block of an insert.

    It comes piece by piece: 4 bytes of zstd may stand for 128 KiB, so a slice of _SLICE_BYTES for 32 MiB.
    """

    held_bytes = 0

    def __init__(self, member: Callable[[], Member]) -> None:
        self._new = member
        self._member: Member | None = None

    def decompress(self, data: bytes) -> Iterator[bytes]:
        held = bytearray()
        for start in range(0, len(data), _SLICE_BYTES):
            part = data[start : start + _SLICE_BYTES]
            while part:
                if self._member is None:
                    self._member = self._new()
                held += self._member.decompress(part)
                if len(held) >= _PIECE_BYTES:
                    yield bytes(held)
                    held.clear()
                if not self._member.eof:
                    break
                part = self._member.unused_data or b""
                self._member = None
        if held:
            yield bytes(held)

    def finish(self) -> None:
        if self._member is not None:
            raise EngineError(
                CANNOT_READ_ALL_DATA,
                "Cannot read all data: the compressed request body ends in the middle (CANNOT_READ_ALL_DATA)",
            )


class Nested:
    """What is in frames (`decompress=1`) inside of what Content-Encoding names."""

    def __init__(self, outer: Decoder, inner: Decoder) -> None:
        self._outer, self._inner = outer, inner

    @property
    def held_bytes(self) -> int:
        return self._inner.held_bytes

    def decompress(self, data: bytes) -> Iterator[bytes]:
        for piece in self._outer.decompress(data):
            yield from self._inner.decompress(piece)

    def finish(self) -> None:
        self._outer.finish()
        self._inner.finish()


def request_decoder(encoding: str, *, framed: bool) -> Decoder | None:
    """For a body with Content-Encoding, and in frames with decompress=1; None for bytes as they are.

    Raises EngineError for an encoding that is unknown here.
    """
    outer = request_decompressor(encoding)
    if not framed:
        return outer
    return native.Decompressor() if outer is None else Nested(outer, native.Decompressor())


def request_decompressor(encoding: str) -> Decompressor | None:
    """For a body with Content-Encoding; None for identity, EngineError for what is unknown here."""
    match encoding:
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return Decompressor(lambda: zlib.decompressobj(wbits=31))
        case "deflate":
            return Decompressor(zlib.decompressobj)
        case "lz4":
            return Decompressor(lz4.frame.LZ4FrameDecompressor)
        case "zstd":
            return Decompressor(lambda: zstandard.ZstdDecompressor().decompressobj())
        case _:
            raise EngineError(
                UNKNOWN_COMPRESSION,
                f"Unknown compression method: {encoding}; this endpoint takes gzip, deflate, lz4 and zstd."
                " (UNKNOWN_COMPRESSION_METHOD)",
            )


def exception_tag() -> str:
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(16))


def exception_text(error: EngineError) -> str:
    text = (
        error.message
        if error.message.startswith("Code:")
        else f"Code: {error.code}. DB::Exception: {error.message}"
    )
    return text + "\n"


def exception_block(error: EngineError, tag: str) -> bytes:
    """What follows the rows when a query fails in mid stream (ClickHouse 25.11 and later)."""
    text = exception_text(error).encode()
    return b"\r\n__exception__\r\n%s\r\n%s%d %s\r\n__exception__\r\n" % (
        tag.encode(),
        text,
        len(text),
        tag.encode(),
    )


def summary_header(totals: Totals) -> bytes:
    return json.dumps(totals.summary(), separators=(",", ":")).encode()

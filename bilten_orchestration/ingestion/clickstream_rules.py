"""What a click may hold: the rules, one value at a time.

Everything here is a pure function of one value. `clickstream_columns` applies them to whole columns
(once per distinct value) and decides which rows go in; nothing here knows of tables or stores.

Two kinds of rules. A value that we set ourselves (ids, types, our own page address) and that is
wrong makes the row malformed: `None` is returned. A value that a stranger's browser sends (referrer,
user agent, campaign parameters) is cleaned, and the row goes in.

No e-mail address survives in any text: every piece of text that holds an at-sign, plain, full-width,
as an HTML entity or percent-encoded any number of times, is replaced. That is wider than the grammar
of addresses (RFC 5322) on purpose: a lost "@handle" costs nothing, a stored address does.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from uuid import UUID

EVENT_TYPES: Final = ("page_view", "checkout_started", "search", "share", "click")
PROPERTIES: Final = (
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "device",
    "country",
    "ticket_type_id",
    "quantity",
)
UTM: Final = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")

FUTURE: Final = timedelta(minutes=5)  # clocks of browsers run ahead by so much
LATE: Final = timedelta(hours=72)  # offline devices deliver this late; days are rebuilt for them
HISTORY: Final = timedelta(days=3653)  # ten years, for loads of the past

PROPERTY_CHARACTERS: Final = 128
USER_AGENT_CHARACTERS: Final = 512
PATH_CHARACTERS: Final = 1024
READ_CHARACTERS: Final = 4096  # of a text, before any rule looks at it
REDACTED: Final = "redacted"

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9 _.:/-]{0,79}$"
UUID_PATTERN: Final = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4_PATTERN: Final = rf"^{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}$"

_AT = re.compile(
    r"@|\uFF20|\uFE6B|%(?:25)*40|%(?:25)*EF%(?:25)*BC%(?:25)*A0|%(?:25)*EF%(?:25)*B9%(?:25)*AB"
    r"|&#0*64;?|&#x0*40;?|&commat;?",
    re.IGNORECASE,
)
_PIECES = re.compile(r"([\s/?&=#:,;<>()\"|]+)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]+")
_URL = re.compile(r"(https?)://([^/?#\\\s]+)(/[^?#]*|)(?:\?([^#]*))?(?:#|$)", re.IGNORECASE)
_HOST = re.compile(r"(?:[\w.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_CACHED = 1 << 16


def screen(text: str) -> str:
    """The text without anything that could be an e-mail address, and without control characters."""
    text = _UNPRINTABLE.sub(" ", text[:READ_CHARACTERS])
    if not _AT.search(text):
        return text
    return "".join(REDACTED if "@" in piece else piece for piece in _PIECES.split(_AT.sub("@", text)))


@lru_cache(_CACHED)
def user_agent(text: str) -> str:
    """Browsers and bots as they name themselves; bots like to leave an address of their makers."""
    return screen(text)[:USER_AGENT_CHARACTERS]


@lru_cache(_CACHED)
def property_value(text: str) -> str:
    """One value of `properties`; empty means: leave it out."""
    return screen(text).strip()[:PROPERTY_CHARACTERS]


@lru_cache(_CACHED)
def page_url(text: str) -> str | None:
    """Scheme, host, path, and of the query only utm parameters. None: not a web address."""
    if not text:
        return ""
    parts = _web_address(text)
    if parts is None:
        return None
    address, query = parts
    kept = []
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key in UTM and value:
            kept.append(f"{key}={screen(value)[:PROPERTY_CHARACTERS]}")
    return f"{address}?{'&'.join(kept)}" if kept else address


@lru_cache(_CACHED)
def referrer(text: str) -> str:
    """Scheme, host and path of the page before; empty for anything that is not a web address."""
    parts = _web_address(text)
    return parts[0] if parts else ""


def _web_address(text: str) -> tuple[str, str] | None:
    # at-signs first: "&#64;" would end the path at its "#" and leave half an address behind
    found = _URL.match(_AT.sub("@", _UNPRINTABLE.sub(" ", text[:READ_CHARACTERS]).strip()))
    if found is None:
        return None
    scheme, authority, path, query = found.groups()
    host = authority.rpartition("@")[2].lower()  # user and password of an address are dropped
    if not _HOST.fullmatch(host):
        return None
    return f"{scheme.lower()}://{host}{screen(path)[:PATH_CHARACTERS]}", query or ""


@lru_cache(_CACHED)
def ip_address(text: str) -> str | None:
    """IPv4 to its /24, IPv6 to its /48 (an IPv4 address inside IPv6 counts as IPv4). None: no address."""
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Address(int(address) >> 80 << 80))
        address = address.ipv4_mapped
    return str(ipaddress.IPv4Address(int(address) >> 8 << 8))


def row_hash(row: object) -> int:
    """64 bits that recognise a refused row when it comes again, however it was delivered.

    Of field names and values in a fixed order and form, so that the same row has the same hash as a
    mapping and as a row of a table.
    """
    fields = row if isinstance(row, Mapping) else {"": row}
    digest = blake2b(digest_size=8)
    for name in sorted(fields, key=str):
        if (value := _canonical(fields[name])) is not None:
            digest.update(f"{name}\x1f{value}\x1e".encode(errors="surrogatepass"))
    return int.from_bytes(digest.digest(), "big")


def _canonical(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds") if value.tzinfo else value.isoformat()
    if isinstance(value, bytes):
        return str(UUID(bytes=value)) if len(value) == 16 else value.hex()
    if isinstance(value, Mapping):
        value = value.items()
    elif isinstance(value, str) or not isinstance(value, Iterable):
        return str(value)
    return "\x1d".join(sorted(_pair(item) for item in value))


def _pair(item: object) -> str:
    if isinstance(item, tuple) and len(item) == 2:
        return f"{item[0]}={_canonical(item[1])}"
    return str(_canonical(item))

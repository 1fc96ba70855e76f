"""The hash of a document's content as OpenSearch returns it, equal to that of documents.hashes.

PostgreSQL sends the text of a jsonb value, and OpenSearch keeps it. Parsed and written again by Python it is
the same text: objects keep their order, strings are escaped alike, and numbers are either whole or have at
most three digits after the point (prices; coordinates are text).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from bilten_orchestration.search.definition import OUTSIDE_HASH


def content_hash(source: Mapping[str, Any]) -> int:
    """60 bits of the content, whatever is outside of it."""
    content = {name: value for name, value in source.items() if name not in OUTSIDE_HASH}
    text = json.dumps(content, ensure_ascii=False)
    return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:15], 16)

"""Documents and the index definition agree; bodies of bulk requests come out of COPY as they went in."""

from __future__ import annotations

import json

from bilten_orchestration.search import definition, documents
from bilten_orchestration.search.hashes import content_hash


def test_a_document_has_the_fields_that_the_index_knows() -> None:
    assert definition.FIELDS.keys() == documents.FIELDS


def test_a_chunk_of_copy_becomes_lines() -> None:
    source = json.dumps({"title": 'a "b" \\ \n\t\x01'})
    row = f'{{"index":{{"_id":"1"}}}}\x01{source}'.replace("\\", "\\\\")
    body = documents.lines(f'{row}\n{{"delete":{{"_id":"2"}}}}\n'.encode())
    assert list(documents.operations(body)) == [
        (b'{"index":{"_id":"1"}}', source.encode()),
        (b'{"delete":{"_id":"2"}}',),
    ]


def test_the_hash_is_of_the_content_alone() -> None:
    content = {"id": "1", "price_range": [{"max": 12.5, "min": 3, "currency": "EUR"}]}
    outside = {
        "popularity": 7,
        "availability": "few",
        "content_hash": "x",
        "indexed_at": "2026-01-01T00:00:00Z",
    }
    assert content_hash(content | outside) == content_hash(content)
    assert content_hash(content | {"id": "2"}) != content_hash(content)
    assert 0 <= content_hash(content) < 1 << 60

"""The events index of OpenSearch: what it is, how it is filled, proven, swapped, followed and queried.

definition.py   settings and fields of the index, and how a live one differs
query.py        the search that the application uses
golden.py       the gate that asks the same questions of a new index and of PostgreSQL
"""

"""The events index of OpenSearch: what it is, how it is filled, proven, swapped, followed and queried.

definition.py   settings and fields of the index, and how a live one differs
query.py        the search that the application uses
golden.py       the gate that asks the same questions of a new index and of PostgreSQL
documents.py    what PostgreSQL says a document is, as bulk requests; hashes.py, the same of what comes back
bulk.py         sending them, in whatever parts the server takes (pace.py), with versions; dead_letters.py
batch.py        what changed since an index was last brought up (marks.py), into it; catch_up.py, until near
rebuild.py      a new index beside the one that serves: loading.py, gates.py, swap.py, under lease.py
delta.py        the batch of every five minutes; drift.py, what slipped past it; rollback.py, the index before
room.py         whether OpenSearch has disk for one more index
state.py        which index serves, which are kept; status.py tells it, prune.py removes
comparison.py   OpenSearch against PostgreSQL in one snapshot
"""

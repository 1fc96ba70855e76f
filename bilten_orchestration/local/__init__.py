"""The embedded stack: what `bilten up` starts on a bare machine.

Nothing outside this package knows whether a store is embedded. Each launcher module
(`postgres`, `redis`, `object_store`, `clickhouse_endpoint`, `dagster_services`) prepares a data
directory and says, as a `Program`, how its server is run; `supervision` runs programs under
supervisord, and the tests run the same programs as plain children.
"""

"""The embedded OpenSearch: one node, from jars of Maven Central on a Java runtime of PyPI.

    jars.lock    which jars, where each lies in the installation, and its SHA-256
    locking.py   makes jars.lock anew (`make lock`)
    jars.py      fetches what the lock says, once per checkout
    server.py    its configuration, and how it is run

There is no password: the security plugin is not part of it. It listens on the loopback alone and holds what
the public may read; it can be built anew from PostgreSQL at any time. See docs/adr/0023.
"""

"""Monthly partitions of PostgreSQL tables."""

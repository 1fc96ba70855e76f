"""What an analyst may read, as plain lists: access.py judges statements by them, the engine's role repeats them."""

READABLE_DATABASES = frozenset({"staging", "marts", "analytics"})

#: Metadata a BI tool asks for; none of them shows a secret, another user's statement or a path.
READABLE_SYSTEM_TABLES = frozenset(
    {
        "one",
        "numbers",
        "tables",
        "columns",
        "databases",
        "functions",
        "data_type_families",
        "settings",
        "time_zones",
        "formats",
        "table_engines",
        "build_options",
        "contributors",
    }
)

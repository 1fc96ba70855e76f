"""Where the watchdog looks. Each source reads one thing in one way, with its own time limit, and imports its
client when it first reads."""

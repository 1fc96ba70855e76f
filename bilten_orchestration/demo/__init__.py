"""Demo data that looks like the trade, and living traffic on top of it."""

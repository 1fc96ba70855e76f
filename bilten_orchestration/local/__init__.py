"""The embedded stack: processes, ports, secrets, first-run set-up."""

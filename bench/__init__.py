"""Speeds that the platform promises, against what one would do without it: `python -m bench --help`."""

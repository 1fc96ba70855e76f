"""`python -m bilten_orchestration.local.clickhouse --config FILE.json`: run one endpoint until SIGTERM."""

import argparse
import faulthandler
import os
import sys
from pathlib import Path

from bilten_orchestration.errors import BiltenError
from bilten_orchestration.local.clickhouse.config import load_config

_LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}


def main() -> int:
    """Exit code 0 after a clean end, 1 when it could not run, 2 for a wrong call or configuration."""
    parser = argparse.ArgumentParser(
        prog="bilten-clickhouse", description="ClickHouse's HTTP protocol over chdb"
    )
    parser.add_argument("--config", type=Path, required=True, help="JSON file, mode 0600 (see config.py)")
    arguments = parser.parse_args()
    faulthandler.enable()
    # Whatever this process or its engine creates holds data: nobody else reads it.
    os.umask(0o077)
    try:
        config = load_config(arguments.config)
        from bilten_orchestration.local.clickhouse.server import serve

        return serve(config, _LOGGING)
    except BiltenError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

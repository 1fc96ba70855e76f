"""Memory of a sync does not grow with the data, in the first load nor after."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

from bilten_orchestration.settings import Settings
from tests.integration.ingestion.shop import Shop

CHILD = """
import json
from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.settings.loading import load_settings
report = sync(load_settings())
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([report.bytes, peak << 10]))
"""


def test_of_a_quarter_of_a_gigabyte(
    settings: Settings, shop: Shop, environment: Callable[[Settings], dict[str, str]]
) -> None:
    def run() -> tuple[int, int]:
        child = subprocess.run(
            [sys.executable, "-c", CHILD],
            env=environment(settings),
            capture_output=True,
            text=True,
            check=True,
        )
        sent, peak = json.loads(child.stdout)
        return sent, peak

    _, alone = run()
    shop.connection.execute(
        "insert into events.venues (name, address, city, country) "
        "select 'Hall ' || n, repeat(md5(n::text), 800), 'Ghent', 'BE' from generate_series(1, 10000) n"
    )
    sent, peak = run()
    assert sent > 250_000_000
    # a chunk of 32 MiB, and copies of it on its way through the client
    assert peak - alone < 160 << 20, f"{(peak - alone) >> 20} MiB more than a sync of nothing"

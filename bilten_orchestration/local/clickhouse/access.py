"""What an analyst may do."""

from bilten_orchestration.local.clickhouse.engine import EngineError



def judge(engine, text, database, settings):
    raise EngineError(497, "not yet")

"""Plain clients of the stores, built from settings. No Dagster here but in resources.py.

Engines take the stores they work on as arguments, so that a drill can rebuild marts from a
restored pair: these factories are called at the edge (CLI, assets), never inside an engine.
"""

"""Opening a catalog, again and again."""

import gc

from k2.lake.catalog import open_named


def test_a_catalog_that_is_dropped_gives_its_connections_back_at_once(tmp_path):
    properties = {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": str(tmp_path)}
    # The first makes the catalog's tables, and leaves an error's traceback to the collector.
    open_named("k2", properties)
    catalog = open_named("k2", properties)
    engine = catalog.engine
    gc.disable()  # it must not need the collector: a sink freezes what it holds
    try:
        assert engine.pool.checkedin() == 1
        del catalog
        assert engine.pool.checkedin() == 0
    finally:
        gc.enable()

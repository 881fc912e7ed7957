"""A pool's tables in DuckDB: one module per table, each statement beside the function that runs it.

``pool_store`` opens a pool in a connection, ``pools`` one that is there already, ``opening`` a
database file; ``schema.sql`` has all tables, ``lineage`` what they say together about one image.
Functions take the open pool first.
"""

"""The kernels in other query engines: polars expressions and SQL functions of DuckDB."""

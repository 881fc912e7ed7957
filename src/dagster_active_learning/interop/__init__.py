"""The scores and candidates in other tools' words: polars expressions, SQL functions, frames."""

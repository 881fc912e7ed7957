"""The computation: predictions of a batch in, scores out. It knows neither DuckDB nor Dagster."""

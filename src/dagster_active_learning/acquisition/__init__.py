"""What is computed: arrays of one batch in, scores out. Knows neither DuckDB nor Dagster."""

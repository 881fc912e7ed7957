"""A pool in Dagster: the only folder that imports dagster."""

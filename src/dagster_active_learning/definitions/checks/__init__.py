"""The checks of a pool: one module per asset, each check with its sentence and evaluation.

The checks of a table's assets are one step, which only reads. They have no partitions of their own:
in Dagster 1.13 those of a check are a preview, where a run of several partitions never records a
result and a check cannot be run without its asset. A check looks at the prediction sets of its run;
run without partitions, at all sets of the pool.
"""

"""The digits to label next, for a person to read: ``python -m labeling.next_images``."""

import polars as pl

from dagster_active_learning import load_batch
from labeling.paths import DATABASE

COLUMNS = ("rank", "image_id", "chosen_by", "queue_rank", "predicted_class", "score")


def main() -> None:
    """Print the images to label next."""
    batch = load_batch(DATABASE, pool="digits").select(*COLUMNS)
    with pl.Config(
        tbl_rows=20,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        tbl_width_chars=100,
        tbl_cols=-1,
    ):
        print(f"Label these next:\n{batch}")  # noqa: T201 - what it is for
    print(f"All batches are in the table digits.labeling_batches of {DATABASE}")  # noqa: T201


if __name__ == "__main__":
    main()

"""What files are there, whether they are still being written, and what they hold."""


def is_address(path: str) -> bool:
    """Whether a path is an address such as ``"s3://bucket/may.parquet"``, for fsspec."""
    return "://" in path

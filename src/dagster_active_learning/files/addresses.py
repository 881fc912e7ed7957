"""Addresses of files on filesystems that fsspec knows."""

from __future__ import annotations


def is_address(path: str) -> bool:
    """True for a path that is an address such as ``"s3://bucket/may.parquet"``, for fsspec."""
    return "://" in path

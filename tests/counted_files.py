"""Files at addresses that count what is read of them."""

from collections import Counter
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem


class CountedFiles(LocalFileSystem):
    """Local files at ``counted:///…``, and the bytes that were read of each."""

    protocol = "counted"
    cachable = False
    read: ClassVar[Counter[str]] = Counter()

    def __init__(self, **options):
        super().__init__(auto_mkdir=True, **options)

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(str(path).removeprefix("counted://"))

    def unstrip_protocol(self, name):
        return f"counted://{self._strip_protocol(name)}"

    def info(self, path, **options):
        return super().info(self._strip_protocol(path), **options)

    def open(self, path, mode="rb", **options) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        opened = super().open(self._strip_protocol(path), mode, **options)
        return opened if "w" in mode else _CountedFile(opened, self._strip_protocol(path))


class _CountedFile:
    def __init__(self, opened, path):
        self._opened = opened
        self._path = path

    def __getattr__(self, name):
        return getattr(self._opened, name)

    def read(self, size=-1):
        content = self._opened.read(size)
        CountedFiles.read[self._path] += len(content)
        return content

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._opened.close()


fsspec.register_implementation("counted", CountedFiles, clobber=True)

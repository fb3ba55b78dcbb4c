"""What the operating system says about the data directory, in the words of our errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inspector.errors import DataDirReadOnlyError, DiskFullError, StoreError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@contextmanager
def named_os_errors(where: Path) -> Iterator[None]:
    """Turn `OSError` into `DiskFullError`, `DataDirReadOnlyError` or `StoreError` about `where`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(f"{where}: no space left; free some, nothing accepted is lost") from error
        if error.errno in _READ_ONLY:
            raise DataDirReadOnlyError(
                f"{where} cannot be written ({error.strerror}); check its owner and mount"
            ) from error
        raise StoreError(f"{where}: {error.strerror or error}") from error

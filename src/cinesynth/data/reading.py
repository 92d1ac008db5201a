"""Files of a source, opened without trust: a pipe would never end, and a text of gigabytes is none."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cinesynth.errors import DataError
from cinesynth.files import open_regular

MAX_TEXT_BYTES = 64 << 20
"""No table, contour or description is larger."""


@contextmanager
def reading() -> Iterator[None]:
    """Turn an ``OSError`` in the body, or the function so decorated, into a `DataError` that names the file."""
    try:
        yield
    except OSError as error:
        place = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file of the source"
        raise DataError(
            f"{place} cannot be read: {error.strerror or error}",
            hint="check that it is there, that you may read it, and that the disk is well",
        ) from error


def is_named(path: Path) -> bool:
    """Whether a folder lists ``path``, be it a link to nowhere: that is a file not fetched, not one never meant."""
    return os.path.lexists(path)


def read_small(path: Path) -> bytes:
    """All of a text file; ``OSError`` unless it is a regular file of at most `MAX_TEXT_BYTES`."""
    with open_regular(path) as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content

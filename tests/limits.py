"""A disk that is full, for as long as a block runs (pytest's own output must not run into it)."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def files_below(size_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond ``size_bytes``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

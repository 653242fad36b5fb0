"""Silence for the libraries underneath, which write of damaged files to standard error by themselves.

MetaIO, GDCM and libtiff know no other way to say something, and whoever calls them says it again in one
sentence. Nothing that Python has keeps them from it, so the descriptor leads nowhere while a thread is there.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STANDARD_ERROR = 2


class _Entrants:
    """Who is in silence: the first one brings it, and the last one ends it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.kept: int | None = None

    def enter(self) -> None:
        with self.lock:
            with suppress(OSError):  # a process may have no standard error
                if self.count == 0:
                    self.kept = os.dup(_STANDARD_ERROR)
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, _STANDARD_ERROR)
                    os.close(nowhere)
            self.count += 1

    def leave(self) -> None:
        with self.lock:
            self.count -= 1
            if self.count == 0 and self.kept is not None:
                os.dup2(self.kept, _STANDARD_ERROR)
                os.close(self.kept)
                self.kept = None


_ENTRANTS = _Entrants()


@contextmanager
def silence() -> Iterator[None]:
    """Sends what is written to standard error nowhere; also a decorator.

    Example:
        >>> with silence():
        ...     os.write(2, b"MetaImage: Read: Cannot parse file")
        34
    """
    _ENTRANTS.enter()
    try:
        yield
    finally:
        _ENTRANTS.leave()

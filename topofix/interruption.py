"""Ctrl-C and its kin: once to stop when the cases in hand are done, twice to stop at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether somebody wants a run to stop.

    Attributes:
        requested: Somebody does.
    """

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def watched(self, on_first: Callable[[], None]) -> Iterator[None]:
        """Takes the first signal for a request, and the second for an order: a KeyboardInterrupt.

        Args:
            on_first: Called when the request comes.
        """

        def receive(number: int, frame: FrameType | None) -> None:
            if self.requested:
                raise KeyboardInterrupt
            self.requested = True
            on_first()

        before = {number: signal.signal(number, receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

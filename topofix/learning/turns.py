"""Who speaks first of the processes that train together: on bad input all of them find the same fault.

One sentence is enough, and it must not get lost; so the others wait before they raise theirs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import sleep

from topofix.errors import TopofixError

TURN = 10.0
"""Seconds that the others leave the first process to say what is wrong."""


@contextmanager
def in_turn() -> Iterator[None]:
    """Holds an error back in every process but the first, for faults that all of them find.

    The first one says it and ends, upon which torchrun ends the others. Where it does not, because it is
    slower or because its disk has what another's lacks, the wait is over sometime and the error is raised
    after all: somebody must say why the training stops.

    Raises:
        TopofixError, OSError: What is raised within, at once or after its turn.
    """
    try:
        yield
    except (TopofixError, OSError):
        if os.environ.get("RANK", "0") != "0":
            sleep(TURN)
        raise

"""What the garbage collector is told of imports."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

THRESHOLD = 100_000  # new objects between two collections of the youngest


@contextlib.contextmanager
def made_to_stay() -> Iterator[None]:
    """Nearly all that is made within, by an import, is there to stay.  To look at it again and
    again is a tenth of the time that the import takes, so collections are rare (what the import
    sets itself holds).

    In the end it is frozen: never looked at by the collector again, so that the pages stay shared
    with processes that are forked.  No collection before: what it frees are holes in those pages,
    and whoever fills them has a page of his own.
    """
    before = gc.get_threshold()
    rare = (THRESHOLD, *before[1:])
    gc.set_threshold(*rare)
    try:
        yield
        gc.freeze()
    finally:
        if gc.get_threshold() == rare:
            gc.set_threshold(*before)

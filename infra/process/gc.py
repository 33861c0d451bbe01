"""The garbage collector of long-running processes that make many short-lived objects."""

import asyncio
import gc
import time
from collections.abc import Callable

COLLECT_SECONDS = 1.0
IDLE_COLLECT_SECONDS = 10.0


def relax_garbage_collector() -> None:
    """Keep start-up objects out of every collection, and collect young ones less often.

    A chunk makes tens of thousands of short-lived records. Stock collections walk them many
    times, which took half of the throughput.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)


def renew_frozen() -> None:
    """Free what is not used any more of the objects that were excluded; take later ones in.

    It walks all objects, which takes some tenths of a second.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


async def collect_regularly(
    progress: Callable[[], int], idle_seconds: float = IDLE_COLLECT_SECONDS
) -> None:
    """Collect all garbage once a second while `progress()` changes, until cancelled.

    Collections of young objects are so rare that a full one never starts by itself, and every
    fetch response in a cycle would stay: 155 bytes a task in measurements. Start-up objects are
    frozen, so a collection takes milliseconds. Of an idle process they would be a quarter
    of the CPU time, so without progress there is one in `idle_seconds`.
    """
    known, at = progress(), time.monotonic()
    while True:
        await asyncio.sleep(COLLECT_SECONDS)
        if progress() != known or time.monotonic() - at > idle_seconds:
            known, at = progress(), time.monotonic()
            gc.collect()

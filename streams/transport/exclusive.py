"""Only one consumer of a group may store what it reads: of two databases, each would get a part.

The group gives each partition to one member. So a partition that is not assigned here belongs to
another member, which stores it elsewhere: a second sink of the same database would stand by. A
member that was killed may keep its partitions until its session ends.
"""

import asyncio
import logging
import time

from streams.transport.consumer import Consumer

CHECK_SECONDS = 1.0

logger = logging.getLogger("petalstream")


async def wait_until_refused(consumer: Consumer, topic: str, session_seconds: float) -> list[int]:
    """The partitions of another member, once that has lasted for longer than a dead one's session.

    A consumer that has had all partitions before, or that leads its group, does not return: the
    other one ends, and leaves it the rest.
    """
    since: float | None = None
    had_all = warned = False
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        foreign = consumer.foreign_partitions(topic)
        if foreign is None:
            continue
        now = time.monotonic()
        since = (since or now) if foreign else None
        had_all = had_all or not foreign
        if since is None or now - since < 2 * session_seconds:
            continue
        if not (had_all or consumer.leads()):
            return foreign
        if not warned:
            logger.error("another consumer of the group reads %s %s; stop it", topic, foreign)
            warned = True

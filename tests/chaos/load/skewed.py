"""The client c5 in a process of its own, whose clock is off: asks the tasks of standard input.

It prints a JSON array for each task: its id, the id in the response and y; or its id alone if the
outcome is unknown.
"""

import asyncio
import sys

import msgspec

from infra import config
from streams.client import Client
from streams.errors import ClientError
from tests.chaos.model import rows_for

SECONDS = 20.0


async def ask(ids: list[str]) -> None:
    client = Client(config.load())
    await client.start()
    try:
        for task_id in ids:
            line: list[object] = [task_id]
            try:
                result = await client.ask(rows_for(task_id), SECONDS, task_id)
                line += [result.id, result.y]
            except ClientError as e:
                print(repr(e), file=sys.stderr)
            print(msgspec.json.encode(line).decode(), flush=True)
    finally:
        await client.stop()


if __name__ == "__main__":
    asyncio.run(ask(sys.stdin.read().split()))

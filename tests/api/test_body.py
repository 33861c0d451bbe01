"""The body of a request, in one part or several, limited in bytes and in time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from api.body import MAX_BODY, receive_all
from api.errors import BadRequest, TooMuch, TooSlow

GONE = {"type": "http.disconnect"}


def part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def receiver(messages: Sequence[Message], pause: float | None) -> Callable[[], Awaitable[Message]]:
    """Gives the messages, each after a pause; without one it never waits."""
    left = list(messages)

    async def receive() -> Message:
        if pause is not None:
            await asyncio.sleep(pause)
        return left.pop(0)

    return receive


@pytest.mark.parametrize("pause", [None, 0, 0.01])
@pytest.mark.parametrize(
    ("messages", "body"),
    [
        ([part(b"{}", False)], b"{}"),
        ([part(b"{"), part(b""), part(b"}", False)], b"{}"),
        ([part(b"{}"), {"type": "http.request"}], b"{}"),
    ],
)
def test_a_body_is_read_whole(messages: list[Message], body: bytes, pause: float | None) -> None:
    assert asyncio.run(receive_all(receiver(messages, pause), 5)) == body


@pytest.mark.parametrize("pause", [None, 0])
@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([GONE], ClientDisconnect),
        ([part(b"{"), GONE], ClientDisconnect),
        ([part(b"", False)], BadRequest),
        ([part(b"x" * (MAX_BODY + 1), False)], TooMuch),
        ([part(b"x" * MAX_BODY), part(b"x", False)], TooMuch),
    ],
)
def test_a_missing_or_large_body_is_refused(
    messages: list[Message], error: type[Exception], pause: float | None
) -> None:
    with pytest.raises(error):
        asyncio.run(receive_all(receiver(messages, pause), 5))


@pytest.mark.parametrize("parts", [1, 5])
def test_the_deadline_is_one_for_all_parts(parts: int) -> None:
    slow = receiver([part(b" ") for _ in range(parts)], 0.2 if parts > 1 else 5)
    with pytest.raises(TooSlow, match=r"the body did not come within 0\.5 s"):
        asyncio.run(receive_all(slow, 0.5))


def test_a_deadline_ends_the_waiting_in_order() -> None:
    ended: list[str] = []

    async def receive() -> Message:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        raise AssertionError

    with pytest.raises(TooSlow):
        asyncio.run(receive_all(receive, 0.01))
    assert ended == ["cancelled"]


def test_a_cancelled_read_ends() -> None:
    async def main() -> None:
        task = asyncio.create_task(receive_all(receiver([GONE], 5), 5))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())

"""The queue before a model: batches, neighbours, limits and deadlines."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import DeadlineExceeded, Overloaded
from api.serving.batcher import Batcher, Limits, timed
from model.artifact import Loaded
from model.errors import PredictError
from model.predict import Prediction, predict

BAD = 13.0
PLENTY = Limits(batch_rows=1000, queue_rows=1000, seconds=20)


class Model:
    """Answers a row's first feature; fails for a call with a row that begins with 13.

    While `gate` is shut its calls do not return. `calls` holds the rows of each.
    """

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()

    def __call__(self, X: Any) -> Prediction:
        self.calls.append(len(X))
        self.started.set()
        assert self.gate.wait(20)
        if (X[:, 0] == BAD).any():
            raise PredictError("unlucky")
        return Prediction(X[:, 0].tolist(), X.tolist())


def rows(*firsts: float) -> Any:
    return np.array([[first, first + 1] for first in firsts])


def answer(*firsts: float) -> Prediction:
    return Prediction(list(firsts), rows(*firsts).tolist())


class Threaded(Batcher):
    """Makes each call in a thread, as if it were a long one."""

    def _is_quick(self, rows: int) -> bool:
        return False


def observe(requests: int, rows: int, waited: float, seconds: float) -> None:
    assert 0 <= requests <= rows
    assert rows > 0
    assert min(waited, seconds) >= 0


def run(
    model: Callable[[Any], Prediction],
    test: Callable[[Batcher], Awaitable[None]],
    limits: Limits = PLENTY,
    inline: bool = False,
) -> None:
    """`test` with a queue before `model`; not inline: its calls are made in a thread."""
    with ThreadPoolExecutor(1) as executor:

        async def main() -> None:
            await test((Batcher if inline else Threaded)(model, executor, limits, observe))

        asyncio.run(main())


async def busy(batcher: Batcher, model: Model) -> asyncio.Future[Prediction]:
    """A request that the model has begun and does not answer before its gate is opened."""
    model.gate.clear()
    first = batcher.submit(rows(0))
    assert await asyncio.to_thread(model.started.wait, 10)
    return first


PARTS = st.lists(st.lists(st.sampled_from([1.0, 2.0, 5.5, BAD]), min_size=1, max_size=4))


@given(PARTS)
def test_a_batch_answers_each_as_if_it_were_alone(parts: list[list[float]]) -> None:
    def alone(part: list[float]) -> str:
        return "unlucky" if BAD in part else repr(answer(*part))

    together, _ = timed(Model(), [rows(*part) for part in parts]) if parts else ([], 0)
    texts = [str(a) if isinstance(a, PredictError) else repr(a) for a in together]
    assert texts == [alone(part) for part in parts]


@given(st.lists(st.lists(st.floats(0.1, 8), min_size=4, max_size=4), min_size=1, max_size=30))
def test_the_model_answers_a_row_among_others_as_alone(
    loaded: Loaded, X: list[list[float]]
) -> None:
    parts = [np.array([row]) for row in X]
    together, _ = timed(lambda rows: predict(loaded.model, rows), parts)
    for part, got in zip(parts, together, strict=True):
        alone = predict(loaded.model, part)
        assert isinstance(got, Prediction)
        assert got.y == alone.y
        assert got.proba is not None
        assert alone.proba is not None
        # A matrix product may round otherwise than one of a single row does.
        assert got.proba[0] == pytest.approx(alone.proba[0], rel=1e-12, abs=1e-300)


def test_the_requests_of_one_turn_of_the_loop_are_one_call() -> None:
    model = Model()

    async def test(batcher: Batcher) -> None:
        # The first call shows that the model is fast.
        await asyncio.gather(batcher.submit(rows(1)), batcher.submit(rows(1)))
        futures = [batcher.submit(rows(n, n)) for n in range(10)]
        assert [await f for f in futures] == [answer(n, n) for n in range(10)]

    run(model, test, inline=True)
    assert model.calls == [2, 20]


def test_a_single_request_is_answered_at_once_and_those_of_the_same_turn_together() -> None:
    model = Model()

    async def test(batcher: Batcher) -> None:
        await batcher.submit(rows(1))
        for _ in range(2):
            assert batcher.submit(rows(2)).done()
            await asyncio.sleep(0)
        futures = [batcher.submit(rows(n)) for n in range(10)]
        assert [f.done() for f in futures] == [True] + [False] * 9
        assert [await f for f in futures] == [answer(n) for n in range(10)]
        last = batcher.submit(rows(3))
        assert not last.done()
        await last

    run(model, test, inline=True)
    assert model.calls == [1, 1, 1, 1, 9, 1]


def test_requests_that_wait_while_the_model_works_are_the_next_call_up_to_the_limit() -> None:
    model = Model()

    async def test(batcher: Batcher) -> None:
        first = await busy(batcher, model)
        waiting = [batcher.submit(rows(n)) for n in range(7)]
        large = batcher.submit(rows(*range(9)))
        await asyncio.sleep(0)
        model.gate.set()
        assert await first == answer(0)
        assert [await w for w in waiting] == [answer(n) for n in range(7)]
        assert await large == answer(*range(9))

    run(model, test, PLENTY._replace(batch_rows=5))
    assert model.calls == [1, 5, 2, 9]


def test_a_request_that_the_model_fails_for_does_not_fail_its_neighbours() -> None:
    model = Model()

    async def test(batcher: Batcher) -> None:
        first = await busy(batcher, model)
        futures = [batcher.submit(rows(n)) for n in (1, BAD, 3, 4)]
        model.gate.set()
        await first
        ended = await asyncio.gather(*futures, return_exceptions=True)
        assert [str(e) if isinstance(e, PredictError) else e for e in ended] == [
            answer(1), "unlucky", answer(3), answer(4)
        ]  # fmt: skip

    run(model, test)


@pytest.mark.parametrize("inline", [True, False])
def test_a_bug_in_the_model_reaches_its_callers_and_the_queue_goes_on(inline: bool) -> None:
    broken = [True]

    def model(X: Any) -> Prediction:
        if broken.pop() if broken else False:
            raise ZeroDivisionError
        return Prediction(X[:, 0].tolist(), None)

    async def test(batcher: Batcher) -> None:
        await batcher.submit(rows(1))
        broken.append(True)
        with pytest.raises(ZeroDivisionError):
            await batcher.submit(rows(2))
        assert (await batcher.submit(rows(3))).y == [3.0]

    broken.clear()
    run(model, test, inline=inline)


def test_a_full_queue_refuses_a_request_at_once_and_takes_it_later() -> None:
    model = Model()

    async def test(batcher: Batcher) -> None:
        first = await busy(batcher, model)
        waiting = [batcher.submit(rows(1, 1)) for _ in range(5)]
        start = time.perf_counter()
        with pytest.raises(Overloaded, match="10 rows wait for the model, the limit is 10; "):
            batcher.submit(rows(2))
        with pytest.raises(Overloaded):
            batcher.check_room()
        assert time.perf_counter() - start < 0.05
        model.gate.set()
        await asyncio.gather(first, *waiting)
        assert await batcher.submit(rows(2)) == answer(2)

    run(model, test, PLENTY._replace(queue_rows=10))


def test_a_request_larger_than_the_queue_is_taken_by_an_empty_one() -> None:
    async def test(batcher: Batcher) -> None:
        assert await batcher.submit(rows(*range(9))) == answer(*range(9))

    run(Model(), test, PLENTY._replace(queue_rows=2, batch_rows=2))


def test_past_its_deadline_a_request_is_refused_and_never_predicted() -> None:
    model = Model()

    async def test(batcher: Batcher) -> None:
        first = await busy(batcher, model)
        waiting = [batcher.submit(rows(n)) for n in range(3)]
        for late in (first, *waiting):
            with pytest.raises(DeadlineExceeded, match="the model did not answer within"):
                await late
        model.gate.set()
        assert await batcher.submit(rows(7)) == answer(7)

    run(model, test, PLENTY._replace(seconds=0.2))
    assert model.calls == [1, 1]


def test_a_slow_model_leaves_the_loop_to_others_and_a_fast_one_stays_in_it() -> None:
    threads: list[bool] = []
    pause = [0.0]

    def model(X: Any) -> Prediction:
        threads.append(threading.current_thread() is threading.main_thread())
        time.sleep(pause[0])
        return Prediction(X[:, 0].tolist(), None)

    async def test(batcher: Batcher) -> None:
        for pause[0] in (0.0, 0.0, 0.01, 0.01, 0.01, 0.01, 0.01):
            await batcher.submit(rows(1))

    run(model, test, inline=True)
    assert threads[:2] == [False, True]
    assert threads[-1] is False

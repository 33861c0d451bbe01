"""The load over HTTP: r1 waits for its answer in the request, r2 polls for it."""

import asyncio
import contextlib
from typing import Any, NamedTuple

import aiohttp
import msgspec

from infra.config import Settings
from tests.chaos.load.state import ANSWER_SECONDS, AT_ONCE, LoadState, batched
from tests.chaos.model import rows_for

RATE = 4.0  # requests a second of each client
WAIT = 10
REQUEST = aiohttp.ClientTimeout(total=WAIT + 5)
BAD, CONFLICT = 0.03, 0.06  # shares of the requests


class Response(NamedTuple):
    """A status and its body; status 0: the connection failed, so nothing was sent."""

    status: int
    body: dict[str, Any]


class LostResponse(Exception):
    """The request was sent, but no response arrived."""


class HttpLoad:
    """The clients r1 and r2; they run until `state.stop` is set."""

    def __init__(self, settings: Settings, state: LoadState) -> None:
        self._state = state
        self._record = state.record
        self._base = settings.api_url

    async def run(self) -> None:
        """Run both clients."""
        self._session = aiohttp.ClientSession(timeout=REQUEST)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask_steadily("r1", {"Prefer": f"wait={WAIT}"}))
            group.create_task(self._ask_steadily("r2", {}))

    async def close(self) -> None:
        await self._session.close()

    async def look_up(self) -> None:
        """Ask whether each task with an unknown outcome exists."""
        for some in batched(self._state.unknown, AT_ONCE):
            await asyncio.gather(*map(self._look_up, some))

    async def _look_up(self, task_id: str) -> None:
        try:
            status, body = await self._request("GET", f"/tasks/{task_id}")
        except LostResponse as e:
            status, body = 0, {"error": str(e)}
        type_ = {200: "ok", 404: "fail"}.get(status, "info")
        self._record("r1", "get", type_, task_id, detail=f"{status} {body.get('error', '')}")

    async def _ask_steadily(self, proc: str, headers: dict[str, str]) -> None:
        while not self._state.stop.is_set():
            self._state.spawn(self._ask(proc, headers, self._state.new_id()))
            await self._state.pause(1 / RATE)

    async def _ask(self, proc: str, headers: dict[str, str], task_id: str) -> None:
        bad = self._state.random.random() < BAD
        X = [[1.0]] if bad else rows_for(task_id)
        self._record(proc, "submit", "invoke", task_id)
        try:
            response = await self._post(X, task_id, headers)
        except LostResponse as e:
            self._state.record_unknown(proc, task_id, e)
            return
        if self._record_submit(proc, task_id, response) and await self._await_answer(
            proc, task_id, response
        ):
            await self._reuse_id(proc, task_id)

    async def _post(self, X: list[list[float]], task_id: str, headers: dict[str, str]) -> Response:
        body = msgspec.json.encode({"id": task_id, "X": X})
        headers = {"Content-Type": "application/json", **headers}
        return await self._request("POST", "/tasks", data=body, headers=headers)

    async def _request(self, method: str, path: str, **kwargs: Any) -> Response:
        try:
            async with self._session.request(method, self._base + path, **kwargs) as response:
                return Response(response.status, msgspec.json.decode(await response.read()))
        except aiohttp.ClientConnectorError as e:
            return Response(0, {"error": str(e)})
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as e:
            raise LostResponse(repr(e)) from e

    def _record_submit(self, proc: str, task_id: str, response: Response) -> bool:
        """Record the outcome of a POST; True if the task was accepted."""
        status, body = response
        detail = f"{status} {body.get('error', '')}"
        if status in (200, 202):
            place = (body["partition"], body["offset"]) if "offset" in body else None
            self._record(proc, "submit", "ok", task_id, place=place)
        elif status >= 500 and (status != 503 or "id" in body):  # unconfirmed
            self._state.record_unknown(proc, task_id, detail)
        else:
            self._record(proc, "submit", "fail", task_id, detail=detail)
        return status in (200, 202)

    async def _await_answer(self, proc: str, task_id: str, response: Response) -> bool:
        """Poll for the answer and record it; False if there is none in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                while not (response.status == 200 and "task" in response.body):
                    await asyncio.sleep(0.3)
                    if task_id in self._state.unstored:
                        raise TimeoutError
                    with contextlib.suppress(LostResponse):
                        response = await self._request("GET", f"/tasks/{task_id}")
                body = response.body
                self._record(proc, "await", "ok", task_id, got=body["id"], y=body.get("y"))
                return True
        self._record(proc, "await", "info", task_id, detail=f"none in {ANSWER_SECONDS:g} s")
        return False

    async def _reuse_id(self, proc: str, task_id: str) -> None:
        """Use the id for another task, once the database has the first answer."""
        if self._state.random.random() > CONFLICT:
            return
        with contextlib.suppress(LostResponse):
            if (await self._request("GET", f"/tasks/{task_id}")).status != 200:
                return
            self._record(proc, "conflict", "invoke", task_id)
            status, body = await self._post(rows_for(task_id, other=True), task_id, {})
            type_ = "ok" if status == 409 else "info" if status in (0, 503) else "fail"
            self._record(proc, "conflict", type_, task_id, detail=f"{status} {body}")

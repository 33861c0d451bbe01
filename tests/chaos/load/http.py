"""The load over HTTP: r1 waits for its answer in the request, r2 comes back for it."""

import asyncio
import contextlib
from typing import Any, NamedTuple

import aiohttp
import msgspec

from infra.config import Settings
from tests.chaos.load.pace import ANSWER_SECONDS, Pace
from tests.chaos.model import rows_for

RATE = 4.0  # requests a second of each client
WAIT = 10
REQUEST = aiohttp.ClientTimeout(total=WAIT + 5)
BAD, CONFLICT = 0.03, 0.06  # shares of the requests


class Response(NamedTuple):
    """A status and its body; status 0: there was no connection, so nothing was sent."""

    status: int
    body: dict[str, Any]


class LostResponse(Exception):
    """The request went out and no response came."""


class RestLoad:
    """Runs until the pace says stop."""

    def __init__(self, settings: Settings, pace: Pace) -> None:
        self._pace = pace
        self._record = pace.record
        self._base = settings.api_url

    async def run(self) -> None:
        """Both clients, until told to stop."""
        self._session = aiohttp.ClientSession(timeout=REQUEST)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask_steadily("r1", {"Prefer": f"wait={WAIT}"}))
            group.create_task(self._ask_steadily("r2", {}))

    async def close(self) -> None:
        """Disconnect."""
        await self._session.close()

    async def look_up(self) -> None:
        """Ask for each task that was left unknown whether it exists."""
        for task_id in self._pace.unknown:
            try:
                status, body = await self._request("GET", f"/tasks/{task_id}")
            except LostResponse as e:
                status, body = 0, {"error": str(e)}
            type_ = {200: "ok", 404: "fail"}.get(status, "info")
            self._record("r1", "get", type_, task_id, detail=f"{status} {body.get('error', '')}")

    async def _ask_steadily(self, proc: str, headers: dict[str, str]) -> None:
        while not self._pace.stop.is_set():
            self._pace.spawn(self._ask(proc, headers, self._pace.new_id()))
            await self._pace.pause(1 / RATE)

    async def _ask(self, proc: str, headers: dict[str, str], task_id: str) -> None:
        bad = self._pace.random.random() < BAD
        X = [[1.0]] if bad else rows_for(task_id)
        self._record(proc, "submit", "invoke", task_id)
        try:
            response = await self._post(X, task_id, headers)
        except LostResponse as e:
            self._pace.doubt(proc, task_id, e)
            return
        if self._note(proc, task_id, response) and await self._answer(proc, task_id, response):
            await self._contradict(proc, task_id)

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

    def _note(self, proc: str, task_id: str, response: Response) -> bool:
        """Record what a POST says of its task; whether it was accepted."""
        status, body = response
        detail = f"{status} {body.get('error', '')}"
        if status in (200, 202):
            place = (body["partition"], body["offset"]) if "offset" in body else None
            self._record(proc, "submit", "ok", task_id, place=place)
        elif status >= 500 and (status != 503 or "id" in body):  # unconfirmed
            self._pace.doubt(proc, task_id, detail)
        else:
            self._record(proc, "submit", "fail", task_id, detail=detail)
        return status in (200, 202)

    async def _answer(self, proc: str, task_id: str, response: Response) -> bool:
        """Record the answer, come back for it if need be; whether there is one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                while not (response.status == 200 and "task" in response.body):
                    await asyncio.sleep(0.3)
                    with contextlib.suppress(LostResponse):
                        response = await self._request("GET", f"/tasks/{task_id}")
                body = response.body
                self._record(proc, "await", "ok", task_id, got=body["id"], y=body.get("y"))
                return True
        self._record(proc, "await", "info", task_id, detail=f"none in {ANSWER_SECONDS:g} s")
        return False

    async def _contradict(self, proc: str, task_id: str) -> None:
        """Use the id for another task, once the database has the first one's answer."""
        if self._pace.random.random() > CONFLICT:
            return
        with contextlib.suppress(LostResponse):
            if (await self._request("GET", f"/tasks/{task_id}")).status != 200:
                return
            self._record(proc, "conflict", "invoke", task_id)
            status, body = await self._post(rows_for(task_id, other=True), task_id, {})
            type_ = "ok" if status == 409 else "info" if status in (0, 503) else "fail"
            self._record(proc, "conflict", type_, task_id, detail=f"{status} {body}")

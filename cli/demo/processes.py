"""The processes of the demo: the pipeline, which it starts and stops, and `petal`."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import aiohttp

from cli.demo.errors import ProcessFailed
from cli.pipeline.up import honcho
from infra import config
from infra.config import Settings
from infra.process.parent import end_with_parent
from infra.process.ports import free_port
from model.examples import Row
from streams.client import Client

WORKERS = 2
START_SECONDS, STOP_SECONDS = 120.0, 15.0  # a large model takes long to load
PETAL_SECONDS = 120.0


def environment(folder: Path, model: Path) -> dict[str, str]:
    """The environment of the processes: free ports, a new database, no other settings."""
    api = free_port()
    settings = {
        "PETAL_MODEL": str(model),
        "PETAL_EMBEDDED_PORT": str(free_port()),
        "PETAL_API_PORT": str(api),
        "PETAL_API_URL": f"http://127.0.0.1:{api}",
        "PETAL_DATABASE": str(folder / "petal.sqlite"),
        "PETAL_STATUS": str(folder / "status"),
    }
    return {**config.environment(settings), "OMP_NUM_THREADS": "1"}


def start_pipeline(env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start the Procfile with two workers, in a new process group."""
    with log.open("wb") as out:
        return subprocess.Popen(
            honcho(WORKERS), env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            start_new_session=True, preexec_fn=partial(end_with_parent, signal.SIGTERM),
        )  # fmt: skip


def stop_pipeline(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, which honcho passes on; then kill the rest of its process group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


async def until_ready(settings: Settings, pipeline: subprocess.Popen[bytes], row: Row) -> int:
    """Wait until the API is ready and every worker has sent a result; returns the tasks sent."""
    deadline = time.monotonic() + START_SECONDS
    workers: set[str] = set()
    asked = 0
    async with Client(settings) as client:
        while len(workers) < WORKERS or not await _api_is_ready(settings):
            if pipeline.poll() is not None:
                raise ProcessFailed(f"honcho ended with {pipeline.returncode}")
            if time.monotonic() > deadline:
                raise ProcessFailed(f"the pipeline took longer than {START_SECONDS:g} s to start")
            results = await asyncio.gather(*(client.ask([row], START_SECONDS) for _ in range(8)))
            workers |= {result.worker for result in results}
            asked += len(results)
            await asyncio.sleep(0.1)
    return asked


async def _api_is_ready(settings: Settings) -> bool:
    url = f"{settings.api_url}/v2/health/ready"
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def run_petal(
    env: Mapping[str, str], *args: str, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run `petal` as a user does, to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *args],
        env=dict(env), input=stdin, capture_output=True, text=True, timeout=PETAL_SECONDS,
        check=False,
    )  # fmt: skip


def petal(env: Mapping[str, str], *args: str, stdin: str = "") -> str:
    """The standard output of `petal`; raises ProcessFailed."""
    done = run_petal(env, *args, stdin=stdin)
    if done.returncode:
        raise ProcessFailed(f"petal {' '.join(args)} ended with {done.returncode}: {done.stderr}")
    return done.stdout.strip()

"""Puts load on a server with wrk, in one thread, and reads the figures that wrk reports."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[{body}]==]
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format(
    '\\n{{"requests": %d, "us": %d, "failed": %d, "late": %d, "p50_us": %d, "p99_us": %d}}',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status, e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


LATE_SECONDS = 2


class LoadFailed(RuntimeError):
    """A server did not answer, or answered with errors; `str()` gives the reason."""


class LoadResult(NamedTuple):
    """Requests per second, latencies in milliseconds, and requests that took over LATE_SECONDS."""

    rate: float
    p50: float
    p99: float
    late: int = 0


def run(url: str, body: bytes, connections: int, seconds: int, folder: Path) -> LoadResult:
    """Repeat one request over `connections` connections; LoadFailed if one of them fails."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("wrk is not installed; run: apt-get install wrk")
    script = folder / "request.lua"
    script.write_text(SCRIPT.format(body=body.decode()))
    done = subprocess.run(
        [
            wrk, "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={LATE_SECONDS}s",
            "-s", str(script), url,
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise LoadFailed(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
    return parse(done.stdout)


def parse(output: str) -> LoadResult:
    """The figures in wrk's output; LoadFailed if a request failed, or none was answered."""
    found = json.loads(output.strip().splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise LoadFailed(f"{found['failed']} of {found['requests']} requests failed")
    rate = found["requests"] / found["us"] * 1e6
    return LoadResult(rate, found["p50_us"] / 1000, found["p99_us"] / 1000, found.get("late", 0))

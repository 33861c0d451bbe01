"""Load on a server with wrk, one thread; its figures as it counts them."""

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
    '\\n{{"requests": %d, "us": %d, "failed": %d, "p50_us": %d, "p99_us": %d}}',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


class Load(NamedTuple):
    """Requests per second, and latencies in milliseconds."""

    rate: float
    p50: float
    p99: float


def run(url: str, body: bytes, connections: int, seconds: int, folder: Path) -> Load:
    """Ask the same question over so many connections; RuntimeError if any request fails."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("wrk is not here; install it: apt-get install wrk")
    script = folder / "ask.lua"
    script.write_text(SCRIPT.format(body=body.decode()))
    done = subprocess.run(
        [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return parse(done.stdout)


def parse(output: str) -> Load:
    """The figures in wrk's output; RuntimeError if requests failed."""
    found = json.loads(output.strip().splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise RuntimeError(f"{found['failed']} requests failed of {found['requests']}")
    rate = found["requests"] / found["us"] * 1e6
    return Load(rate, found["p50_us"] / 1000, found["p99_us"] / 1000)

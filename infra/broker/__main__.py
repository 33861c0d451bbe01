"""`python -m infra.broker`: start the embedded broker, or wait for the configured one.

In both cases it creates the topics. It is the first line of the Procfile.
"""

import argparse
import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

from infra import config
from infra.broker import embedded
from infra.broker.admin import prepare
from infra.config import Settings
from infra.errors import AccessRefused, BrokerUnavailable, TopicMismatch
from infra.log import report, use_json
from infra.process import ports


async def _serve(settings: Settings, advertised: str | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    if not settings.broker and ports.is_taken(settings.embedded_port):
        report(embedded.taken(settings.embedded_port))
        return os.EX_UNAVAILABLE
    process = None if settings.broker else embedded.start(settings.embedded_port, advertised)
    try:
        cluster = await prepare(settings)
        report(f"broker ready at {settings.bootstrap} ({cluster})", logging.INFO, sys.stdout)
        if process is not None:
            threading.Thread(target=_watch, args=(process, loop, stop), daemon=True).start()
        await stop.wait()
        if process is not None and process.poll() is not None:
            report(f"the broker ended ({process.returncode})")
            return os.EX_UNAVAILABLE
        return 0
    finally:
        if process is not None:
            embedded.stop(process)


def _watch(
    process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, ended: asyncio.Event
) -> None:
    process.wait()
    with suppress(RuntimeError):  # the loop was closed meanwhile
        loop.call_soon_threadsafe(ended.set)


def main() -> int:
    """Run until SIGINT or SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m infra.broker", description=__doc__)
    parser.add_argument("--advertised", help="host:port for clients (default: the listener's)")
    args = parser.parse_args()
    if config.logs_json():
        use_json("broker")
    settings = config.load_or_exit()
    try:
        return asyncio.run(_serve(settings, args.advertised))
    except (BrokerUnavailable, TopicMismatch, AccessRefused) as e:
        report(str(e))
        return os.EX_UNAVAILABLE if isinstance(e, BrokerUnavailable) else os.EX_CONFIG


if __name__ == "__main__":
    raise SystemExit(main())

"""The peers' settings, read from the environment.

It imports nothing of the project, because some peers run in environments without it.
"""

import os
import socket

TASKS, RESULTS = "tasks", "results"

BOOTSTRAP = os.environ.get("PETAL_BROKER") or (
    f"127.0.0.1:{os.environ.get('PETAL_EMBEDDED_PORT', '9092')}"
)
EMBEDDED = not os.environ.get("PETAL_BROKER")  # it refuses idempotent producers
FETCH_WAIT_MS = int(os.environ.get("PETAL_FETCH_WAIT_MS") or 20)
WORKER = f"{socket.gethostname()}-{os.getpid()}"

"""A Quix Streams application: a dataframe from `tasks` over `apply` to `results`.

A dataframe processes one message after the other, so each task is predicted alone. Windows could
collect several tasks, but they are per key, and every task has its own key. JSON is decoded and
encoded by orjson, which Quix itself uses. Offsets are committed after a flush, at least every
5 s. This is the default; according to the documentation shorter intervals cost more.
"""

import time
from typing import Any

from quixstreams import Application, message_context

from tests.benchmarks.peers.model import Model, digest, queue_ms
from tests.benchmarks.peers.settings import BOOTSTRAP, EMBEDDED, RESULTS, TASKS, WORKER


def now_ms(*_: Any) -> int:
    """Milliseconds since the epoch."""
    return int(time.time() * 1000)


def main() -> None:
    """Run until killed."""
    model = Model()

    def infer(task: dict[str, Any]) -> dict[str, Any]:
        y, proba, ms = model.predict(task["X"])
        context = message_context()
        return {
            "v": 1,
            "id": task["id"],
            "y": y,
            "proba": proba,
            "input": digest(task["X"]),
            "model": model.id,
            "worker": WORKER,
            "task": {"partition": context.partition, "offset": context.offset},
            "ms": {"queue": queue_ms(task["at"]), "infer": ms},
        }

    app = Application(
        broker_address=BOOTSTRAP,
        consumer_group="quix",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        producer_extra_config={"enable.idempotence": False} if EMBEDDED else None,
    )
    tasks = app.topic(TASKS, value_deserializer="json")
    results = app.topic(RESULTS, value_serializer="json")
    # By default a result gets the timestamp of its task; the benchmark needs its own.
    app.dataframe(tasks).apply(infer).set_timestamp(now_ms).to_topic(results)
    app.run()


if __name__ == "__main__":
    main()

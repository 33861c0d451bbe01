"""The lower bound of a round trip: a confluent-kafka worker without a model.

It answers each task at once, with a constant result that has the task's id. Its settings are
those that librdkafka's documentation advises for low latency: no linger, no delay of small
packets, a fetch that returns with the first record. The longest wait of a fetch is the worker's.
"""

from confluent_kafka import Consumer, Producer

from tests.benchmarks.peers.settings import BOOTSTRAP, FETCH_WAIT_MS, RESULTS, TASKS, WORKER

TEMPLATE = (
    '{"v":1,"id":"%s","y":["setosa"],"proba":[[1.0,0.0,0.0]],"input":"0000000000000000",'
    f'"model":"echo@000000000000","worker":"{WORKER}",'
    '"task":{"partition":%d,"offset":%d},"ms":{"queue":0.0,"infer":0.0}}'
)
POLL_SECONDS = 1.0


def main() -> None:
    """Run until killed; offsets are committed in the background, which is the default."""
    consumer = Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": "echo",
            "auto.offset.reset": "earliest",
            # The embedded broker forms a group only after half of the rebalance timeout, which is
            # the longest poll interval.
            "session.timeout.ms": 6000,
            "max.poll.interval.ms": 6000,
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "socket.nagle.disable": True,
        }
    )
    producer = Producer(
        {"bootstrap.servers": BOOTSTRAP, "linger.ms": 0, "socket.nagle.disable": True}
    )
    consumer.subscribe([TASKS])
    while True:
        message = consumer.poll(POLL_SECONDS)
        if message is None or message.error():
            continue
        key, partition = message.key(), message.partition()
        value = TEMPLATE % (key.decode(), partition, message.offset())
        producer.produce(RESULTS, value, key, partition)
        producer.poll(0)


if __name__ == "__main__":
    main()

"""Apache Kafka without Docker: one node in KRaft mode, on loopback, on the JVM.

The first `petal kafka` (or `make kafka`) downloads the jars that `pom.xml` pins from
Maven Central and formats `var/kafka/data`. Then the process becomes the broker. It needs `mvn` and
Java 17.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from infra.config import VAR
from infra.process.ports import free_port

POM = Path(__file__).with_name("pom.xml")
COMPOSE = Path(__file__).parents[1] / "compose.yaml"
FOLDER = VAR / "kafka"
CLUSTER_ID = "petalstream-kafka-0001"  # 22 characters, as Kafka's own ids have
JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-Djava.awt.headless=true")

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=BROKER://{advertised}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
# After a kill -9 the controller waits for the old broker's session.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


def fetch_jars(lib: Path) -> None:
    """Copy the broker's jars to `lib`, unless they are there; raises CalledProcessError.

    Of brokers that start at once, one downloads and the others wait. `lib` is always complete.
    """
    lib.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lib.with_suffix(".lock")):
        if any(lib.glob("kafka_2.13-*.jar")):
            return
        print(f"petalstream: downloading Apache Kafka's jars to {lib}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="lib-", dir=lib.parent) as part:
            subprocess.run(
                [  # noqa: S607 - whichever Maven is in the PATH
                    "mvn", "--quiet", "--batch-mode", "--file", str(POM),
                    "dependency:copy-dependencies", f"-DoutputDirectory={part}/lib",
                ],
                check=True,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            shutil.rmtree(lib, ignore_errors=True)
            Path(part, "lib").rename(lib)


def configure(folder: Path, port: int, advertised: str, more: Sequence[str] = ()) -> Path:
    """Write server.properties, with further lines; returns its path."""
    path = folder / "server.properties"
    path.write_text(
        PROPERTIES.format(
            port=port,
            controller=free_port(),  # only this broker uses it
            advertised=advertised,
            data=folder / "data",
        )
        + "".join(f"{line}\n" for line in more)
    )
    return path


def java(lib: Path, main: str, *args: str) -> list[str]:
    """The command that runs a class of the jars."""
    return ["java", *JVM, "-cp", f"{lib}/*", main, *args]


def main() -> None:
    """Prepare, then become the broker; exit code 78 if mvn or Java is missing."""
    parser = argparse.ArgumentParser(prog="python -m infra.kafka", description=__doc__)
    parser.add_argument("--port", type=int, default=9092, help="port to listen on (default: 9092)")
    parser.add_argument("--advertised", help="host:port for clients (default: the listener's)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="configuration and data")
    parser.add_argument(
        "--property", action="append", default=[], metavar="NAME=VALUE", help="a broker's setting"
    )
    args = parser.parse_args()
    if missing := [name for name in ("java", "mvn") if shutil.which(name) is None]:
        print(
            f"petalstream: {missing[0]} is not installed; Apache Kafka needs Java 17, and mvn "
            f"downloads its jars. With Docker: docker compose -f {COMPOSE} up",
            file=sys.stderr,
        )
        raise SystemExit(os.EX_CONFIG)
    lib = FOLDER.absolute() / "lib"  # Maven takes another one from the folder of `pom.xml`
    fetch_jars(lib)
    folder = args.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    properties = configure(
        folder, args.port, args.advertised or f"127.0.0.1:{args.port}", args.property
    )
    if not (folder / "data" / "meta.properties").exists():
        subprocess.run(
            java(lib, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)),
            check=True,
            stdout=subprocess.DEVNULL,
        )
    print(f"petalstream: Apache Kafka on 127.0.0.1:{args.port}", flush=True)
    command = java(lib, "kafka.Kafka", str(properties))
    os.execvp(command[0], command)  # noqa: S606 - this process becomes the broker


if __name__ == "__main__":
    main()

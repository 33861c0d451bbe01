"""Apache Kafka without Docker: nodes in KRaft mode, on loopback, on the JVM.

The first `petal kafka` (or `make kafka`) downloads the jars that `pom.xml` pins from
Maven Central and formats `var/kafka/data`. Then the process becomes the broker. It needs `mvn` and
Java 17.

With `--brokers 3` it runs three brokers until Ctrl-C, on `--port` and the ports after it, with
their data in `var/kafka/3-brokers/node-1` to `node-3`. A node that ends is reported, and the others
go on. `--node 2` becomes one of them, in another terminal: so a node is restarted alone. One whose
data was deleted copies it from the others.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.errors import ConfigError
from infra.kafka import supervisor
from infra.kafka.jars import FOLDER, LIB, fetch_jars, missing_tool
from infra.kafka.node import MAX_REPLICATION, Cluster, Options, single
from infra.kafka.supervisor import Node, Supervisor
from infra.process.ports import is_taken

MAX_BROKERS, MAX_PORT = 9, 65_535


def parser() -> argparse.ArgumentParser:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.kafka", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Example:  python -m infra.kafka --brokers 3",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=9092, help="port to listen on (default: 9092)")
    parser.add_argument(
        "--brokers", type=int, default=1, choices=range(1, MAX_BROKERS + 1), metavar="N",
        help="number of brokers (default: 1)",
    )  # fmt: skip
    parser.add_argument("--node", type=int, metavar="N", help="run this one of the brokers only")
    parser.add_argument("--advertised", help="host:port for clients (default: the listener's)")
    parser.add_argument("--folder", type=Path, help="configuration and data (default: var/kafka)")
    parser.add_argument(
        "--property", action="append", default=[], metavar="NAME=VALUE", help="a broker's setting"
    )
    return parser


def become(command: list[str]) -> None:
    """Replace this process."""
    sys.stdout.flush()
    os.execvp(command[0], command)  # noqa: S606 - this process becomes the broker


def refuse_taken(ports: Sequence[int]) -> None:
    """Raise ConfigError if another process listens on one of the ports."""
    if taken := [port for port in ports if is_taken(port)]:
        raise ConfigError(f"another process listens on 127.0.0.1:{taken[0]}; give another --port")


def run_single(args: argparse.Namespace, lib: Path) -> None:
    """Become the only broker."""
    refuse_taken([args.port])
    folder = (args.folder or FOLDER).absolute()
    command = single(lib, folder, args.port, Options(args.advertised, args.property))
    print(f"petalstream: Apache Kafka on 127.0.0.1:{args.port}", flush=True)
    become(command)


def run_node(args: argparse.Namespace, cluster: Cluster) -> None:
    """Become one broker of several."""
    refuse_taken([cluster.port_of(args.node)])
    cluster.prepare()
    command = cluster.command(args.node, Options(args.advertised, args.property))
    print(f"petalstream: Apache Kafka on 127.0.0.1:{cluster.port_of(args.node)}", flush=True)
    become(command)


def run_all(args: argparse.Namespace, cluster: Cluster) -> int:
    """Run all brokers until a signal; returns the exit code."""
    refuse_taken(cluster.ports)
    cluster.prepare()
    options = Options(properties=args.property)
    restart = f"petal kafka --brokers {args.brokers} --port {args.port} --node"
    folder = f" --folder {args.folder}" if args.folder else ""
    nodes = Supervisor(
        {
            n: Node(
                cluster.command(n, options), cluster.port_of(n), cluster.folder_of(n) / "kafka.log",
                f"{restart} {n}{folder}",
            )
            for n in cluster.nodes
        }
    )  # fmt: skip
    return supervisor.run(
        nodes,
        f"petalstream: Apache Kafka on {cluster.bootstrap}\n"
        f"petalstream: set PETAL_BROKER={cluster.bootstrap} PETAL_REPLICATION="
        f"{min(MAX_REPLICATION, args.brokers)}; stop: Ctrl-C",
    )


def check(args: argparse.Namespace) -> None:
    """Raise ConfigError for options that cannot be used together."""
    several = args.brokers > 1
    if args.node is not None and not several:
        raise ConfigError("--node is one of several brokers; give --brokers too")
    if args.node is not None and not 1 <= args.node <= args.brokers:
        raise ConfigError(f"--node {args.node} is not one of 1 to {args.brokers}")
    if args.advertised and several and args.node is None:
        raise ConfigError("--advertised is the address of one broker; give --node too")
    last = args.port + 3 * args.brokers - 1 if several else args.port
    if not 1 <= args.port <= last <= MAX_PORT:
        raise ConfigError(f"--port {args.port} cannot be used: the ports go to {MAX_PORT}")


def run(args: argparse.Namespace) -> int:
    """Prepare, then become the broker, or run several; raises ConfigError."""
    check(args)
    if missing := missing_tool():
        raise ConfigError(missing)
    lib = LIB.absolute()  # Maven takes another one from the folder of `pom.xml`
    fetch_jars(lib)
    if args.brokers == 1:
        run_single(args, lib)
    folder = (args.folder or FOLDER / f"{args.brokers}-brokers").absolute()
    cluster = Cluster(lib, folder, args.brokers, args.port)
    if args.node is None:
        return run_all(args, cluster)
    run_node(args, cluster)
    return 0


def main() -> int:
    """Returns the exit code: 78 if mvn or Java is missing, or the options cannot be used."""
    try:
        return run(parser().parse_args())
    except ConfigError as e:
        print(f"petalstream: {e}", file=sys.stderr)
        return os.EX_CONFIG
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())

"""Apache Kafka's jars, which Maven downloads once, and the JVM that runs them."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from infra.config import VAR

POM = Path(__file__).with_name("pom.xml")
COMPOSE = Path(__file__).parents[1] / "compose.yaml"
FOLDER = VAR / "kafka"
LIB = FOLDER / "lib"
JVM = ("-XX:+UseSerialGC", "-Djava.awt.headless=true")
LARGE = ("-Xmx512m",)
# Of each node of a cluster on one machine: it starts with half of the CPU time without the JVM's
# second compiler, and needs about 340 MB.
SMALL = ("-Xmx256m", "-XX:TieredStopAtLevel=1")


def missing_tool() -> str | None:
    """What is wrong if Java or Maven is not installed."""
    for name in ("java", "mvn"):
        if shutil.which(name) is None:
            return (
                f"{name} is not installed; Apache Kafka needs Java 17, and mvn downloads its "
                f"jars. With Docker: docker compose -f {COMPOSE} up"
            )
    return None


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


def java(lib: Path, main: str, *args: str, size: Sequence[str] = LARGE) -> list[str]:
    """The command that runs a class of the jars."""
    return ["java", *size, *JVM, "-cp", f"{lib}/*", main, *args]

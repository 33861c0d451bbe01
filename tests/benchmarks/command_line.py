"""The shared parts of the command lines: parser, choice of the broker, progress, model."""

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from model import artifact as artifacts
from model.train import train


def make_parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m name`, whose help shows the module's docstring as it is."""
    return argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_broker_options(parser: argparse.ArgumentParser) -> None:
    """Add `--kafka` and `--both`."""
    broker = parser.add_mutually_exclusive_group()
    broker.add_argument("--kafka", action="store_true", help="use Apache Kafka (needs Java, mvn)")
    broker.add_argument(
        "--both", action="store_true", help="use the embedded broker, then Apache Kafka"
    )


def measure_on_brokers(
    args: argparse.Namespace, measure: Callable[[bool], dict[str, Any]]
) -> dict[str, Any]:
    """The figures of `measure(kafka)` on the chosen broker.

    With `--both` the figures on Apache Kafka are under the key `kafka`, which is null where
    Kafka cannot run.
    """
    figures = measure(args.kafka)
    if args.both:
        missing = missing_for_kafka()
        if missing:
            print(f"Apache Kafka is left out: {' and '.join(missing)} not found", flush=True)
        figures["kafka"] = None if missing else measure(True)
    return figures


def missing_for_kafka() -> list[str]:
    """The programs that Apache Kafka needs and this machine lacks."""
    return [name for name in ("java", "mvn") if shutil.which(name) is None]


def broker_name(kafka: bool) -> str:
    """The broker's name in figures and progress."""
    return "kafka" if kafka else "embedded"


def print_progress(kafka: bool, step: str, figures: dict[str, Any]) -> None:
    """Print one line with the figures of a step."""
    values = "  ".join(f"{name} {value}" for name, value in figures.items())
    print(f"{broker_name(kafka)}  {step}  {values}", flush=True)


@contextlib.contextmanager
def trained_iris() -> Iterator[Path]:
    """Train the example's model into a temporary folder; yields the path of its artifact."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "iris.joblib"
        artifacts.save(*train(seed=0), path)
        yield path

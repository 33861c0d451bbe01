"""The line to paste at the end of each help: it is understood, and it runs."""

import asyncio
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import joblib
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner
from sklearn.linear_model import LinearRegression

from cli.__main__ import petal
from infra import config
from model import artifact as artifacts
from model.train import train
from streams.client import Client
from tests.cli.test_main import every_command
from tests.processes import Pipeline, clean_environ, wait_until

TASK = "0b5a2b9e-8f4f-4d3a-9b1e-6a4c0d6f2a11"
REBUILD = "petal rebuild"  # the last one, without the sink
ROW = [5.1, 3.5, 1.4, 0.2]
# They run until Ctrl-C, or for long, and have tests of their own.
LONG = {"api", "broker", "worker", "sink", "kafka", "up", "demo", "parity", "lab", "load"}


def examples() -> list[str]:
    """The line of each command and of each command below one, without repeats."""
    helps = (CliRunner().invoke(petal, [*words, "--help"]).stdout for words in every_command())
    lines = [text.splitlines()[-1].strip() for text in helps]
    assert {line.split("  ")[0] for line in lines} == {"Example:"}
    return list(dict.fromkeys(line.removeprefix("Example:  ") for line in lines))


@pytest.fixture
def folder(tmp_path: Path, artifact: Path) -> Path:
    """The files that the lines name, and the live model."""
    rows = [f"{n},{n % 9},{10 * (n % 9)}.5" for n in range(40)]
    (tmp_path / "houses.csv").write_text("\n".join(["id,size,price", *rows, ""]))
    (tmp_path / "sample.csv").write_text("size,rooms\n50,2\n80,3\n120,4\n")
    model = LinearRegression().fit([[50, 2], [80, 3], [120, 4]], [500, 800, 1200])
    joblib.dump(model, tmp_path / "rent.joblib")
    (tmp_path / "rows.csv").write_text("5.1,3.5,1.4,0.2\n")
    (tmp_path / "live").mkdir()
    for path in (artifact, artifact.with_suffix(".json")):
        shutil.copy(path, tmp_path / "live")
    artifacts.save(*train(seed=1), tmp_path / "new.joblib")
    return tmp_path


def test_each_line_to_paste_is_understood(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for line in examples():
        _, *words = shlex.split(line.partition(" >> ")[0])
        group: click.Command = petal
        context = click.Context(petal, info_name="petal")
        while isinstance(group, click.Group):
            name, found, words = group.resolve_command(context, words)
            assert name is not None
            assert found is not None
            group = found
            if not isinstance(group, click.Group):
                group.make_context(name, words, parent=context)  # raises UsageError


async def publish(settings: config.Settings) -> None:
    """The task that a line waits for, and a record that cannot be read."""
    async with Client(settings) as client:
        await client.submit([ROW], TASK)
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait("tasks", b"no task")
    finally:
        await producer.stop()


@pytest.mark.timeout(400)
def test_each_line_to_paste_runs_beside_a_pipeline(folder: Path, pipeline: Pipeline) -> None:
    pipeline.env["PETAL_MODEL"] = str(folder / "live" / "iris.joblib")
    pipeline.worker(ready=False)
    sink = pipeline.sink()
    asyncio.run(publish(config.load(pipeline.env)))
    wait_until(lambda: pipeline.run("dead-letters", "show", "0").returncode == 0, 60, "the letter")
    env = {**clean_environ(), **pipeline.env, "HOME": str(folder)}
    for line in sorted(examples(), key=lambda line: line == REBUILD):
        if line == REBUILD:
            sink.stop()
        if line.split()[1] not in LONG:
            done = subprocess.run(
                ["bash", "-c", line], cwd=folder, env=env, input=" ".join(map(str, ROW)),
                capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 0, (line, done.stderr)
    assert "_petal_completion" in (folder / ".bashrc").read_text()

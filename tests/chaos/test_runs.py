"""The chaos run itself: its proxy, a short run with faults, and the defects it must find."""

import asyncio
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from tests.chaos.__main__ import main
from tests.chaos.faults.proxy import Proxy
from tests.chaos.mutants import MUTANTS
from tests.processes import free_port

KAFKA = os.environ.get("TEST_BROKER") == "kafka"
SHORT = "kill-worker,pause-worker,lock-database,silence-broker,refuse-batch,"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


def test_the_proxy_passes_cuts_and_discards() -> None:
    async def send(port: int, text: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(text)
        async with asyncio.timeout(5):
            reply = await reader.read(100)
        writer.close()
        return reply

    async def exchange() -> list[bytes]:
        port, target = free_port(), free_port()
        server = await asyncio.start_server(echo, "127.0.0.1", target)
        async with server, Proxy(port, target) as proxy:
            replies = [await send(port, b"one")]
            proxy.silence()
            silent = asyncio.create_task(send(port, b"two"))
            while not proxy.discarded:
                await asyncio.sleep(0.01)
            await proxy.resume()
            replies.append(await silent)
            await proxy.refuse()
            with pytest.raises(OSError, match="111"):
                await send(port, b"three")
            await proxy.listen()
            return [*replies, await send(port, b"four")]

    assert asyncio.run(exchange()) == [b"one", b"", b"four"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--faults=kill-worker,earthquake", "'earthquake' is not one of: kill-worker, "),
        ("--faults=kill-broker", "kill-broker needs --kafka"),
    ],
)
def test_an_impossible_run_exits_with_the_harness_error(
    capsys: pytest.CaptureFixture[str], argument: str, message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([argument])
    assert (ended.value.code, message in capsys.readouterr().err) == (3, True)


@pytest.mark.timeout(240)
def test_a_short_run_with_faults_violates_no_guarantee(tmp_path: Path) -> None:
    faults = SHORT + ("kill-broker" if KAFKA else "kill-api")
    arguments = ["--seed=3", "--seconds=45", f"--faults={faults}", f"--folder={tmp_path}"]
    code = main([*arguments, "--kafka"] if KAFKA else arguments)
    verdict = msgspec.json.decode((tmp_path / "report.json").read_bytes())
    assert (code, verdict["anomalies"], verdict["vacuous"]) == (0, [], [])
    assert verdict["counts"]["faults"] >= 6


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", MUTANTS)
def test_the_run_finds_and_names_a_defect(tmp_path: Path, name: str) -> None:
    if MUTANTS[name].kafka and not all(map(shutil.which, ("java", "mvn"))):
        pytest.skip("Apache Kafka needs Java 17 and mvn")
    assert main([f"--mutant={name}", f"--folder={tmp_path}"]) == 1
    verdict = msgspec.json.decode((tmp_path / "report.json").read_bytes())
    assert MUTANTS[name].anomaly in [anomaly for anomaly, _ in verdict["anomalies"]]

"""Break the pipeline on purpose and see whether it keeps its promises.

Exit code 0: valid, 1: an anomaly, 2: the run proves nothing, 3: the harness failed.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

import msgspec

from infra import config
from tests import processes
from tests.chaos import evidence, faults, model
from tests.chaos.checker import Verdict, check, floor_for
from tests.chaos.faults import Fault
from tests.chaos.fleet import Fleet
from tests.chaos.load import RATE, Load
from tests.chaos.recorder import Recorder
from tests.processes import Pipeline, Process

CALM_SECONDS, DRAIN_SECONDS = 4.0, 45.0
HARNESS_ERROR = 3
CLIENTS = 3
MUTANTS = {
    "hasty-worker": {"worker": "tests.chaos.mutants:hasty_worker"},
    "forgetful-sink": {"sink": "tests.chaos.mutants:forgetful_sink"},
}
SETTINGS = {
    "PETAL_CHUNK_RECORDS": "5",  # small, so that faults hit work in hand
    "PETAL_DELIVERY_TIMEOUT": "10",
}


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=200.0, help="of load (default: 200)")
    parser.add_argument("--faults", type=choose, help="names, by commas (default: all)")
    parser.add_argument("--kafka", action="store_true", help="Apache Kafka, not the embedded one")
    parser.add_argument("--mutant", choices=MUTANTS, help="to see the checker find a fault")
    parser.add_argument("--folder", type=Path, help="for the evidence (default: a new one in /tmp)")
    return parser.parse_args(argv)


def choose(names: str) -> dict[str, Fault]:
    """The faults of these names; raises ArgumentTypeError for others."""
    known = faults.FAULTS | faults.BROKER_FAULTS
    if unknown := set(names.split(",")) - known.keys():
        raise argparse.ArgumentTypeError(f"no fault {sorted(unknown)}; there are {list(known)}")
    return {name: known[name] for name in names.split(",")}


async def run(
    args: argparse.Namespace, pipeline: Pipeline, record: Recorder, kafka: Process | None
) -> Verdict:
    """Start, load, break, heal, drain, stop, judge."""
    settings = config.load(pipeline.env)
    apps = {"worker": "streams.worker", "sink": "streams.sink"} | MUTANTS.get(args.mutant, {})
    fleet = Fleet(pipeline, record, apps)
    fleet.broker = kafka
    for kind in ("worker", "sink"):
        for number in (1, 2):
            fleet.add(kind, number)
    supervisor = asyncio.create_task(fleet.supervise())
    if not await faults.seen(lambda: len(fleet.of("worker")) == 2 and bool(fleet.of("sink"))):
        raise RuntimeError("the fleet did not start")
    load = Load(settings, record, args.seed)
    loading = asyncio.create_task(load.run())
    await asyncio.sleep(CALM_SECONDS)
    chosen = args.faults or faults.FAULTS | (faults.BROKER_FAULTS if kafka else {})
    until = time.monotonic() + args.seconds - CALM_SECONDS
    await faults.inject(fleet, chosen, record, random.Random(args.seed), until)
    load.stop.set()
    await loading
    deadline = asyncio.get_running_loop().time() + DRAIN_SECONDS
    await load.finish(deadline)
    drained = await drain(settings, record, deadline)
    supervisor.cancel()
    await fleet.stop()
    seen = await asyncio.to_thread(evidence.gather, settings, record.events)
    return check(seen._replace(drained=drained), floor_for(args.seconds, RATE * CLIENTS))


async def drain(settings: config.Settings, record: Recorder, deadline: float) -> bool:
    """Wait until nothing is left to be answered or stored; False at the deadline."""
    while True:
        seen = await asyncio.to_thread(evidence.gather, settings, record.events)
        if not check(seen, floor_for(0, 0)).names & {"lost-result", "lost-row"}:
            return True
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(1.0)


def report(args: argparse.Namespace, verdict: Verdict, folder: Path) -> None:
    """report.json, and a few lines to read."""
    facts = {"seed": args.seed, "seconds": args.seconds, "exit_code": verdict.exit_code}
    facts |= verdict._asdict()
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts)))
    word = {0: "valid", 1: "ANOMALY", 2: "vacuous"}[verdict.exit_code]
    print(f"seed {args.seed}: {word}")
    print(", ".join(f"{name} {count}" for name, count in verdict.counts.items()))
    for name, of in verdict.anomalies:
        print(f"{name} ({len(of)}): {'; '.join(of[:5])}")
    for line in verdict.vacuous:
        print(f"too little: {line}")
    print(f"evidence: {folder}")


def main(argv: list[str]) -> int:
    """Returns the exit code."""
    args = parse(argv)
    folder = args.folder or Path(tempfile.mkdtemp(prefix=f"petal-chaos-{args.seed}-"))
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "fingerprint.joblib")
    env = processes.settings_for(folder, folder / "fingerprint.joblib") | SETTINGS
    record = Recorder(folder / "history.jsonl")
    try:
        with Pipeline(folder, env) as pipeline:
            kafka = pipeline.kafka() if args.kafka else None
            if kafka is None:
                pipeline.broker()
            verdict = asyncio.run(run(args, pipeline, record, kafka))
    except Exception:  # the outermost edge: a run that broke down itself says nothing
        traceback.print_exc()
        print(f"evidence: {folder}")
        return HARNESS_ERROR
    finally:
        record.close()
    report(args, verdict, folder)
    return verdict.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

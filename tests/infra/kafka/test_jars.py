"""Apache Kafka's jars are downloaded once, and are always complete."""

import os
import subprocess
import sys
from pathlib import Path

# A slow Maven: the broker's own jar is there long before the last one.
MAVEN = """#!/bin/sh
echo run >> "$CALLS"
for arg in "$@"; do case "$arg" in -DoutputDirectory=*) out="${arg#*=}";; esac; done
mkdir -p "$out" && touch "$out/kafka_2.13-4.4.0.jar" && sleep 1 && touch "$out/last.jar"
"""
FETCH = """
import sys
from pathlib import Path
from infra.kafka.jars import fetch_jars
lib = Path(sys.argv[1])
fetch_jars(lib)
print(sorted(path.name for path in lib.iterdir()))
"""


def test_brokers_that_start_at_once_all_have_the_whole_set_of_jars(tmp_path: Path) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text(MAVEN)
    maven.chmod(0o755)
    calls = tmp_path / "calls"
    env = {**os.environ, "PATH": f"{maven.parent}:{os.environ['PATH']}", "CALLS": str(calls)}
    command = [sys.executable, "-c", FETCH, str(tmp_path / "kafka" / "lib")]
    starts = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE) for _ in range(3)]
    for start in starts:
        out, _ = start.communicate(timeout=30)
        assert out.decode().strip() == "['kafka_2.13-4.4.0.jar', 'last.jar']"
    assert calls.read_text() == "run\n"

"""infra/compose.yaml: valid, and true to the code, to the image and to Kafka as tests run it."""

import gzip
import json
import shutil
import subprocess
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from infra.config import Settings
from infra.kafka.node import ALONE, COMMON
from tests.infra.containers import dockerfile
from tests.infra.containers.runs import check_run
from tests.processes import ROOT

COMPOSE = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "petalstream"}
SCHEMA = json.loads(gzip.decompress((ROOT / "tests/data/compose-spec.json.gz").read_bytes()))


def test_it_follows_the_compose_specification() -> None:
    errors = Draft202012Validator(SCHEMA).iter_errors(COMPOSE)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_kafka_alone_needs_no_profile_and_the_profile_all_has_the_whole_pipeline() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert profiles.pop("kafka") == []
    assert profiles == {name: ["all"] for name in ("api", "worker", "sink", "prometheus")}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", OURS)
def test_each_process_has_a_command_and_settings_that_work(name: str) -> None:
    service = OURS[name]
    [*_, image] = dockerfile.stages()
    environ = {**dockerfile.variables(image), **service["environment"]}
    check_run(["petal", *service["command"]], environ, service["stop_grace_period"])
    assert service["command"][0] == name
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", OURS)
def test_each_process_starts_after_the_broker_and_says_when_it_is_ready(name: str) -> None:
    service = OURS[name]
    assert service["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert all(SERVICES[other]["healthcheck"]["test"] for other in ("kafka", name))
    assert "/var/lib/petalstream" in [
        *dockerfile.values(dockerfile.stages()[-1], "VOLUME"),
        *(volume.split(":")[1] for volume in service.get("volumes", ())),
    ]


def test_every_port_is_on_loopback_and_is_the_default() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    defaults = Settings()
    broker, api = defaults.embedded_port, defaults.api_port
    assert ports["kafka"] == [f"127.0.0.1:{broker}:{broker}"]
    assert ports["api"] == [f"127.0.0.1:{api}:{api}"]
    assert all(p.startswith("127.0.0.1:") for listed in ports.values() for p in listed)


def test_each_broker_address_is_one_that_kafka_advertises() -> None:
    environment = SERVICES["kafka"]["environment"]
    advertised = environment["KAFKA_ADVERTISED_LISTENERS"]
    addresses = dict(item.split("://") for item in advertised.split(","))
    assert {service["environment"]["PETAL_BROKER"] for service in OURS.values()} == {
        addresses["CONTAINERS"]
    }
    assert addresses["BROKER"] == Settings().bootstrap
    check = SERVICES["kafka"]["healthcheck"]["test"]
    assert check[-2:] == ["--bootstrap-server", addresses["BROKER"]]


def test_kafka_has_the_properties_that_the_tests_run_with() -> None:
    properties = dict(
        line.split("=", 1) for line in f"{COMMON}{ALONE}".splitlines() if line[0] != "#"
    )
    environment = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in SERVICES["kafka"]["environment"].items()
    }
    for name in (
        "auto.create.topics.enable", "offsets.topic.num.partitions",
        "offsets.topic.replication.factor", "group.initial.rebalance.delay.ms",
        "transaction.state.log.replication.factor", "transaction.state.log.min.isr",
    ):  # fmt: skip
        assert (name, environment[name]) == (name, properties[name])


def test_keys_come_from_a_file() -> None:
    for service in OURS.values():
        [secret] = service["secrets"]
        assert service["environment"]["PETAL_API_KEYS_FILE"] == f"/run/secrets/{secret}"
        assert set(COMPOSE["secrets"][secret]) == {"file"}


def test_prometheus_asks_every_process_where_it_listens() -> None:
    service = SERVICES["prometheus"]
    config = yaml.safe_load((ROOT / "infra" / "prometheus" / "compose.yml").read_text())
    assert "./prometheus:/etc/prometheus:ro" in service["volumes"]
    assert "--config.file=/etc/prometheus/compose.yml" in service["command"]
    api, processes = config["scrape_configs"]
    defaults = Settings()
    assert api["static_configs"] == [{"targets": [f"api:{defaults.api_port}"]}]
    [found] = processes["dns_sd_configs"]
    assert [f"petal-{name}" for name in found["names"]] == [
        defaults.names.worker_group, defaults.names.sink_group,
    ]  # fmt: skip
    assert found["port"] == defaults.metrics_port
    assert {*found["names"], "api"} == OURS.keys()
    for job in (api, processes):
        assert job["authorization"]["credentials_file"] in {
            one["environment"]["PETAL_API_KEYS_FILE"] for one in OURS.values()
        }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_prometheus_takes_its_configuration() -> None:
    config = ROOT / "infra" / "prometheus" / "compose.yml"
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", str(config)], capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in yaml.safe_load(config.read_text())["rule_files"]:
        assert config.with_name(name).is_file()

"""What the manifests say of Kafka: addresses, topics, users, the autoscaler."""

from typing import Any

import yaml

from infra import topics
from infra.broker import access
from infra.config import Settings, load
from tests.infra.containers.runs import DRAIN_SECONDS
from tests.infra.kubernetes import manifests
from tests.infra.kubernetes.manifests import Resource, named
from tests.processes import ROOT


def settings(overlay: str, process: str = "worker") -> Settings:
    """The settings of a process in an overlay."""
    [found] = [c for c in manifests.containers(manifests.overlay(overlay)) if c.name == process]
    environ = {name: v for name, v in found.environ.items() if name.startswith("PETAL_")}
    return load(environ)


def scaled_object() -> dict[str, Any]:
    spec: dict[str, Any] = named(manifests.overlay("keda"), "ScaledObject")["petal-worker"]["spec"]
    return spec


def test_the_autoscaler_asks_about_the_group_that_the_workers_are_in() -> None:
    [trigger] = scaled_object()["triggers"]
    metadata = trigger["metadata"]
    own = settings("keda")
    assert metadata["bootstrapServers"] == own.broker
    assert metadata["topic"] == own.names.tasks
    assert metadata["consumerGroup"] == own.names.worker_group
    assert metadata["offsetResetPolicy"] == "earliest"
    assert (own.broker_protocol, own.broker_sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (metadata["tls"], metadata["sasl"]) == ("enable", "scram_sha512")
    login = named(manifests.overlay("keda"), "TriggerAuthentication")
    assert trigger["authenticationRef"]["name"] in login


def test_the_autoscaler_makes_at_most_as_many_workers_as_there_are_partitions() -> None:
    spec = scaled_object()
    assert spec["minReplicaCount"] <= spec["maxReplicaCount"] == settings("keda").partitions
    worker = named(manifests.overlay("keda"), "Deployment")["petal-worker"]
    assert "replicas" not in worker["spec"]
    assert spec["scaleTargetRef"]["name"] == "petal-worker"


def test_the_autoscaler_waits_longer_than_a_rebalance() -> None:
    spec = scaled_object()
    worker = manifests.pods(manifests.overlay("keda"))["petal-worker"]["spec"]
    rebalance = settings("keda").session_timeout + DRAIN_SECONDS["worker"]
    rebalance += worker["terminationGracePeriodSeconds"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert spec["cooldownPeriod"] > rebalance
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] > rebalance


def test_the_users_of_the_autoscaler_come_from_what_it_may_read() -> None:
    resources = manifests.overlay("keda")
    [login] = named(resources, "TriggerAuthentication").values()
    [source] = login["spec"]["configMapTargetRef"]
    data = named(resources, "ConfigMap")[source["name"]]["data"]
    assert data == {"username": "petal-keda"}


def test_no_overlay_starts_more_workers_than_partitions() -> None:
    for path in manifests.OVERLAYS:
        worker = named(manifests.overlay(path.name), "Deployment")["petal-worker"]["spec"]
        assert worker.get("replicas", 1) <= settings(path.name).partitions


def test_the_local_kafka_is_that_of_compose_but_for_its_addresses() -> None:
    compose = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())["services"]["kafka"]
    resources = manifests.overlay("local")
    [container] = manifests.pods(resources)["kafka"]["spec"]["containers"]
    environ = {item["name"]: item["value"] for item in container["env"]}
    differ = {
        "KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
    }  # fmt: skip
    same = {name: str(value) for name, value in compose["environment"].items()}
    assert environ.keys() == same.keys()
    assert {name for name in environ if environ[name] != same[name]} == differ
    assert container["image"] == compose["image"]
    assert environ["KAFKA_ADVERTISED_LISTENERS"] == f"BROKER://{settings('local').broker}"
    [port] = named(resources, "Service")["kafka"]["spec"]["ports"]
    assert settings("local").broker == f"kafka:{port['port']}"


def test_the_topics_of_strimzi_are_those_that_the_processes_demand() -> None:
    own = settings("strimzi")
    wanted = topics.topics(
        own.names, own.partitions, own.tasks_retention_days, own.results_retention_days,
        own.dead_letters_retention_days,
    )  # fmt: skip
    found = named(manifests.overlay("strimzi"), "KafkaTopic")
    for topic in wanted:
        spec = found.pop(topic.name)["spec"]
        config = {name: str(value).lower() for name, value in spec["config"].items()}
        demanded = topics.replicated(topic, own.replication, own.in_sync).config
        expected = {name: value.lower() for name, value in demanded.items()}
        assert (topic.name, config) == (topic.name, expected)
        assert (spec["partitions"], spec["replicas"]) == (topic.partitions, own.replication)
    assert found == {}


def test_the_brokers_of_strimzi_listen_where_the_pods_connect() -> None:
    resources = manifests.overlay("strimzi")
    [(name, kafka)] = named(resources, "Kafka").items()
    [listener] = kafka["spec"]["kafka"]["listeners"]
    for process in ("worker", "api", "sink"):
        own = settings("strimzi", process)
        assert own.broker == f"{name}-kafka-bootstrap:{listener['port']}"
        assert listener["authentication"]["type"].upper() == own.broker_sasl_mechanism
        assert own.broker_protocol == "SASL_SSL"
        assert own.broker_username in named(resources, "KafkaUser")
    [pool] = named(resources, "KafkaNodePool").values()
    assert pool["spec"]["replicas"] >= own.replication
    for kind in ("KafkaNodePool", "KafkaTopic", "KafkaUser"):
        for resource in named(resources, kind).values():
            assert resource["metadata"]["labels"]["strimzi.io/cluster"] == name


def test_each_user_of_strimzi_has_exactly_the_rights_of_its_process() -> None:
    needs = {"worker": access.WORKER, "sink": access.SINK, "api": access.CLIENT}
    users = named(manifests.overlay("strimzi"), "KafkaUser")
    for process, own in needs.items():
        used = settings("strimzi", process)
        rights = {access.called(used, right) for right in own.rights()}
        assert granted(users.pop(used.broker_username)) == rights
    assert {name: granted(user) for name, user in users.items()} == {
        "petal-keda": {
            access.Right("Describe", "topic", "tasks"),
            access.Right("Describe", "group", "petal-worker"),
        }
    }


def granted(user: Resource) -> set[access.Right]:
    """The rights that the ACLs of a KafkaUser give."""
    return {
        access.Right(operation, acl["resource"]["type"], acl["resource"]["name"])
        for acl in user["spec"]["authorization"]["acls"]
        for operation in acl["operations"]
    }

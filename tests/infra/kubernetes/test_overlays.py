"""Each overlay: valid resources, and pods that are true to the code and to the image."""

import tomllib
from pathlib import Path

import pytest

from api.app import create_app
from api.middleware.stack import MiddlewareStack
from infra.config import Settings, variable
from infra.process.endpoint import LIVE, READY
from tests.infra.containers import dockerfile
from tests.infra.containers.runs import check_run
from tests.infra.kubernetes import manifests
from tests.infra.kubernetes.manifests import OVERLAYS, Resource, named
from tests.processes import ROOT

each_overlay = pytest.mark.parametrize("name", [path.name for path in OVERLAYS])
SECRET_FILES = ("api_keys_file", "broker_tls_ca", "broker_password_file")


def test_every_file_that_is_whole_follows_its_schema() -> None:
    files = [p for p in manifests.FOLDER.rglob("*.yaml") if "secured" not in p.parts]
    found = [r for path in files for r in manifests.documents(path.read_text())]
    whole = [r for r in found if "kustomize" not in r["apiVersion"]]
    assert {r["kind"] for r in whole} >= {"Deployment", "ScaledObject", "KafkaTopic"}
    assert [fault for resource in whole for fault in manifests.faults(resource)] == []


@pytest.mark.parametrize(
    ("kind", "where", "field"),
    [
        ("Deployment", ("spec", "template", "spec"), "enableServiceLink"),
        ("ScaledObject", ("spec",), "cooldown"),
        ("KafkaNodePool", ("spec",), "replica"),
    ],
)
def test_a_field_that_a_cluster_does_not_know_is_found(
    kind: str, where: tuple[str, ...], field: str
) -> None:
    resource = {
        "Deployment": "base/api.yaml",
        "ScaledObject": "components/keda/scaling.yaml",
        "KafkaNodePool": "overlays/strimzi/kafka.yaml",
    }[kind]
    [changed] = [
        document
        for document in manifests.documents((manifests.FOLDER / resource).read_text())
        if document["kind"] == kind
    ]
    assert manifests.faults(changed) == []
    target = changed
    for key in where:
        target = target[key]
    target[field] = 1
    assert field in "".join(manifests.faults(changed))


@each_overlay
def test_it_renders_to_valid_resources_without_a_secret(name: str) -> None:
    resources = manifests.overlay(name)
    assert [fault for resource in resources for fault in manifests.faults(resource)] == []
    assert not named(resources, "Secret")
    assert {*manifests.pods(resources)} >= {"petal-api", "petal-worker"}


@each_overlay
def test_each_container_runs_a_process_of_petal_with_settings_that_exist(name: str) -> None:
    found = list(manifests.containers(manifests.overlay(name)))
    assert sorted(container.name for container in found) == ["api", "sink", "worker"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for container in found:
        assert container.spec["args"][0] == container.name
        assert container.spec["image"] == f"{manifests.IMAGE}:{version}"
        settings = check_run(["petal", *container.spec["args"]], container.environ, container.grace)
        check_files(container, settings)


def check_files(container: manifests.Container, settings: Settings) -> None:
    """What is written lies in a volume of the pod's own, and each secret in one of a Secret."""
    for path in (settings.database, settings.status):
        [volume] = [v for at, v in container.mounts.items() if Path(at) in path.parents]
        assert volume["emptyDir"] == {}
    for name in SECRET_FILES:
        path = getattr(settings, name)
        if path is None:
            assert name != "api_keys_file", variable(name)
            continue
        volume = container.mounts[str(path.parent)]
        keys = [
            item["path"]
            for source in volume.get("projected", {}).get("sources", ())
            for item in source["secret"]["items"]
        ]
        assert "secret" in volume or path.name in keys


@each_overlay
def test_ports_and_probes_are_those_of_the_code(name: str) -> None:
    defaults = Settings()
    ports = {"api": defaults.api_port, "sink": defaults.metrics_port}
    ports["worker"] = defaults.metrics_port
    for container in manifests.containers(manifests.overlay(name)):
        spec = container.spec
        [port] = spec["ports"]
        assert port["containerPort"] == ports[container.name]
        paths = {kind: spec[kind]["httpGet"]["path"] for kind in spec if kind.endswith("Probe")}
        assert all(spec[kind]["httpGet"]["port"] == port["name"] for kind in paths)
        live = "/v2/health/live" if container.name == "api" else LIVE
        expected = {"startupProbe": live, "livenessProbe": live, "readinessProbe": READY}
        if container.name == "sink":  # the API beside it is ready once the projection is
            del expected["readinessProbe"]
        assert paths == expected
        if container.name == "api":
            served = create_app(defaults)
            assert isinstance(served, MiddlewareStack)
            assert {*paths.values()} <= {
                getattr(route, "path", None) for route in served.app.routes
            }


@each_overlay
def test_selectors_find_their_pods(name: str) -> None:
    resources = manifests.overlay(name)
    labels = {n: pod["metadata"]["labels"] for n, pod in manifests.pods(resources).items()}
    for kind in ("Deployment", "PodDisruptionBudget"):
        for found, resource in named(resources, kind).items():
            selector = resource["spec"]["selector"]["matchLabels"]
            assert [n for n, own in labels.items() if selector.items() <= own.items()] == [found]
    for found, service in named(resources, "Service").items():
        selector = service["spec"]["selector"]
        assert [n for n, own in labels.items() if selector.items() <= own.items()] == [found]
        [port] = service["spec"]["ports"]
        served = [
            p["name"]
            for c in manifests.pods(resources)[found]["spec"]["containers"]
            for p in c["ports"]
        ]
        assert port["targetPort"] in served
    for found, pod in manifests.pods(resources).items():
        for spread in pod["spec"].get("topologySpreadConstraints", ()):
            assert spread["labelSelector"]["matchLabels"].items() <= labels[found].items()


@each_overlay
def test_pods_keep_to_the_restricted_profile(name: str) -> None:
    [*_, image] = dockerfile.stages()
    [user] = dockerfile.values(image, "USER")
    resources = manifests.overlay(name)
    for found, pod in manifests.pods(resources).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        if found.startswith("petal-"):
            assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
            assert f"{context['fsGroup']}" == user.partition(":")[2]
        for container in spec["containers"]:
            assert_confined(container, read_only=found.startswith("petal-"))


def assert_confined(container: Resource, read_only: bool) -> None:
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context.get("readOnlyRootFilesystem", False) is read_only
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]

"""The manifests of infra/kubernetes as kustomize renders them, and their pods."""

import functools
import gzip
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.infra.containers import dockerfile
from tests.processes import ROOT

FOLDER = ROOT / "infra" / "kubernetes"
OVERLAYS = sorted(path.parent for path in FOLDER.glob("overlays/*/kustomization.yaml"))
IMAGE = "petalstream"
CUSTOM = json.loads(gzip.decompress((ROOT / "tests/data/custom-resources.json.gz").read_bytes()))

Resource = dict[str, Any]


def documents(text: str) -> list[Resource]:
    """The resources of a file of YAML."""
    return [document for document in yaml.safe_load_all(text) if document]


def rendered(folder: Path) -> list[Resource]:
    """The resources of a folder with a kustomization; skips the test without kustomize."""
    programs = {"kustomize": ["build"], "kubectl": ["kustomize"]}
    found = next((name for name in programs if shutil.which(name)), None)
    if found is None:
        pytest.skip("needs kubectl or kustomize")
    done = subprocess.run(
        [found, *programs[found], str(folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return documents(done.stdout)


overlay = functools.cache(lambda name: rendered(FOLDER / "overlays" / name))


def faults(resource: Resource) -> list[str]:
    """What the schema of the resource's kind does not allow, unknown fields among it."""
    kind = f"{resource['apiVersion']}/{resource['kind']}"
    if (schema := CUSTOM.get(kind)) is None:
        version = ".".join(kubernetes_validate.latest_version().split(".")[:2])
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as e:
            return [f"{kind}: {e.message}"]
        return []
    known: Resource = {"apiVersion": {}, "kind": {}, "metadata": {}}
    whole = closed({**schema, "properties": {**schema["properties"], **known}})
    errors = Draft202012Validator(whole).iter_errors(resource)
    return [f"{kind}: {error.json_path}: {error.message}" for error in errors]


def closed(schema: Any) -> Any:
    """The schema of a custom resource, which refuses the fields that a cluster would drop."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: closed(part) for name, part in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        parts.setdefault("additionalProperties", bool(is_open))
    return parts


def named(resources: list[Resource], kind: str) -> dict[str, Resource]:
    """The resources of a kind, by name."""
    return {r["metadata"]["name"]: r for r in resources if r["kind"] == kind}


class Container(NamedTuple):
    """A container with an image of ours, its pod and all resources beside it."""

    spec: Resource
    pod: Resource
    resources: list[Resource]

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def environ(self) -> dict[str, str]:
        """What the image, the ConfigMaps and the container itself set."""
        maps = named(self.resources, "ConfigMap")
        [*_, image] = dockerfile.stages()
        found = dockerfile.variables(image)
        for source in self.spec.get("envFrom", ()):
            found |= maps[source["configMapRef"]["name"]]["data"]
        return found | {item["name"]: item["value"] for item in self.spec.get("env", ())}

    @property
    def mounts(self) -> dict[str, Resource]:
        """The volume at each path."""
        volumes = {volume["name"]: volume for volume in self.pod["spec"]["volumes"]}
        return {mount["mountPath"]: volumes[mount["name"]] for mount in self.spec["volumeMounts"]}

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        hook = self.spec.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
        before = float(hook[1]) if hook else 0.0
        return float(self.pod["spec"]["terminationGracePeriodSeconds"]) - before


def pods(resources: list[Resource]) -> dict[str, Resource]:
    """The pod template of each Deployment."""
    return {n: d["spec"]["template"] for n, d in named(resources, "Deployment").items()}


def containers(resources: list[Resource]) -> Iterator[Container]:
    """The containers that run our image."""
    for pod in pods(resources).values():
        for spec in pod["spec"]["containers"]:
            if spec["image"].partition(":")[0] == IMAGE:
                yield Container(spec, pod, resources)

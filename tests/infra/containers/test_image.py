"""The image: what infra/Dockerfile installs, as whom it runs, and that it runs."""

import shutil
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cli.commands import COMMANDS
from infra.config import Settings, load
from tests.infra.containers import dockerfile
from tests.infra.containers.dockerfile import Container
from tests.processes import ROOT, clean_environ, free_port, wait_until

BUILD, FINAL = dockerfile.stages()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
KEY = "a-key-of-this-test"
needs_namespaces = pytest.mark.skipif(
    not dockerfile.can_be_made(), reason="needs root, who may mount an overlay"
)


def locked(name: str) -> dict[str, str]:
    """The packages of a lock, each with its version, marker and hashes."""
    found: dict[str, str] = {}
    package = ""
    for line in (ROOT / name).read_text().splitlines():
        if line[:1].isalpha():
            package = line.rstrip(" \\")
            found[package] = ""
        elif "--hash" in line:
            found[package] += line.strip(" \\")
    return found


def needed(requirements: list[str]) -> set[str]:
    """Names of the distributions that these requirements install here, and all that they need."""
    found: set[str] = set()
    left = [(Requirement(line), "") for line in requirements]
    while left:
        requirement, extra = left.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for extra in ("", *requirement.extras):
            key = f"{requirement.name.lower().replace('_', '-')}[{extra}]"
            if key not in found:
                found.add(key)
                left += [(Requirement(line), extra) for line in requires(requirement.name) or ()]
    return {key.partition("[")[0] for key in found}


def test_the_lock_of_the_image_is_the_part_of_the_lock_that_runs() -> None:
    image, whole = locked("infra/requirements.lock"), locked("requirements.lock")
    assert {package: whole.get(package) for package in image} == image
    markers = [Requirement(package) for package in image]
    here = {r.name for r in markers if r.marker is None or r.marker.evaluate()}
    extra = PROJECT["optional-dependencies"]["otel"]
    assert here == needed([*PROJECT["dependencies"], *extra])


def test_the_variables_are_settings_and_the_command_is_one_of_petal() -> None:
    settings = {k: v for k, v in dockerfile.variables(FINAL).items() if k.startswith("PETAL_")}
    loaded = load(settings)
    volume = Path(*dockerfile.values(FINAL, "VOLUME"))
    assert volume in loaded.database.parents
    assert volume in loaded.status.parents
    name, *arguments = dockerfile.command(FINAL)
    assert name == "petal"
    assert arguments[0] in COMMANDS


def test_it_listens_where_it_says_as_a_user_that_a_cluster_can_check() -> None:
    assert dockerfile.values(FINAL, "EXPOSE") == [str(Settings().api_port)]
    [user] = dockerfile.values(FINAL, "USER")
    uid, gid = map(int, user.split(":"))
    assert min(uid, gid) > 0


def test_all_that_is_copied_is_in_the_context() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {name.rstrip("*") for name in packages["packages"]["find"]["include"]}
    copied = {value.split()[0].split("/")[0] for value in dockerfile.values(BUILD, "COPY")} - {"."}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert kept == folders | copied | {"pyproject.toml", PROJECT["readme"]}
    assert all((ROOT / name).exists() for name in kept)


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        ["hadolint", "--no-color", str(dockerfile.DOCKERFILE)], capture_output=True, text=True,
        env=clean_environ(), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


@needs_namespaces
def test_it_serves_from_a_read_only_root_as_its_user_and_is_healthy(
    tmp_path: Path, artifact: Path
) -> None:
    build = dockerfile.reachable() + (
        f"mkdir -p /opt /model && ln -s {sys.prefix} /opt/petalstream\n"
        f"cp {artifact} /model/model.joblib\n"
        f"cp {artifact.with_suffix('.json')} /model/model.json\n"
    )
    serve_and_check(Container(tmp_path, build + dockerfile.script(FINAL, {}), settings()))


@needs_namespaces
@pytest.mark.slow
@pytest.mark.timeout(590)
def test_the_steps_of_the_image_run_in_a_clean_folder(tmp_path: Path) -> None:
    context = tmp_path / "context"
    copy_context(context)
    interpreter = f"export PATH={sys.base_prefix}/bin:$PATH\n"
    build = dockerfile.script(BUILD, {"MODEL": ""})
    steps = f"cp -a {context} /src\n" + interpreter + build + dockerfile.script(FINAL, {})
    serve_and_check(Container(tmp_path, dockerfile.reachable() + steps, settings()), 500)


def copy_context(target: Path) -> None:
    """What git has of the files that .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *kept]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(lambda name: (ROOT / name).is_file(), filter(None, listed.split("\0"))):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)


def settings() -> dict[str, str]:
    return {
        "PETAL_API_PORT": str(free_port()),
        "PETAL_EMBEDDED_PORT": str(free_port()),
        "PETAL_API_KEYS": KEY,
    }


def serve_and_check(container: Container, seconds: float = 60.0) -> None:
    check = dockerfile.health_check(FINAL)
    with container.start() as process:

        def is_healthy() -> bool:
            assert process.exit_code is None, process.output
            return container.run(process, *check).returncode == 0

        wait_until(is_healthy, seconds, "healthy")
        uid, gid = container.user.split(":")
        done = container.run(process, "sh", "-c", "id -u; id -g; touch /model/x || touch state")
        assert (done.stdout, done.stderr.count("Read-only")) == (f"{uid}\n{gid}\n", 1)
        assert container.run(process, "petal", "predict", "5.1", "3.5", "1.4", "0.2").stdout == (
            "setosa\n"
        )
        process.send(signal.SIGTERM)
        assert process.join() == -signal.SIGTERM  # uvicorn ends as the signal would

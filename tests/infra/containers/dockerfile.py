"""infra/Dockerfile as its instructions, and its image without Docker.

The steps run as they are written, in a copy of this machine's root: an overlay in a mount namespace
of its own, which ends with its last process. So nothing is written outside the test's folder.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import NamedTuple

from tests.processes import ROOT, Process, clean_environ

DOCKERFILE = ROOT / "infra" / "Dockerfile"

# $1 is an empty folder, $2 the script that makes the image, $3 and $4 the volume and its owner; the
# others are the command.
CONTAINER = """
set -eu
PATH=$PATH:/usr/sbin:/sbin
top=$1 build=$2 volume=$3 user=$4
shift 4
mount -t tmpfs none "$top"
mkdir "$top/upper" "$top/work" "$top/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" "$top/root"
mount -t proc none "$top/root/proc"
mount --rbind /dev "$top/root/dev"
chroot "$top/root" /bin/sh -euc "$build"
mount -o remount,ro "$top/root"
mount -t tmpfs -o "uid=${user%:*},gid=${user#*:}" none "$top/root$volume"
exec chroot --userspec="$user" "$top/root" /usr/bin/env --chdir="$volume" "$@"
"""


class Instruction(NamedTuple):
    """A line of a Dockerfile: `RUN` and the rest."""

    name: str
    value: str


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, which begins with its FROM; an ARG above all is left out."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    found: list[list[Instruction]] = []
    for line in text.replace("\\\n", " ").splitlines():
        name, _, value = line.strip().partition(" ")
        if name == "FROM":
            found.append([])
        if name and found:
            found[-1].append(Instruction(name, value.strip()))
    return found


def values(stage: Sequence[Instruction], name: str) -> list[str]:
    """The values of all instructions of a name."""
    return [instruction.value for instruction in stage if instruction.name == name]


def variables(stage: Sequence[Instruction]) -> dict[str, str]:
    """What ENV sets, with `$PATH` as it stands."""
    pairs = (pair for value in values(stage, "ENV") for pair in shlex.split(value))
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def command(stage: Sequence[Instruction]) -> list[str]:
    """What the container runs: ENTRYPOINT and CMD."""
    parts = [json.loads(value) for key in ("ENTRYPOINT", "CMD") for value in values(stage, key)]
    return [word for part in parts for word in part]


def health_check(stage: Sequence[Instruction]) -> list[str]:
    """The command of HEALTHCHECK."""
    [value] = values(stage, "HEALTHCHECK")
    words: list[str] = json.loads(value.partition("CMD")[2])
    return words


def script(stage: Sequence[Instruction], arguments: Mapping[str, str]) -> str:
    """The steps of a stage for a shell, without its COPYs. `arguments` are build arguments."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in arguments.items()]
    for name, value in stage:
        if name == "ENV":
            lines += [f"export {pair}" for pair in _exports(value)]
        elif name == "WORKDIR":
            lines.append(f"mkdir -p {value} && cd {value}")
        elif name == "RUN":
            lines.append(value)
    return "\n".join(lines) + "\n"


def _exports(value: str) -> list[str]:
    return [f'{n}="{v}"' for n, _, v in (pair.partition("=") for pair in shlex.split(value))]


class Container:
    """The last stage's process in the image that `build` makes: read-only, as its own user."""

    def __init__(self, folder: Path, build: str, settings: Mapping[str, str]) -> None:
        [*_, last] = stages()
        [self.volume] = values(last, "VOLUME")
        [self.user] = values(last, "USER")
        inherited = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        own = {n: Template(v).substitute(inherited) for n, v in variables(last).items()}
        self.env = {**inherited, **own, **settings}
        self._last = last
        self._folder = folder
        self._build = build

    def start(self) -> Process:
        """Run ENTRYPOINT and CMD."""
        top = self._folder / "container"
        top.mkdir()
        variables = [f"{name}={value}" for name, value in self.env.items()]
        return Process(
            [
                "unshare", "--mount", "--propagation", "private", "sh", "-c", CONTAINER, "sh",
                str(top), self._build, self.volume, self.user, "-i", *variables,
                *command(self._last),
            ],
            self._folder / "container.log",
            {},
            self._folder,
        )  # fmt: skip

    def run(self, process: Process, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside the process, as `docker exec` does."""
        uid, gid = self.user.split(":")
        enter = ["nsenter", "--target", str(process.pid), "--mount", "--root", "--wd"]
        return subprocess.run(
            [*enter, "--setgid", gid, "--setuid", uid, "env", "-i",
             *[f"{name}={value}" for name, value in self.env.items()], *words],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip


def reachable() -> str:
    """Lines of a build after which any user may reach this interpreter and this checkout."""
    folders = {p for top in (Path(sys.base_prefix), ROOT) for p in top.parents}
    return "".join(f"chmod a+x {shlex.quote(str(folder))}\n" for folder in sorted(folders))


def can_be_made() -> bool:
    """Whether this account may make mount namespaces with overlays."""
    if os.geteuid() != 0:
        return False
    probe = "mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w /mnt/r && mount -t overlay overlay "
    probe += "-o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", probe],
        env=clean_environ(), capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode == 0

"""Whether a container of the manifests runs what the code has."""

from collections.abc import Mapping, Sequence

import click

from api.__main__ import GRACE_SECONDS
from cli.__main__ import petal
from infra.config import Settings, load
from infra.variables import PREFIX
from streams.application import STOP_SECONDS

DRAIN_SECONDS = {"api": GRACE_SECONDS, "worker": STOP_SECONDS, "sink": STOP_SECONDS}


def check_run(command: Sequence[str], environ: Mapping[str, str], grace: str | float) -> Settings:
    """Check a command of `petal`, its variables, and that a kill comes after its own deadline.

    Returns its settings; raises ConfigError, UsageError or AssertionError.
    """
    program, name, *arguments = command
    assert program == "petal"
    above = click.Context(petal, info_name=program)
    process = petal.get_command(above, name)
    assert process is not None
    process.make_context(name, list(arguments), parent=above)
    assert float(str(grace).removesuffix("s")) > DRAIN_SECONDS[name]
    return load({name: str(v) for name, v in environ.items() if name.startswith(PREFIX)})
